"""Leads many jobs in one thread, one turn after another, and waits for all of them in one place.

A master that leads one job waits for its replies in a blocking read. A thousand jobs would need a thousand threads and
connections so, or time-outs that keep one waiting for another. Here one thread has three connections:

    verbs   all that masters ask: commits, looks around, ends. A turn leaves nothing on its way
    ear     one blocking read of the reply streams of all jobs (broker/listening.py)
    door    one blocking pop of the list of jobs that wait for a master

and waits for the last two, and for a bell, in one call to the kernel, until the next turn is due. So whatever comes
first ends the wait: a reply, a job, a word of another thread, or the time. Nothing is asked twice to see whether there
is news. Two connections and not one, since a request that waits at a server holds up all that are behind it; and not
more, since one request may name any number of streams. It cannot take a further stream while it waits, so the ear
knocks.

**Turns.** A turn is one round of a master's loop (``Master.turns``), or a few while replies wait for it, and 5 ms at
most. Jobs that have replies, or whose time has come, have a turn each, in the order in which they came; urgent ones go
first. So a small job beside a huge one waits for one turn of it, and not for its end.

**Turns that take long.** A fold of large values, a function of a user's, the last digits of a result may take minutes.
A turn cannot be stopped from outside, so the wheel is taken away instead: the thread that is busy keeps this one job,
over the connection that it has, and another thread goes on with the others over a new one (:meth:`Wheel.relieve`).
When the turn is over the job comes back. A job whose last turn took long has its next one in a thread of its own.

**Outages.** The connections belong to all. An error on one of them is met by the wheel, which makes new ones, and each
master finds out on them whether its job is still its own, as it does alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from mapreduce_rq.broker.jobs import Jobs
from mapreduce_rq.broker.lent_wire import GatheringWire, LentWire
from mapreduce_rq.broker.listening import Listening
from mapreduce_rq.broker.wire import Wire
from mapreduce_rq.errors import BrokerDown, BrokerError, BrokerFull
from mapreduce_rq.runtime.clock import Backoff, Clock
from mapreduce_rq.runtime.master.ended import Ended
from mapreduce_rq.runtime.master.master import Master

WAIT_SECONDS = 8.0
"""How long the server keeps a request for replies or jobs waiting: less than a client takes for an outage."""
LONG_SECONDS = 0.1
"""A turn that has taken this long, and computes, goes on beside the wheel."""
SEEN_SECONDS = 5.0
"""For how long a new job need not look around for workers that another has seen."""
AGAIN_SECONDS = 0.5
"""How long a turn waits that found no connection beside the wheel."""
MOST_ASIDE = 16
"""Turns beside the wheel, at most."""
AT_ONCE = 16
"""Jobs that are taken from the list together, at most: others may share them."""


class Waiting(Protocol):
    """How a thread waits: for a kernel's sockets, or in the simulation."""

    def wait(self, wires: Sequence[Wire], seconds: float) -> list[Wire]:
        """Those of the wires that have an answer, or are broken; waits ``seconds`` for one, or for the bell."""

    def insist(self) -> None:
        """Ring the bell, from any thread."""

    def close(self) -> None:
        """Nobody waits any more."""


class Relieved(Exception):
    """The turn took long, and another thread has the wheel now."""


@dataclass(eq=False)
class Lead:
    """One job that is led here. ``wire`` stands for that of the thread that has its turn."""

    job: str
    wire: LentWire
    token: str = ""  # of its last master
    master: Master | None = None  # None: not adopted yet
    turns: Generator[float, None, Ended | None] | None = None
    due: float = 0.0  # when its next turn is, without replies
    since: float = 0.0  # when it was adopted, and
    counted: int = 0  # the terms that were counted then
    aside: bool = False  # another thread has its turn
    heavy: bool = False  # its last turn took long


@dataclass(frozen=True)
class Turn:
    """What came of a turn: seconds until the next one, the end of the lead, or an error."""

    lead: Lead
    wait: float = 0.0
    over: bool = False
    ended: Ended | None = None
    error: BaseException | None = field(default=None)


class Steward(Protocol):
    """Who knows which jobs there are, and what to do with a job that is over."""

    def adopt(self, lead: Lead) -> Master | None:
        """The master of a job that was found, over the lead's wire; None: it is not to be led here."""

    def over(self, lead: Lead, turn: Turn) -> None:
        """A lead is over."""

    def look(self) -> float:
        """Look for jobs without a master, over the wheel's verbs. Returns the seconds until the next look."""

    def noticed(self, text: str) -> None:
        """A line for people."""


