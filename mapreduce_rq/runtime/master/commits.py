"""The state of a master, and its commits: what it knows of its job, and how that goes to Redis.

It is the lowest of a master's three layers (see master.py). It takes events into the ledger, writes checkpoints,
reports and events, and decides whose tasks go first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from mapreduce_rq.broker.jobs import Entry, Jobs
from mapreduce_rq.broker.journal import Journal
from mapreduce_rq.broker.pieces import LaidApart
from mapreduce_rq.broker.tasks import Tasks
from mapreduce_rq.broker.wire import Argument
from mapreduce_rq.core.computation import Computation, Progress
from mapreduce_rq.core.foreign_errors import MASTER
from mapreduce_rq.core.job.events import Broken, Command, Event, Push, Replied, Source, asked_until
from mapreduce_rq.core.job.failures import failure_of
from mapreduce_rq.core.job.ledger import Ledger
from mapreduce_rq.core.job.record import Report, State
from mapreduce_rq.core.job.recorder import Recorder
from mapreduce_rq.core.job.timeline import Since, Timeline
from mapreduce_rq.core.messages import Spec, Task
from mapreduce_rq.core.reducers.base import MergeError
from mapreduce_rq.core.span import NO_TERMS
from mapreduce_rq.errors import BrokerError, TooLarge
from mapreduce_rq.runtime.clock import Clock
from mapreduce_rq.runtime.master.aside import LaidAside
from mapreduce_rq.runtime.master.bell import Bell
from mapreduce_rq.runtime.master.bodies import Bodies
from mapreduce_rq.runtime.master.checkpoints import HEAVY_BYTES, Checkpoints
from mapreduce_rq.runtime.master.ending import Ending
from mapreduce_rq.runtime.master.exchange import Exchange
from mapreduce_rq.runtime.master.fields import Fields
from mapreduce_rq.runtime.master.lease import Lease
from mapreduce_rq.runtime.master.lease_keeper import Keeper
from mapreduce_rq.runtime.master.observer import Listener, Observer
from mapreduce_rq.runtime.master.outage import Outage
from mapreduce_rq.runtime.master.oversize import in_parts
from mapreduce_rq.runtime.master.sweep import Sweeper
from mapreduce_rq.runtime.master.telling import LASTING_SECONDS, Telling
from mapreduce_rq.runtime.tracing import JobSpan
from mapreduce_rq.version import __version__

YOUNG_SECONDS = 5.0
"""Seconds of work, of all workers together, after which a job's tasks no longer go before those of other jobs."""
LEASE_SECONDS = 1.0
"""The most seconds between two commits, even if nothing has happened."""


