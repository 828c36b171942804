"""The exact spread of columns: the numerator of a variance."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from mapreduce_rq.core.numbers.block_sums import blocks
from mapreduce_rq.core.numbers.columns import DIVISORS, LARGEST_DIVIDED, LARGEST_SQUARED, SMALLEST_SQUARED, Columns
from mapreduce_rq.core.numbers.error_free import two_product


def spread(count: int, squares: Columns, sums: Sequence[Columns]) -> Columns:
    """``count`` times the sum of squares, minus the square of the sum, exactly. Several ``sums``: minus each square.

    Divided by ``count`` (``count`` - 1) this is the unbiased variance.
    """
    import numpy as np  # the caller has imported it

    for each in (squares, *sums):
        each.settle()
    found = Columns(squares.size, squares.unit_bits)
    strange = set(squares.odd).union(*(each.odd for each in sums))
    with np.errstate(all="ignore"):
        for lo, hi in blocks(squares.size):
            first = [level[lo:hi] for level in squares.levels]
            seconds = [[level[lo:hi] for level in each.levels] for each in sums]
            plain = np.full(hi - lo, count < DIVISORS)
            plain[[column - lo for column in strange if lo <= column < hi]] = False
            for level in first:
                plain &= np.abs(level) < LARGEST_DIVIDED / DIVISORS
            for level in chain.from_iterable(seconds):
                size = np.abs(level)
                plain &= (size == 0) | ((size > SMALLEST_SQUARED) & (size < LARGEST_SQUARED))
            rows = [row for level in first for row in two_product(level, np.float64(count))]
            for levels in seconds:
                for place, level in enumerate(levels):
                    rows += [-row for row in two_product(level, level)]
                    for other in levels[place + 1 :]:
                        rows += [-row for row in two_product(2 * level, other)]
            block = Columns(hi - lo, squares.unit_bits)
            block.add([np.where(plain, row, 0.0) for row in rows])
            for place, level in enumerate(block.levels):
                if place == len(found.levels):
                    found.levels.append(np.zeros(found.size))
                found.levels[place][lo:hi] = level
            for column in (np.flatnonzero(~plain) + lo).tolist():
                found.odd[column] = count * squares.units(column) - sum(each.units(column) ** 2 for each in sums)
    return found
