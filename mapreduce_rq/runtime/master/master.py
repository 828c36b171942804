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

import contextlib
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any

import msgspec

from mapreduce_rq.broker.job_hash import JobState
from mapreduce_rq.broker.jobs import FIRST_REPLY, Entry, Jobs, Lost
from mapreduce_rq.broker.journal import Journal
from mapreduce_rq.broker.pieces import LaidApart, with_their_pieces
from mapreduce_rq.broker.tasks import Tasks
from mapreduce_rq.broker.wire import Argument
from mapreduce_rq.core.computation import Computation, Outcome, Progress
from mapreduce_rq.core.foreign_errors import MASTER
from mapreduce_rq.core.job.ends import failed_record, outcome_so_far, record_of
from mapreduce_rq.core.job.events import Broken, Command, Event, Push, Replied, Resumed, Settled, Source
from mapreduce_rq.core.job.failures import failure_of
from mapreduce_rq.core.job.ledger import Ledger
from mapreduce_rq.core.job.printed import Printed
from mapreduce_rq.core.job.record import Report, State
from mapreduce_rq.core.job.recorder import Recorder
from mapreduce_rq.core.job.timeline import Since, Timeline
from mapreduce_rq.core.messages import REFUSED, Checkpoint, Failure, Output, Spec, Task
from mapreduce_rq.core.outcome import Deferred
from mapreduce_rq.core.reducers.base import MergeError
from mapreduce_rq.core.span import NO_TERMS, Span
from mapreduce_rq.core.text import duration
from mapreduce_rq.errors import BadMessage, BrokerDown, BrokerError, BrokerFull, NoSuchJob, Superseded, TooLarge
from mapreduce_rq.runtime.clock import Clock
from mapreduce_rq.runtime.master.aside import LaidAside
from mapreduce_rq.runtime.master.bell import Bell
from mapreduce_rq.runtime.master.bodies import Bodies
from mapreduce_rq.runtime.master.checkpoints import Checkpoints
from mapreduce_rq.runtime.master.ended import Ended
from mapreduce_rq.runtime.master.ending import Closing, Ending
from mapreduce_rq.runtime.master.exchange import Exchange
from mapreduce_rq.runtime.master.fields import Fields
from mapreduce_rq.runtime.master.lease import Lease, LeaseLost, is_first
from mapreduce_rq.runtime.master.lease_keeper import Keeper
from mapreduce_rq.runtime.master.observer import Listener, Observer
from mapreduce_rq.runtime.master.outage import Outage
from mapreduce_rq.runtime.master.oversize import in_parts, large_fold, large_item
from mapreduce_rq.runtime.master.sweep import Sweeper
from mapreduce_rq.runtime.master.telling import Telling
from mapreduce_rq.runtime.tracing import JobSpan
from mapreduce_rq.version import __version__

YOUNG_SECONDS = 5.0
"""Seconds of all workers' time that a job has had when its tasks do not go before those of other jobs any more."""
LEASE_SECONDS = 1.0
"""Seconds between two commits at most, even if there is no news."""
POLL_SECONDS = 2.0
"""Seconds between two looks at another master's token. After DEAD_AFTER equal looks its job is taken over."""
INLINE_SPEC_BYTES = 2048
INLINE_SPEC_TASKS = 32
"""Tasks that carry the job's spec, if it is small: the first ones, which saves new workers a round trip."""
TURN_SECONDS = 0.005
"""Seconds after which a turn is over though there are more replies: other jobs of this process wait for theirs."""
MAX_RESUBMITTED = 100
"""Times at most that a job is written anew if it is gone from Redis, or was overwritten there."""

ENDED = {None: "all", True: "tolerance met", False: "tolerance not met"}
"""A record's ``ended``, by whether the tolerance was met; it may also be ``deadline``."""


class Interrupted(BaseException):
    """Raised by :meth:`Master.interrupt` into a master that waits."""