class Commits:
    """What one master holds, and how it commits. The arguments are those of ``Master``."""

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
        look_soon: bool = True,
        pipelined: bool = False,
        value_stays: bool = True,
        alone: bool = False,
        unseen: bool = False,
        watched: bool = True,
        bell: Bell | None = None,
        host: str = "",
        keeper: Callable[[Lease, Jobs], Keeper] = Keeper,
        journal: Journal | None = None,
        by: str = "master",
        span: JobSpan | None = None,
    ) -> None:
        self.jobs = jobs
        self.clock = clock
        self.spec = spec
        self.computation = computation
        self.observer = observer
        self.span = span or JobSpan()
        self.stop = False
        self.dropped = 0  # replies that were forged or malformed
        self.value_stays = value_stays
        self._alone = alone or unseen
        self._unseen = unseen
        self._host = host
        self._pipelined = pipelined
        if source is not None and bell is None and spec.limits.deadline is not None:
            source = asked_until(source, clock.now() + spec.limits.deadline, clock.now)
        self._source = source
        self._aside = LaidAside(computation.aside, items=source is not None, pieces=computation.reducer.refers)
        self._bell = bell
        self._job = spec.job
        self._fields = Fields(jobs, spec)
        self._spec_bytes = 0  # sealed, where it is known
        self._resubmitted = 0  # times that the job was gone from Redis, or overwritten
        self._lease = Lease(jobs, spec.job, clock.random(8).hex(), by)
        apart = computation.aside is None
        self._refers = apart and computation.reducer.refers and not spec.lazy  # items of a source are there only once
        bodies = Bodies(jobs.codecs.task, self._all_out, apart=apart, items=source is not None)
        reducer = computation.reducer
        self._exchange = Exchange(
            jobs, spec.job, self._lease, bodies, bell=bell, keeps=reducer.keeps, ahead=reducer.ahead
        )
        self._pieces: LaidApart | None = None
        if self._refers:  # at the deadline the master folds what there is
            tasks = Tasks(jobs.wire, jobs.keys, jobs.codecs)
            self._pieces = LaidApart(tasks, spec.job, "", self._exchange.hear_of_commit)
            computation.reducer.lay_in(self._pieces)
        self._keeper = keeper(self._lease, jobs)
        self._recorder = Recorder(clock.now(), read=watched)
        self._telling = Telling(clock, spec.job, observer, self._recorder, journal, withheld=pipelined)
        self._sweeper = Sweeper(
            jobs, clock, spec.job, self._telling, expected=workers, wait=wait_workers, look_soon=look_soon
        )
        self._patient = wait_workers is not None
        self._now = clock.now()
        self._began = clock.wall()
        self._before: float | None = None  # seconds of work of which the timeline has nothing; None: ask the ledger
        self._last_commit = self._now
        self._checkpoints = Checkpoints(self._now)
        self._listener = observer if spec.limits.logs and isinstance(observer, Listener) else None
        self._printed: dict[str, int] = {}  # by worker, the serial of the last output that was handed on
        self._answered: set[str] = set()  # workers heard of, less those that were gone at the last look
        self._at_work = 0  # the most workers that took part at one time
        self._restored = False  # took the job over
        self.adrift = False  # its connection is lost, or not known to be sound
        self.trouble: BrokerError | None = None  # what Redis answered last, if it was that
        self._cut_off: BrokerError | None = None  # why, if another has found that out
        self._silence = ""  # how long there was no master before that, in words
        self._pausing = False  # in a pause, in which no state is half changed
        self._outage = Outage(clock, self._telling)
        self._unstorable: TooLarge | None = None  # why this job cannot go on
        self._ending = Ending(
            jobs,
            spec,
            self._lease,
            self._exchange,
            self._fields,
            self._aside,
            self._telling,
            pipelined=pipelined,
            value_stays=value_stays,
            unseen=unseen,
        )
        self.ledger = Ledger(
            spec, computation, self._now, source=source, workers=workers, patient=self._patient, recorder=self._recorder
        )

    @property
    def workers(self) -> int:
        """How many workers are known to be alive."""
        return self._sweeper.workers

    def _pause(self, seconds: float) -> None:
        self._pausing = not self.stop
        try:
            self.clock.sleep(0 if self.stop else seconds)
        finally:
            self._pausing = False

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

    def _receive(self, event: Event) -> list[Command]:
        before = self.ledger.tasks
        try:
            with self._keeper:
                commands = self.ledger.receive(event, self._now)
        except MergeError as error:  # the terms counted and the fold may differ now: this job cannot go on
            return [Broken(NO_TERMS, failure_of(error, MASTER, computation=self.computation))]
        self._checkpoints.uncommitted += self.ledger.tasks - before
        if self._checkpoints.heavy and isinstance(event, Replied):
            self._checkpoints.heard += sum(len(answer.body) for answer in event.answers)
        if self._alone and self._aside.read >= HEAVY_BYTES:
            self._checkpoints.too_large = True
        if self.ledger.tasks > before and self._source is not None:
            self._aside.keep(self.ledger)
        return commands

    def _in_parts(self, tasks: Sequence[Task], error: TooLarge) -> list[Command]:
        """The commands that follow if some of these tasks are too large for Redis; none of them is sent yet.

        Raises the error if none of the tasks is too large.
        """
        rest, answers = in_parts(tasks, error)
        return [*([Push(rest)] if rest else []), *self._receive(Replied("", answers))]

    def when_sure_of_end(self, call: Callable[[], None]) -> None:
        """Call this once Redis has confirmed the end, if that is in doubt now."""
        self._ending.when_sure = call

    def _tell(self) -> None:
        """Write the news to the queue's journal."""
        self._gather()
        if self.ledger.elapsed(self._now) >= LASTING_SECONDS:
            self._telling.release()
        if self._telling.has_news:
            self._exchange.hear_of_commit()
            self._telling.tell(ended=False, keep=self.spec.limits.keep)

    def tell_the_rest(self) -> None:
        """Write the news of a job that this master leads no more, because of an error. The wire must be sound.

        The ledger is not asked for more: its state may be half changed.
        """
        self._telling.release()
        self._telling.tell(ended=False, keep=self.spec.limits.keep)

    def _gather(self, *, all_of_it: bool = False) -> None:
        """Note the events of terms and tasks since the last call, for the next ``_tell``."""
        if len(self.ledger.skipped) != self._telling.told_skipped:
            self._telling.skipped(self.ledger.skipped, self.computation.place)
        for what, text in self.ledger.gathered.due(self._now, all_of_them=all_of_it):
            self._telling.note(what, text)

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
        timeline = None
        stored = (
            self._fields.checkpoint_that_fits(self.ledger, started, needed=self.value_stays) if checkpoint else None
        )
        if stored is None:
            if checkpoint:
                self._checkpoints.too_large = True  # a master that resumes this job reads all replies again
            checkpoint = False
        else:
            row.append(("ck", stored))
        if checkpoint:
            self._checkpoints.at = self.clock.wall()
        if checkpoint or started - self._last_commit >= LEASE_SECONDS:
            row.append(("state", State.RUNNING))  # each time: workers drop tasks of a job with another state
            report = self.report()
            self._recorder.point(
                report.counted, report.out, report.workers, value=report.value, error=report.error, now=self._now
            )
            row.append(("progress", self._fields.report(report)))
            if self._recorder.due(self._now) and (checkpoint or not self._checkpoints.has_news):
                timeline = self._timeline()
                row.append(("timeline", self._fields.timeline(timeline)))
            elif checkpoint:
                row.append(("since", self._fields.since(self._since())))
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
        if timeline is not None:
            self._recorder.kept(timeline, self._now)
        if checkpoint:
            self._checkpoints.written(self.ledger.counted, started, self.clock.now(), len(stored or b""))

    def _commit_due(self) -> bool:
        """Whether a commit is due even if there are no tasks to push: for a checkpoint, or for the lease."""
        return self._checkpoints.due(self.ledger, self._now) or self._now - self._last_commit >= LEASE_SECONDS

    def _goes_first(self) -> bool:
        """Whether its next tasks go before others: it is urgent, or has had little of the workers' time yet.

        So a short job does not wait for a long one's tasks again and again. Items come in an order that the caller may
        wait for, so those of a source do not go before older ones.
        """
        if self.spec.limits.urgent:
            return True
        little = self.ledger.worked < YOUNG_SECONDS * self.ledger.pace.workers
        return little and self._source is None and (self._exchange.others > 0 or self._sweeper.others_wait)

    def report(self) -> Report:
        """The report of a running job, for people. It is also stored, so that others need not ask the master."""
        peek = None
        try:
            with self._keeper:
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
            saved=self._checkpoints.at,
        )

    def _took_part(self) -> int:
        """The most workers that took part at one time. A pool that replaces its workers has many more in all."""
        return max(
            self._at_work, min(len(self._answered), self.workers) if self._sweeper.sweeps else len(self._answered)
        )

    def _all_out(self) -> Iterable[Task]:
        return self.ledger.all_out()  # of the ledger that there is by then

    def _timeline(self) -> Timeline:
        """What happened until now."""
        return self._recorder.timeline(
            self._job,
            version=__version__,
            master=self._lease.holder,
            began=self._began,
            before=self.ledger.elapsed_before if self._before is None else self._before,
            now=self.clock.now(),
            upto=self._exchange.counted_to,
        )

    def _since(self) -> Since:
        """What happened since the timeline was kept."""
        upto = self._exchange.counted_to
        return self._recorder.since(self._job, began=self._began, now=self.clock.now(), upto=upto)

    @property
    def cursor(self) -> str:
        """The last entry of its job's stream that it has read; the wheel reads on from there."""
        return self._exchange.cursor

    def give(self, entries: Sequence[Entry], after: str) -> None:
        """Take entries of its job's stream, for its next turn: all that follow ``after``."""
        self._exchange.give(entries, after)

    def cut_off(self, error: BrokerError) -> None:
        """Note that the connection it shares with others was lost; at its next turn there is a new one."""
        if not self.adrift:
            self._cut_off = error

    @property
    def looked_at(self) -> float:
        """The time when it last looked around; 0.0 before the first time."""
        return self._sweeper.looked_at

    @property
    def in_outage(self) -> bool:
        """Whether its last request to Redis failed."""
        return self._outage.on

    @property
    def computing(self) -> bool:
        """Whether it computes now, and so sends Redis nothing."""
        return self._keeper.computing

    @property
    def end_in_doubt(self) -> bool:
        """Whether the job's end is on its way, and Redis has not answered yet."""
        return self._ending.in_doubt

    def hand_over(self) -> None:
        """Forget the value, which our caller has, unless it is needed to end the job again. It may be large."""
        if not self.end_in_doubt:
            self._ending.made = None
            self.ledger.forget()
