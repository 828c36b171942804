"""A worker: take, map, settle, until told to stop. It never reduces and never writes a job.

Its duties, in order:

1. After a start and after any error, register and ask Redis for the hand (``enter``): Redis decides, not memory.
2. If idle, wait for one task. Redis moves the task into this worker's hand in the same step.
3. Compute half of the hand, oldest first. If a task turns out to be long, answer the part that is done.
4. Settle: send answers, remove done tasks, get the next tasks, in one round trip, while the other half is computed.
   Of some jobs, several tasks are answered together (see joint_answers.py).
5. Told to stop: finish the task in hand, give the rest back. Told twice: give everything back at once.

Answers that may not have arrived are sent again: a second copy is ignored, and a missing answer would cost a new
computation.

This file changes when one of these duties does. Each part of a duty that can be understood alone has a file of its own
beside this one: the hand, the answers, the batch, strangers, outages.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from typing import Any

import msgspec

from mapreduce_rq.broker.pieces import LaidFold
from mapreduce_rq.broker.tasks import Tasks
from mapreduce_rq.core.computation import Computation
from mapreduce_rq.core.job.record import State
from mapreduce_rq.core.messages import OK, OK_ASIDE, Answer, Beat, Spec, Tried
from mapreduce_rq.errors import BadMessage, BrokerError, BrokerFull, BrokerRefused, MrqError
from mapreduce_rq.functions.sources import learn
from mapreduce_rq.runtime.clock import Clock
from mapreduce_rq.runtime.worker.computing import REFUSAL_SECONDS, Computing
from mapreduce_rq.runtime.worker.failures import failed
from mapreduce_rq.runtime.worker.hand import Batch, Hand
from mapreduce_rq.runtime.worker.joint_answers import CannotJoin, JointAnswer
from mapreduce_rq.runtime.worker.known_jobs import KnownJobs, Ready
from mapreduce_rq.runtime.worker.outage import Outage
from mapreduce_rq.runtime.worker.output import Streams
from mapreduce_rq.runtime.worker.part_answers import Relief, cut_short
from mapreduce_rq.runtime.worker.replies import Replies
from mapreduce_rq.runtime.worker.slate import Slate
from mapreduce_rq.runtime.worker.stops import JobOver, Stop
from mapreduce_rq.runtime.worker.strangers import Strangers
from mapreduce_rq.runtime.worker.wid import address_of
from mapreduce_rq.version import __version__

log = logging.getLogger("mapreduce_rq.worker")

IDLE_SECONDS = 5.0
FULL_SECONDS = 0.5
"""Seconds between two tries to settle while a full Redis refuses."""
LOOK_SECONDS = 1.0
"""Seconds after which a worker that waits to try a term again looks whether the job is still there."""
MOST_TOLD = 100
"""The most terms of one batch that are sent with the reason why they took more than one call."""


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
        streams: Streams | None = None,
    ) -> None:
        self.wid = wid
        self.name = name
        self.tasks = tasks
        self.clock = clock
        self.slate = slate
        self.stopping = False  # finish the task in hand, then leave
        self.interruptible = False  # waiting: Stop may be raised at once
        self._leaving = False  # told to leave, or giving the hand back: another Stop would only leave tasks in it
        self._nanoseconds = clock.nanoseconds
        self._talks = log.isEnabledFor(logging.DEBUG)
        self._burst = burst
        self._entered = False  # connected, and the hand is known
        self._wait = 0.1 if burst else IDLE_SECONDS  # waiting for a task
        self._outage = Outage(clock)
        self._turns = False  # whether it works in turn with others of its process
        self._others_first: Callable[[], bool] = _never
        self._yields = False  # whether the others go first now
        self._looked = 0.0  # the time when the hand was last read although no task came
        self._shelf = shelf  # the directory of large bodies beside a private server; '' with any other
        self.tasks_left = max_tasks
        self._jobs = KnownJobs(wid, tasks, clock, slate, prepare=prepare, shelf=shelf)
        self._replies = Replies(wid, tasks)
        self._hand = Hand(wid, tasks, clock, self._jobs, self._replies, full=self._wait_for_room, beat=self._first_beat)
        self._joint = JointAnswer()
        self._strangers = Strangers(tasks)
        self._relief = Relief(wid, tasks, slate, self._hand, self._strangers, self._joint)
        self._computing = Computing(
            self,
            wid,
            tasks,
            clock,
            slate,
            jobs=self._jobs,
            hand=self._hand,
            joint=self._joint,
            replies=self._replies,
            strangers=self._strangers,
            streams=streams,
        )

    def told_to_stop(self, *, at_once: bool = False) -> None:
        """Have the worker leave; a signal handler calls this, in the worker's own thread. Raises Stop, only once, if
        the worker waits or ``at_once``.

        Signals that arrive together are handled one after another, each at the place where the handler before has left
        the thread: a second Stop would be raised on the way out, where no code catches it.
        """
        now = (at_once or self.interruptible) and not self._leaving
        self.stopping = True
        if now:
            self._leaving = True
            raise Stop

    def told_to_shorten(self) -> None:
        """Answer the part of the task in hand that is computed, and leave the rest to others. Any thread may call this.

        This is not done if the user fixed the size of tasks, nor before twice the time that the task should take. Tasks
        that were computed before it are answered now, and those that were taken with it are given back.
        """
        ready = self._jobs.get(self._jobs.current)
        if isinstance(ready, Ready) and not cut_short(ready, self.slate):
            return
        with contextlib.suppress(MrqError):  # answers that are not sent now are sent at the end of the task
            self._relief.relieve()

    # -- the loop --------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Work until stopped, or until the queue is empty (burst). Leaves nothing in hand."""
        try:
            self._work()
            self.leave()
        except Stop:  # a signal came between the two
            self.leave()

    def turn(self, others_first: Callable[[], bool]) -> bool:
        """Work until nothing waits here, or others go first. Returns whether there was a task.

        It leaves nothing in hand. If the server is gone, the turn ends with the first try, and ``due`` says when the
        next try is: meanwhile the process works on other queues, which may be on other servers.
        """
        self._wait, self._others_first, self._turns, self._yields = 0.0, others_first, True, False
        if self._outage.wait() and not self._burst:
            return False
        begun = self.slate.read().begun
        self._work()
        return self._yields or self.slate.read().begun != begun

    @property
    def down(self) -> bool:
        """Whether the last turn ended with an outage."""
        return self._outage.on

    def due(self) -> float:
        """Seconds until the next turn of a worker that is down."""
        return self._outage.wait()

    def owes(self) -> bool:
        """Whether the last turn ended with an outage and it is time for the next: answers may have to be sent."""
        return self._outage.on and not self._outage.wait()

    def cut_off(self, error: BrokerError) -> None:
        """The connection is lost: another one is made when it is time. Raises BrokerRefused where that cannot help."""
        self._joint.drop()
        self._entered, self._computing.at_fault = False, b""
        log.debug("%s; trying again", error)
        if not self._outage.on:
            self.slate.away(self._nanoseconds(), str(error))  # its supervisor logs it for all workers
        self._outage.met(error)

    def _work(self) -> None:
        try:
            while not self.stopping:
                try:
                    if not self._entered:
                        self._hand.recover()
                        self._entered = True
                    if self._outage.on or self.slate.why_away() is None:  # else another queue is away
                        self.slate.reached()
                    self._outage.over()
                    while self._step():
                        pass
                    break
                except BrokerRefused:
                    raise  # waiting does not help
                except BrokerError as error:
                    self.cut_off(error)
                    if self._turns and not self._burst:
                        break
                    self.pause(self._outage.wait())
                except Exception as error:
                    self._joint.drop()
                    self._entered = False
                    log.exception("an error that is no task's; please report this")
                    self._blame(error)
                    self._outage.met(None)
                    self.pause(self._outage.wait())
        except Stop:
            self.stopping = True

    def _step(self) -> bool:
        """Fill the hand if it is empty, compute a batch, settle it. Returns False at a stop, or a burst's end."""
        if self.stopping:
            self._answer_kept()
            return False
        self._yields = self._yields or (self._turns and self._others_first())
        if not self._hand.tasks:
            if self._yields:
                return False
            self.interruptible = True
            task = self._hand.take(self._wait)
            self.interruptible = False
            if task is None:
                now = self.clock.now()
                if self._turns and now - self._looked < IDLE_SECONDS:
                    return False
                self._looked = now
                self._hand.look()
                return bool(self._hand.tasks) or not (self._burst or self._turns)
            self._hand.tasks.append(task)
        if self.clock.now() > self._hand.sure_until:
            self._ask_what_is_in_hand()
            return True
        try:
            answers, done = self._computing.compute(at_once=self._yields or self.tasks_left is not None)
        except CannotJoin:  # so the tasks are computed again, each by itself
            self._computing.at_fault = b""
            gone = self._joint.given_back
            self._joint.drop()
            if gone or self._hand.changed:
                self._hand.recover()
            return True
        if self._talks:
            _tell(answers)
        learn()  # what the functions have imported meanwhile
        if self._strangers.here:
            self._leave_to_others(alone=not answers)
        if self._joint.tasks:
            self._go_on()
        else:
            self._settle(answers, done)
        return True

    def _blame(self, error: Exception) -> None:
        """After an error outside of any task: have the tasks that were handled fail with it, so that it does not come
        again. These are the tasks whose answers could not be sent, or otherwise the one in hand.
        """
        guilty, self._computing.at_fault = [self._computing.at_fault], b""
        if not guilty[0]:  # the error came while answers were sent
            guilty = self._hand.unsent()
        answers: dict[str, list[Answer]] = {}
        for raw in guilty:
            with contextlib.suppress(BadMessage):
                task = self.tasks.codecs.task.open(raw)
                answers.setdefault(task.job, []).append(failed(task, None, error, address_of(self.wid)))
        self._hand.answer_later(Batch(list(answers.items()), guilty))

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

    def pause(self, seconds: float) -> None:
        """Wait. Stop may be raised meanwhile."""
        self.interruptible = True
        if not self.stopping:
            self.clock.sleep(seconds)
        self.interruptible = False

    def leave(self) -> None:
        """Give back the hand; no attempt is counted. If the connection is dead, a master or supervisor does it."""
        self._leaving, self.interruptible = True, False
        with contextlib.suppress(MrqError):
            self._hand.give_back()
        self.tasks.wire.close()

    # -- settling --------------------------------------------------------------------------------------------------

    def _settle(self, answers: dict[str, list[Answer]], done: int) -> None:
        """Send a batch's answers. While they travel the rest of the hand is computed.

        If there is no rest, or the batch was long, this waits for the answer.
        """
        hand = self._hand
        batch = Batch(list(answers.items()), hand.tasks[:done], hand.tried, hand.output, hand.laid)
        if self.tasks_left is not None:
            self.tasks_left -= done
            self.stopping = self.stopping or self.tasks_left <= 0
        if hand.changed:  # tasks in it were given back by another thread, computed ones of a joint answer among them
            gone = self._joint.given_back
            self._joint.drop()
            hand.settle_and_read(batch._replace(done=[raw for raw in batch.done if raw not in gone]))
            return
        if not hand.done(batch):
            return
        goes_on = hand.add_next()
        left = len(hand.tasks) - done
        want = hand.prefetch.want(left)
        if self.tasks_left is not None:
            want = min(want, max(0, self.tasks_left - left))
        want = 0 if self.stopping or self._yields else want
        hand.settle(batch, want)
        if self.stopping or not hand.tasks or (hand.prefetch.long and not goes_on):
            hand.hear()

    def _go_on(self) -> None:
        """Take more tasks before those that are computed are answered. If there are none, answer."""
        hand, joint = self._hand, self._joint
        if not hand.hear():
            joint.drop()
            return
        left = len(hand.tasks) - len(joint)
        want = hand.prefetch.want(left)
        if left and not want:
            return
        nothing = Batch([], [])
        hand.done(nothing)
        hand.settle(nothing, want, least=0 if left else 1)
        if (not left or hand.prefetch.long) and not hand.hear():
            joint.drop()
        elif len(hand.tasks) == len(joint):
            self._answer_kept()

    def _ask_what_is_in_hand(self) -> None:
        """Before more of the hand is begun: this process was stopped for so long that others may have taken it over."""
        if self._joint.tasks:
            self._answer_kept()
        elif self._hand.done(Batch([], [])):
            self._hand.settle(Batch([], []), 0)
        self._hand.hear()
        job = self._jobs.current
        if job and self._is_over(job):
            self._jobs.void(job, since=self.clock.now())

    def _answer_kept(self) -> None:
        """Answer what is computed and kept for a joint answer, if there is any."""
        joint = self._joint
        if not joint.tasks:
            return
        answers: dict[str, list[Answer]] = {}
        self._hand.answers, self._hand.tried, self._hand.laid, self._hand.output = answers, {}, [], {}
        done = len(joint) + len(joint.given_back)
        try:
            self._computing.answer_joint(answers)
        except CannotJoin:
            joint.drop()
        else:
            self._settle(answers, done)

    def _wait_for_room(self, error: BrokerFull) -> None:
        if self.stopping:
            raise error  # a worker that leaves does not wait for room
        self._jobs.warn("full", str(error))
        self.pause(FULL_SECONDS)

    def read(self) -> None:
        """Read the answer to the settle on its way, if there is one; its consequences can wait."""
        self._hand.read()

    def _leave_to_others(self, *, alone: bool) -> None:
        """Put tasks signed with another key at the end of the queue: there may be workers with that key.

        We cannot tell whether there are. So a task that comes here again and again is dropped in the end, and malformed
        bytes are dropped at once. The settle that follows removes these tasks from this hand; in between they are in
        both places, which does no harm. If the whole queue has passed and none of its tasks was for us, we wait; but
        not earlier, because a client without a key may write such tasks between ours.
        """
        back = self._strangers.count(alone=alone)
        self._hand.read()
        if self._strangers.put_back(back):
            self.pause(REFUSAL_SECONDS)

    # -- jobs ------------------------------------------------------------------------------------------------------

    def note_laid(self, fold: LaidFold) -> None:
        self._hand.laid.append(fold)

    def note_tried(self, tried: Tried) -> None:
        row = self._hand.tried.setdefault(self._jobs.current, [])
        where = address_of(self.wid)
        told = len(row) < MOST_TOLD  # for the others, the number is enough
        row.append(msgspec.structs.replace(tried, where=where) if told else Tried(tried.term, tried.tries, "", ""))

    def wait_to_try(self, seconds: float) -> None:
        """Wait before a term is tried again; this time does not count as the task's.

        A worker that is told to stop does not wait: it gives its tasks back. Raises JobOver if the job ends meanwhile.
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
                self.pause(min(left, LOOK_SECONDS))
                if left > LOOK_SECONDS and self._is_over(job):
                    raise JobOver
        finally:
            self.slate.again(self._nanoseconds())
            self.slate.job(job, timeout)

    def _is_over(self, job: str) -> bool:
        """Whether a job says that it is over. An outage ends no task: settling this batch will find it."""
        with contextlib.suppress(MrqError):
            self.read()
            return self.tasks.state(job) not in {State.RUNNING, ""}
        return False

    def calls_are_made(self) -> None:
        """See ``Computation.called``: the next task may be asked for while this one's answer is written."""
        if self._hand.prefetch.next_first and self.tasks_left is None and not (self.stopping or self._yields):
            self._hand.ask_for_next(self._jobs.current)

    def leave_when_answered(self) -> None:
        """See ``Computation.leave``."""
        self.stopping = True


def _tell(answers: dict[str, list[Answer]]) -> None:
    for job, row in answers.items():
        for answer in row:
            what = "" if answer.status in {OK, OK_ASIDE} else " failed"
            log.debug("%s [%d, %d)%s in %.6f s", job, answer.lo, answer.hi, what, answer.ns / 1e9)


def _never() -> bool:
    return False
