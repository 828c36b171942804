"""A master: leads one job from its checkpoint to its record. Prints nothing, installs no signal handler.

    while the job runs:
        read replies        -> ledger
        look around         -> ledger   (every SWEEP_SECONDS: who died, what is lost, what straggles)
        commit              tasks to push, checkpoint when due, the lease always

Every commit is a compare-and-set on the job's token, and every error of the connection leads to the same place:
connect, look at the token. Still ours: go on with what is in memory and read all uncommitted replies again (twice
is ignored). Gone: submit again from memory. Another's: stop, change nothing.

A token is ``epoch:nonce:counter``: a new epoch and nonce for each master, a new counter for each commit.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from mapreduce_rq.broker.jobs import FIRST_REPLY, STRIKE_OFF, Jobs, JobState, Lost
from mapreduce_rq.broker.wire import Argument
from mapreduce_rq.core.computation import Computation, More, Outcome
from mapreduce_rq.core.ledger import Broken, Command, Ledger, Push, Replied, Resumed, Settled, Source, Surveyed
from mapreduce_rq.core.liveness import OBITUARY, Watch
from mapreduce_rq.core.messages import Beat, Failure, Spec, Task
from mapreduce_rq.core.reaping import given_back
from mapreduce_rq.core.record import SCHEMA, record_of
from mapreduce_rq.core.span import Span
from mapreduce_rq.errors import BadMessage, BrokerDown, BrokerFull, NoSuchJob, NoWorkers, Superseded
from mapreduce_rq.runtime.clock import Backoff, Clock

LEASE_SECONDS = 1.0
"""A commit at least this often, whether there is something to say or not."""
SWEEP_SECONDS = 3.0
FIRST_LOOK_SECONDS = 0.05
NO_WORKERS_SECONDS = 1.0
"""Without a worker for so long, say so: local ones may still be starting."""
FIRST_SWEEP_SECONDS = 0.5
"""As long as no worker is known: look around more often, so that people hear of it within two seconds."""
STALE_SECONDS = 15.0
"""A beat this old by the clocks is not counted as a worker one can hope for."""
CHECKPOINT_SECONDS = 1.0
CHECKPOINT_SHARE = 20
"""A checkpoint waits for this many times what the last one cost: five percent of the time at most."""
POLL_SECONDS = 2.0
"""Between two looks at another master's token; DEAD_AFTER looks without a change and it is taken over."""
INLINE_SPEC_BYTES = 2048
INLINE_SPEC_TASKS = 32
"""The first tasks of a job carry its spec, where it is small, and save new workers a round trip."""


ENDED = {None: "all", True: "tolerance met", False: "tolerance not met"}
"""A record's ``ended``, by what became of the tolerance; ``deadline`` besides."""

Report = dict[str, Any]
"""How a job goes: what stands in its ``progress`` field."""


class Observer(Protocol):
    """Who wants to know how the job goes. Called from the master's loop: be quick."""

    def progressed(self, report: Callable[[], Report]) -> None:
        """Something was counted, or a second went by; ``report`` makes the report if it is wanted."""

    def noticed(self, text: str) -> None:
        """Something a person should read: a death, an outage, a refusal."""


class Silent:
    """An observer that wants to know nothing."""

    def progressed(self, report: Callable[[], Report]) -> None:
        """Not interested."""

    def noticed(self, text: str) -> None:
        """Not interested."""


class Interrupted(BaseException):
    """Raised by :meth:`Master.interrupt` into a master that waits."""


@dataclass(frozen=True)
class Ended:
    """How a job ended."""

    state: str
    record: dict[str, Any]
    outcome: Outcome | None  # with the native object, where this master made it


