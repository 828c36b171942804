"""Leads many jobs in one thread, one turn after another, and waits for all of them in one place.

A master that leads one job waits for its replies in a blocking read. In this way a thousand jobs would need a thousand
threads and connections, or time-outs during which jobs wait for each other. Here one thread has four connections:

    verbs   all requests of masters: commits, looks around, ends. After a turn no request is on its way
    ear     one blocking read of the reply streams of all jobs (broker/listening.py)
    doors   one blocking pop of the list of jobs that wait for a master, and one of the list of urgent ones

and waits for the last three, and for a bell, in one call to the kernel, until the next turn is due. So the first event
ends the wait: a reply, a job, a ring by another thread, or the time. There is no polling. These are several connections
and not one, because a request that waits at a server delays all requests behind it; and not one for each job, because
one request may name any number of streams. A waiting request cannot take a further stream, so the ear knocks.

**Places.** The process leads as many jobs at the same time as its user says, and as many urgent jobs beside them: an
urgent job does not wait until another job ends. Each door is open as long as there are places of its kind.

**Turns.** A turn is one round of a master's loop (``Master.turns``), or a few while replies wait, and 5 ms at most.
Jobs that have replies, or whose time has come, get a turn each, in the order in which they came; urgent jobs go first.
So a small job beside a huge one waits for one turn of the huge one, and not for its end.

**Long turns.** A fold of large values, a function of a user, or the last digits of a result may take minutes. A turn
cannot be stopped from outside, so the wheel is taken away instead: the busy thread keeps this one job and its
connection, and another thread goes on with the other jobs over a new connection (:meth:`Wheel.relieve`). When the turn
is over, the job comes back. A job whose last turn was long has its next one in a thread of its own.

**Outages.** All jobs share the connections. The wheel handles an error on one of them: it makes new connections, and
each master finds out on them whether its job is still its own, as a master that is alone does.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

from mapreduce_rq.broker.jobs import Jobs
from mapreduce_rq.broker.lent_wire import GatheringWire, LentWire
from mapreduce_rq.broker.listening import Listening
from mapreduce_rq.broker.wire import Wire
from mapreduce_rq.errors import BrokerDown, BrokerError, BrokerFull, ReadOnly
from mapreduce_rq.runtime.clock import Backoff, Clock
from mapreduce_rq.runtime.demotion import Demotion
from mapreduce_rq.runtime.master.leads import Door, Lead, Steward, Turn, Waiting

WAIT_SECONDS = 8.0
"""Seconds that the server lets a request for replies or jobs wait: fewer than a client waits for an answer."""
LONG_SECONDS = 0.1
"""A turn that has taken this number of seconds, and computes, goes on beside the wheel."""
SEEN_SECONDS = 5.0
"""Seconds for which a new job relies on another job's count of workers, and does not look around itself."""
AGAIN_SECONDS = 0.5
"""Seconds that a turn waits if it found no connection beside the wheel."""
MOST_ASIDE = 16
"""The most turns beside the wheel."""
AT_ONCE = 16
"""The most jobs that are taken from the list together, so that other processes get some, too."""


class Relieved(Exception):
    """The turn was long, and another thread has the wheel now."""


