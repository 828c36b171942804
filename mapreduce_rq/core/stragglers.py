"""How long is too long: told by what finished work of a like size took, never by a guess.

Work may take any time while nothing like it has finished: we cannot tell whether it hangs, and a second copy of it
would be work done twice with nothing wrong.
"""

from __future__ import annotations

LEAST_SECONDS = 5.0
"""Nothing is called late before."""
TIMES = 3
"""Work is late when it takes this many times what 95 of 100 pieces take."""
REMEMBERED = 100


class Patience:
    """What the last hundred pieces of work took, each with its size (terms, or bytes).

    ``unmeasured``: patience in seconds as long as nothing has finished.
    """

    def __init__(self, unmeasured: float = float("inf")) -> None:
        self._unmeasured = unmeasured
        self._took: list[tuple[float, float]] = []

    def learn(self, seconds: float, size: float) -> None:
        """A piece of work of this size took so long."""
        self._took.append((seconds, size))
        if len(self._took) > 2 * REMEMBERED:
            del self._took[:-REMEMBERED]

    def is_over(self, seconds: float, size: float) -> bool:
        """Whether work of this size that has taken so long is late.

        Smaller work than it speaks for it in proportion, larger work as it is.
        """
        return seconds > LEAST_SECONDS and seconds > self._allowed(size)

    def _allowed(self, size: float) -> float:
        row = sorted(took * max(1.0, size / other) for took, other in self._took[-REMEMBERED:])
        return TIMES * row[int(0.95 * (len(row) - 1))] if row else self._unmeasured
