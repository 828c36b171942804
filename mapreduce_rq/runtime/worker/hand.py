"""A worker's hand: the tasks that it has taken, and its conversation with Redis about their answers.

A settle sends the answers to a batch of tasks and asks for more tasks, and the worker computes the rest of its hand
while the settle travels. So at any time at most one settle is on its way, and two batches of answers may not have
arrived: that of the settle, and the next one. After an error of the connection we cannot know whether a settle was
done. Then these batches are sent again, and the hand is read from Redis, which decides.

If its tasks are of middle length (core/fleet/prefetch.py), the worker has one of them in hand. When the calls of that
one are made, it asks for the next (``ask_for_next``): the request travels while the answer is written, and ``add_next``
puts the task into the hand before the settle is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from threading import Lock
from types import MappingProxyType
from typing import NamedTuple

from mapreduce_rq.broker.pieces import LaidFold
from mapreduce_rq.broker.tasks import SettleAnswer, Tasks
from mapreduce_rq.core.fleet.prefetch import Prefetch
from mapreduce_rq.core.job.record import State
from mapreduce_rq.core.messages import Answer, Beat, Output, Tried
from mapreduce_rq.core.sealing import InPieces
from mapreduce_rq.core.stragglers import LEAST_SECONDS
from mapreduce_rq.errors import BrokerDown, BrokerError, BrokerFull, BrokerRefused
from mapreduce_rq.runtime.clock import Clock
from mapreduce_rq.runtime.worker.known_jobs import KnownJobs
from mapreduce_rq.runtime.worker.replies import Replies

SURE_SECONDS = LEAST_SECONDS
"""Seconds after a request to Redis for which its answer says what is in hand: others do no task of ours before it is
late. So a worker that was stopped for longer (SIGSTOP, a paused machine) asks again before it begins more tasks.
"""
SURE_OF_ONE_SECONDS = 1.0
"""The same, after the longest wait for one task: this task may have been taken at its beginning."""


class Batch(NamedTuple):
    """Computed tasks and their answers, kept until they are known to have arrived."""

    answers: list[tuple[str, list[Answer]]]  # by job
    done: list[bytes]  # sealed, oldest first
    tried: Mapping[str, Sequence[Tried]] = MappingProxyType({})  # by job
    output: Mapping[str, Output] = MappingProxyType({})  # by job
    laid: Sequence[LaidFold] = ()  # the pieces to which the answers refer


class Question(NamedTuple):
    """A settle on its way."""

    replies: list[tuple[str, bytes | InPieces]]
    length: int
    settled: int
    want: int
    least: int
    sent: float


class Hand:
    """The tasks in one worker's hand.

    ``full`` is called when Redis has no room for the answers: it waits a moment, or raises its argument. ``beat``
    returns a sign of life.
    """

    def __init__(
        self,
        wid: str,
        tasks: Tasks,
        clock: Clock,
        jobs: KnownJobs,
        replies: Replies,
        *,
        full: Callable[[BrokerFull], None],
        beat: Callable[[], Beat],
    ) -> None:
        self.tasks: list[bytes] = []  # sealed tasks, oldest first, without those in a settle on its way
        self.answers: dict[str, list[Answer]] = {}  # of the batch being computed, by job
        self.tried: dict[str, list[Tried]] = {}  # terms of that batch that took more than one call, by job
        self.laid: list[LaidFold] = []  # pieces of that batch's folds that were laid aside
        self.output: dict[str, Output] = {}  # what was printed in that batch, once it is computed, by job
        self.batch: Iterator[bytes] | None = None  # its tasks that are not begun; None between batches
        self.giving = Lock()  # another thread holds it to take tasks of this hand; this one, to end the batch
        self.changed = False  # another thread has taken some, so the hand is to be read anew
        self.leaving: frozenset[bytes] = frozenset()  # these, while they are on their way back to the queue
        self.prefetch = Prefetch()
        self.sure_until = 0.0  # by the clock: until then the tasks are in hand as far as we know
        self._wid = wid
        self._queue = tasks
        self._clock = clock
        self._jobs = jobs
        self._replies = replies
        self._full = full
        self._beat = beat
        self._unsettled: list[Batch] = []  # at most two: one on its way, and the next
        self._asked: Question | None = None
        self._got: SettleAnswer | None = None  # the answer, if it was read early
        self._next_asked = 0.0  # when the next task was asked for; 0: it was not, or it was read
        self._next: bytes | None = None
        self._goes_on = False  # whether that task may be begun before the last settle is heard
        self._may_ask = True
        self._failed: BrokerError | None = None  # met where it could not be raised

    @property
    def asks(self) -> bool:
        """Whether a settle is on its way."""
        return self._asked is not None

    # -- what Redis says that is in hand ---------------------------------------------------------------------------

    def recover(self) -> None:
        """Connect, send answers again that may not have arrived, and read the hand. Raises BrokerError."""
        self._failed = None
        self._queue.wire.connect()
        self._asked = self._got = None
        self._next_asked = 0.0
        self._settle_anew()
        self._enter_queue()

    def take(self, seconds: float) -> bytes | None:
        """Wait for one task."""
        self.sure_until = self._clock.now() + seconds + SURE_OF_ONE_SECONDS
        return self._queue.take(self._wid, seconds)

    def ask_for_next(self, job: str) -> None:
        """Ask for the next task before the answer to the only one in hand is written, unless ``job`` is over.

        It raises nothing, because it is called in a task: an error is raised when the task's answer is sent.
        """
        if not self._may_ask or self.changed or len(self.tasks) != 1 or self._clock.now() > self.sure_until:
            return
        try:
            self.read()
            if self._got is None or self._got.as_expected:
                self._queue.ask_for_next(self._wid, job)
                self._next_asked = self._clock.now()
        except BrokerError as error:
            self._failed = error

    def add_next(self) -> bool:
        """Add the task that was asked for to the hand. Returns whether it may be begun at once: no job is over."""
        self.read()
        task, self._next = self._next, None
        if task is not None:
            self.tasks.append(task)
        return task is not None and self._goes_on

    def look(self) -> None:
        """Read the hand: a pop whose connection was lost may have been done later, after we stopped waiting for it."""
        self.sure_until = self._clock.now() + SURE_SECONDS
        leaving = self.leaving
        self.tasks = [raw for raw in self._queue.in_hand(self._wid) if raw not in leaving]

    def give_back(self) -> None:
        """Leave the queue, and give the hand back; no attempt is counted. Raises BrokerError."""
        self.recover()
        self._queue.give_back(self._wid, self.tasks)
        self.tasks = []

    def _enter_queue(self) -> None:
        self.sure_until = self._clock.now() + SURE_SECONDS
        self.changed, leaving = False, self.leaving  # as of before the hand is read
        self._next = None  # it is in the hand that is read now
        held = self._queue.enter(self._wid, self._queue.codecs.beat.at(self._wid).seal(self._beat()))
        self.tasks = [raw for raw in held if raw not in leaving]

    def _settle_anew(self) -> None:
        """Settle batches that may not have arrived. The hand's length is not known, so tasks are removed one by one."""
        while self._unsettled:
            batch = self._unsettled[0]
            # Redis may have lost these pieces; if it has lost the job, too, the answers do not count in a new one.
            gone = {fold.job for fold in batch.laid if not self._queue.lay(*fold)}
            for answers in batch.answers:
                if answers[0] in gone:
                    self._jobs.void(answers[0])
                else:
                    self._answer_anew(answers, batch)
            self._queue.drop(self._wid, batch.done)
            del self._unsettled[0]

    def _answer_anew(self, answers: tuple[str, list[Answer]], batch: Batch) -> None:
        """Answer one job. If its replies cannot be written (another program's key is there), they are dropped."""
        try:
            self._ask(Batch([answers], [], batch.tried, batch.output), length=-1, want=0)
            self._take_in()
        except (BrokerDown, BrokerFull, BrokerRefused):
            raise
        except BrokerError as error:
            self._asked = self._got = None
            self._jobs.warn(answers[0], f"{answers[0]} takes no answers: {error}")

    # -- what another thread takes ---------------------------------------------------------------------------------

    def begin_batch(self, tasks: Sequence[bytes]) -> Iterator[bytes]:
        """The tasks of a batch, to be begun one after another."""
        self.batch = iter(tasks)
        return self.batch

    def end_batch(self) -> bool:
        """Have no other thread take tasks from here on. Returns whether one has taken some: see part_answers.py."""
        with self.giving:
            self.batch = None
        return self.changed

    # -- settling --------------------------------------------------------------------------------------------------

    def done(self, batch: Batch) -> bool:
        """Keep a batch until it has arrived. Returns False if the hand was not as expected: then all is settled, and
        the hand was read.
        """
        self._unsettled.append(batch)
        return self.hear()

    def settle(self, batch: Batch, want: int, *, least: int = 0) -> None:
        """Send a batch's answers, and ask for ``want`` more tasks; a negative number gives tasks of the hand back.

        ``least``: take this number of tasks, if they are there, even if the fair share is smaller.
        """
        done = len(batch.done)
        self._ask(batch, length=len(self.tasks), want=want, least=least)
        self.tasks = self.tasks[done : len(self.tasks) + min(want, 0)]

    def settle_and_read(self, batch: Batch) -> None:
        """Settle a batch after another thread has taken tasks of this hand, and read what is left in it."""
        if self.done(batch):
            self._settle_anew()
            self._enter_queue()

    def unsent(self) -> list[bytes]:
        """Forget the answers that could not be sent, and return their tasks."""
        self._asked = self._got = None
        guilty = [raw for batch in self._unsettled for raw in batch.done]
        self._unsettled.clear()
        return guilty

    def answer_later(self, batch: Batch) -> None:
        """Have a batch sent at the next ``recover``."""
        self._asked = self._got = None
        self._unsettled.append(batch)

    def _ask(self, batch: Batch, length: int, want: int, least: int = 0) -> None:
        replies = [
            (job, sealed)
            for job, items in batch.answers
            for sealed in self._replies.sealed(job, items, batch.tried.get(job, ()), batch.output.get(job))
        ]
        least = max(least, self.prefetch.least)
        self._asked = Question(replies, length, len(batch.done), want, least, self._clock.now())
        self._send(self._asked)

    def _send(self, asked: Question) -> None:
        self._queue.ask_to_settle(self._wid, asked.replies, asked.length, asked.settled, asked.want, least=asked.least)

    def read(self) -> None:
        """Read the answers to the settle on its way, and to ``ask_for_next``, if any; their consequences can wait."""
        if self._failed is not None:
            failed, self._failed = self._failed, None
            raise failed
        while self._asked is not None and self._got is None:
            began = self._clock.now()
            try:
                self._got = self._queue.settled()
            except BrokerFull as error:
                self._full(error)
                self._send(self._asked)
            else:
                now = self._clock.now()
                self.prefetch.settled(now - self._asked.sent, now - began)
        if self._next_asked:
            asked, self._next_asked = self._next_asked, 0.0
            try:
                self._next, state = self._queue.next()
            except BrokerRefused:  # its user may not use the command
                self._may_ask = False
            else:
                self._goes_on = state == State.RUNNING
                self.sure_until = asked + SURE_SECONDS

    def hear(self) -> bool:
        """Take in the answer to the settle on its way. Returns False if the hand was not as expected, and was read."""
        self.read()
        if self._asked is None:
            return True
        sent = self._asked.sent
        got = self._take_in()
        if got.as_expected:
            self.sure_until = sent + SURE_SECONDS
            del self._unsettled[0]
            self.tasks = [*self.tasks, *got.tasks]
            return True
        self._settle_anew()
        self._enter_queue()  # the process that took from the hand may have deleted the worker's entry, too
        return False

    def _take_in(self) -> SettleAnswer:
        self.read()
        asked, got = self._asked, self._got
        assert asked is not None
        assert got is not None
        self._asked = self._got = None
        for index in got.over:
            self._jobs.void(asked.replies[index][0])
        return got
