"""A master: leads one job from its checkpoint to its record. Prints nothing, installs no signal handler.

    while the job runs:
        read replies        -> ledger
        look around         -> ledger   (every SWEEP_SECONDS: who died, what is lost, what straggles)
        commit              tasks to push, checkpoint when due, the lease always

Each commit is a compare-and-set on the job's token. After each error of the connection the master does the same: it
connects, and looks at the token. If the token is still its own, it goes on from memory and reads all uncommitted
replies again (those that are counted are ignored). If the job is gone, it submits the job again from memory. If the
token is another master's, it stops and changes nothing.

A master has three layers, each a class that uses only those below it: ``Commits`` (commits.py) has the state and writes
it, ``Owning`` (owning.py) creates the job or takes it over, and ``Master`` here has the loop and the job's end.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator

from mapreduce_rq.broker.jobs import Lost
from mapreduce_rq.broker.pieces import with_their_pieces
from mapreduce_rq.core.computation import Outcome
from mapreduce_rq.core.foreign_errors import MASTER
from mapreduce_rq.core.job.ends import failed_record, outcome_so_far, record_of
from mapreduce_rq.core.job.events import Broken, Command, Push, Replied, Resumed, Settled
from mapreduce_rq.core.job.failures import failure_of
from mapreduce_rq.core.job.printed import Printed
from mapreduce_rq.core.job.record import State
from mapreduce_rq.core.messages import REFUSED, Failure, Output, Task
from mapreduce_rq.core.outcome import Deferred
from mapreduce_rq.core.span import NO_TERMS, Span
from mapreduce_rq.core.text import plural
from mapreduce_rq.errors import BadMessage, BrokerDown, BrokerFull, Superseded, TooLarge
from mapreduce_rq.runtime.master.ended import Ended
from mapreduce_rq.runtime.master.ending import Closing
from mapreduce_rq.runtime.master.lease import LeaseLost
from mapreduce_rq.runtime.master.observer import Listener
from mapreduce_rq.runtime.master.oversize import large_fold
from mapreduce_rq.runtime.master.owning import Owning

TURN_SECONDS = 0.005
"""Seconds after which a turn ends even if there are more replies: other jobs of this process wait for their turn."""
ENDED = {None: "all", True: "tolerance met", False: "tolerance not met"}
"""A record's ``ended``, by whether the tolerance was met; it may also be ``deadline``."""


class Interrupted(BaseException):
    """Raised by :meth:`Master.interrupt` into a master that waits."""


