"""A master: leads one job from its checkpoint to its record. Prints nothing, installs no signal handler.

    while the job runs:
        read replies        -> ledger
        look around         -> ledger   (every SWEEP_SECONDS: who died, what is lost, what straggles)
        commit              tasks to push, checkpoint when due, the lease always

Each commit is a compare-and-set on the job's token. After each error of the connection the master does the same: it
connects, and looks at the token. If the token is still its own, it goes on from memory and reads all uncommitted
replies again (those that are counted are ignored). If the job is gone, it submits the job again from memory. If the
token is another master's, it stops and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import msgspec

from mapreduce_rq.broker.job_hash import JobState
from mapreduce_rq.broker.jobs import Committed, Jobs, Lost
from mapreduce_rq.broker.journal import Journal
from mapreduce_rq.broker.wire import SPARE_BYTES, SURE_BYTES, Argument, raise_limit
from mapreduce_rq.core.computation import Computation, More, Outcome, Progress
from mapreduce_rq.core.job.ends import failed_record, record_of
from mapreduce_rq.core.job.ledger import Broken, Command, Event, Ledger, Push, Replied, Resumed, Settled, Source
from mapreduce_rq.core.job.record import Done, Record, Report, State
from mapreduce_rq.core.job.timeline import Recorder
from mapreduce_rq.core.messages import (
    ERROR,
    MAP,
    OK,
    OK_ASIDE,
    REFUSED,
    Answer,
    Checkpoint,
    Codec,
    Failure,
    Spec,
    Task,
    encode_failure,
    mac_of,
)
from mapreduce_rq.core.outcome import Deferred
from mapreduce_rq.core.reducers.base import MergeError
from mapreduce_rq.core.span import Span
from mapreduce_rq.errors import BadMessage, BrokerDown, BrokerError, BrokerFull, NoSuchJob, Superseded, TooLarge
from mapreduce_rq.runtime.clock import Backoff, Clock
from mapreduce_rq.runtime.demotion import Demotion
from mapreduce_rq.runtime.master.bell import Bell
from mapreduce_rq.runtime.master.exchange import Exchange
from mapreduce_rq.runtime.master.lease import Lease, LeaseLost, is_first
from mapreduce_rq.runtime.master.lease_keeper import Keeper
from mapreduce_rq.runtime.master.news import told_of_end
from mapreduce_rq.runtime.master.observer import Observer
from mapreduce_rq.runtime.master.sweep import Sweeper
from mapreduce_rq.runtime.master.telling import Telling
from mapreduce_rq.version import __version__

YOUNG_SECONDS = 5.0
"""Seconds of all workers' time that a job has had when its tasks do not go before those of other jobs any more."""
LEASE_SECONDS = 1.0
"""Seconds between two commits at most, even if there is no news."""
CHECKPOINT_SECONDS = 1.0
CHECKPOINT_TASKS = 32
"""Tasks counted after which a checkpoint is due before CHECKPOINT_SECONDS have passed, or half of a large window."""
CHECKPOINT_SHARE = 20
"""The next checkpoint waits for this many times the time that the last one took: they take 5 % of the time at most."""
POLL_SECONDS = 2.0
"""Seconds between two looks at another master's token. After DEAD_AFTER equal looks its job is taken over."""
INLINE_SPEC_BYTES = 2048
INLINE_SPEC_TASKS = 32
"""Tasks that carry the job's spec, if it is small: the first ones, which saves new workers a round trip."""
MAX_RESUBMITTED = 100
"""Times at most that a job is written anew if it is gone from Redis, or was overwritten there."""
HASTY_BYTES = 64 * 1024
"""Bytes of a job's end, at most, whose answer is not waited for: until it is read, all parts must be kept."""


ENDED = {None: "all", True: "tolerance met", False: "tolerance not met"}
"""A record's ``ended``, by whether the tolerance was met; it may also be ``deadline``."""


class Seals(NamedTuple):
    """The codecs of the messages in one job's hash."""

    spec: Codec
    checkpoint: Codec
    record: Codec
    report: Codec
    timeline: Codec


class Interrupted(BaseException):
    """Raised by :meth:`Master.interrupt` into a master that waits."""


@dataclass(frozen=True)
class Ended:
    """How a job ended."""

    record: Record
    outcome: Outcome | None  # with the native object, if this master made it
    errors: Mapping[int | None, Deferred] = field(default_factory=dict)
    """Exceptions of terms: of the job's failure (None), and of each term that was left out. They are made on demand."""

    @property
    def state(self) -> State:
        """The state in which the job ended."""
        return self.record.state


