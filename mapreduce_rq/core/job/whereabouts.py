"""Where outstanding tasks are, as far as looks at the queue and the hands tell: for terms, merges and requests alike.

A look shows each task in the queue, in a worker's hand, or in neither. In neither at one look it may be on its way; in
neither at two in a row it is lost. Held for much longer than its like took, it is late, and may be done elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from mapreduce_rq.core.messages import Task
from mapreduce_rq.core.stragglers import Patience


class Whereabouts:
    """Of the tasks of one kind that are out. ``size`` says how large one is, as ``patience`` measures."""

    def __init__(self, patience: Patience, size: Callable[[Task], float]) -> None:
        self.patience = patience
        self.absent: frozenset[int] = frozenset()
        """In neither place at the last look, by the tasks' first terms."""
        self.lost: frozenset[int] = frozenset()
        """Nor at the one before."""
        self._size = size
        self._held_since: dict[int, float] = {}

    def look(self, out: Mapping[int, Task], waiting: Iterable[Task], held: Iterable[Task], now: float) -> None:
        """Take in a look: what of the tasks that are ``out`` waits in the queue, and what is held."""
        in_hands = {task.lo for task in held}
        there = in_hands.union(task.lo for task in waiting)
        absent = frozenset(lo for lo in out if lo not in there)
        self.lost, self.absent = absent & self.absent, absent
        self._held_since = {lo: self._held_since.get(lo, now) for lo in in_hands if lo in out}

    def late(self, out: Mapping[int, Task], now: float) -> Iterator[int]:
        """The tasks that have been held for too long."""
        for lo, since in self._held_since.items():
            task = out.get(lo)
            if task is not None and self.patience.is_over(now - since, self._size(task)):
                yield lo

    def forget(self, lo: int) -> None:
        """This task is not out any more, or goes out again."""
        self.absent -= {lo}
        self._held_since.pop(lo, None)

    def begin_anew(self) -> None:
        """The connection is new: earlier looks prove nothing."""
        self.absent = self.lost = frozenset()
        self._held_since.clear()