class Master(Owning):
    """Leads one job. ``stop`` may be set from another thread: it then lets go of the job, for another to resume.

    ``pipelined``: its caller waits for the value alone. The job's creation and the first read of its replies are sent
    together, and the master does not wait for the answer to a small end: it is ``end_in_doubt`` until Redis answers.
    ``look_soon``: look around early; not needed if the caller has just seen ``workers``.
    ``bell``: the thread that fills the source rings it; until then the source may have no item.
    ``value_stays``: a value too large for the record stays in Redis as long as the record, for others to fetch.
    ``alone``: the server ends with this process, so no other master ever leads the job on.
    ``unseen``: the caller waits only for the value and no other process can see the job, so nothing of it stays.
    ``watched``: other processes can see it; if not, none reads its timeline.
    ``host``: the RQ job that runs this one; a process that adopts the job asks RQ whether its RQ job was stopped.
    ``journal``: events are written there, and the job's end for those who wait for it. A ``pipelined`` job's events are
    withheld from it at first; see telling.py.
    ``by``: this process's name, for those who ask who leads the job.
    ``span``: the tracing span of the job; the master ends it when it no longer leads the job.
    """

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
        """Lead the job as :meth:`run` does, in turns, for a process that leads many jobs (see wheel.py). No turn waits.

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

    def make_sure(self) -> None:
        """End the job again if it is ``end_in_doubt``. Raises as :meth:`run`; with ``stop`` set it tries once."""
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
        if ended is None and self._commit_due():
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
        self._telling.note("let go", f"{plural(self.ledger.counted, 'term')} counted")
        self._tell()

    def _read(self) -> list[Command]:
        """Read replies, and wait for them until something else is due. Returns the commands that follow."""
        heard, _ = self._hear(0 if self._exchange.creating else self._patience())  # those are on their way
        commands: list[Command] = []
        for replied in heard:
            commands += self._receive(replied)
        self._exchange.counted()
        if heard:
            self.observer.progressed(self.report)
        elif self.ledger.waits:
            commands = self._receive(Replied("", []))  # there are no answers, but more items may be there by now
        return commands

    def _hear(self, wait: float) -> tuple[list[Replied], int]:
        """The next replies, and how many there were, including forged ones. They must go to the ledger."""
        replies, entries = self._exchange.hear(0 if self.stop else wait, wants_items=self.ledger.waits)
        self._now = self.clock.now()
        self.dropped += entries - len(replies)
        for reply in replies:
            self._answered.add(reply.wid)
            if not self._sweeper.workers and any(answer.status != REFUSED for answer in reply.answers):
                self._sweeper.workers = 1
        if self._listener is not None:
            for reply in replies:
                if reply.output is not None:
                    self._hand_on(self._listener, reply.wid, reply.output)
        if self._pieces is not None:
            replies = with_their_pieces(replies, self.computation.reducer, self._pieces)
        again = self._exchange.again
        heard = [Replied(reply.wid, reply.answers, reply.tried, again) for reply in replies]
        return self._aside.fetched(heard), entries

    def _hand_on(self, listener: Listener, wid: str, output: Output) -> None:
        """Hand on printed text once only: replies are read again after an outage, and workers send some twice."""
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
        covers = self.ledger.tally.runs.covers
        survey = self._sweeper.sweep(self._now, hear, self.ledger.refusals, covers, self._answered)
        if survey is None:
            return []
        self._answered &= self._sweeper.present
        self._at_work = max(self._at_work, len(self._answered))
        self._outage.over(told=not self.stop)
        commands = self._receive(survey._replace(answered=answered))
        self._exchange.counted()
        if self._sweeper.spec_bytes != self._spec_bytes:
            self._write_spec_anew()
        if answered or self.ledger.settled():  # the observer is told that all is done, also if it was when we came
            self.observer.progressed(self.report)
        return commands

    def _perform(self, commands: list[Command]) -> Ended | None:
        """Carry out the ledger's commands: all pushes in one commit, or the job's end."""
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

    def _fail_for_size(self, error: TooLarge) -> Ended:
        return self._fail(NO_TERMS, failure_of(large_fold(error), MASTER))

    def _resolve(self, found: Lost) -> Ended | None:
        """Find out whose job it is after another token was found, or over a new connection. None: it is still ours."""
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

    # -- the job's end ---------------------------------------------------------------------------------------------

    def _finish(self, outcome: Outcome, ended: str) -> Ended:
        workers = max(1, self._took_part())
        with self._keeper:
            record = record_of(self.spec, self.ledger, outcome, ended=ended, workers=workers, now=self.clock.now())
            lasts = not self._refers or not self.ledger.tally.prefix()[0] or self.ledger.conclude(outcome)
            lasts = lasts and not (self._checkpoints.too_large and not self.value_stays)
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
            except ValueError as error:  # another client has deleted what was laid aside
                return self._fail(NO_TERMS, failure_of(error, MASTER))
        if outcome is None:
            text = f"the deadline passed with {plural(self.ledger.tally.prefix()[0], 'term')} counted"
            return self._fail(NO_TERMS, Failure(None, "Deadline", text, "", ""))
        return self._finish(outcome, ended)

    def _fail(self, span: Span, failure: Failure) -> Ended:
        record = failed_record(self.spec, self.computation, span, failure)
        return self._ending.badly(record, Deferred(self.computation.error_of, failure), self._closing())

    def _closing(self, *, lasts: bool = True) -> Closing:
        if self.ledger.reclaimed:
            self._exchange.hear_of_commit()
            self._sweeper.mourn(self._answered)
        self._gather(all_of_it=True)
        return Closing(
            ledger=self.ledger,
            report=lambda: self._reported(None),  # the value stands in the record
            timeline=self._timeline,
            now=self._now,
            stored=not self._refers and self._checkpoints.stored == self.ledger.counted,
            lasts=lasts,
            swept=self._sweeper.sweeps > 0,
            sure=not self._outage.on,
            hear=lambda: self._hear(0)[1] > 0,
        )
