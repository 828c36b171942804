"""A master's look around: it finds the workers that are alive, the tasks of dead ones, and the places of its own tasks.

Several looks are needed to prove a death (see core/fleet/liveness.py). Only looks that could write count, because a
full Redis that refuses our look refuses the workers' beats, too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence

from mapreduce_rq.broker.jobs import STRIKE_OFF, Jobs
from mapreduce_rq.core.fleet.give_back import given_back
from mapreduce_rq.core.fleet.liveness import Watch
from mapreduce_rq.core.fleet.obituary import read_obituary
from mapreduce_rq.core.job.events import Surveyed
from mapreduce_rq.core.messages import LOST, MAP, Beat, Failure, Task
from mapreduce_rq.core.sealing import kid_text
from mapreduce_rq.core.text import plural
from mapreduce_rq.errors import BadMessage, BrokerError, BrokerFull, NoWorkers, OtherKey
from mapreduce_rq.runtime.clock import Clock
from mapreduce_rq.runtime.master.telling import Telling

SWEEP_SECONDS = 3.0
FIRST_LOOK_SECONDS = 0.05
"""Seconds until the first look. It comes early, because the size of tasks depends on the number of workers."""
LONELY_SWEEP_SECONDS = 0.5
"""Seconds between two looks while no worker is known, so that people learn it within two seconds."""
NO_WORKERS_SECONDS = 1.0
"""Seconds without a worker after which we say so: before that, local workers may still be starting."""
START = "start `mrq worker` with the same URL"
"""What helps a job without workers."""
MOST_NAMES = 4
"""The most workers that are named in one line."""
STALE_SECONDS = 15.0
"""Seconds. A worker whose beat is this old by the clocks, and was never seen to change, does not count as alive."""


class Sweeper:
    """Looks around for one job. ``expected``: the number of workers that are known, or of local ones that are starting.

    Only workers that can work for the job count. A worker that signs with another key, or that has refused a task of
    the job, does not count, and a notice says why.
    """

    def __init__(
        self,
        jobs: Jobs,
        clock: Clock,
        job: str,
        telling: Telling,
        *,
        expected: int,
        wait: float | None,
        look_soon: bool = True,
    ) -> None:
        self.workers = expected
        self.present: set[str] = set()  # ids of the workers that were alive at the last look and can work for the job
        self.sweeps = 0
        self.spec_bytes = 0  # bytes of the spec in the job's hash, at the last look
        self._jobs = jobs
        self._clock = clock
        self._job = job
        self._telling = telling
        self._told_refused: set[str] = set()  # texts
        self.others_wait = False  # tasks of other jobs were in the queue at the last look
        self._expected = expected
        self._look_soon = look_soon
        self._wait = wait  # seconds to wait for a first able worker; None: without end
        self._refused: Mapping[str, Failure] = {}  # workers that refused a task of the job, as of the last sweep
        self._mourned: set[str] = set()  # workers whose obituary was read
        self._looked = False  # whether any was looked for
        self._strangers: dict[int, int] = {}  # workers of other keys, by their keys' ids
        self._told: set[int | str] = set()  # the reasons why some workers cannot
        self._seen: set[str] | None = None  # workers that were alive at the last look; None: there was no look
        self._watch = Watch()
        self._began = self._last_sweep = self._without_since = clock.now()
        self._last_look = float("-inf")  # that counted
        self._said = False
        self._met = False  # whether a worker has been seen
        self._full = False  # whether Redis was full at the last sweep

    @property
    def interval(self) -> float:
        """Seconds from one sweep to the next."""
        if self.sweeps == 0 and self._look_soon:
            return FIRST_LOOK_SECONDS
        return SWEEP_SECONDS if self.workers else LONELY_SWEEP_SECONDS

    @property
    def looked_at(self) -> float:
        """The time of the last look; 0.0 if there was none."""
        return self._last_sweep if self.sweeps else 0.0

    def due_in(self, now: float) -> float:
        """Seconds until the next sweep; 0 or less if it is due."""
        return self._last_sweep + self.interval - now

    def hurry(self) -> None:
        """After a new connection: look at once, and count looks anew."""
        self._last_sweep = self._last_look = float("-inf")
        self._watch = Watch()
        self._without_since = self._clock.now()  # in between, no worker could be seen
        self._seen = None

    def despair(self, error: BrokerError) -> None:
        """Note that no worker can be seen, because Redis does not answer or is too full for a look.

        Raises NoWorkers if we have waited long enough for a first worker.
        """
        if self._wait is not None and not self._met and self._clock.now() - self._began >= self._wait:
            queue = self._jobs.keys.name
            raise NoWorkers(f"no worker came to queue {queue} within {self._wait:g} s: {error}") from error

    def sweep(
        self,
        now: float,
        hear: Callable[[int], None],
        refused: Mapping[str, Failure],
        counted: Callable[[int, int], bool],
        answered: Collection[str],
    ) -> Surveyed | None:
        """Look around and reap; None if Redis is too full to look. Raises NoWorkers, BrokerDown.

        ``hear(n)`` reads at least ``n`` more replies, or all there are: answers from before the look must be known
        before a missing task counts as lost. ``refused``: the workers that have refused a task of the job.
        ``counted(lo, hi)`` returns whether all terms of a span are counted. ``answered``: workers that have answered.
        """
        self._last_sweep = now
        self.sweeps += 1
        try:
            survey = self._jobs.survey(self._job, self.sweeps)
        except BrokerFull as error:
            self.despair(error)
            self._without_since = now
            if not self._full:
                self._full = True
                self._telling.notice(f"{error}; until then no worker can answer")
                self._telling.note("full", str(error), noticed=True)
            return None
        if self._full:
            self._full = False
            self._telling.notice("Redis takes answers again")
        self.spec_bytes = survey.spec_bytes
        hear(survey.replies)
        if now - self._last_look >= SWEEP_SECONDS * 0.9:  # the quick looks of the start do not prove a death
            self._last_look = now
            self._watch.look(survey.beats)
        self._mourn(survey.beats, answered, survey.held)
        dead, forgotten = set(self._watch.dead()), set(self._watch.forgotten())
        waiting = self._mine(survey.waiting)
        self.others_wait = len(waiting) < len(survey.waiting)
        held: list[Task] = []
        for wid, raws in survey.held.items():
            if wid in dead:
                spared = self._answered(raws, counted)
                self._jobs.strike(wid, spared)
                if raws or wid in forgotten:
                    self._reap(wid, survey.beats[wid], raws, spared, strike_off=wid in forgotten)
                waiting += self._mine([raw for raw in raws if raw not in spared])
            else:
                held += self._mine(raws)
        alive = self._alive({wid: beat for wid, beat in survey.beats.items() if wid not in dead})
        self._compare(alive, dead, now)
        self._refused = refused
        self.present = alive - refused.keys()
        if refused and self.present:
            self._tell_of(refused)
        starting = self._expected if now - self._began < NO_WORKERS_SECONDS else 0
        self._count(max(len(self.present), starting - len(refused)), now)
        return Surveyed(waiting, held, max(len(alive), starting), slack=not survey.waiting)

    def mourn(self, answered: Collection[str]) -> None:
        """Report the workers that died since the last look: the job ends, so no other look comes."""
        with contextlib.suppress(BrokerError):  # the next request raises it again, if it lasts
            self._mourn(self._jobs.registry(), answered, {})

    def _mourn(self, entries: Mapping[str, bytes], answered: Collection[str], held: Mapping[str, list[bytes]]) -> None:
        """Report workers that died since the last look, with the reasons that their supervisors wrote.

        Before the first look, any worker of the queue may have died at any time: only those are reported that worked
        for this job. A master that took the job over may find them reported by the master before.
        """
        dead = {wid: found for wid, entry in entries.items() if (found := read_obituary(entry))}
        for wid in dead.keys() - self._mourned:
            text = f"{wid.rpartition(':')[0]}: {dead[wid].why}"
            if self._looked:
                self._telling.note("worker lost", text)
            elif wid in answered or self._job in dead[wid].jobs or self._mine(held.get(wid, [])):
                self._telling.note_once("worker lost", text)
        self._mourned = set(dead)
        self._looked = True

    def _compare(self, alive: set[str], dead: set[str], now: float) -> None:
        """Report workers that came and went since the last look. Deaths that were seen are reported elsewhere."""
        before, self._seen = self._seen, alive
        if before is None or now - self._began < NO_WORKERS_SECONDS:
            return  # they were there before us, or came with us
        if joined := alive - before:
            self._telling.seen("worker joined", _names(joined))
        if lost := before & dead - self._mourned:
            self._telling.seen("worker lost", f"{_names(lost)}: no sign of life")
        if left := before - alive - dead - self._mourned:
            self._telling.seen("worker left", _names(left))

    def _alive(self, beats: dict[str, bytes]) -> set[str]:
        """The workers that sign with our key and are probably alive; the others are noted."""
        alive = set()
        self._strangers = {}
        for wid, raw in beats.items():
            try:
                beat: Beat = self._jobs.codecs.beat.at(wid).open(raw)
            except OtherKey as error:
                self._strangers[error.kid] = self._strangers.get(error.kid, 0) + 1
            except BadMessage:
                continue
            else:
                # A worker whose beat is old by the clocks does not count as alive. No other decision depends on clocks.
                if self._watch.moved(wid) or abs(self._clock.wall() - beat.at) <= STALE_SECONDS:
                    alive.add(wid)
        return alive

    def _mine(self, raws: list[bytes]) -> list[Task]:
        found = []
        for raw in raws:
            try:
                task = self._jobs.codecs.task.open(raw)
            except BadMessage:
                continue
            if task.job == self._job:
                found.append(task)
        return found

    def _answered(self, raws: list[bytes], counted: Callable[[int, int], bool]) -> list[bytes]:
        """The tasks of our job in a dead worker's hand that others have answered, which no worker must do again.

        A task of which another worker only holds a copy goes back: that copy may wait in a hand that is stuck.
        """
        found = []
        for raw in raws:
            with contextlib.suppress(BadMessage):
                task = self._jobs.codecs.task.open(raw)
                if task.job == self._job and task.op == MAP and counted(task.lo, task.hi):
                    found.append(raw)
        return found

    def _reap(self, wid: str, beat: bytes, raws: list[bytes], spared: list[bytes], *, strike_off: bool) -> None:
        given, why = reap_dead(self._jobs, wid, beat, raws, spared, strike_off=strike_off)
        if given or spared:
            self._telling.notice(f"worker {wid.rpartition(':')[0]} is gone ({why}): {plural(given, 'task')} given back")
            if not read_obituary(beat):
                text = f"{wid.rpartition(':')[0]}: {why}; {plural(given, 'task')} given back"
                self._telling.note("worker lost", text, noticed=True)

    def _tell_of(self, refused: Mapping[str, Failure]) -> None:
        """Report the hosts that refuse the job while others work for it; each reason once for a host."""
        for wid, failure in refused.items():
            text = f"{wid.rsplit(':', 2)[0]} cannot work for {self._job}: {failure.kind}: {failure.message}"
            if text not in self._told_refused:
                self._told_refused.add(text)
                self._telling.notice(f"{text}; the job goes on elsewhere")

    def _count(self, able: int, now: float) -> None:
        if able and not self.workers and self._said:
            self._telling.notice(f"{plural(able, 'worker')} appeared")
            self._said = False
        self.workers = able
        reasons = self._reasons()
        queue = self._jobs.keys.name
        if able:
            self._without_since = now
            self._met = True
            self._tell(reasons)
        elif self._wait is not None and now - self._without_since >= self._wait:
            if not reasons:
                raise NoWorkers(f"no worker came to queue {queue} within {self._wait:g} s: {START}")
            none = f"no worker that can do this job came to queue {queue} within {self._wait:g} s"
            raise NoWorkers("; ".join([none, *reasons.values()]))
        elif now - self._without_since >= NO_WORKERS_SECONDS:
            if not self._said and not reasons:
                self._telling.notice(f"0 workers on queue {queue}: {START}, or add --local 4; waiting")
            self._said = True
            self._tell(reasons)

    def _reasons(self) -> dict[int | str, str]:
        """The reasons why living workers cannot work for this job: a line for each key, and for each reason given."""
        ours = self._jobs.codecs.keyring.kid
        here = f"this master signs with {kid_text(ours)}" if ours else "this master has no key"
        found: dict[int | str, str] = {}
        for kid, count in sorted(self._strangers.items()):
            one = count == 1
            theirs = f"sign{'s' * one} with {kid_text(kid)}" if kid else f"{'has' if one else 'have'} no key"
            who = f"{plural(count, 'worker')} on queue {self._jobs.keys.name}"
            found[kid] = f"{who} {theirs}, and {here}: give the same key to all (MRQ_KEY)"
        for wid, failure in self._refused.items():
            found.setdefault(
                failure.message, f"worker {wid.rpartition(':')[0]} cannot do {self._job}: {failure.message}"
            )
        return found

    def _tell(self, reasons: Mapping[int | str, str]) -> None:
        """Give a notice of each reason, once."""
        for what, text in reasons.items():
            if what not in self._told:
                self._told.add(what)
                self._telling.notice(text)


def _names(wids: set[str]) -> str:
    """Some workers' names, and the number of the others."""
    names = sorted(wid.rpartition(":")[0] or wid for wid in wids)
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more


def reap_dead(
    jobs: Jobs, wid: str, beat: bytes, raws: list[bytes], spared: Sequence[bytes] = (), *, strike_off: bool
) -> tuple[int, str]:
    """Give back the tasks of a dead worker, except those ``spared``; ``strike_off``: also delete its entry.

    Returns the number of tasks that went back, and the reason of the death.
    """
    obituary = read_obituary(beat)
    in_hand = None
    why = LOST
    if obituary is not None:
        why = obituary.why
    else:
        try:
            last = jobs.codecs.beat.at(wid).open(beat)
            in_hand = (last.job, last.lo, last.hi) if last.state != "idle" else None
        except BadMessage:
            pass
    # A supervisor that wrote an obituary has already given back the tasks in hand, and blamed one.
    moves = given_back(jobs.codecs, raws, in_hand, why, guess=obituary is None)
    moves = [(old, new) for old, new in moves if old not in spared]  # one of them may be the task to blame
    return jobs.reap(wid, STRIKE_OFF if strike_off else "", moves), why