class Wheel:
    """The jobs of one process. One thread at a time has the wheel; others may call ``relieve`` and ``close``."""

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
        self._doors = [Door(verbs(make()), urgent=urgent) for urgent in (True, False)]
        self._connected = False
        self._fresh = False  # the wheel was taken over, and the new connection is not made yet
        self._cut: BrokerError | None = None  # the reason why the last connections were lost
        self._down = False  # there is an outage, and it was reported
        self._backoff = Backoff()
        self._demotion = Demotion(clock)
        self._look_at = 0.0
        self._seen = (0.0, 0)  # when a master looked around, and how many workers it saw
        self.closing = False
        self._lock = threading.Lock()
        self._turning: tuple[Lead, float] | None = None  # the turn of the thread that has the wheel
        self._back: list[tuple[Turn, float]] = []  # turns beside the wheel that are over, and how long they took

    # -- what is led -----------------------------------------------------------------------------------------------

    def room(self, *, urgent: bool) -> int:
        """The number of further jobs of this kind that can be led."""
        return 0 if self.closing else self._most - sum(lead.urgent == urgent for lead in self.leads.values())

    def take(self, job: str, token: str = "", *, urgent: bool) -> bool:
        """Lead a job, if there is room. ``token``: the token of its dead master; '' if it has none."""
        if job in self.leads or self.room(urgent=urgent) <= 0:
            return False
        self.leads[job] = Lead(job, LentWire(self._wire), token, urgent, due=self._clock.now())
        return True

    def end(self) -> None:
        """Close connections and bell, once no thread has the wheel."""
        self.hang_up()
        self._waiting.close()

    def hang_up(self) -> None:
        """Close the connections."""
        for wire in (self._wire, self._ear.wire, *(door.verbs.wire for door in self._doors)):
            wire.close()

    def close(self) -> None:
        """Let go of all jobs, at their next turns, and take no more. Any thread may call this."""
        self.closing = True
        self._waiting.insist()

    @property
    def over(self) -> bool:
        """Whether the wheel is closed, and leads no job any more."""
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
        """The number of workers that a master has seen alive in the last seconds; 0 if it is not known."""
        return self._seen[1] if self._clock.now() - self._seen[0] < SEEN_SECONDS else 0

    # -- the wheel -------------------------------------------------------------------------------------------------

    def go_round(self) -> None:
        """Wait for the first event, and give each job its turn that is due. Raises Relieved, BrokerError."""
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
        """Ask for the replies of the jobs that are not due, and for new jobs."""
        listened = {
            job: lead.master.cursor
            for job, lead in self.leads.items()
            if lead.master is not None and not lead.aside and not lead.master.adrift and lead.due > self._clock.now()
        }
        if self._ear.asked and any(self._ear.lacks(job, cursor) for job, cursor in listened.items()):
            self._ear.knock(self._wire)
            self._ear_answers()
        if listened and not self._ear.asked:
            self._ear.ask(listened, WAIT_SECONDS)
        for door in self._doors:
            room = self.room(urgent=door.urgent)
            if not door.open and room > 0:
                door.verbs.ask_for_handed_over(min(AT_ONCE, room), WAIT_SECONDS, urgent=door.urgent)
                door.open = True

    def _hear(self, seconds: float) -> None:
        wires = [self._ear.wire] if self._ear.asked else []
        wires += [door.verbs.wire for door in self._doors if door.open]
        ready = self._waiting.wait(wires, seconds)
        if self._ear.wire in ready:
            self._ear_answers()
        for door in self._doors:
            if door.verbs.wire in ready:
                self._let_in(door)

    def _let_in(self, door: Door) -> None:
        door.open = False
        taken = door.verbs.handed_over()
        if not self.leads:
            self._recovered()  # to take from a list is a write
        for job in taken:
            if not self.take(job, urgent=door.urgent) and job not in self.leads and not self.closing:
                self.verbs.hand_over(job, urgent=door.urgent, first=True)  # there is no room any more

    def _ear_answers(self) -> None:
        asked = self._ear.asked
        for job, entries in self._ear.answer().items():
            lead = self.leads.get(job)
            if lead is not None and lead.master is not None and not lead.aside:
                lead.master.give(entries, asked[job])
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
        """Give a lead one turn. The first turn adopts the job."""
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
        """After a turn: note when the job's next one is due, or handle its end."""
        lead = turn.lead
        if lead.master is not None and lead.master.looked_at > self._seen[0]:
            self._seen = lead.master.looked_at, lead.master.workers
        if turn.over:
            del self.leads[lead.job]
            lead.wire.to = self._wire
            self._steward.over(lead, turn)
            if isinstance(turn.error, BrokerDown):
                raise turn.error
            if not self.leads and self._connected:
                self._reached()  # others have taken its last job during the outage: no turn is left that says so
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

    def _returned(self) -> Iterator[tuple[Turn, float]]:
        """Turns beside the wheel that are over, one at a time: if an error of one ends the round, the next round has
        the others.
        """
        while True:
            with self._lock:
                if not self._back:
                    return
                back = self._back.pop(0)
            yield back

    def relieve(self) -> bool:
        """Take the wheel from its thread, if that has computed for a long time; another thread calls this. Returns
        whether the wheel was taken: then the caller, or a thread that it starts, has the wheel and goes round.
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
            for door in self._doors:
                door.verbs.wire.connect()
                door.open = False
            self._fresh = False
            self._connected = True
            if not self.leads:
                self._reached()
        elif self._fresh:
            self._wire.connect()
            self._fresh = False

    def _reached(self) -> None:
        """Redis answers, and no job's turn can say whether it takes writes: replicas answer, too."""
        if not isinstance(self._cut, ReadOnly):
            self._recovered()

    def _recovered(self) -> None:
        self._backoff = Backoff()
        self._demotion.over()
        if self._down:
            self._down = False
            self._steward.noticed("Redis is back")

    def _cut_off(self, error: BrokerError) -> None:
        """Note that the connections are lost. Each master learns it at its next turn, on new connections.

        Raises BrokerRefused if the server is a replica for too long.
        """
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
        self._demotion.met(error)
        if not self._down:
            self._down = True
            self._steward.noticed(f"{error}; trying again")
        if not self.over:
            self._waiting.wait([], self._backoff.next())
