"""Independent answers: python-flint's ball arithmetic, and exact fractions."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import flint


def ends(ball: Any) -> tuple[Fraction, Fraction]:
    """The exact ends of an arb ball."""
    return tuple(_exact(end) for end in (ball.lower(), ball.upper()))  # type: ignore[return-value]


def arb(value: Fraction) -> Any:
    """A fraction as a ball at the current precision."""
    return flint.arb(flint.fmpq(value.numerator, value.denominator))


def nearest(function: Callable[[], Any], precision: int = 200) -> float:
    """The double nearest to a real number, whose ball ``function`` makes: more bits until both ends agree."""
    while precision < 1 << 20:
        with flint.ctx.workprec(precision):
            low, high = (_double(end) for end in ends(function()))
        if low == high:
            return low
        precision *= 2
    raise AssertionError("no precision decides it")


def enclosure(function: Callable[[], Any], precision: int) -> tuple[Fraction, Fraction]:
    """A ball's exact ends at that precision."""
    with flint.ctx.workprec(precision):
        return ends(function())


def _exact(end: Any) -> Fraction:
    mantissa, exponent = end.man_exp()
    return int(mantissa) * Fraction(2) ** int(exponent)


def _double(value: Fraction) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")
