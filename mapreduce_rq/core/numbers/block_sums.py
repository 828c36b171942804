"""Adds up rows of doubles block by block, each step with its exact error, in memory that is used again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

WIDTH = 1 << 13
"""Columns added up at a time: the rows and temporaries of such a block stay in the second-level cache."""


class Space:
    """The memory in which blocks are added up: rows, and temporaries."""

    def __init__(self, height: int, width: int) -> None:
        import numpy as np  # the caller has imported it

        self.rows = np.empty((height, width))
        self._sums = np.empty((height, width))
        self._spare = np.empty((height // 2, width))

    def fold(self, height: int, width: int) -> Any:
        """The sum of the first ``height`` rows, rounded at each step; rows 1, 2, ... become the errors of these steps.

        One half of the rows is added to the other until one row is left. ``height`` is a power of two.
        """
        import numpy as np  # the caller has imported it

        source, errors_end, sums_start = self.rows[:height, :width], height, 0
        while height > 1:
            height //= 2
            first, second = source[:height], source[height : 2 * height]
            total = self._sums[sums_start : sums_start + height, :width]
            errors = self.rows[errors_end - height : errors_end, :width]
            spare = self._spare[:height, :width]
            np.add(first, second, out=total)
            np.subtract(total, first, out=spare)
            np.subtract(second, spare, out=second)
            np.subtract(total, spare, out=spare)
            np.subtract(first, spare, out=first)
            np.add(first, second, out=errors)
            source, errors_end, sums_start = total, errors_end - height, sums_start + height
        return source[0].copy()


def word_sum(rows: Any) -> Any:
    """The sum of arrays of integers in a word each."""
    import numpy as np  # the caller has imported it

    total: Any = None
    for row in rows:
        if total is None:
            total = row.astype(np.int64)
        else:
            np.add(total, row, out=total, casting="unsafe")
    return total


def blocks(size: int) -> Iterator[tuple[int, int]]:
    """The columns ``lo <= column < hi`` of each block, as pairs."""
    for lo in range(0, size, WIDTH):
        yield lo, min(lo + WIDTH, size)


def power_above(rows: int) -> int:
    """The smallest power of two above this number."""
    return 1 << rows.bit_length()
