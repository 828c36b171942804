"""Error-free arithmetic on arrays of doubles: each operation gives the rounded result and its error, also a double.

``rows`` are arrays of one length, the largest doubles first: the rows of one column are a number together, as the sum
of its doubles. Sources: Knuth's TwoSum, Dekker's product with Veltkamp's splitting.
"""

from __future__ import annotations

from typing import Any

_SPLITTER = 134217729.0  # 2^27 + 1: Veltkamp's splitting into halves of 26 bits


def two_sum(first: Any, second: Any) -> tuple[Any, Any]:
    """The rounded sum, and its error: together the exact sum, for doubles whose sum is one (Knuth)."""
    total = first + second
    spare = total - first
    return total, (first - (total - spare)) + (second - spare)


def two_product(first: Any, second: Any) -> tuple[Any, Any]:
    """The rounded product, and its error: together the exact product, unless either is too small or large (Dekker)."""
    product = first * second
    first_high, first_low = _halves(first)
    second_high, second_low = (first_high, first_low) if second is first else _halves(second)
    error = first_high * second_high - product
    return product, ((error + first_high * second_low) + first_low * second_high) + first_low * second_low


def _halves(value: Any) -> tuple[Any, Any]:
    scaled = value * _SPLITTER
    high = scaled - (scaled - value)
    return high, value - high


def distil(rows: Any) -> Any:
    """Change rows so that each is the double nearest to itself plus the next. Returns the columns that fail in this."""
    import numpy as np  # the caller has imported it

    columns, part = None, rows
    for _ in range(3 * len(rows)):
        for place in range(len(rows) - 2, -1, -1):
            part[place], part[place + 1] = two_sum(part[place], part[place + 1])
        if columns is not None:
            rows[:, columns] = part
        loose = np.flatnonzero((part[:-1] + part[1:] != part[:-1]).any(axis=0))
        columns = loose if columns is None else columns[loose]
        if not columns.size:
            break
        part = rows[:, columns]
    return columns


def undecided(rows: Any) -> Any:
    """The columns of distilled rows in which one row is a tie between two doubles, which the next rows would decide."""
    import numpy as np  # the caller has imported it

    first, second, third = rows[:-2], rows[1:-1], rows[2:]
    same = (second != 0) & (third != 0) & ((second > 0) == (third > 0))
    return np.flatnonzero((same & is_half(first, second)).any(axis=0))


def overlap(first: Any, second: Any) -> bool:
    """Whether a double of the second level is more than half of the last bit of the one of the first."""
    import numpy as np  # the caller has imported it

    change = first + second != first
    return bool(change.any() and (np.abs(second) > np.spacing(np.abs(first)) / 2).any())


def is_half(first: Any, second: Any) -> Any:
    """Whether ``first``, which is the sum of both rounded, is one of two doubles that are equally near to that sum."""
    return (first + 2 * second) - first == 2 * second


def quotients(rows: Any, divisor: float) -> tuple[Any, Any]:
    """Settled sums divided by an integer below 2^48, rounded once; and the columns where that did not succeed.

    The rounded quotient of the rounded rest is added to a first quotient. What is left then matters only where that
    sum is a tie, and only its sign matters.
    """
    import numpy as np  # the caller has imported it

    parts, unclear = [], []
    for _ in range(2):
        quotient = rows[0] / divisor
        product, error = two_product(quotient, np.float64(divisor))
        rows = np.concatenate([rows, -product[None], -error[None]])
        parts.append(quotient)
        unclear.append(distil(rows))
    quotient, more = two_sum(*parts)
    up = (more != 0) & (np.sign(rows[0]) == np.sign(more)) & is_half(quotient, more)
    return np.where(up, quotient + 2 * more, quotient), np.concatenate(unclear)
