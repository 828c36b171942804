"""Cuts a task into parts: two halves, the rest of a task that took long, the terms that are not counted yet. Each part
gets the items of its terms.
"""

from __future__ import annotations

from typing import Any

from mapreduce_rq.core.computation import Computation
from mapreduce_rq.core.messages import MAP, Task
from mapreduce_rq.core.span import Runs, Span


def task_of(job: str, span: Span, attempt: int, body: bytes = b"") -> Task:
    """A task for a span."""
    return Task(job, span.lo, span.hi, attempt, MAP, body)


class Parts:
    """Makes the parts of tasks; the computation cuts the items."""

    def __init__(self, computation: Computation[Any]) -> None:
        self._computation = computation

    def part(self, task: Task, span: Span, attempt: int) -> Task:
        """The part of a task for these of its terms. Raises MrqError for items that cannot be read here."""
        body = self._computation.cut_body(task.body, task.lo, span.lo, span.hi) if task.body else b""
        return task_of(task.job, span, attempt, body)

    def uncounted(self, task: Task, counted: Runs) -> list[Task]:
        """The parts of a task that are still to be computed: those of its terms that are not counted."""
        if not counted.touches(task.lo, task.hi):
            return [task]
        return [self.part(task, gap, task.attempt) for gap in counted.gaps(task.lo, task.hi)]

    def rest(self, task: Task, lo: int, workers: int) -> list[Task]:
        """The rest of a task that took long and was answered up to ``lo``, in tasks for all workers at once.

        We cannot know how many of the next terms are slow. So the first tasks are small, one for each worker, and the
        next ones are twice as large each time.
        """
        cuts, size = [lo], 1
        while cuts[-1] < task.hi:
            for _ in range(workers):
                cuts.append(cuts[-1] + size)
            size *= 2
        return self.cut_before(task, [cut for cut in cuts if cut < task.hi])[1:]

    def cut_before(self, task: Task, cuts: list[int]) -> list[Task]:
        """A task in parts, cut before these terms. It is cut by halves, since a cut reads all items."""
        if not cuts:
            return [task]
        middle = len(cuts) // 2
        left, right = (
            self.part(task, span, task.attempt) for span in (Span(task.lo, cuts[middle]), Span(cuts[middle], task.hi))
        )
        return self.cut_before(left, cuts[:middle]) + self.cut_before(right, cuts[middle + 1 :])
