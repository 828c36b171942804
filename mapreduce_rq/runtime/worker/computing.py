"""Computes a batch of a worker's hand: opens each task, maps it, and collects the answers by job."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from mapreduce_rq.broker.pieces import Away
from mapreduce_rq.broker.tasks import Tasks
from mapreduce_rq.broker.wire import SURE_BYTES
from mapreduce_rq.core.bodies import ASIDE
from mapreduce_rq.core.computation import Interruption
from mapreduce_rq.core.job.work import compute_body
from mapreduce_rq.core.messages import MAP, OK, Answer, Failure, Spec, Task
from mapreduce_rq.errors import BadMessage, OtherKey
from mapreduce_rq.runtime.clock import Clock
from mapreduce_rq.runtime.server.shelf import ASIDE_BYTES
from mapreduce_rq.runtime.tracing import TaskSpans
from mapreduce_rq.runtime.worker.failures import failed, given_up, refused
from mapreduce_rq.runtime.worker.hand import Hand
from mapreduce_rq.runtime.worker.joint_answers import CannotJoin, JointAnswer
from mapreduce_rq.runtime.worker.known_jobs import Host, KnownJobs, Ready
from mapreduce_rq.runtime.worker.output import Outputs, Streams
from mapreduce_rq.runtime.worker.replies import Replies
from mapreduce_rq.runtime.worker.slate import Slate
from mapreduce_rq.runtime.worker.stops import JobOver
from mapreduce_rq.runtime.worker.strangers import Strangers
from mapreduce_rq.runtime.worker.wid import address_of

REPLY_BYTES = 1024 * 1024
"""Bytes of answers after which the worker settles early."""
REFUSAL_SECONDS = 0.5
"""Seconds to wait after refusing a task, so that a worker that can do it takes it."""


class Computer(Host, Protocol):
    """The worker, as this module sees it."""

    stopping: bool

    def pause(self, seconds: float) -> None:
        """Wait, unless the worker is told to stop."""


class Computing:
    """Computes batches of one worker's hand."""

    def __init__(
        self,
        host: Computer,
        wid: str,
        tasks: Tasks,
        clock: Clock,
        slate: Slate,
        *,
        jobs: KnownJobs,
        hand: Hand,
        joint: JointAnswer,
        replies: Replies,
        strangers: Strangers,
        streams: Streams | None,
    ) -> None:
        self.at_fault = b""  # the task that was read when something failed outside of any task
        self._host = host
        self._wid, self._tasks, self._clock, self._slate = wid, tasks, clock, slate
        self._jobs, self._hand, self._joint, self._replies, self._strangers = jobs, hand, joint, replies, strangers
        self._nanoseconds = clock.nanoseconds
        self._outputs = Outputs(streams)
        self._spans = TaskSpans(wid, tasks.keys.name)

    def compute(self, *, at_once: bool) -> tuple[dict[str, list[Answer]], int]:
        """Answers by job, and how many tasks of the hand they settle. ``at_once``: keep nothing for a joint answer.

        The hot path: for tasks of a microsecond everything around ``map_encoded`` counts.
        """
        answers: dict[str, list[Answer]] = {}
        self._hand.answers, self._hand.tried, self._hand.laid = answers, {}, []
        joint, begun = self._joint, len(self._joint)
        open_ = self._tasks.codecs.task.open
        nanoseconds, begin, end = self._nanoseconds, self._slate.begin, self._slate.end
        job, row, ready, attempts, cap, usual = "", [], None, 0, 0, 0
        may_join = False
        listen = trace = None  # called before each task, if the job wants output or is traced
        done = size = longest = 0
        started = now = nanoseconds()
        deadline = started + int(self._hand.prefetch.batch_seconds * 1e9)
        try:
            for raw in self._hand.begin_batch(self._hand.tasks[begun : begun + self._hand.prefetch.batch]):
                done += 1
                try:
                    task: Task = open_(raw)
                except OtherKey as error:
                    self._strangers.here.append(raw)
                    self._jobs.warn("key", f"left to other workers: {error}")
                    continue
                except BadMessage as error:
                    self._jobs.warn("task", f"dropped: {error}")
                    continue
                if task.job != job:
                    job = task.job
                    if joint.tasks and joint.job != job:
                        self.answer_joint(answers)
                    row = answers.setdefault(job, [])
                    ready = self._jobs.enter(task, self._host)
                    if isinstance(ready, Ready):
                        attempts, cap = ready.spec.limits.attempts, ready.spec.limits.max_body
                        usual = min(cap, SURE_BYTES if ready.shelf is None else ASIDE_BYTES - 1)
                        listen = self._outputs.of(job, wanted=ready.spec.limits.logs)
                        trace = self._spans.of(ready.spec)
                        may_join = ready.spec.joins
                if ready is None:
                    continue
                before, joins = now, False
                lo, hi = task.lo, task.hi
                if lo >= hi and task.op == MAP:
                    self._jobs.warn("task", "dropped: it has no term")
                    continue
                if not isinstance(ready, Ready) or task.attempt >= attempts:
                    answer = self._decline(task, ready)
                else:
                    if task.laid:
                        self._hand.read()
                        try:
                            task = self._with_body(task)
                        except BadMessage as error:  # the task is counted, or its master misses it and pushes it again
                            self._jobs.warn("body", f"dropped: {error}")
                            continue
                    begin(lo, hi, now)
                    if listen is not None:
                        listen(ready.computation, lo, hi)
                    if trace is not None:
                        trace(task)
                    joins = may_join and joint.takes(ready.spec, task)
                    try:
                        if joins:
                            body, (partial, lo) = b"", self._partial(task, ready)
                        elif task.op == MAP and not task.body:
                            body = ready.computation.map_encoded(lo, hi)
                        else:
                            body = compute_body(ready.computation, self._fetched(task, ready))
                        status = OK
                        if len(body) > usual:
                            body, status = self._replies.large(body, cap, ready.shelf)
                    except JobOver:
                        self._spans.end(None)
                        end()
                        self._jobs.void(job, since=self._clock.now())
                        job, ready = "", None  # the next task asks anew
                        now = nanoseconds()
                        continue
                    except Away as away:
                        raise away.error from None
                    except Interruption:
                        raise
                    except CannotJoin:
                        end()
                        raise
                    except BaseException as error:  # of any class: the term has failed, and the worker goes on
                        self._forget_tried(task)
                        answer = failed(task, ready.computation, error, address_of(self._wid))
                    else:
                        now = nanoseconds()
                        if hi - lo > 1 and task.op == MAP:
                            hi = ready.computation.reached or hi
                        answer = Answer(lo, hi, task.attempt, task.op, status, body, now - before)
                        size += len(body)
                    end()
                    if trace is not None:
                        self._spans.end(answer)
                if joins and answer.status == OK:
                    joint.job = job
                    joint.add(raw, ready.computation.reducer, answer, partial)  # type: ignore[union-attr]  # it is ready
                    now = nanoseconds()
                else:
                    row.append(answer)
                if now - before > longest:
                    longest = now - before
                if now > deadline or size > REPLY_BYTES or self._host.stopping:
                    break
        except Exception:
            self.at_fault = raw
            raise
        finally:
            changed = self._hand.end_batch()
            self._spans.end(None)  # from a task that was interrupted
            self._hand.output = self._outputs.take()
        if done and now > started:
            self._hand.prefetch.worked(done, (now - started) / 1e9, longest / 1e9)
        done += begun
        over = self._host.stopping or at_once or changed
        if joint.tasks and (over or len(joint) != done or joint.given_back or joint.full):
            self.answer_joint(answers)
        return {name: items for name, items in answers.items() if items}, done

    def answer_joint(self, answers: dict[str, list[Answer]]) -> None:
        """Add the joint answer to these."""
        job = self._joint.job
        ready = self._jobs.get(job)
        if not isinstance(ready, Ready):  # it is over
            self._joint.drop()
            return
        cap, shelf = ready.spec.limits.max_body, ready.shelf
        usual = min(cap, SURE_BYTES if shelf is None else ASIDE_BYTES - 1)

        def fit(body: bytes) -> tuple[bytes, int]:
            return self._replies.large(body, cap, shelf) if len(body) > usual else (body, OK)

        try:
            answer = self._joint.answer(fit)
        except Away as away:
            raise away.error from None
        answers.setdefault(job, []).append(answer)

    def _partial(self, task: Task, ready: Ready) -> tuple[Any, int]:
        """The partial of a task from some term on (None: it is in the kept partial), and that term. Raises CannotJoin,
        and what the task raises.
        """
        computation, task = ready.computation, self._fetched(task, ready)
        if not computation.maps_onto or not self._joint.begin(ready.spec, task):
            found = (
                computation.map_body(task.lo, task.hi, task.body) if task.body else computation.map(task.lo, task.hi)
            )
            return found, task.lo
        try:
            return computation.map_onto(self._joint.grow, task.lo, task.hi, task.body)
        except Interruption:
            self._joint.drop()
            raise
        except BaseException as error:  # of any class, as a task's alone
            raise self._joint.torn() from error

    @staticmethod
    def _fetched(task: Task, ready: Ready) -> Task:
        """The task with its items, also if they were laid aside."""
        if task.op != MAP or task.body[:1] != ASIDE or ready.shelf is None:
            return task
        return msgspec.structs.replace(task, body=ready.shelf.get(task.body))

    def _with_body(self, task: Task) -> Task:
        """A task with its body, which is stored apart from it in Redis. Raises BadMessage, BrokerError."""
        return msgspec.structs.replace(task, body=self._tasks.body(task.job, task.laid), laid=b"")

    def _decline(self, task: Task, ready: Ready | Failure | Spec) -> Answer:
        """The answer to a task that must not be computed here, or not any more."""
        if isinstance(ready, Failure):
            self._slate.refuse(f"{task.job}: {ready.kind}: {ready.message}")
            self._host.pause(REFUSAL_SECONDS)
            return refused(task, ready)
        return given_up(task)

    def _forget_tried(self, task: Task) -> None:
        """Forget the retries of a task without a value: its terms will be computed again, in other tasks."""
        if task.job in self._hand.tried:
            row = self._hand.tried[task.job]
            row[:] = [one for one in row if not task.lo <= one.term < task.hi]
