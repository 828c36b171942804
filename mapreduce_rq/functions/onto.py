"""Where the values of a task go: into a partial of its own, or into that of the tasks before it, which its worker keeps
(see runtime/worker/joint_answers.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mapreduce_rq.core.computation import Grow


class Onto:
    """The way of one task's values into the other partial, as long as ``grow`` folds them there. ``merge`` is the
    reducer's. ``first``: the task's first term.
    """

    def __init__(self, grow: Grow, merge: Callable[[Any, Any], Any], first: int) -> None:
        self._grow: Grow | None = grow
        self._merge = merge
        self.first = first
        """The first term that is in the partial of the task alone."""

    @property
    def all_there(self) -> bool:
        """Whether all values have gone into the other partial."""
        return self._grow is not None

    def fold(self, total: Any, values: Sequence[Any], fold: Callable[[Any], Any], first: Callable[[], int]) -> Any:
        """The task's own partial with these values; None while they go into the other one. ``fold`` adds them to a
        partial, and makes one of None. ``first``: the first of their terms.
        """
        if self._grow is None:
            return fold(total)
        onto, merge = fold, self._merge
        if hasattr(type(values[-1]), "__next__"):  # to read them runs the function, and whoever wants the partial waits
            own = fold(None)
            onto, fold = (lambda kept: merge(kept, own)), (lambda _: own)
        if self._grow(onto):
            return None
        self._grow, self.first = None, first()
        return fold(total)