class Master:
    """Leads one job. ``stop`` may be set from another thread: it then lets go of the job, for another to resume.

    ``pipelined``: its caller waits for the value alone. The job's creation and the first read of its replies are sent
    together, and the answer to a small end is not waited for: it is ``end_in_doubt`` until Redis has answered.
    ``look_soon``: its first look around comes early; not needed where others have just seen ``workers``.
    ``bell``: rung by who fills its source, which may have nothing yet.
    ``value_stays``: a value too large for the record stays in Redis as long as that, for others to fetch.
    ``host``: the RQ job that is a run of this one; a process that adopts the job asks RQ whether that was stopped.
    ``journal``: where events are told, and the end of the job to those who wait for it.
    ``span``: is ended with the lead.
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
        look_soon: bool = True,
        pipelined: bool = False,
        value_stays: bool = True,
        bell: Bell | None = None,
        host: str = "",
        keeper: Callable[[Lease, Jobs], Keeper] = Keeper,
        journal: Journal | None = None,
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
        self._host = host
        self._pipelined = pipelined
        self._source = source
        self._aside = LaidAside(computation.aside, items=source is not None, pieces=computation.reducer.refers)
        self._bell = bell
        self._job = spec.job
        self._fields = Fields(jobs, spec)
        self._spec_bytes = 0  # sealed, where it is known
        self._resubmitted = 0  # times that the job was gone from Redis, or overwritten
        self._lease = Lease(jobs, spec.job, clock.random(8).hex(), journal.by if journal is not None else "master")
        apart = computation.aside is None
        self._refers = apart and computation.reducer.refers and not spec.lazy  # items of a source are there only once
        bodies = Bodies(jobs.codecs.task, self._all_out, apart=apart, items=source is not None)
        self._exchange = Exchange(jobs, spec.job, self._lease, bodies, bell=bell, keeps=computation.reducer.keeps)
        self._pieces = LaidApart(Tasks(jobs.wire, jobs.keys, jobs.codecs), spec.job, "", self._exchange.hear_of_commit)
        if self._refers:  # at the deadline the master folds what there is
            computation.reducer.lay_in(self._pieces)
        self._keeper = keeper(self._lease, jobs)
        self._recorder = Recorder(clock.now())
        self._telling = Telling(clock, spec.job, observer, self._recorder, journal)
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
        )
        self.ledger = Ledger(
            spec, computation, self._now, source=source, workers=workers, patient=self._patient, recorder=self._recorder
        )

    # -- the ways in -----------------------------------------------------------------------------------------------

    def submit(self, *, hand_over: bool = False) -> None:
        """Create the job with its first tasks. Safe to repeat after BrokerDown.

        With ``hand_over`` set, another master is to lead it.

        Raises BrokerError, Superseded; TooLarge, with nothing queued, for a spec or first item that Redis cannot take.
        """
        sealed = self._fields.spec_that_fits()
        commands = self.ledger.receive(Resumed(), self._now)
        while True:
            pushed = [task for command in commands if isinstance(command, Push) for task in command.tasks]
            self._spec_bytes = len(sealed)
            if len(sealed) <= INLINE_SPEC_BYTES:
                first = [msgspec.structs.replace(task, spec=sealed) for task in pushed[:INLINE_SPEC_TASKS]]
                pushed = [*first, *pushed[INLINE_SPEC_TASKS:]]
            try:
                self._create(pushed, sealed, pipelined=self._pipelined, holder="" if hand_over else self._lease.holder)
            except LeaseLost as lost:
                if not self._lease.owns(lost.found.token):
                    raise Superseded(f"{self._job} is there already, led by another master") from None
                self._lease.token = lost.found.token  # an earlier try was done, and its answer was lost
            except TooLarge as error:
                commands = self._in_parts(pushed, error)
                for command in commands:
                    if isinstance(command, Broken):
                        raise large_item(pushed[0], error) from None
                continue
            if hand_over:
                self.jobs.hand_over(self._job, urgent=self.spec.limits.urgent)
            self._telling.note("submitted", self.spec.label)
            self._tell()
            return

    def _create(
        self,
        tasks: list[Task],
        sealed: bytes,
        *,
        pipelined: bool,
        expect: str = "",
        holder: str | None = None,
        more: Sequence[tuple[str, Argument]] = (),
    ) -> None:
        number = int(self.spec.created)
        row: list[tuple[str, Argument]] = [
            ("state", State.RUNNING),
            ("spec", sealed),
            ("ck", self._fields.checkpoint(self.ledger, self._now)),
            ("master", self._lease.holder if holder is None else holder),
            *more,
        ]
        if self._host:
            row.append(("host", self._host))
        if holder is not None:
            row.append(("detached", "1"))  # nobody has waited for it: its record stays longer than others
        if self.spec.limits.urgent:
            row.append(("urgent", "1"))
        self._last_commit = self._now
        self._checkpoints.began(self._now)
        what = "create, ahead" if self.spec.limits.urgent else "create"
        if pipelined:
            self._exchange.create(number, row, tasks, self._patience(), what)
        else:
            load = self._exchange.bodies.load(tasks)
            answer = self._lease.commit(expect=expect, what=what, number=number, fields=row, load=load)
            self._exchange.others = answer.waiting - len(tasks)

    def begin_with(self, checkpoint: Checkpoint) -> None:
        """Before ``submit``: begin with what is counted of a job over the same terms that has failed.

        Not if that refers to what went with that job.
        """
        if self.computation.reducer.refers:
            return
        self.ledger = self._restored_ledger(msgspec.structs.replace(checkpoint, job=self._job))
        self._now = self.clock.now()

    def take_over(self, state: JobState) -> None:
        """Claim a job whose master is gone or has let go. Raises Superseded if another master was quicker."""
        self._lease.succeed(state.token)
        self._go_on(state.timeline)
        self._restored = True  # all that is left may be the end, of which others have despaired
        self.ledger = self._restored_ledger(state.checkpoint, cut_on=bool(state.master) or not is_first(state.token))
        try:
            self._commit(fields=[("master", self._lease.holder), ("state", State.RUNNING)])
        except LeaseLost as lost:
            raise Superseded(f"{self._job} was claimed by another master ({lost.found.state})") from None
        self._telling.told_skipped = len(self.ledger.skipped)
        self._telling.note("taken over", f"{self.ledger.counted} terms counted{self._silence}")
        self._tell()

    def _go_on(self, kept: Timeline | None) -> None:
        """Go on with the timeline of an earlier master."""
        if kept is None:
            return
        silence = self._recorder.go_on(kept, now=self.clock.now(), wall=self.clock.wall())
        if silence is not None:
            self._silence = f"; nothing was heard for {duration(silence)}"
            self._began, self._before = kept.began, kept.before
            self._exchange.begin_before(kept.upto or FIRST_REPLY)

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
            with self.span:
                return self.span.ended(self._run(), self.ledger)
        finally:
            self._keeper.close()
            self._exchange.over()

    def turns(self) -> Generator[float, None, Ended | None]:
        """As :meth:`run`, in turns, for a process that leads many jobs: a turn waits for no reply. See wheel.py.

        Yields the seconds after which the next turn is due, if no replies are given to it before; 0: at once.
        """
        self._exchange.in_turns = self._outage.shared = True
        if self._restored:
            self._keeper.start()
        try:
            with self.span:
                return self.span.ended((yield from self._rounds()), self.ledger)
        finally:
            self._keeper.close()
            self._exchange.over()

    @property
    def cursor(self) -> str:
        """The last entry of its job's stream that it has read: who leads it in turns reads on from there."""
        return self._exchange.cursor

    def give(self, entries: Sequence[Entry]) -> None:
        """Entries of its job's stream, for its next turn."""
        self._exchange.give(entries)

    def cut_off(self, error: BrokerError) -> None:
        """The connection that it shares with others was lost: at its next turn there is a new one."""
        if not self.adrift:
            self._cut_off = error

    @property
    def looked_at(self) -> float:
        """When it last looked around; 0.0: it has not."""
        return self._sweeper.looked_at

    @property
    def in_outage(self) -> bool:
        """Whether Redis did not take its last request, and has taken none since."""
        return self._outage.on

    @property
    def computing(self) -> bool:
        """Whether it computes, and asks Redis nothing."""
        return self._keeper.computing

    def make_sure(self) -> None:
        """If ``end_in_doubt``, end the job again. As :meth:`run`; with ``stop`` set it is tried once."""
        self._pipelined = self._ending.pipelined = False
        try:
            self._run(connected=False)
        finally:
            self._aside.clear()

    def _run(self, *, connected: bool = True) -> Ended | None:
        rounds = self._rounds(connected=connected)
        while True:
            try:
                seconds = next(rounds)
            except StopIteration as over:
                ended: Ended | None = over.value
                return ended
            with contextlib.suppress(Interrupted):
                self._pause(seconds)

    def _rounds(self, *, connected: bool = True) -> Generator[float, None, Ended | None]:
        """Lead the job; yields the seconds of a pause, with ``adrift`` set, or of a turn."""
        self.adrift = not connected
        found: Lost | None = None  # the job as a failed compare-and-set, or a look after an outage, saw it
        while True:
            try:
                if self.adrift:
                    yield self._outage.pause()
                    self._exchange.connect()
                    found = self.jobs.token(self._job)
                    self.adrift = False
                if found is not None:
                    seen, found = found, None
                    ended = self._resolve(seen)
                    if ended is not None:
                        self._outage.over(told=not self.stop)
                        return ended
                if self._exchange.in_turns:
                    return (yield from self._lead_in_turns())
                return self._lead()
            except LeaseLost as lost:
                found = lost.found
            except (BrokerDown, BrokerFull) as error:
                if self.stop:
                    return None  # replies that were counted since the checkpoint are still in the stream
                self.adrift, self.trouble = True, error
                self._outage.met(error, f"; what is counted of {self._job} is kept" if self._lease.token else "")
                self._sweeper.despair(error)
                self._outage.begin(error)
            except Interrupted:
                self.adrift, self.trouble = True, None  # the wire was cut with it
            except TooLarge as error:
                if self._unstorable is not None:
                    raise  # not even the job's end can be written, or the job is not there
                self._unstorable = error
                self.adrift, self.trouble = True, None  # the answer to an earlier request may not have been read yet

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
            ended = self._round()
            if ended is not None:
                return ended
        self._release()
        return None

    def _lead_in_turns(self) -> Generator[float, None, Ended | None]:
        if self._unstorable is not None:
            return self._fail_for_size(self._unstorable)
        while not self.stop:
            if self._cut_off is not None:
                error, self._cut_off = self._cut_off, None
                raise error
            until = self.clock.now() + TURN_SECONDS
            ended = self._round()
            while ended is None and self._exchange.has_more and self.clock.now() < until:
                ended = self._round()
            if ended is not None:
                return ended
            self._exchange.hear_of_commit()
            yield 0.0 if self._exchange.has_more else self._patience()
        self._release()
        return None

    def _round(self) -> Ended | None:
        """One round of the loop: replies, a look around and a commit, as they are due."""
        self._now = self.clock.now()
        ended = self._perform(self._read())
        if ended is None and self._sweeper.due_in(self._now) <= 0:
            ended = self._perform(self._sweep())
        if ended is None and (
            self._checkpoints.due(self.ledger, self._now) or self._now - self._last_commit >= LEASE_SECONDS
        ):
            self._commit(checkpoint=self._checkpoints.due(self.ledger, self._now))
            self._keeper.start()  # a job that has lasted this long may need it
            self._tell()
            self.observer.progressed(self.report)
        if ended is None and self._remaining() <= 0:
            ended = self._finish_early("deadline")
        return ended

    def _release(self) -> None:
        """Let go of the job: the master that resumes it need not wait until our token is old."""
        self._recorder.unsure()  # so that it is kept now
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
        self._exchange.counted()
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
            return [Broken(NO_TERMS, failure_of(error, MASTER, computation=self.computation))]
        self._checkpoints.uncommitted += self.ledger.tasks - before
        if self.ledger.tasks > before:
            self._aside.keep(self.ledger)
        return commands

    def _hear(self, wait: float) -> tuple[list[Replied], int]:
        """The next replies, and how many there were, including forged ones. They must go to the ledger."""
        replies, entries = self._exchange.hear(0 if self.stop else wait, wants_items=self.ledger.waits)
        self._now = self.clock.now()
        self.dropped += entries - len(replies)
        self._answered.update(reply.wid for reply in replies)
        if any(answer.status != REFUSED for reply in replies for answer in reply.answers):
            self._sweeper.workers = max(self.workers, 1)
        if self._listener is not None:
            for reply in replies:
                if reply.output is not None:
                    self._hand_on(self._listener, reply.wid, reply.output)
        if self._refers:
            replies = with_their_pieces(replies, self.computation.reducer, self._pieces)
        again = self._exchange.again
        heard = [Replied(reply.wid, reply.answers, reply.tried, again) for reply in replies]
        return self._aside.fetched(heard, kept=self.ledger.keeps), entries

    def _hand_on(self, listener: Listener, wid: str, output: Output) -> None:
        """Hand on what was printed, once: replies are read again after an outage, and workers send some twice."""
        if output.serial <= self._printed.get(wid, 0):
            return
        self._printed[wid] = output.serial
        where, cut = wid.rpartition(":")[0] or wid, output.cut
        for piece in output.pieces:
            listener.printed(Printed(where, (piece.lo, piece.hi), piece.stream, piece.text, cut))
            cut = 0

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
        survey = self._sweeper.sweep(self._now, hear, self.ledger.refusals, self.ledger.tally.runs.covers)
        if survey is None:
            return []
        self._answered &= self._sweeper.present
        self._at_work = max(self._at_work, len(self._answered))
        self._outage.over(told=not self.stop)
        commands = self._receive(survey._replace(answered=answered))
        self._exchange.counted()
        if self._sweeper.spec_bytes != self._spec_bytes:
            self._write_spec_anew()
        if answered:  # they may be the last ones: whoever watches is told that all is done
            self.observer.progressed(self.report)
        return commands

    def _write_spec_anew(self) -> None:
        """Write the spec anew if it is gone: new workers, and another master, could not work for the job without it.

        A master that has taken the job over has read the spec, and does not know its size yet.
        """
        sealed = self._fields.spec()
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
                return self._fail(NO_TERMS, failure_of(error, MASTER, computation=self.computation))
            if outcome is not None:
                return self._finish(outcome, ENDED[self.ledger.met])
            return self._perform(self.ledger.receive(Resumed(), self._now))
        if commands:
            try:
                # requests go out at once: a checkpoint follows them
                due = not self.ledger.requests and self._checkpoints.due(self.ledger, self._now)
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

        Raises the error if none of the tasks is too large.
        """
        rest, answers = in_parts(tasks, error)
        return [*([Push(rest)] if rest else []), *self._receive(Replied("", answers))]

    def _fail_for_size(self, error: TooLarge) -> Ended:
        return self._fail(NO_TERMS, failure_of(large_fold(error), MASTER))

    @property
    def end_in_doubt(self) -> bool:
        """Whether the job's end is on its way, and Redis has not answered yet."""
        return self._ending.in_doubt

    def _tell(self) -> None:
        """Write the news to the queue's journal."""
        self._gather()
        if self._telling.has_news:
            self._exchange.hear_of_commit()
            self._telling.tell(ended=False, keep=self.spec.limits.keep)

    def _gather(self, *, all_of_it: bool = False) -> None:
        """Tell of what happened to terms and tasks since the last time."""
        self._telling.skipped(self.ledger.skipped, self.computation.place)
        for what, text in self.ledger.gathered.due(self._now, all_of_them=all_of_it):
            self._telling.note(what, text)

    # -- commits ---------------------------------------------------------------------------------------------------

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
            self._checkpoints.written(self.ledger.counted, started, self.clock.now())

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
        self._checkpoints.stored = -1
        self._recorder.unsure()
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
            if self._refers and not self._ending.made:
                self._go_back()
        else:
            raise Superseded(f"{self._job} is led by another master now; this one changed nothing more")
        self._now = self.clock.now()
        self._sweeper.hurry()
        return self._perform(self.ledger.receive(Resumed(), self._now))

    def _go_back(self) -> None:
        """To the checkpoint that Redis has: what we have counted since may refer to what a failover has lost."""
        state = self.jobs.load(self._job)
        self.ledger = self._restored_ledger(state.checkpoint if state is not None else None)

    def _submit_again(self, expect: str, why: str) -> None:
        """Write the whole job anew after it was wiped or overwritten: our memory has the exact fold of its runs.

        If that refers to what lay in Redis, the job begins anew.

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
        if self._refers:
            self.ledger = self._restored_ledger(None)
            self._now = self.clock.now()
        timeline = self._fields.timeline(self._timeline())
        self._create([], self._fields.spec_that_fits(), pipelined=False, expect=expect, more=[("timeline", timeline)])
        self._resubmitted += 1
        if was_there:
            how = "it begins anew" if self._refers else "submitted again with what is counted"
            self._telling.notice(f"{why}: {how}")

    def _ended(self, state: str = "") -> Ended:
        """How the job ended: as its record says or, if the record is gone, as this master ended it."""
        found = self.jobs.load(self._job)
        if found is not None and found.record is None:
            # The past came back between the two looks, or the job only says that it is over.
            raise LeaseLost(Lost(found.token, State.RUNNING))
        self.jobs.forget_master(self._job)
        self._aside.clear()
        state = found.state if found is not None else state
        mine = self._ending.made
        mine = mine if mine is not None and state in (mine.state, "") else None
        if found is not None and found.record is not None:
            return Ended(found.record, mine.outcome, mine.errors) if mine else Ended(found.record, None)
        if mine is None:
            raise NoSuchJob(f"{self._job} has ended and its record has expired")
        return mine

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

    def hand_over(self) -> None:
        """Forget the value, which our caller has, unless it is needed to end the job again. It may be large."""
        if not self.end_in_doubt:
            self._ending.made = None
            self.ledger.forget()

    # -- the ways out ----------------------------------------------------------------------------------------------

    def _finish(self, outcome: Outcome, ended: str) -> Ended:
        workers = max(1, self._took_part())
        with self._keeper:
            record = record_of(self.spec, self.ledger, outcome, ended=ended, workers=workers, now=self.clock.now())
            lasts = not self._refers or not record.terms_used or self.ledger.conclude(outcome)
        errors: dict[int | None, Deferred] = {
            term: Deferred(self.computation.error_of, failure) for term, failure in self.ledger.skipped
        }
        try:
            return self._ending.well(record, outcome, errors, self._closing(lasts=lasts))
        except TooLarge as error:
            return self._fail_for_size(error)

    def _finish_early(self, ended: str) -> Ended:
        """End the job with the terms that are counted."""
        self._exchange.hear_of_commit()
        with self._keeper:
            try:
                outcome = outcome_so_far(self.computation, self.ledger)
            except ValueError as error:  # somebody has deleted what was laid aside
                return self._fail(NO_TERMS, failure_of(error, MASTER))
        if outcome is None:
            text = f"the deadline passed with {self.ledger.tally.prefix()[0]} terms counted"
            return self._fail(NO_TERMS, Failure(None, "Deadline", text, "", ""))
        return self._finish(outcome, ended)

    def _fail(self, span: Span, failure: Failure) -> Ended:
        record = failed_record(self.spec, self.computation, span, failure)
        return self._ending.badly(record, Deferred(self.computation.error_of, failure), self._closing())

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

    def _closing(self, *, lasts: bool = True) -> Closing:
        self._gather(all_of_it=True)
        return Closing(
            ledger=self.ledger,
            report=self._reported(None),  # the value stands in the record
            timeline=self._timeline(),
            now=self._now,
            stored=not self._refers and self._checkpoints.stored == self.ledger.counted,
            lasts=lasts,
            swept=self._sweeper.sweeps > 0,
            sure=not self._outage.on,
            hear=lambda: self._hear(0)[1] > 0,
        )