class Master:
    """Leads one job. ``stop`` may be set from another thread: it then lets go of the job, for another to resume.

    ``hasty``: its caller waits for the value alone. The job's creation and the first read of its replies are sent
    together, and the answer to a small end is not waited for: it is ``end_in_doubt`` until Redis has answered.
    ``bell``: rung by who fills its source, which may have nothing yet.
    ``value_stays``: a value too large for the record stays in Redis as long as that, for others to fetch.
    ``host``: the RQ job that is a run of this one; a process that adopts the job asks RQ whether that was stopped.
    ``journal``: where events are told, and the end of the job to those who wait for it.
    """

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
        hasty: bool = False,
        value_stays: bool = True,
        bell: Bell | None = None,
        host: str = "",
        keeper: Callable[[Lease, Jobs], Keeper] = Keeper,
        journal: Journal | None = None,
    ) -> None:
        self.jobs = jobs
        self.clock = clock
        self.spec = spec
        self.computation = computation
        self.observer = observer
        self.stop = False
        self.dropped = 0  # replies that were forged or malformed
        self.end_in_doubt = False
        self.value_stays = value_stays
        self._host = host
        self._hasty = hasty
        self._source = source
        self._aside = computation.aside
        self._laid_aside = source is not None  # whether there may be a body, and not only the place for one
        self._bell = bell
        self._job = spec.job
        codecs = jobs.codecs
        self._seals = Seals(
            spec=codecs.spec.at(spec.job),
            checkpoint=codecs.checkpoint.at(spec.job),
            record=codecs.record.at(spec.job),
            report=codecs.report.at(spec.job),
            timeline=codecs.timeline.at(spec.job),
        )
        self._spec_bytes = 0  # sealed, where it is known
        self._checkpoint_mac = b""  # of the checkpoint sealed last
        self._resubmitted = 0  # times that the job was gone from Redis, or overwritten
        self._lease = Lease(jobs, spec.job, clock.random(8).hex(), journal.by if journal is not None else "master")
        self._exchange = Exchange(jobs, spec.job, self._lease, bell=bell, keeps=computation.reducer.keeps)
        self._keeper = keeper(self._lease, jobs)
        self._recorder = Recorder(clock.now())
        self._telling = Telling(clock, spec.job, observer, self._recorder, journal)
        self._sweeper = Sweeper(jobs, clock, spec.job, self._telling, expected=workers, wait=wait_workers)
        self._patient = wait_workers is not None
        self._now = clock.now()
        self._began = clock.wall()
        self._last_commit = self._now
        self._last_checkpoint = self._now
        self._checkpoint_cost = 0.0
        self._saved = 0.0  # when, by the clock on the wall
        self._uncommitted = 0  # tasks counted since the last checkpoint
        self._stored = -1  # terms that were counted in it, if it is certain to be in Redis
        self._answered: set[str] = set()  # workers heard of, less those that were gone at the last look
        self._at_work = 0  # the most workers that took part at one time
        self._restored = False  # took the job over
        self._pausing = False  # in a pause, in which no state is half changed
        self._down_since: float | None = None  # an outage that is not known to be over
        self._backoff = Backoff()
        self._demotion = Demotion(clock)
        self._unstorable: TooLarge | None = None  # why this job cannot go on
        self._unstored = False  # the fold is too large for a checkpoint, and only our caller needs it
        self._made: Ended | None = None  # the end that this master has made; Redis may not have answered yet
        self.ledger = Ledger(
            spec, computation, self._now, source=source, workers=workers, patient=self._patient, recorder=self._recorder
        )

    # -- the ways in -----------------------------------------------------------------------------------------------

    def submit(self, *, hand_over: bool = False) -> None:
        """Create the job with its first tasks. Safe to repeat after BrokerDown.

        With ``hand_over`` set, another master is to lead it.

        Raises BrokerError, Superseded; TooLarge, with nothing queued, for a spec or first item that Redis cannot take.
        """
        sealed = self._sealed_spec()
        at_once = (
            not self._hasty or self._source is not None
        )  # else only workers lay aside: it is made while they begin
        if self._aside is not None and at_once:
            self._aside.open()
        commands = self.ledger.receive(Resumed(), self._now)
        while True:
            pushed = [task for command in commands if isinstance(command, Push) for task in command.tasks]
            self._spec_bytes = len(sealed)
            if len(sealed) <= INLINE_SPEC_BYTES:
                first = [msgspec.structs.replace(task, spec=sealed) for task in pushed[:INLINE_SPEC_TASKS]]
                pushed = [*first, *pushed[INLINE_SPEC_TASKS:]]
            try:
                self._create(pushed, sealed, hasty=self._hasty, holder="" if hand_over else self._lease.holder)
            except LeaseLost as lost:
                if not self._lease.owns(lost.found.token):
                    raise Superseded(f"{self._job} is there already, led by another master") from None
                self._lease.token = lost.found.token  # an earlier try was done, and its answer was lost
            except TooLarge as error:
                commands = self._in_parts(pushed, error)
                for command in commands:
                    if isinstance(command, Broken):
                        raise self._too_large_item(pushed[0], error) from None
                continue
            if self._aside is not None and not at_once:
                self._aside.open()
            if hand_over:
                self.jobs.hand_over(self._job)
            self._telling.note("submitted", self.spec.label)
            self._tell()
            return

    def _sealed_spec(self) -> bytes:
        remedy = "have workers read what is large, or pass it as items"
        try:
            sealed = self._seals.spec.seal(self.spec)
        except TooLarge as error:
            what = "the function with what it carries" if self.spec.computation == "function" else "the job"
            raise TooLarge(what, error.size, error.limit, remedy) from None
        if len(sealed) > SURE_BYTES and len(sealed) > (limit := self.jobs.wire.limit() - SPARE_BYTES):
            raise TooLarge(
                "the function with what it carries", len(sealed), limit, f"{remedy}, or {raise_limit(limit)}"
            )
        return sealed

    def _create(
        self, tasks: list[Task], sealed: bytes, *, hasty: bool, expect: str = "", holder: str | None = None
    ) -> None:
        number = int(self.spec.created)
        row: list[tuple[str, Argument]] = [
            ("state", State.RUNNING),
            ("spec", sealed),
            ("ck", self._sealed_checkpoint(self._now)),
            ("master", self._lease.holder if holder is None else holder),
        ]
        if self._host:
            row.append(("host", self._host))
        self._last_commit = self._last_checkpoint = self._now
        what = "create, ahead" if self.spec.limits.urgent else "create"
        if hasty:
            self._exchange.create(number, row, tasks, self._patience(), what)
        else:
            pushed = self.jobs.codecs.task.seal_all(tasks)
            answer = self._lease.commit(expect=expect, what=what, number=number, fields=row, tasks=pushed)
            self._exchange.others = answer.waiting - len(tasks)

    def begin_with(self, checkpoint: Checkpoint) -> None:
        """Before ``submit``: begin with what is counted of a job over the same terms that has failed."""
        self.ledger = self._restored_ledger(msgspec.structs.replace(checkpoint, job=self._job))
        self._now = self.clock.now()

    def take_over(self, state: JobState) -> None:
        """Claim a job whose master is gone or has let go. Raises Superseded if another master was quicker."""
        self._lease.succeed(state.token)
        self._restored = True  # all that is left may be the end, of which others have despaired
        self.ledger = self._restored_ledger(state.checkpoint, cut_on=bool(state.master) or not is_first(state.token))
        try:
            self._commit(fields=[("master", self._lease.holder), ("state", State.RUNNING)])
        except LeaseLost as lost:
            raise Superseded(f"{self._job} was claimed by another master ({lost.found.state})") from None
        self._telling.told_skipped = len(self.ledger.skipped)
        self._telling.note("taken over", f"{self.ledger.counted} terms counted")
        self._tell()

    def _restored_ledger(self, checkpoint: Checkpoint | None, *, cut_on: bool = True) -> Ledger:
        return Ledger(
            self.spec,
            self.computation,
            self.clock.now(),
            checkpoint=checkpoint,
            cut_on=cut_on,
            source=self._source,
            workers=self.workers,
            patient=self._patient,
            recorder=self._recorder,
        )

    @property
    def workers(self) -> int:
        """How many workers are known to be alive."""
        return self._sweeper.workers

    # -- the loop --------------------------------------------------------------------------------------------------

    def run(self) -> Ended | None:
        """Lead the job to its end; None if told to ``stop`` first. Raises Superseded, NoWorkers."""
        if self._restored:
            self._keeper.start()
        try:
            return self._run()
        finally:
            self._keeper.close()

    def make_sure(self) -> None:
        """If ``end_in_doubt``, end the job again. As :meth:`run`; with ``stop`` set it is tried once."""
        self._hasty = False
        try:
            self._run(connected=False)
        finally:
            if self._aside is not None:
                self._aside.clear()

    def _run(self, *, connected: bool = True) -> Ended | None:
        found: Lost | None = None  # the job as a failed compare-and-set, or a look after an outage, saw it
        while True:
            try:
                if not connected:
                    self._pause(self._backoff.next())
                    self._exchange.connect()
                    found = self.jobs.token(self._job)
                    connected = True
                if found is not None:
                    seen, found = found, None
                    ended = self._resolve(seen)
                    if ended is not None:
                        self._redis_is_back()
                        return ended
                return self._lead()
            except LeaseLost as lost:
                found = lost.found
            except (BrokerDown, BrokerFull) as error:
                if self.stop:
                    return None  # replies that were counted since the checkpoint are still in the stream
                connected = False
                self._demotion.met(error, f"; what is counted of {self._job} is kept" if self._lease.token else "")
                self._sweeper.despair(error)
                if self._down_since is None:
                    self._down_since = self.clock.now()
                    self._telling.notice(f"{error}; trying again")
            except Interrupted:
                connected = False  # the wire was cut with it
            except TooLarge as error:
                if self._unstorable is not None:
                    raise  # not even the job's end can be written, or the job is not there
                self._unstorable = error
                connected = False  # the answer to an earlier request may not have been read yet

    def _redis_is_back(self) -> None:
        """Note that Redis took a write, or told how the job ended. An answer alone is not enough: replicas answer."""
        if self._down_since is None:
            return
        self._demotion.over()
        if not self.stop:
            self._telling.notice(f"Redis is back after {self.clock.now() - self._down_since:.1f} s")
        self._down_since, self._backoff = None, Backoff()

    def _pause(self, seconds: float) -> None:
        self._pausing = not self.stop
        try:
            self.clock.sleep(0 if self.stop else seconds)
        finally:
            self._pausing = False

    def interrupt(self) -> None:
        """Tell this master to let go of its job; for a signal handler in the master's own thread.

        Raises Interrupted if the master is waiting for Redis, never while it is changing what it holds.
        """
        self.stop = True
        if self._pausing or self._exchange.waiting:
            raise Interrupted

    def _lead(self) -> Ended | None:
        if self._unstorable is not None:
            return self._fail_for_size(self._unstorable)
        while not self.stop:
            self._now = self.clock.now()
            ended = self._perform(self._read())
            if ended is None and self._sweeper.due_in(self._now) <= 0:
                ended = self._perform(self._sweep())
            if ended is None and (self._checkpoint_due() or self._now - self._last_commit >= LEASE_SECONDS):
                self._commit(checkpoint=self._checkpoint_due())
                self._keeper.start()  # a job that has lasted this long may need it
                self._tell()
                self.observer.progressed(self.report)
            if ended is None and self._remaining() <= 0:
                ended = self._finish_early("deadline")
            if ended is not None:
                return ended
        self._release()
        return None

    def _release(self) -> None:
        """Let go of the job: the master that resumes it need not wait until our token is old."""
        self._commit(fields=[("master", "")], checkpoint=True)
        self.jobs.forget_master(self._job)
        self._telling.note("let go", f"{self.ledger.counted} terms counted")
        self._tell()

    def _remaining(self) -> float:
        """Seconds until the deadline."""
        deadline = self.spec.limits.deadline
        return float("inf") if deadline is None else deadline - self.ledger.elapsed(self._now)

    def _patience(self) -> float:
        """Seconds until the master has something to do even without a reply."""
        if self.ledger.waits and self._bell is None:
            return 0.0
        lease = LEASE_SECONDS - (self._now - self._last_commit)
        return max(0.001, min(lease, self._remaining(), self._sweeper.due_in(self._now)))

    def _read(self) -> list[Command]:
        """Read replies, and wait for them until something else is due. Returns the commands that follow."""
        heard, _ = self._hear(self._patience())
        commands: list[Command] = []
        for replied in heard:
            commands += self._receive(replied)
        if heard:
            self.observer.progressed(self.report)
        elif self.ledger.waits:
            commands = self._receive(Replied("", []))  # there are no answers, but more items may be there by now
        return commands

    def _receive(self, event: Event) -> list[Command]:
        before = self.ledger.tasks
        try:
            with self._keeper:
                commands = self.ledger.receive(event, self._now)
        except MergeError as error:  # the terms counted and the fold may differ now: this job cannot go on
            return [Broken(Span(0, self.ledger.counted), Failure.of(error, "the master"))]
        self._uncommitted += self.ledger.tasks - before
        if self._aside is not None and self._source is not None and self.ledger.tasks > before:
            self._aside.keep({task.body for task in self.ledger.out.values()})
        return commands

    def _hear(self, wait: float) -> tuple[list[Replied], int]:
        """The next replies, and how many there were, including forged ones. They must go to the ledger."""
        replies, entries = self._exchange.hear(0 if self.stop else wait, wants_items=self.ledger.waits)
        self._now = self.clock.now()
        self.dropped += entries - len(replies)
        self._answered.update(reply.wid for reply in replies)
        if any(answer.status != REFUSED for reply in replies for answer in reply.answers):
            self._sweeper.workers = max(self.workers, 1)
        heard = [Replied(reply.wid, reply.answers, reply.tried) for reply in replies]
        return (heard if self._aside is None else [self._fetched(one) for one in heard]), entries

    def _fetched(self, replied: Replied) -> Replied:
        """The replies with the bodies that were laid aside. A body that is gone was read before, and is counted."""
        if OK_ASIDE not in [answer.status for answer in replied.answers]:
            return replied
        self._laid_aside = True
        assert self._aside is not None
        answers = []
        for answer in replied.answers:
            if answer.status == OK_ASIDE:
                try:
                    body = self._aside.get(answer.body)
                except ValueError:
                    continue
                self._aside.drop(answer.body)
                kept = answer.op == MAP and self.ledger.keeps  # as it is; others read bytes
                whole: Any = body if kept else bytes(body)
                answers.append(msgspec.structs.replace(answer, status=OK, body=whole))
            else:
                answers.append(answer)
        return replied._replace(answers=answers)

    def _sweep(self) -> list[Command]:
        """Look around. Returns the commands that follow from that, and from the replies that came before."""
        answered: list[Replied] = []

        def hear(count: int) -> None:
            while count > 0:
                replied, heard = self._hear(0)
                answered.extend(replied)
                count -= heard
                if not heard:
                    break

        self._exchange.hear_of_commit()
        survey = self._sweeper.sweep(self._now, hear, self.ledger.refusals)
        if survey is None:
            return []
        self._answered &= self._sweeper.present
        self._at_work = max(self._at_work, len(self._answered))
        self._redis_is_back()
        if self._sweeper.spec_bytes != self._spec_bytes:
            self._write_spec_anew()
        return self._receive(survey._replace(answered=answered))

    def _write_spec_anew(self) -> None:
        """Write the spec anew if it is gone: new workers, and another master, could not work for the job without it.

        A master that has taken the job over has read the spec, and does not know its size yet.
        """
        sealed = self._seals.spec.seal(self.spec)
        self._spec_bytes = len(sealed)
        if self._sweeper.spec_bytes != self._spec_bytes:
            self._telling.notice(f"the spec of {self._job} was gone from Redis, or overwritten: it is written anew")
            self._commit(fields=[("spec", sealed)])

    def _perform(self, commands: list[Command]) -> Ended | None:
        """Do what the ledger says: all pushes in one commit, or the job's end."""
        tasks: list[Task] = []
        for command in commands:
            if isinstance(command, Broken):
                return self._fail(command.span, command.failure)
            if isinstance(command, Push):
                tasks += command.tasks
        if commands and isinstance(commands[-1], Settled):
            self._exchange.hear_of_commit()
            try:
                with self._keeper:
                    outcome = self.ledger.outcome()
            except Exception as error:
                return self._fail(Span(0, self.ledger.counted), Failure.of(error, "the master"))
            if outcome is not None:
                return self._finish(outcome, ENDED[self.ledger.met])
            return self._perform(self.ledger.receive(Resumed(), self._now))
        if commands:
            try:
                # requests go out at once: a checkpoint follows them
                due = not self.ledger.requests and self._checkpoint_due()
                if due and tasks and self._goes_first():  # a commit that trims cannot put its tasks first
                    self._commit(tasks=tasks)
                    self._commit(checkpoint=True)
                else:
                    self._commit(tasks=tasks, checkpoint=due)
            except TooLarge as error:
                return self._perform(self._in_parts(tasks, error))
        return None

    def _in_parts(self, tasks: Sequence[Task], error: TooLarge) -> list[Command]:
        """The commands that follow if some of these tasks are too large for Redis; none of them is sent yet.

        A task of several terms is halved, a single item fails its term, and merges and requests are done by the master.
        Raises the error if none of the tasks is too large.
        """
        large = [task for task in tasks if len(task.body) > error.limit - SPARE_BYTES]
        if not large:
            raise error
        answers = []
        for task in large:
            alone = task.lo if task.hi - task.lo == 1 else None
            failure = Failure.of(self._too_large_item(task, error), "the master", alone)
            answers.append(Answer(task.lo, task.hi, task.attempt, task.op, ERROR, encode_failure(failure), 0))
        rest = [task for task in tasks if task not in large]
        return [*([Push(rest)] if rest else []), *self._receive(Replied("", answers))]

    def _too_large_item(self, task: Task, error: TooLarge) -> TooLarge:
        remedy = f"cut it up, or pass where workers can read it, or {raise_limit(error.limit)}"
        return TooLarge(f"item {task.lo}", len(task.body), error.limit, remedy)

    def _fail_for_size(self, error: TooLarge) -> Ended:
        remedy = f"fold to less, or {raise_limit(error.limit)}"
        found = TooLarge("what is counted by now", error.size, error.limit, remedy)
        return self._fail(Span(0, self.ledger.counted), Failure.of(found, "the master"))

    # -- commits ---------------------------------------------------------------------------------------------------

    def _checkpoint_due(self) -> bool:
        if not self._uncommitted or self._unstored:
            return False
        since = self._now - self._last_checkpoint
        if since < CHECKPOINT_SHARE * self._checkpoint_cost:
            return False
        if self.ledger.requests:  # now, while workers are busy with these; later there is no news
            return self._stored != self.ledger.counted
        return since >= CHECKPOINT_SECONDS or self._uncommitted > max(CHECKPOINT_TASKS, self.ledger.pace.window() // 2)

    def _commit(
        self,
        *,
        fields: Sequence[tuple[str, Argument]] = (),
        tasks: Sequence[Task] = (),
        checkpoint: bool = False,
    ) -> None:
        """Commit: compare and set. The master and the server may work at the same time; see exchange.py."""
        self._exchange.hear_of_commit()
        started = self.clock.now()
        row = list(fields)
        listed_since = 0
        stored = self._checkpoint_that_fits(started, needed=self.value_stays) if checkpoint else None
        if stored is None:
            self._unstored = self._unstored or checkpoint  # a master that resumes this job reads all replies again
            checkpoint = False
        else:
            row.append(("ck", stored))
        if checkpoint:
            self._saved = self.clock.wall()
        if checkpoint or started - self._last_commit >= LEASE_SECONDS:
            row.append(("state", State.RUNNING))  # each time: workers drop tasks of a job with another state
            report = self.report()
            self._recorder.point(
                report.counted, report.out, report.workers, value=report.value, error=report.error, now=self._now
            )
            row.append(("progress", self._sealed_report(report)))
            listed_since = int(self.spec.created)  # each time: the listing may be lost, and standbys look there
        self._exchange.commit(
            number=listed_since,
            fields=row,
            tasks=tasks,
            checkpoint=checkpoint,
            out=len(self.ledger.out),
            first=self._goes_first(),
        )
        self._last_commit = self._now
        if checkpoint:
            self._uncommitted = 0
            self._stored = self.ledger.counted
            self._last_checkpoint = self.clock.now()
            self._checkpoint_cost = self._last_checkpoint - started

    def _goes_first(self) -> bool:
        """Whether its next tasks go before others: it is urgent, or has had little of the workers' time yet.

        So a short job does not wait for a long one's tasks again and again. Items come in an order that somebody may
        wait for, so those of a source do not go before older ones.
        """
        if self.spec.limits.urgent:
            return True
        little = self.ledger.worked < YOUNG_SECONDS * self.ledger.pace.workers
        return little and self._source is None and (self._exchange.others > 0 or self._sweeper.others_wait)

    def _resolve(self, found: Lost) -> Ended | None:
        """Find out whose job it is, after another token was found or the connection is new. None: ours, go on."""
        self._stored = -1
        if not found.token:
            if self.clock.now() - self._last_commit > self.spec.limits.keep and self._job in self.jobs.listed():
                return self._ended()  # while we were away it was ended, by another master, and its record has expired
            self._submit_again("", f"{self._job} is gone from Redis")
        elif found.state != State.RUNNING:
            try:
                return self._ended(found.state)
            except BadMessage as error:
                self._submit_again(found.token, str(error))
        elif self._lease.owns(found.token):
            self._lease.token = found.token
            self._exchange.begin_anew()
        else:
            raise Superseded(f"{self._job} is led by another master now; this one changed nothing more")
        self._now = self.clock.now()
        self._sweeper.hurry()
        return self._perform(self.ledger.receive(Resumed(), self._now))

    def _submit_again(self, expect: str, why: str) -> None:
        """Write the whole job anew after it was wiped or overwritten: our memory has the exact fold of its runs.

        Tasks that are out go out anew after a look. The job may be overwritten again and again, so this is done after a
        pause, and MAX_RESUBMITTED times at most.
        """
        if self._resubmitted >= MAX_RESUBMITTED:
            key = self.jobs.keys.job(self._job)
            raise BrokerError(f"{why}, the {self._resubmitted + 1}th time: something else deletes or overwrites {key}")
        if self._resubmitted > 0:
            self._pause(min(1.0, 0.05 * 2**self._resubmitted))
        was_there = bool(self._lease.token)
        self._exchange.begin_anew()
        self._create([], self._sealed_spec(), hasty=False, expect=expect)
        self._resubmitted += 1
        if was_there:
            self._telling.notice(f"{why}: submitted again with what is counted")

    def _ended(self, state: str = "") -> Ended:
        """How the job ended: as its record says or, if the record is gone, as this master ended it."""
        found = self.jobs.load(self._job)
        if found is not None and found.record is None:
            # The past came back between the two looks, or the job only says that it is over.
            raise LeaseLost(Lost(found.token, State.RUNNING))
        self.jobs.forget_master(self._job)
        if self._aside is not None:
            self._aside.clear()
        state = found.state if found is not None else state
        mine = self._made if self._made is not None and state in (self._made.state, "") else None
        if found is not None and found.record is not None:
            return Ended(found.record, mine.outcome, mine.errors) if mine else Ended(found.record, None)
        if mine is None:
            raise NoSuchJob(f"{self._job} has ended and its record has expired")
        return mine

    def report(self) -> Report:
        """The report of a running job, for people. It is also stored, so that others need not ask the master."""
        peek = None
        try:
            peek = self.ledger.progress()
        except Exception as error:  # the job goes on without a running value
            self._telling.notice(f"no running value: {error}")
        return self._reported(peek)

    def _reported(self, peek: Progress | None) -> Report:
        ledger = self.ledger
        return Report(
            counted=ledger.counted,
            total=ledger.total,
            cut=ledger.next,
            out=len(ledger.out),
            tasks=ledger.tasks,
            ignored=ledger.ignored,
            dropped=self.dropped,
            rate=ledger.pace.terms_rate,
            elapsed_s=ledger.elapsed(self._now),
            workers=self.workers,
            chunk=ledger.pace.size(None if ledger.total is None else ledger.total - ledger.next),
            value=peek.value if peek else None,
            error=peek.error if peek else None,
            bound_kind=peek.bound_kind if peek else None,
            at=self.clock.wall(),
            saved=self._saved,
        )

    def _took_part(self) -> int:
        """The most workers that took part at one time. A pool that replaces its workers has many more in all."""
        return max(
            self._at_work, min(len(self._answered), self.workers) if self._sweeper.sweeps else len(self._answered)
        )

    # -- the ways out ----------------------------------------------------------------------------------------------

    def _finish(self, outcome: Outcome, ended: str) -> Ended:
        workers = max(1, self._took_part())
        with self._keeper:
            record = record_of(self.spec, self.ledger, outcome, ended=ended, workers=workers, now=self.clock.now())
        errors: dict[int | None, Deferred] = {
            term: Deferred(self.computation.error_of, failure) for term, failure in self.ledger.skipped
        }
        try:
            try:
                return self._end_well(Ended(record, outcome, errors))
            except TooLarge:
                if record.value is None:
                    raise
            # Who asks Redis for the value has it made of the checkpoint; our caller has it here.
            return self._end_well(Ended(msgspec.structs.replace(record, value=None), outcome, errors))
        except TooLarge as error:
            return self._fail_for_size(error)

    def _end_well(self, ended: Ended) -> Ended:
        record = ended.record
        assert isinstance(record, Done)
        row: list[tuple[str, Argument]] = []
        if self._stored != self.ledger.counted:
            needed = record.value is None and self.value_stays
            row.append(("ck", self._checkpoint_that_fits(self._now, needed=needed) or b""))
        record = msgspec.structs.replace(record, checkpoint=self._checkpoint_mac)
        self._made = replace(ended, record=record)
        self._end(record, row)
        return self._made

    def _finish_early(self, ended: str) -> Ended:
        """End the job with the terms that are counted."""
        self._exchange.hear_of_commit()
        with self._keeper:
            terms, partial = self.ledger.tally.prefix()
            found = self.computation.conclude(partial, terms) if terms else None
        if found is None or isinstance(found, More):
            peek = self.computation.peek(partial, terms) if terms else None
            if peek is None:
                failure = Failure(None, "Deadline", f"the deadline passed with {terms} terms counted", "", "")
                return self._fail(Span(0, self.ledger.total or 0), failure)
            found = Outcome(value=peek.value, number=peek.number, bound_kind="none")
        return self._finish(found, ended)

    def _fail(self, span: Span, failure: Failure) -> Ended:
        record = failed_record(self.spec, self.computation, span, failure)
        errors: dict[int | None, Deferred] = {None: Deferred(self.computation.error_of, failure)}
        self._made = Ended(record, None, errors)
        try:
            self._end(record, [])
        except TooLarge:  # it repeats what the job was given
            record = msgspec.structs.replace(record, params={})
            self._made = Ended(record, None, errors)
            self._end(record, [])
        return self._made

    def _sealed_report(self, report: Report) -> bytes:
        try:
            return self._seals.report.seal(report)
        except TooLarge:
            return self._seals.report.seal(msgspec.structs.replace(report, value=None))

    def _checkpoint_that_fits(self, now: float, *, needed: bool) -> bytes | None:
        """The checkpoint. If it is too large for Redis: None unless it is ``needed`` there; else raises TooLarge."""
        try:
            sealed = self._sealed_checkpoint(now)
            if len(sealed) > SURE_BYTES and len(sealed) > (limit := self.jobs.wire.limit() - SPARE_BYTES):
                raise TooLarge("the checkpoint", len(sealed), limit)
        except TooLarge:
            if needed:
                raise
            self._checkpoint_mac = b""
            return None
        return sealed

    def _sealed_checkpoint(self, now: float) -> bytes:
        sealed = self._seals.checkpoint.seal(self.ledger.checkpoint(now))
        self._checkpoint_mac = mac_of(sealed)
        return sealed

    def _end(self, record: Record, fields: list[tuple[str, Argument]]) -> None:
        row: list[tuple[str, Argument]] = [
            ("state", record.state),
            ("master", ""),
            ("progress", self._sealed_report(self._reported(None))),  # the value stands in the record
            ("record", self._seals.record.seal(record)),
            ("timeline", self._sealed_timeline()),
            *fields,
        ]
        self._exchange.hear_of_commit()
        untidy = self.ledger.out or self._sweeper.sweeps
        what = "over, kept" if isinstance(record, Done) and self.ledger.keeps and self._is_to_stay(record) else "over"
        # A large value stays in this master as long as its end is in doubt.
        small = sum(len(value) for _, value in row if isinstance(value, bytes)) <= HASTY_BYTES
        small = small and not (isinstance(record, Done) and record.value is None)
        if self._hasty and small and not untidy and self._down_since is None:
            self._lease.end(what, self.spec.limits.keep, row, self._heard_of_end)
            self.end_in_doubt = True
            if self._laid_aside and self._aside is not None:
                self._aside.clear()  # else when we hear of the end: our caller need not wait for that
            return
        if self._aside is not None:
            self._aside.clear()
        self._lease.commit(what=what, number=self.spec.limits.keep, fields=row)
        self._telling.note(*told_of_end(record))
        self._tell(ended=True)
        if untidy:
            self.jobs.withdraw(self._job)
            self.jobs.forget_master(self._job)

    def _sealed_timeline(self) -> bytes:
        now = self.clock.now()
        before, began = self.ledger.elapsed_before, self._began
        found = self._recorder.timeline(
            self._job, version=__version__, master=self._lease.holder, began=began, before=before, now=now
        )
        try:
            return self._seals.timeline.seal(found)
        except TooLarge:  # a job ends with its timeline or without
            return b""

    def _tell(self, *, ended: bool = False) -> None:
        """Write the news to the queue's journal."""
        if self._telling.has_news(self.ledger.skipped, self.computation.place, ended=ended):
            self._exchange.hear_of_commit()
            self._telling.tell(ended=ended, keep=self.spec.limits.keep)

    def _is_to_stay(self, record: Done) -> bool:
        """Whether the replies of a job stay in Redis as its value. They do not if it is large and its caller has it.

        A large value is None in the record, and the private server ends with the caller.
        """
        if not self.value_stays and record.value is None:
            return False
        without = [term for term, _ in self.ledger.skipped]
        while not self._exchange.hold(self.ledger.tally.runs, without):
            # The rest was read before an outage, and may have been lost in it.
            if not self._hear(0)[1]:
                return False
        return True

    def _heard_of_end(self, answer: Committed | Lost | BrokerError) -> None:
        self.end_in_doubt = not isinstance(answer, Committed)
        if self._aside is not None and not self.end_in_doubt:
            self._aside.clear()