class Master:
    """Leads one job. ``stop`` may be set from another thread: it then lets go of the job, for another to resume."""

    def __init__(
        self,
        jobs: Jobs,
        clock: Clock,
        spec: Spec,
        computation: Computation[Any],
        observer: Observer,
        *,
        source: Source | None = None,
        wait_workers: float | None = None,
        workers: int = 0,
    ) -> None:
        self.jobs = jobs
        self.clock = clock
        self.spec = spec
        self.computation = computation
        self.observer = observer
        self.stop = False
        self.wait_workers = wait_workers
        self.workers = self._expected = workers  # local ones that may not have beaten yet
        self.dropped = 0  # replies that were forged or malformed
        self._source = source
        self._job = spec.job
        self._nonce = clock.random(8).hex()
        self._epoch = 1
        self._counter = 0
        self._token = ""
        self._cursor = FIRST_REPLY
        self._watch = Watch()
        self._now = clock.now()
        self._last_commit = self._now
        self._last_checkpoint = self._now
        self._last_sweep = self._now
        self._last_look = float("-inf")
        self._checkpoint_cost = 0.0
        self._uncommitted = 0  # tasks counted since the last checkpoint
        self._sweeps = 0
        self._started = self._without_since = self._now
        self._answered: set[str] = set()  # workers heard of
        self._said_no_workers = False
        self._waiting = False  # for Redis or the clock: nothing is half changed
        self._outcome: Outcome | None = None
        self.ledger = Ledger(spec, computation, self._now, source=source, workers=workers)

    # -- the ways in -----------------------------------------------------------------------------------------------

    def submit(self) -> None:
        """Create the job with its first tasks. Safe to repeat after BrokerDown. Raises BrokerError, Superseded."""
        seal = self.jobs.codecs
        pushed = [
            task
            for command in self.ledger.receive(Resumed(), self._now)
            if isinstance(command, Push)
            for task in command.tasks
        ]
        sealed = seal.spec.seal(self.spec)
        if len(sealed) <= INLINE_SPEC_BYTES:
            first = [msgspec.structs.replace(task, spec=sealed) for task in pushed[:INLINE_SPEC_TASKS]]
            pushed = [*first, *pushed[INLINE_SPEC_TASKS:]]
        try:
            self._create(pushed)
        except _LostError as lost:
            if not self._is_mine(lost.found.token):
                raise Superseded(f"{self._job} is there already, led by another master") from None
            self._token = lost.found.token  # an earlier try was done after all, and its answer lost

    def _create(self, tasks: list[Task]) -> None:
        token = self._next_token()
        answer = self.jobs.commit(
            self._job,
            "",
            token,
            what="create",
            number=int(self.spec.created),
            fields=[
                ("state", "running"),
                ("spec", self.jobs.codecs.spec.seal(self.spec)),
                ("ck", self.jobs.codecs.checkpoint.seal(self.ledger.checkpoint(self._now))),
                ("master", self._name),
                ("progress", self._progress()),
            ],
            tasks=self.jobs.codecs.task.seal_all(tasks),
        )
        if isinstance(answer, Lost):
            raise _LostError(answer)
        self._token = token
        self._last_commit = self._last_checkpoint = self._now

    def take_over(self, state: JobState) -> None:
        """Claim a job whose master is gone or has let go. Raises Superseded if somebody else was quicker."""
        self._epoch = int(state.token.partition(":")[0] or 0) + 1
        self.ledger = Ledger(
            self.spec,
            self.computation,
            self.clock.now(),
            checkpoint=state.checkpoint,
            source=self._source,
            workers=self.workers,
        )
        self._token = state.token
        try:
            self._commit(fields=[("master", self._name)])
        except _LostError as lost:
            raise Superseded(f"{self._job} was claimed by another master ({lost.found.state})") from None

    def _is_mine(self, token: str) -> bool:
        return token.split(":")[1:2] == [self._nonce]

    @property
    def _name(self) -> str:
        return f"master:{self._nonce}"

    # -- the loop --------------------------------------------------------------------------------------------------

    def run(self) -> Ended | None:
        """Lead the job to its end; None if told to ``stop`` first. Raises Superseded, NoWorkers."""
        down_since: float | None = None
        found: Lost | None = None  # the job as a failed compare-and-set, or a look after an outage, saw it
        backoff = Backoff()
        while True:
            try:
                if down_since is not None:
                    self._pause(backoff.next())
                    self.jobs.wire.connect()
                    found = self.jobs.token(self._job)
                    if not self.stop:
                        self.observer.noticed(f"Redis is back after {self.clock.now() - down_since:.1f} s")
                    down_since, backoff = None, Backoff()
                if found is not None:
                    seen, found = found, None
                    ended = self._resolve(seen)
                    if ended is not None:
                        return ended
                return self._lead()
            except _LostError as lost:
                found = lost.found
            except (BrokerDown, BrokerFull) as error:
                if self.stop:
                    return None  # what is counted since the checkpoint is still in the stream
                if down_since is None:
                    down_since = self.clock.now()
                    self.observer.noticed(f"{error}; trying again")
            except Interrupted:
                down_since = self.clock.now() if down_since is None else down_since  # the wire was cut with it

    def _pause(self, seconds: float) -> None:
        self._waiting = not self.stop
        try:
            self.clock.sleep(0 if self.stop else seconds)
        finally:
            self._waiting = False

    def interrupt(self) -> None:
        """Have this master let go of its job; for a signal handler in the master's own thread.

        Raises Interrupted if the master is waiting for Redis, never while it is changing what it holds.
        """
        self.stop = True
        if self._waiting:
            raise Interrupted

    def _lead(self) -> Ended | None:
        while not self.stop:
            self._now = self.clock.now()
            ended = self._perform(self._read())
            if ended is None and self._sweep_due():
                ended = self._perform(self._sweep())
            if ended is None and (self._checkpoint_due() or self._now - self._last_commit >= LEASE_SECONDS):
                ended = self._perform([Push([])])
                self.observer.progressed(self.report)
            if ended is None and self._remaining() <= 0:
                ended = self._finish_early("deadline")
            if ended is not None:
                return ended
        self._release()
        return None

    def _release(self) -> None:
        """Let go of the job: whoever resumes it need not wait for our token to grow old."""
        self._commit(fields=[("master", "")], checkpoint=True)
        self.jobs.forget_master(self._job)

    def _remaining(self) -> float:
        """Seconds until the deadline."""
        deadline = self.spec.limits.deadline
        return float("inf") if deadline is None else deadline - self.ledger.elapsed(self._now)

    def _read(self) -> list[Command]:
        """Hear what the workers answered, waiting as long as nothing else is due; what follows."""
        wait = min(LEASE_SECONDS - (self._now - self._last_commit), self._remaining())
        if self._sweeps == 0:
            wait = min(wait, FIRST_LOOK_SECONDS)
        elif self.workers == 0:
            wait = min(wait, FIRST_SWEEP_SECONDS)
        return self._hear(max(0.001, wait))

    def _hear(self, wait: float) -> list[Command]:
        self._waiting = True
        try:
            self._cursor, replies, bad = self.jobs.replies(self._job, self._cursor, 0 if self.stop else wait)
        finally:
            self._waiting = False
        self._now = self.clock.now()
        self.dropped += bad
        commands: list[Command] = []
        before = self.ledger.tasks
        for reply in replies:
            self._answered.add(reply.wid)
            commands += self.ledger.receive(Replied(reply.wid, reply.answers), self._now)
        self._uncommitted += self.ledger.tasks - before
        if replies:
            self.workers = max(self.workers, 1)
            self.observer.progressed(self.report)
        return commands

    def _perform(self, commands: list[Command]) -> Ended | None:
        """Do what the ledger says: all pushes in one commit, or the job's end."""
        tasks: list[Task] = []
        for command in commands:
            if isinstance(command, Broken):
                return self._fail(command.span, command.failure)
            if isinstance(command, Push):
                tasks += command.tasks
        if commands and isinstance(commands[-1], Settled):
            try:
                outcome = self.ledger.outcome()
            except Exception as error:
                return self._fail(Span(0, self.ledger.counted), _failure_of(error))
            if outcome is not None:
                return self._finish(outcome, ENDED[self.ledger.met])
            return self._perform(self.ledger.receive(Resumed(), self._now))
        if commands:
            self._commit(tasks=tasks, checkpoint=self._checkpoint_due())
        return None

    # -- looking around --------------------------------------------------------------------------------------------

    def _sweep_due(self) -> bool:
        since = self._now - self._last_sweep
        if self._sweeps == 0:
            return since >= FIRST_LOOK_SECONDS  # how many workers there are decides how large to cut
        return since >= SWEEP_SECONDS or (since >= FIRST_SWEEP_SECONDS and self.workers == 0)

    def _sweep(self) -> list[Command]:
        """Who is alive, who is to be reaped, what is lost; what follows."""
        self._last_sweep = self._now
        self._sweeps += 1
        try:
            survey = self.jobs.survey(self._job, self._sweeps)
        except BrokerFull:
            return []  # nobody can beat either: this look does not count
        commands: list[Command] = []
        before = None
        while before != self._cursor:  # every reply of before the look, so that what is gone is lost and not answered
            before = self._cursor
            commands += self._hear(0)
        if self._now - self._last_look >= SWEEP_SECONDS * 0.9:  # the hurried looks of the start prove nobody's death
            self._last_look = self._now
            self._watch.look(survey.beats)
        waiting = self._mine(survey.waiting)
        held: list[Task] = []
        dead = set(self._watch.dead())
        forgotten = set(self._watch.forgotten())
        for wid, raws in survey.held.items():
            if wid in dead:
                if raws or wid in forgotten:
                    self._reap(wid, survey.beats[wid], raws, strike_off=wid in forgotten)
                waiting += self._mine(raws)
            else:
                held += self._mine(raws)
        alive = [wid for wid in survey.beats if wid not in dead and not self._stale(survey.beats[wid])]
        starting = self._expected if self._now - self._started < NO_WORKERS_SECONDS else 0
        self._count_workers(max(len(alive), starting))
        event = Surveyed(waiting, held, self.workers, slack=not survey.waiting)
        return commands + self.ledger.receive(event, self._now)

    def _mine(self, raws: list[bytes]) -> list[Task]:
        found = []
        for raw in raws:
            try:
                task = self.jobs.codecs.task.open(raw)
            except BadMessage:
                continue
            if task.job == self._job:
                found.append(task)
        return found

    def _reap(self, wid: str, beat: bytes, raws: list[bytes], *, strike_off: bool) -> None:
        obituary = beat.startswith(OBITUARY)
        in_hand = None
        why = "its host or supervisor was lost"
        if obituary:
            why = beat.removeprefix(OBITUARY).decode(errors="replace")
        else:
            try:
                last = self.jobs.codecs.beat.open(beat)
                in_hand = (last.job, last.lo, last.hi) if last.state != "idle" else None
            except BadMessage:
                pass
        # A supervisor that wrote an obituary has already given back and blamed what was in hand.
        moves = given_back(self.jobs.codecs, raws, in_hand, why, guess=not obituary)
        given = self.jobs.reap(wid, STRIKE_OFF if strike_off else "", moves)
        if given:
            self.observer.noticed(f"worker {wid.rpartition(':')[0]} is gone ({why}): {given} tasks given back")

    def _stale(self, beat: bytes) -> bool:
        """Whether a beat is so old by the clocks that its worker should not be counted on. Decides nothing else."""
        try:
            found: Beat = self.jobs.codecs.beat.open(beat)
        except BadMessage:
            return True
        return abs(self.clock.wall() - found.at) > STALE_SECONDS

    def _count_workers(self, alive: int) -> None:
        if alive and not self.workers and self._said_no_workers:
            self.observer.noticed(f"{alive} worker{'s' * (alive > 1)} appeared")
            self._said_no_workers = False
        self.workers = alive
        since = self._now - self._without_since
        if alive:
            self._without_since = self._now
        elif self.wait_workers is not None and since >= self.wait_workers:
            raise NoWorkers(f"no worker came to queue {self.jobs.keys.name} within {self.wait_workers:g} s")
        elif not self._said_no_workers and since >= NO_WORKERS_SECONDS:
            self._said_no_workers = True
            self.observer.noticed(
                f"0 workers on queue {self.jobs.keys.name}: "
                "start `mrq worker` with the same URL, or add --local 4; waiting"
            )

    # -- commits ---------------------------------------------------------------------------------------------------

    def _next_token(self) -> str:
        self._counter += 1
        return f"{self._epoch}:{self._nonce}:{self._counter}"

    def _checkpoint_due(self) -> bool:
        if not self._uncommitted:
            return False
        since = self._now - self._last_checkpoint
        if since < CHECKPOINT_SHARE * self._checkpoint_cost:
            return False
        return since >= CHECKPOINT_SECONDS or self._uncommitted * 2 > self.ledger.pace.window()

    def _commit(
        self,
        *,
        fields: Sequence[tuple[str, Argument]] = (),
        tasks: Sequence[Task] = (),
        checkpoint: bool = False,
    ) -> None:
        """Compare and set."""
        started = self.clock.now()
        what = ""
        row = list(fields)
        if checkpoint:
            row.append(("ck", self.jobs.codecs.checkpoint.seal(self.ledger.checkpoint(started))))
            what = _behind(self._cursor)
        if checkpoint or started - self._last_commit >= LEASE_SECONDS:
            row.append(("progress", self._progress()))
        token = self._next_token()
        sealed = self.jobs.codecs.task.seal_all(tasks)
        answer = self.jobs.commit(self._job, self._token, token, what=what, fields=row, tasks=sealed)
        if isinstance(answer, Lost):
            raise _LostError(answer)
        self._token = token
        self._last_commit = self._now
        if answer.reopened:
            self._cursor = FIRST_REPLY
        if checkpoint:
            self._uncommitted = 0
            self._last_checkpoint = self.clock.now()
            self._checkpoint_cost = self._last_checkpoint - started

    def _resolve(self, found: Lost) -> Ended | None:
        """The token is not the expected one, or the connection is new: whose job is it now? None: ours, go on."""
        if not found.token:
            # Wiped, with us alive: what we hold is exact. Submit again; what is out goes out anew after a look.
            self.observer.noticed(f"{self._job} is gone from Redis: submitting it again with what is counted")
            self._cursor = FIRST_REPLY
            self._create([])
        elif found.state != "running":
            return self._ended()
        elif self._is_mine(found.token):
            self._token = found.token
            self._cursor = FIRST_REPLY
        else:
            raise Superseded(f"{self._job} is led by another master now; this one changed nothing more")
        self._now = self.clock.now()
        self._last_sweep = float("-inf")
        self._last_look = float("-inf")
        return self._perform(self.ledger.receive(Resumed(), self._now))

    def _ended(self) -> Ended:
        state = self.jobs.load(self._job)
        if state is None:
            raise NoSuchJob(f"{self._job} has ended and its record has expired")
        self.jobs.forget_master(self._job)
        return Ended(state.state, state.record or {}, self._outcome if state.state == "done" else None)

    def report(self) -> Report:
        """What people see of a running job; also stored with it, so that nobody needs to ask its master."""
        ledger = self.ledger
        peek = None
        try:
            peek = ledger.progress()
        except Exception as error:  # a running value is a courtesy: the job goes on without it
            self.observer.noticed(f"no running value: {error}")
        return {
            "counted": ledger.counted,
            "total": ledger.total,
            "cut": ledger.next,
            "out": len(ledger.out),
            "tasks": ledger.tasks,
            "ignored": ledger.ignored,
            "dropped": self.dropped,
            "rate": ledger.pace.terms_rate,
            "elapsed_s": ledger.elapsed(self._now),
            "workers": self.workers,
            "chunk": ledger.pace.size(None if ledger.total is None else ledger.total - ledger.next),
            "value": peek.value if peek else None,
            "error": peek.error if peek else None,
            "bound_kind": peek.bound_kind if peek else None,
        }

    def _progress(self) -> bytes:
        return self.jobs.codecs.record.seal(self.report())

    # -- the ways out ----------------------------------------------------------------------------------------------

    def _finish(self, outcome: Outcome, ended: str) -> Ended:
        record = record_of(
            self.spec, self.ledger, outcome, ended=ended, workers=max(1, len(self._answered)), now=self.clock.now()
        )
        self._outcome = outcome
        checkpoint = self.jobs.codecs.checkpoint.seal(self.ledger.checkpoint(self._now))
        self._end("done", [("record", self.jobs.codecs.record.seal(record)), ("ck", checkpoint)])
        return Ended("done", record, outcome)

    def _finish_early(self, ended: str) -> Ended:
        """End with what is counted."""
        terms, partial = self.ledger.tally.prefix()
        found = self.computation.finish(partial, terms) if terms else None
        if found is None or isinstance(found, More):
            peek = self.computation.peek(partial, terms) if terms else None
            if peek is None:
                failure = Failure(None, "Deadline", f"the deadline passed with {terms} terms counted", "", "")
                return self._fail(Span(0, self.ledger.total or 0), failure)
            found = Outcome(value=peek.value, number=peek.number, bound_kind="none")
        return self._finish(found, ended)

    def _fail(self, span: Span, failure: Failure) -> Ended:
        record = {
            "schema": SCHEMA,
            "job": self._job,
            "computation": self.spec.computation,
            "params": self.spec.params,
            "term": span.lo if span.size == 1 else None,
            "span": [span.lo, span.hi],
            "kind": failure.kind,
            "message": failure.message,
            "traceback": failure.traceback,
            "where": failure.where,
        }
        self._end("failed", [("record", self.jobs.codecs.record.seal(record))])
        return Ended("failed", record, None)

    def _end(self, state: str, fields: list[tuple[str, Argument]]) -> None:
        token = self._next_token()
        row: list[tuple[str, Argument]] = [("state", state), ("master", ""), ("progress", self._progress()), *fields]
        answer = self.jobs.commit(self._job, self._token, token, what="over", number=self.spec.limits.keep, fields=row)
        if isinstance(answer, Lost):
            raise _LostError(answer)
        self._token = token
        if self.ledger.out or self._sweeps:
            self.jobs.withdraw(self._job)
            self.jobs.forget_master(self._job)


class _LostError(Exception):
    """A commit found another token than ours."""

    def __init__(self, found: Lost) -> None:
        super().__init__(found)
        self.found = found


def _behind(entry: str) -> str:
    """The smallest stream id after this one: trimming below it removes exactly what was read."""
    if entry == FIRST_REPLY:
        return ""
    milliseconds, _, sequence = entry.partition("-")
    return f"{milliseconds}-{int(sequence) + 1}"


def _failure_of(error: BaseException) -> Failure:
    text = "".join(traceback.format_exception(error))[-8000:]
    return Failure(None, type(error).__name__, str(error)[:2000], text, "the master")
