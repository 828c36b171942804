"""Decides when work is late: by the times of finished work of similar size, never by a guess.

While no similar work has finished, work may take any time: we cannot tell whether it hangs, and a second copy would do
the same work twice although nothing is wrong.
"""

from __future__ import annotations

LEAST_SECONDS = 5.0
"""Seconds before which no work is late."""
TIMES = 3
"""Work is late when it takes the time within which 95 of 100 pieces are done, times this number."""
REMEMBERED = 100


class Patience:
    """The seconds that the last hundred pieces of work took, each with its size (terms, or bytes).

    ``unmeasured``: seconds after which work is late before any has finished.
    """

    def __init__(self, unmeasured: float = float("inf")) -> None:
        self._unmeasured = unmeasured
        self._took: list[tuple[float, float]] = []

    def learn(self, seconds: float, size: float) -> None:
        """Learn that a piece of work of this size took ``seconds``."""
        self._took.append((seconds, size))
        if len(self._took) > 2 * REMEMBERED:
            del self._took[:-REMEMBERED]

    def is_over(self, seconds: float, size: float) -> bool:
        """Whether work of this size is late after ``seconds``.

        It is compared with finished work. The time of smaller work is scaled in proportion to its size; the time of
        larger work counts as it is.
        """
        return seconds > LEAST_SECONDS and seconds > self._allowed(size)

    def _allowed(self, size: float) -> float:
        row = sorted(took * max(1.0, size / other) for took, other in self._took[-REMEMBERED:])
        return TIMES * row[int(0.95 * (len(row) - 1))] if row else self._unmeasured