class Wheel:
    """The leads of one process. One thread at a time has the wheel; others may call ``relieve`` and ``close``."""

    def __init__(
        self,
        make: Callable[[], Wire],
        verbs: Callable[[Wire], Jobs],
        clock: Clock,
        waiting: Waiting,
        *,
        steward: Steward,
        most: int,
    ) -> None:
        self.leads: dict[str, Lead] = {}
        self.verbs = verbs(LentWire(make()))
        self.told = GatheringWire()  # events of all jobs
        self._make = make
        self._clock = clock
        self._waiting = waiting
        self._steward = steward
        self._most = most
        self._ear = Listening(make(), self.verbs.keys, clock.random(8).hex(), at_once=self.verbs.at_once)
        self._door = verbs(make())
        self._door_open = False  # a request for jobs is under way
        self._connected = False
        self._fresh = False  # the wheel was taken over with a connection that is not made yet
        self._cut: BrokerError | None = None  # why the last connections were lost
        self._down = False  # there is an outage, and it was told
        self._backoff = Backoff()
        self._look_at = 0.0
        self._seen = (0.0, 0)  # when a master looked around, and how many workers it saw
        self.closing = False
        self._lock = threading.Lock()
        self._turning: tuple[Lead, float] | None = None  # the turn of the thread that has the wheel
        self._back: list[tuple[Turn, float]] = []  # turns beside the wheel that are over, and how long they took

    # -- what is led -----------------------------------------------------------------------------------------------

    @property
    def room(self) -> int:
        """How many more jobs can be led."""
        return 0 if self.closing else self._most - len(self.leads)

    def take(self, job: str, token: str = "") -> bool:
        """Lead a job, if there is room. ``token``: of its master, which is gone; '' if it has none."""
        if job in self.leads or self.room <= 0:
            return False
        self.leads[job] = Lead(job, LentWire(self._wire), token, due=self._clock.now())
        return True

    def end(self) -> None:
        """Give back what it holds, once no thread has it."""
        self.hang_up()
        self._waiting.close()

    def hang_up(self) -> None:
        """Close the connections."""
        for wire in (self._wire, self._ear.wire, self._door.wire):
            wire.close()

    def close(self) -> None:
        """Let go of all jobs, at their next turns; no more are taken. From any thread."""
        self.closing = True
        self._waiting.insist()

    @property
    def over(self) -> bool:
        """Whether it is closed, and leads nothing any more."""
        return self.closing and not self.leads

    @property
    def _lent(self) -> LentWire:
        wire = self.verbs.wire
        assert isinstance(wire, LentWire)
        return wire

    @property
    def _wire(self) -> Wire:
        return self._lent.to

    def workers(self) -> int:
        """How many workers a master has seen alive in the last seconds; 0: it is not known."""
        return self._seen[1] if self._clock.now() - self._seen[0] < SEEN_SECONDS else 0

    # -- the wheel -------------------------------------------------------------------------------------------------

    def go_round(self) -> None:
        """Wait for what comes first, and give each job whose turn it is one. Raises Relieved, BrokerError."""
        try:
            self._connect()
            for turn, took in self._returned():
                turn.lead.aside = False
                self._after(turn, took)
            now = self._clock.now()
            if self.closing:
                self._let_go(now)
            elif now >= self._look_at:
                self._look_at = now + self._steward.look()
            for lead in self._whose_turn(now):
                self._give_turn(lead)
            self.told.send(self._wire)
            self._listen()
            self._hear(self._patience())
        except (BrokerDown, BrokerFull) as error:  # of a word of its own: a full server refuses a hint, too
            self._cut_off(error)

    def _let_go(self, now: float) -> None:
        for lead in self.leads.values():
            if lead.master is not None:
                lead.master.stop = True
            lead.due = now

    def _whose_turn(self, now: float) -> list[Lead]:
        ready = [lead for lead in self.leads.values() if lead.due <= now and not lead.aside]
        ready.sort(key=lambda lead: lead.master is None or not lead.master.spec.limits.urgent)
        return ready

    def _patience(self) -> float:
        """Seconds until something is due."""
        if self._back or self.over:
            return 0.0
        due = min((lead.due for lead in self.leads.values() if not lead.aside), default=float("inf"))
        look = float("inf") if self.closing else self._look_at  # nothing more is looked for
        return max(0.0, min(due, look, self._clock.now() + WAIT_SECONDS) - self._clock.now())

    def _listen(self) -> None:
        """Ask for the replies of those that are not due, and for new jobs."""
        listened = {
            job: lead.master.cursor
            for job, lead in self.leads.items()
            if lead.master is not None and not lead.aside and not lead.master.adrift and lead.due > self._clock.now()
        }
        if self._ear.asked and not listened.keys() <= self._ear.asked:
            self._ear.knock(self._wire)
            self._ear_answers()
        if listened and not self._ear.asked:
            self._ear.ask(listened, WAIT_SECONDS)
        if not self._door_open and self.room > 0:
            self._door.ask_for_handed_over(min(AT_ONCE, self.room), WAIT_SECONDS)
            self._door_open = True

    def _hear(self, seconds: float) -> None:
        wires = [self._ear.wire] if self._ear.asked else []
        if self._door_open:
            wires.append(self._door.wire)
        ready = self._waiting.wait(wires, seconds)
        if self._ear.wire in ready:
            self._ear_answers()
        if self._door.wire in ready:
            self._door_open = False
            for job in self._door.handed_over():
                if not self.take(job) and job not in self.leads and not self.closing:
                    self.verbs.hand_over(job, first=True)  # there is no room any more

    def _ear_answers(self) -> None:
        for job, entries in self._ear.answer().items():
            lead = self.leads.get(job)
            if lead is not None and lead.master is not None and not lead.aside:
                lead.master.give(entries)
                lead.due = 0.0

    # -- turns -----------------------------------------------------------------------------------------------------

    def _give_turn(self, lead: Lead) -> None:
        if lead.heavy and self._asides() < MOST_ASIDE:
            self._turn_aside(lead)
            return
        lead.wire.to = wire = self._wire
        began = self._clock.now()
        mine = (lead, began)
        self._turning = mine
        turn = self._turn(lead)
        took = self._clock.now() - began
        with self._lock:
            relieved = self._turning is not mine
            if relieved:
                self._back.append((turn, took))
            else:
                self._turning = None
        if relieved:
            wire.close()
            self._waiting.insist()
            raise Relieved
        self._after(turn, took)

    def _turn(self, lead: Lead) -> Turn:
        """One turn of a lead. Its first one adopts the job."""
        try:
            if lead.turns is None:
                if self.closing:
                    return Turn(lead, over=True)
                lead.master = self._steward.adopt(lead)
                if lead.master is None:
                    return Turn(lead, over=True)
                lead.since, lead.counted = self._clock.now(), lead.master.ledger.counted
                lead.turns = lead.master.turns()
                lead.master.stop = self.closing
            return Turn(lead, next(lead.turns))
        except StopIteration as over:
            return Turn(lead, over=True, ended=over.value)
        except Exception as error:
            return Turn(lead, over=True, error=error)

    def _after(self, turn: Turn, took: float) -> None:
        """A turn is over: the job's next one, or its end."""
        lead = turn.lead
        if lead.master is not None and lead.master.looked_at > self._seen[0]:
            self._seen = lead.master.looked_at, lead.master.workers
        if turn.over:
            del self.leads[lead.job]
            lead.wire.to = self._wire
            self._steward.over(lead, turn)
            if isinstance(turn.error, BrokerDown):
                raise turn.error
            return
        lead.heavy = took >= LONG_SECONDS
        lead.due = self._clock.now() + turn.wait if turn.wait > 0 else 0.0
        assert lead.master is not None
        if lead.master.adrift:
            if lead.master.trouble is not self._cut or self._cut is None:
                raise lead.master.trouble or BrokerDown("the connection is made anew")
            lead.due = 0.0  # it has heard that it was cut off, and goes on over the new connection
        elif not lead.master.in_outage:
            self._recovered()

    # -- turns beside the wheel ------------------------------------------------------------------------------------

    def _asides(self) -> int:
        return sum(lead.aside for lead in self.leads.values())

    def _turn_aside(self, lead: Lead) -> None:
        lead.aside = True
        threading.Thread(target=self._run_aside, args=(lead,), name=f"mrq {lead.job}", daemon=True).start()

    def _run_aside(self, lead: Lead) -> None:
        began = self._clock.now()
        lead.wire.to = wire = self._make()
        try:
            wire.connect()
            turn = self._turn(lead)
        except BrokerError:
            turn = Turn(lead, AGAIN_SECONDS)
        with self._lock:
            self._back.append((turn, self._clock.now() - began))
        wire.close()
        self._waiting.insist()

    def _returned(self) -> list[tuple[Turn, float]]:
        with self._lock:
            back, self._back = self._back, []
        return back

    def relieve(self) -> bool:
        """From another thread: take the wheel from its thread, if that has computed for long. Returns whether it was.

        Then the caller, or a thread that it starts, has the wheel, and goes round.
        """
        with self._lock:
            turning = self._turning
            if turning is None or self._clock.now() - turning[1] < LONG_SECONDS or self._asides() >= MOST_ASIDE:
                return False
            lead = turning[0]
            if lead.master is not None and not lead.master.computing:
                return False  # it waits for Redis, as any other would
            self._turning = None
            lead.aside = True
            self._lent.to = self._make()
            self._fresh = True
            return True

    # -- connections -----------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        if not self._connected:
            self._wire.connect()
            self._ear.connect()
            self._door.wire.connect()
            self._door_open = self._fresh = False
            self._connected = True
            if not self.leads:
                self._recovered()
        elif self._fresh:
            self._wire.connect()
            self._fresh = False

    def _recovered(self) -> None:
        self._backoff = Backoff()
        if self._down:
            self._down = False
            self._steward.noticed("Redis is back")

    def _cut_off(self, error: BrokerError) -> None:
        """The connections are lost: each master learns it at its next turn, on new ones."""
        self._connected = False
        self._cut = error
        self.hang_up()
        for lead in list(self.leads.values()):
            if self.closing and not lead.aside:
                del self.leads[lead.job]  # it cannot even say that it lets go
            elif lead.master is not None and not lead.aside:
                lead.master.cut_off(error)
            lead.due = 0.0
        self._look_at = 0.0
        if not self._down:
            self._down = True
            self._steward.noticed(f"{error}; trying again")
        if not self.over:
            self._waiting.wait([], self._backoff.next())
