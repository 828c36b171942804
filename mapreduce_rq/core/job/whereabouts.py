"""Where outstanding tasks are, as looks at the queue and the hands show: for terms, merges and requests alike.

A look shows each task in the queue, in a worker's hand, or in neither. A task that is in neither at one look may be on
its way. A task that is in neither at two looks in a row is lost. A task that a worker holds for much longer than
similar tasks took is late, and another worker may do it, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property

from mapreduce_rq.core.messages import Task
from mapreduce_rq.core.stragglers import Patience

UNMEASURED_SECONDS = 60.0
"""Seconds after which an errand is late, until the first of its kind has come back and its time is known."""


class Whereabouts:
    """Where the tasks of one kind are. ``size`` gives the size of a task, in the unit of ``patience``."""

    def __init__(self, patience: Patience, size: Callable[[Task], float]) -> None:
        self.patience = patience
        self.absent: frozenset[int] = frozenset()
        """The tasks that were in neither place at the last look, by their first terms."""
        self.lost: frozenset[int] = frozenset()
        """Those of them that were in neither place at the look before, too."""
        self._size = size
        self._held_since: dict[int, float] = {}

    def look(self, out: Mapping[int, Task], waiting: Iterable[Task], held: Iterable[Task], now: float) -> None:
        """Take in a look: which of the tasks that are ``out`` wait in the queue, and which ones workers hold."""
        in_hands = {task.lo for task in held}
        there = in_hands.union(task.lo for task in waiting)
        absent = frozenset(lo for lo in out if lo not in there)
        self.lost, self.absent = absent & self.absent, absent
        self._held_since = {lo: self._held_since.get(lo, now) for lo in in_hands if lo in out}

    def late(self, out: Mapping[int, Task], now: float) -> Iterator[int]:
        """The first terms of the tasks that are late."""
        for lo, since in self._held_since.items():
            task = out.get(lo)
            if task is not None and self.patience.is_over(now - since, self._size(task)):
                yield lo

    def forget(self, lo: int) -> None:
        """Forget a task that is not out any more, or goes out again."""
        self.absent -= {lo}
        self._held_since.pop(lo, None)

    def begin_anew(self) -> None:
        """Forget earlier looks: the connection is new, so they prove nothing."""
        self.absent = self.lost = frozenset()
        self._held_since.clear()


class Errands:
    """The tasks of one kind, of one job, that the master gives away and could do itself. ``len``: how many are out."""

    def __init__(self, job: str) -> None:
        self.fresh: list[Task] = []  # to be pushed
        self._job = job
        self._out: dict[int, Task] = {}  # by lo

    @cached_property
    def _where(self) -> Whereabouts:
        """Made when it is needed: most jobs have none of these tasks."""
        return Whereabouts(Patience(UNMEASURED_SECONDS), lambda task: len(task.body))

    def __len__(self) -> int:
        return len(self._out)

    def out(self) -> Iterable[Task]:
        """The tasks that are out."""
        return self._out.values()
