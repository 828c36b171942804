"""The tasks of one job on their way out: what is cut, what is out, and what goes to the queue next.

It is the lowest of the ledger's three layers (see ledger.py): it has the ledger's state, cuts terms into tasks, and
refills the window of tasks that are out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mapreduce_rq.core.bodies import size_of
from mapreduce_rq.core.computation import Computation
from mapreduce_rq.core.job.asks import Requests
from mapreduce_rq.core.job.chunking import Pace
from mapreduce_rq.core.job.cutting import Parts, task_of
from mapreduce_rq.core.job.events import Broken, Source
from mapreduce_rq.core.job.gathered import Gathered
from mapreduce_rq.core.job.merges import Merges
from mapreduce_rq.core.job.recorder import Recorder
from mapreduce_rq.core.job.tally import Tally
from mapreduce_rq.core.job.whereabouts import Whereabouts
from mapreduce_rq.core.messages import (
    Checkpoint,
    Failure,
    Spec,
    Task,
    Tried,
)
from mapreduce_rq.core.span import Span
from mapreduce_rq.errors import BadMessage

OUT_BYTES = 64 << 20
"""The most bytes of items that the tasks out may have: further items wait in their iterable."""
PUSH_TASKS = 2048
"""The most tasks in one push: while the server takes in a large push, it answers no other client."""


class Supply:
    """The state of a ledger, and the terms that become tasks. The arguments are those of ``Ledger``."""

    def __init__(
        self,
        spec: Spec,
        computation: Computation[Any],
        now: float,
        *,
        checkpoint: Checkpoint | None = None,
        cut_on: bool = True,
        source: Source | None = None,
        workers: int = 1,
        patient: bool = False,
        recorder: Recorder | None = None,
    ) -> None:
        self.spec = spec
        self.computation = computation
        self.total = computation.total if spec.total is None else spec.total
        self.next = 0
        self.goal = self.total  # the term at which to ask whether the tolerance is met; without one, the total
        self.met: bool | None = None  # whether the tolerance is met; None: there is none, or not known yet
        self.tasks = 0  # answers counted
        self.ignored = 0  # answers that came twice
        self.reclaimed = False  # whether a task came back from a worker that died
        self.worked = 0.0  # seconds of workers' time, as far as this master knows
        self.skipped: list[tuple[int, Failure]] = []
        self.tried: list[Tried] = []  # terms that took more than one call, and are counted
        self.tried_more = 0  # such terms beyond MOST_TRIED
        self.out: dict[int, Task] = {}  # by first term; disjoint spans, no term of which is counted
        self.waits = False  # the source gave fewer items than were wanted: ask it again soon
        even = self.total if computation.even else None
        self.pace = Pace(
            spec.limits.chunk,
            computation.seconds_per_term,
            even=even,
            workers=workers,
            vectorised=computation.vectorised,
            brisk=computation.reducer.brisk,
            wide=computation.reducer.wide,
            joins=spec.joins,
        )
        self.gathered = Gathered()
        self._recorder = recorder or Recorder(now)
        self._source = source
        self._ready: Callable[[], int] | None = getattr(source, "ready", None)  # how many items it has, if it knows
        self._news: Callable[[], bool] | None = getattr(source, "news", None)  # whether it has items or has ended
        self._most_bytes = 0  # bytes of the items of one task
        self._again: list[Task] = []  # to be pushed before anything new is cut
        self._parts = Parts(computation)
        self._where = Whereabouts(self.pace.patience, lambda task: task.hi - task.lo)
        self._backed: set[int] = set()
        self._attempts: dict[int, int] = {}  # tasks out that came back from workers that died: the deaths that we saw
        self.refusals: dict[str, Failure] = {}  # by worker
        self._patient = patient
        self._broken: Broken | None = None
        self._look_around = True  # the next survey alone decides which tasks are lost
        self._unseen = checkpoint is not None  # what is out is not known before the next survey
        self._restored = self._unseen and cut_on  # an earlier master may have cut more: the next survey tells how much
        self._started = now
        self.elapsed_before = 0.0
        if checkpoint is None:
            self.tally = Tally(computation.reducer)
        else:
            if checkpoint.job != spec.job:
                raise BadMessage(f"the checkpoint of {spec.job} belongs to {checkpoint.job}")
            try:
                self.tally = Tally.restore(computation.reducer, checkpoint.runs, checkpoint.parts)
            except ValueError as error:
                raise BadMessage(f"the checkpoint of {spec.job} does not hold together: {error}") from None
            self.next, self.total, self.tasks = checkpoint.next, checkpoint.total, checkpoint.tasks
            self.goal = checkpoint.goal
            self.skipped = list(checkpoint.skipped)
            self.tried, self.tried_more = list(checkpoint.tried), checkpoint.tried_more
            self.elapsed_before = checkpoint.elapsed
        self.merges = Merges(spec.job, self.tally)
        self.requests = Requests(spec.job, computation)
        if checkpoint is None and spec.limits.tolerant:
            self.goal = computation.first_stage if self.total is None else min(self.total, computation.first_stage)

    @property
    def counted(self) -> int:
        """Terms counted, skipped ones included."""
        return self.tally.runs.count

    @property
    def taken(self) -> int | None:
        """The number of items that were taken from an iterable which is not at its end; None in all other cases."""
        return None if self._source is None or self.total is not None else self.next

    def _was_cut(self, hi: int) -> bool:
        """Whether terms up to ``hi`` have been made into tasks. It learns here, too, what an earlier master has cut."""
        if hi <= self.next:
            return True
        if not self._restored or self.goal is None or hi > self.goal:
            return False
        self.next = hi
        return True

    def _recall(self, task: Task) -> Task:
        """Remove a task from those that are out; it will go out again, whole or in parts."""
        del self.out[task.lo]
        self._where.forget(task.lo)
        self._backed.discard(task.lo)
        return task

    def _refill(self) -> list[Task]:
        self.waits = False
        tasks, self._again = [rest for task in self._again for rest in self._parts.uncounted(task, self.tally.runs)], []
        for task in tasks:
            self.out[task.lo] = task
        tasks, self.merges.fresh = self.merges.fresh + tasks, []
        if self._restored:  # the next look shows which tasks an earlier master has left
            return tasks
        tasks, self.requests.fresh = self.requests.fresh + tasks, []
        window = self.pace.window()
        free = window - len(self.out)
        # A push takes a round trip: wait until a part of the window is free, unless workers may run out of tasks.
        if free <= 0 or (free < min(window // 4, PUSH_TASKS // 2) and len(self.out) > 2 * self.pace.workers):
            return tasks
        free = min(free, PUSH_TASKS)
        if self._laden():
            return tasks
        if self._source is None and self.spec.limits.chunk == 1:
            return tasks + self._cut_singles(free)
        while free > 0 and not self.waits and (self.goal is None or self.next < self.goal):
            fresh = self._cut()
            if fresh is None:
                break
            tasks.append(fresh)
            free -= 1
            if fresh.body and self._laden():
                break
        return tasks

    def _laden(self) -> bool:
        """Whether the items of the tasks out have reached the bytes that Redis should hold for one job."""
        if not self._most_bytes:
            return False
        if self._most_bytes * len(self.out) <= OUT_BYTES:  # nearly always, so there is no need to ask each
            return False
        return sum(size_of(task.body) for task in self.out.values()) > OUT_BYTES

    def _cut_singles(self, free: int) -> list[Task]:
        job = self.spec.job
        hi = self.next + free if self.goal is None else min(self.next + free, self.goal)
        fresh = {lo: Task(job, lo, lo + 1) for lo in range(self.next, hi)}
        self.out.update(fresh)
        self.next = hi
        return list(fresh.values())

    def _cut(self) -> Task | None:
        if self._news is not None and not self._news():
            self.waits = True
            return None
        lo = self.next
        left = None if self.goal is None else self.goal - lo
        size = self.pace.size(self._ready() if self._ready is not None else left)
        if self.goal is not None:
            size = min(size, self.goal - lo)
        body = b""
        if self._source is not None:
            body, got, over = self._source(size)
            if over:
                self.total = self.goal = lo + got
            # The first items go out alone: the next ones may be long in coming, and no worker would see the job until
            # then.
            self.waits = (got < size or lo == 0) and not over
            size = got
            self._most_bytes = max(self._most_bytes, size_of(body))
        if size == 0:
            return None
        task = task_of(self.spec.job, Span(lo, lo + size), 0, body)
        self.out[lo] = task
        self.next = lo + size
        return task

    def _cut_gap(self, gap: Span) -> list[Task]:
        size = max(1, self.pace.size(gap.size), -(-gap.size // self.pace.window()))
        return [task_of(self.spec.job, Span(lo, min(lo + size, gap.hi)), 0) for lo in range(gap.lo, gap.hi, size)]
