"""A worker: take, map, settle, until told to stop. It never reduces and never writes a job.

Its duties, in order:

1. After a start and after any error, say that it is there and ask Redis what it holds (``enter``): Redis is right,
   memory is not.
2. Idle: wait for one task. It is filed under this worker in the same step.
3. Compute half of what is in hand, oldest first. If a task turns out long, answer the part that is done.
4. Settle: answers out, done tasks struck off, next tasks in, in one round trip, while the other half is computed.
5. Told to stop: finish the task in hand, give the rest back. Told twice: give everything back at once.

Answers that may not have arrived are sent again: a second copy is ignored, and a missing answer would cost a new
computation.

Part answers
------------
The master cuts tasks by what terms have cost so far. If the next terms cost a thousand times more, one worker has a
task of minutes in hand while all others are idle. The master cannot cut a task that is in a worker's hand, but the
worker can end it early:

1. The supervisor sees on the slate that a task takes long, and tells the worker (``told_to_shorten``, in a thread of
   the worker's process).
2. ``map`` ends after the term in hand. Its partial is that of the terms below ``Computation.reached``, and the answer
   has this smaller span.
3. The ledger counts that span, as it counts any other, and makes new tasks of the rest, for all workers. They are small
   at first, from one term on, and double in size, since it cannot know how many of the next terms are slow.

This is safe without any agreement between worker and master: a term is counted only once, whatever spans answers have.
While one term takes long, its task cannot end. So the answers that are done are sent by the other thread, and it gives
the other tasks in the hand back to the queue.
"""

from __future__ import annotations

import contextlib
import logging
import socket
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec

from mapreduce_rq.broker.tasks import SettleAnswer, Tasks
from mapreduce_rq.broker.wire import SPARE_BYTES, SURE_BYTES, raise_limit
from mapreduce_rq.core.bodies import ASIDE
from mapreduce_rq.core.computation import Computation, Interruption, TermError
from mapreduce_rq.core.fleet.prefetch import Prefetch
from mapreduce_rq.core.foreign_errors import kind_of, message_of
from mapreduce_rq.core.job.chunking import WIDE_TASK_SECONDS
from mapreduce_rq.core.job.merges import compute_merge
from mapreduce_rq.core.job.record import State
from mapreduce_rq.core.messages import (
    DIED,
    ERROR,
    LOST,
    MAP,
    MERGE,
    OK,
    OK_ASIDE,
    REFUSED,
    REQUEST,
    WORKER_DIED,
    WORKER_LOST,
    Answer,
    Beat,
    Failure,
    Reply,
    Spec,
    Task,
    Tried,
    encode_failure,
)
from mapreduce_rq.core.reducers.base import BadValue
from mapreduce_rq.errors import (
    BadMessage,
    BrokerDown,
    BrokerError,
    BrokerFull,
    BrokerRefused,
    MrqError,
    OtherKey,
    TooLarge,
)
from mapreduce_rq.functions.sources import learn
from mapreduce_rq.runtime.clock import Backoff, Clock
from mapreduce_rq.runtime.demotion import Demotion
from mapreduce_rq.runtime.server.shelf import ASIDE_BYTES, Shelf
from mapreduce_rq.runtime.worker.known_jobs import KnownJobs, Ready
from mapreduce_rq.runtime.worker.slate import Slate
from mapreduce_rq.version import __version__

log = logging.getLogger("mapreduce_rq.worker")

IDLE_SECONDS = 5.0
REPLY_BYTES = 1024 * 1024
"""Bytes of answers after which the worker settles early."""
FULL_SECONDS = 0.5
"""Seconds between two tries to settle while a full Redis refuses."""
REFUSAL_SECONDS = 0.5
"""Seconds to wait after refusing a task, so that a worker that can do it takes it."""
FIRST_QUIET_SECONDS = 1.0
"""Seconds at the start in which errors are not logged: a private server may still be starting. Of a private server it
is so later, too: it is gone because its owner ends, who ends this worker next."""
STRANGER_TRIES = 10
"""Times that a task signed with another key is left to other workers before it is dropped."""
STRANGERS_KNOWN = 1000
LOOK_SECONDS = 1.0
"""Seconds after which a worker that waits to try a term again looks whether the job is still there."""
MOST_TOLD = 100
"""Terms of one batch of which it is told why they took more than one call."""
LESS = "return less from each term, such as the name of a file that holds it"


class Stop(Interruption):
    """A signal handler raises this in a worker that waits or, if told twice, that computes."""


class JobOver(Interruption):
    """The job of the task in hand ended while a term of it waited to be tried again."""


class Batch(NamedTuple):
    """Computed tasks and their answers, kept until they are known to have arrived."""

    answers: list[tuple[str, list[Answer]]]  # by job
    done: list[bytes]  # sealed, oldest first
    tried: Mapping[str, Sequence[Tried]] = MappingProxyType({})  # by job


class Question(NamedTuple):
    """A settle on its way."""

    replies: list[tuple[str, bytes]]
    length: int
    settled: int
    want: int
    sent: float


class Worker:
    """One worker on one queue. ``prepare`` makes a computation of a spec and raises MrqError to refuse it."""

    def __init__(
        self,
        wid: str,
        tasks: Tasks,
        clock: Clock,
        slate: Slate,
        *,
        prepare: Callable[[Spec], Computation[Any]],
        name: str = "",
        burst: bool = False,
        max_tasks: int | None = None,
        shelf: str = "",
    ) -> None:
        self.wid = wid
        self.name = name
        self.tasks = tasks
        self.clock = clock
        self.slate = slate
        self.stopping = False  # finish the task in hand, then leave
        self.interruptible = False  # waiting: Stop may be raised at once
        self._leaving = False  # told to, or giving back what is in hand: to be hurried would only leave it there
        self._nanoseconds = clock.nanoseconds
        self._burst = burst
        self._entered = False  # connected, and the hand is known
        self._wait = 0.1 if burst else IDLE_SECONDS  # for a task
        self._turns = False  # it works in turn with others of its process
        self._others_first: Callable[[], bool] = _never
        self._yields = False  # they go first now
        self._looked = 0.0  # when the hand was read last, though no task came
        self._shelf = shelf  # the directory of large bodies beside a private server; '' with any other
        self.tasks_left = max_tasks
        self._hand: list[bytes] = []  # sealed, oldest first, without those in a settle on its way
        self._answers: dict[str, list[Answer]] = {}  # of the batch being computed, by job
        self._tried: dict[str, list[Tried]] = {}  # terms of that batch that took more than one call, by job
        self._relieved = 0  # the last task, as the slate counts, whose neighbours were answered and given back
        self._unsettled: list[Batch] = []  # at most two: one on its way, and the next
        self._asked: Question | None = None
        self._got: SettleAnswer | None = None  # the answer, if it was read before its turn
        self._prefetch = Prefetch()
        self._jobs = KnownJobs(wid, tasks, clock, slate, prepare=prepare, shelf=shelf)
        self._at_fault = b""  # the task that was read when something failed outside of any task
        self._strangers: list[bytes] = []  # tasks of another key in the batch being computed
        self._in_vain = 0  # such tasks since the last task that could be done
        self._left: OrderedDict[int, int] = OrderedDict()  # how often such a one was left to others

    def told_to_stop(self, *, at_once: bool = False) -> None:
        """Called by a signal handler, in the worker's own thread. Raises Stop if it waits or ``at_once``, once in all.

        Signals that arrive together are handled one after another, each wherever the one before has led to: a second
        Stop would be raised on the way out, where nothing catches it.
        """
        now = (at_once or self.interruptible) and not self._leaving
        self.stopping = True
        if now:
            self._leaving = True
            raise Stop

    def told_to_shorten(self) -> None:
        """Answer the part of the task in hand that is computed, and leave the rest to others; from any thread.

        This is not done if the user fixed the size of tasks, nor before twice the time that the task should take. Tasks
        that were computed before it are answered now, and those that were taken with it are given back.
        """
        ready = self._jobs.get(self._jobs.current)
        if isinstance(ready, Ready) and ready.spec.limits.chunk is None:
            if ready.computation.reducer.wide and self.slate.read().seconds < 2 * WIDE_TASK_SECONDS:
                return  # the supervisor does not know the reducer, and will ask again
            ready.computation.cut_short()
        with contextlib.suppress(MrqError):  # answers that are not sent now are sent at the end of the task
            self._relieve()

    def _relieve(self) -> None:
        """Send the answers that are done, and give other tasks back, over another wire.

        The worker's own thread may be anywhere by now, and will do all of this again. It then finds its hand changed
        and reads it anew; and an answer that comes twice is counted once.
        """
        doing, hand, answers = self.slate.read(), self._hand, self._answers
        if not doing.busy or doing.begun == self._relieved or doing.seconds < 2 * self._prefetch.expected:
            return  # if all tasks are long, the next one is in hand on purpose
        self._relieved = doing.begun
        if len(hand) <= 1 and self._asked is None:
            return  # the hand has no other task
        done: list[bytes] = []
        for raw in hand:
            with contextlib.suppress(BadMessage):
                task = self.tasks.codecs.task.open(raw)
                if (task.job, task.lo, task.hi) == (doing.job, doing.lo, doing.hi):
                    break
                if raw not in self._strangers:
                    done.append(raw)
        else:
            return  # the worker has gone on to another task
        seal = self.tasks.codecs.reply.seal
        tried = self._tried
        replies = [
            (job, seal(Reply(job, self.wid, list(row), list(tried.get(job, ())))))
            for job, row in list(answers.items())
            if row
        ]
        others = Tasks(self.tasks.wire.another(), self.tasks.keys, self.tasks.codecs)
        try:
            others.wire.connect()
            if replies:
                others.settle(self.wid, replies, -1, 0, 0)
            others.drop(self.wid, done)
            others.pass_on(self.wid, [held for held in others.in_hand(self.wid) if held != raw])
        finally:
            others.wire.close()

    # -- the loop --------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Work until stopped, or until the queue is empty (burst). Leaves nothing in hand."""
        try:
            self._work()
            self.leave()
        except Stop:  # it came between the two
            self.leave()

    def turn(self, wait: float, others_first: Callable[[], bool]) -> bool:
        """Work until nothing has waited here for ``wait`` seconds, or others go first. Whether there was a task.

        Leaves nothing in hand.
        """
        self._wait, self._others_first, self._turns, self._yields = wait, others_first, True, False
        begun = self.slate.read().begun
        self._work()
        return self._yields or self.slate.read().begun != begun

    def _work(self) -> None:
        backoff = Backoff()
        demotion = Demotion(self.clock)
        down_since: float | None = None
        warned = False
        quiet = FIRST_QUIET_SECONDS
        try:
            while not self.stopping:
                try:
                    if not self._entered:
                        self._recover()
                        self._entered = True
                    if warned and down_since is not None:
                        log.warning("Redis is back after %.1f s", self.clock.now() - down_since)
                    down_since, warned = None, False
                    quiet = FIRST_QUIET_SECONDS if self._shelf else 0.0
                    backoff = Backoff()
                    demotion.over()
                    while self._step():
                        pass
                    break
                except BrokerRefused:
                    raise  # to wait does not help
                except BrokerError as error:
                    self._entered = False
                    demotion.met(error)
                    if down_since is None:
                        down_since = self.clock.now()
                    if not warned and self.clock.now() - down_since >= quiet:
                        log.warning("%s; trying again", error)
                        warned = True
                    self._pause(backoff.next())
                except Exception as error:
                    self._entered = False
                    log.exception("an error that is no task's; please report this")
                    self._blame(error)
                    self._pause(backoff.next())
        except Stop:
            self.stopping = True

    def _step(self) -> bool:
        """Fill the hand if it is empty, compute a batch, settle it. False: told to stop, or a burst is over."""
        if self.stopping:
            return False
        self._yields = self._yields or (self._turns and self._others_first())
        if not self._hand:
            if self._yields:
                return False
            self.interruptible = True
            task = self.tasks.take(self.wid, self._wait)
            self.interruptible = False
            if task is None:
                now = self.clock.now()
                if self._turns and now - self._looked < IDLE_SECONDS:
                    return False
                self._looked = now
                # A pop whose connection was lost may have been done later, after we stopped waiting for it.
                self._hand = self.tasks.in_hand(self.wid)
                return bool(self._hand) or not (self._burst or self._turns)
            self._hand.append(task)
        answers, done = self._compute()
        learn()  # what the functions have imported meanwhile
        if self._strangers:
            self._leave_to_others(alone=not answers)
        self._settle(answers, done)
        return True

    def _recover(self) -> None:
        self.tasks.wire.connect()
        self._asked = self._got = None
        self._settle_anew()
        self._enter_queue()

    def _settle_anew(self) -> None:
        """Settle batches that may not have arrived. The hand's length is unknown, so tasks are struck off singly."""
        while self._unsettled:
            batch = self._unsettled[0]
            for answers in batch.answers:
                self._answer_anew(answers, batch.tried)
            self.tasks.drop(self.wid, batch.done)
            del self._unsettled[0]

    def _answer_anew(self, answers: tuple[str, list[Answer]], tried: Mapping[str, Sequence[Tried]]) -> None:
        """Answer one job. If its replies cannot be written (another program's key is there), they are dropped."""
        try:
            self._ask(Batch([answers], [], tried), length=-1, want=0)
            self._take_in()
        except (BrokerDown, BrokerFull, BrokerRefused):
            raise
        except BrokerError as error:
            self._asked = self._got = None
            self._jobs.warn(answers[0], f"{answers[0]} takes no answers: {error}")

    def _blame(self, error: Exception) -> None:
        """After an error outside of any task: the tasks that were handled fail with it, so that it does not come again.

        These are the tasks whose answers could not be sent, or else the one in hand.
        """
        self._asked = self._got = None
        guilty, self._at_fault = [self._at_fault], b""
        if not guilty[0]:  # the error was in sending
            guilty = [raw for batch in self._unsettled for raw in batch.done]
            self._unsettled.clear()
        answers: dict[str, list[Answer]] = {}
        for raw in guilty:
            with contextlib.suppress(BadMessage):
                task = self.tasks.codecs.task.open(raw)
                answers.setdefault(task.job, []).append(self._failed(task, None, error))
        self._unsettled.append(Batch(list(answers.items()), guilty))

    def _enter_queue(self) -> None:
        self._hand = self.tasks.enter(self.wid, self.tasks.codecs.beat.at(self.wid).seal(self._first_beat()))

    def _first_beat(self) -> Beat:
        """A sign of life until the supervisor's next one."""
        host, pid, _ = self.wid.rsplit(":", 2)
        return Beat(
            count=0,
            host=host,
            pid=int(pid),
            name=self.name or f"{host}:{pid}",
            state="idle",
            job="",
            lo=0,
            hi=0,
            seconds=0.0,
            done=self.slate.read().done,
            rate=0.0,
            rss=0,
            version=__version__,
            probe="",
            kid=self.tasks.codecs.keyring.kid,
            at=self.clock.wall(),
        )

    def _pause(self, seconds: float) -> None:
        self.interruptible = True
        if not self.stopping:
            self.clock.sleep(seconds)
        self.interruptible = False

    def leave(self) -> None:
        """Give back the hand; no attempt is counted. If the connection is dead, a master or supervisor does it."""
        self._leaving, self.interruptible = True, False
        with contextlib.suppress(MrqError):
            self._recover()
            self.tasks.give_back(self.wid, self._hand)
            self._hand = []
        self.tasks.wire.close()

    # -- settling --------------------------------------------------------------------------------------------------

    def _settle(self, answers: dict[str, list[Answer]], done: int) -> None:
        """Send a batch's answers. While they travel the rest of the hand is computed.

        If there is no rest, or the batch was long, this waits for the answer.
        """
        batch = Batch(list(answers.items()), self._hand[:done], self._tried)
        self._unsettled.append(batch)
        if self.tasks_left is not None:
            self.tasks_left -= done
            self.stopping = self.stopping or self.tasks_left <= 0
        if not self._hear():
            return
        left = len(self._hand) - done
        want = self._prefetch.want(left)
        if self.tasks_left is not None:
            want = min(want, max(0, self.tasks_left - left))
        want = 0 if self.stopping or self._yields else want
        self._ask(batch, length=len(self._hand), want=want)
        self._hand = self._hand[done : len(self._hand) + min(want, 0)]
        if self.stopping or not self._hand or self._prefetch.long:
            self._hear()

    def _ask(self, batch: Batch, length: int, want: int) -> None:
        replies = [
            (job, sealed)
            for job, items in batch.answers
            for sealed in self._sealed(job, items, batch.tried.get(job, ()))
        ]
        self._asked = Question(replies, length, len(batch.done), want, self.clock.now())
        self._send(self._asked)

    def _sealed(self, job: str, items: list[Answer], tried: Sequence[Tried] = ()) -> list[bytes]:
        """The answers to one job, in one reply if Redis takes it, else in several.

        Raises BrokerDown if Redis must be asked how much it takes, and cannot be.
        """
        try:
            sealed = self.tasks.codecs.reply.seal(Reply(job, self.wid, items, list(tried)))
            if len(sealed) <= SURE_BYTES or len(sealed) <= self.tasks.wire.limit() - SPARE_BYTES:
                return [sealed]
            size = len(sealed)
        except TooLarge as error:
            size = error.size
        half = len(items) // 2
        if half:
            parts = (items[:half], items[half:])
            return [sealed for part in parts for sealed in self._sealed(job, part, _of(part, tried))]
        (answer,) = items
        failure = Failure.of(too_large_partial(size, self.tasks.wire.limit()), self.wid.rpartition(":")[0])
        return self._sealed(job, [msgspec.structs.replace(answer, status=ERROR, body=encode_failure(failure))])

    def _must_fit(self, size: int) -> None:
        """Raise TooLarge for a body that Redis does not take. If Redis cannot be asked, sending will tell."""
        try:
            limit = self.tasks.wire.limit() - 2 * SPARE_BYTES  # the rest of the reply
        except BrokerError:
            return
        if size > limit:
            raise too_large_partial(size, limit)

    def _send(self, asked: Question) -> None:
        least = self._prefetch.least
        self.tasks.ask_to_settle(self.wid, asked.replies, asked.length, asked.settled, asked.want, least=least)

    def read(self) -> None:
        """Read the answer to the settle on its way, if there is one; its consequences can wait."""
        while self._asked is not None and self._got is None:
            began = self.clock.now()
            try:
                self._got = self.tasks.settled()
            except BrokerFull as error:
                if self.stopping:
                    raise  # a worker that leaves does not wait for room
                self._jobs.warn("full", str(error))
                self._pause(FULL_SECONDS)
                self._send(self._asked)
            else:
                now = self.clock.now()
                self._prefetch.settled(now - self._asked.sent, now - began)

    def _hear(self) -> bool:
        """Take in the answer to the settle on its way. False: the hand was not as expected; it was read anew."""
        if self._asked is None:
            return True
        got = self._take_in()
        if got.as_expected:
            del self._unsettled[0]
            self._hand = [*self._hand, *got.tasks]
            return True
        self._settle_anew()
        self._enter_queue()  # the process that took from the hand may have struck the worker off, too
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

    # -- computing -------------------------------------------------------------------------------------------------

    def _compute(self) -> tuple[dict[str, list[Answer]], int]:
        """Answers by job, and how many tasks of the hand they settle.

        The hot path: for tasks of a microsecond everything around ``map_encoded`` counts.
        """
        answers: dict[str, list[Answer]] = {}
        self._answers, self._tried = answers, {}
        open_ = self.tasks.codecs.task.open
        nanoseconds, begin, end = self._nanoseconds, self.slate.begin, self.slate.end
        job, row, ready, attempts, cap, usual = "", [], None, 0, 0, 0
        done = size = longest = 0
        started = now = nanoseconds()
        deadline = started + int(self._prefetch.batch_seconds * 1e9)
        try:
            for raw in self._hand[: self._prefetch.batch]:
                done += 1
                try:
                    task: Task = open_(raw)
                except OtherKey as error:
                    self._strangers.append(raw)
                    self._jobs.warn("key", f"left to other workers: {error}")
                    continue
                except BadMessage as error:
                    self._jobs.warn("task", f"dropped: {error}")
                    continue
                if task.job != job:
                    job = task.job
                    row = answers.setdefault(job, [])
                    ready = self._jobs.enter(task, self)
                    if isinstance(ready, Ready):
                        attempts, cap = ready.spec.limits.attempts, ready.spec.limits.max_body
                        usual = min(cap, SURE_BYTES if ready.shelf is None else ASIDE_BYTES - 1)
                if ready is None:
                    continue
                before = now
                lo, hi = task.lo, task.hi
                if not isinstance(ready, Ready) or task.attempt >= attempts:
                    answer = self._decline(task, ready)
                else:
                    begin(lo, hi, now)
                    try:
                        if task.op == MAP and not task.body:
                            body = ready.computation.map_encoded(lo, hi)
                        else:
                            body = compute_body(ready.computation, self._fetched(task, ready))
                        status = OK
                        if len(body) > usual:
                            body, status = self._large(body, cap, ready.shelf)
                    except JobOver:
                        end()
                        self._jobs.void(job, since=self.clock.now())
                        job, ready = "", None  # the next task asks anew
                        now = nanoseconds()
                        continue
                    except Interruption:
                        raise
                    except BaseException as error:  # of any class: the term has failed, and the worker goes on
                        self._forget_tried(task)
                        answer = self._failed(task, ready.computation, error)
                    else:
                        now = nanoseconds()
                        if hi - lo > 1 and task.op == MAP:
                            hi = ready.computation.reached or hi
                        answer = Answer(lo, hi, task.attempt, task.op, status, body, now - before)
                        size += len(body)
                    end()
                row.append(answer)
                if now - before > longest:
                    longest = now - before
                if now > deadline or size > REPLY_BYTES or self.stopping:
                    break
        except Exception:
            self._at_fault = raw
            raise
        if done and now > started:
            self._prefetch.worked(done, (now - started) / 1e9, longest / 1e9)
        return {name: items for name, items in answers.items() if items}, done

    def _leave_to_others(self, *, alone: bool) -> None:
        """Put tasks signed with another key at the end of the queue: there may be workers with that key.

        We cannot tell whether there are. So a task that comes here again and again is dropped in the end, and malformed
        bytes are dropped at once. The settle that follows strikes these tasks off this hand; in between they are in
        both places, which does no harm. If the whole queue has passed and none of its tasks was for us, wait; but not
        before that, since a client without a key may write such tasks between ours.
        """
        self._in_vain = self._in_vain + len(self._strangers) if alone else 0
        back = []
        for raw in self._strangers:
            seen = self._left[hash(raw)] = self._left.pop(hash(raw), 0) + 1
            if seen <= STRANGER_TRIES:
                back.append(raw)
        self._strangers = []
        while len(self._left) > STRANGERS_KNOWN:
            self._left.popitem(last=False)
        self.read()
        if back and self.tasks.put_back(back) <= self._in_vain:
            self._in_vain = 0
            self._pause(REFUSAL_SECONDS)

    def _large(self, body: bytes, cap: int, shelf: Shelf | None) -> tuple[bytes, int]:
        """What stands in the answer for a large body, with the answer's status. Raises TooLarge."""
        if len(body) > cap:
            raise TooLarge("the partial", len(body), cap, f"{LESS}, or raise max_body (512 MiB at most)")
        if shelf is not None and (reference := shelf.put(body)) is not None:
            return reference, OK_ASIDE
        if len(body) > SURE_BYTES:
            self._must_fit(len(body))
        return body, OK

    @staticmethod
    def _fetched(task: Task, ready: Ready) -> Task:
        """The task with its items, also if they were laid aside."""
        if task.op != MAP or task.body[:1] != ASIDE or ready.shelf is None:
            return task
        return msgspec.structs.replace(task, body=ready.shelf.get(task.body))

    def _decline(self, task: Task, ready: Ready | Failure | Spec) -> Answer:
        """The answer to a task that is not to be computed here, or not any more."""
        lo, hi = task.lo, task.hi
        if isinstance(ready, Failure):
            self._pause(REFUSAL_SECONDS)
            return Answer(lo, hi, task.attempt, task.op, REFUSED, encode_failure(ready), 0)
        kind = WORKER_LOST if task.why == LOST else WORKER_DIED
        failure = Failure(lo if hi - lo == 1 else None, kind, task.why or "its worker died", "", "")
        return Answer(lo, hi, task.attempt, task.op, DIED, encode_failure(failure), 0)

    def _failed(self, task: Task, computation: Computation[Any] | None, error: BaseException) -> Answer:
        ours = issubclass(type(error), TermError)  # by its type: its attributes may be a user's code
        term = error.term if ours else None  # type: ignore[attr-defined]  # so a TermError has it
        if issubclass(type(error), BadValue):
            term = error.term  # type: ignore[attr-defined]  # so a BadValue has it: what waited is folded when it is sent
        if term is None and task.hi - task.lo == 1:
            term = task.lo
        where = self.wid.rpartition(":")[0]
        if ours and error.__cause__ is None:  # a computation that says itself what is wrong with a term has said all
            failure = Failure(term, kind_of(error), message_of(error), "", where)
        else:
            cause = error.__cause__ if ours else error
            assert cause is not None
            pickled = computation.pickled_error(cause) if computation is not None else b""
            failure = Failure.of(cause, where, term, pickled)
            if ours and (place := error.place):  # type: ignore[attr-defined]  # as above
                failure = msgspec.structs.replace(failure, message=f"{failure.message} (in {place})")
            if ours and (tries := error.tries) > 1:  # type: ignore[attr-defined]  # as above
                failure = msgspec.structs.replace(failure, message=f"{failure.message} (tried {tries} times)")
        return Answer(task.lo, task.hi, task.attempt, task.op, ERROR, encode_failure(failure), 0)

    # -- jobs ------------------------------------------------------------------------------------------------------

    def note_tried(self, tried: Tried) -> None:
        row = self._tried.setdefault(self._jobs.current, [])
        where = self.wid.rpartition(":")[0]
        told = len(row) < MOST_TOLD  # of the others only the number is of interest
        row.append(msgspec.structs.replace(tried, where=where) if told else Tried(tried.term, tried.tries, "", ""))

    def _forget_tried(self, task: Task) -> None:
        """The task has no value: its terms will be computed again, in other tasks."""
        if task.job in self._tried:
            row = self._tried[task.job]
            row[:] = [one for one in row if not task.lo <= one.term < task.hi]

    def wait_to_try(self, seconds: float) -> None:
        """Wait before a term is tried again; this time is not the task's.

        A worker that is told to stop does not wait: it gives its tasks back. If the job ends meanwhile, JobOver.
        """
        job = self._jobs.current
        ready = self._jobs.get(job)
        timeout = ready.spec.limits.task_timeout if isinstance(ready, Ready) else None
        self.slate.job(job, None)
        try:
            until = self.clock.now() + seconds
            while (left := until - self.clock.now()) > 0:
                if self.stopping:
                    raise Stop
                self._pause(min(left, LOOK_SECONDS))
                if left > LOOK_SECONDS and self._is_over(job):
                    raise JobOver
        finally:
            self.slate.again(self._nanoseconds())
            self.slate.job(job, timeout)

    def _is_over(self, job: str) -> bool:
        """Whether a job says that it is over. An outage ends no task: it is met when this batch is settled."""
        with contextlib.suppress(MrqError):
            self.read()
            return self.tasks.state(job) not in {State.RUNNING, ""}
        return False

    def leave_when_answered(self) -> None:
        """See ``Computation.leave``."""
        self.stopping = True


def too_large_partial(size: int, limit: int) -> TooLarge:
    """The error of a partial that Redis does not take."""
    return TooLarge("the partial", size, limit, f"{LESS}, or {raise_limit(limit)}")


def _of(answers: Sequence[Answer], tried: Sequence[Tried]) -> list[Tried]:
    """Those of these terms that are in the answers."""
    return [one for one in tried if any(answer.lo <= one.term < answer.hi for answer in answers)]


def _never() -> bool:
    return False


def hostname() -> str:
    """This host's name, as it stands in worker ids."""
    return socket.gethostname().replace(":", "_")[:64] or "localhost"


def compute_body(computation: Computation[Any], task: Task) -> bytes:
    """The answer to a task that carries items, a request, or two partials to merge (the left one's length first)."""
    if task.op == REQUEST:
        return computation.work(task.body)
    if task.op == MERGE:
        return compute_merge(computation, task.body)
    return computation.reducer.encode(computation.map_body(task.lo, task.hi, task.body))
