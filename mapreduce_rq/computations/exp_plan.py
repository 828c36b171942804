"""How many terms of e^x decide its double, and where no term is needed at all.

Estimates here use logarithms in doubles. Most of them only choose a number of terms, and no result depends on them:
``finish`` proves the rounding from the exact sum, and asks for more terms if they were too few. Some of them *decide* a
result. These are made proofs by a margin of SLACK (absolute) and 1e-12 (relative), which is millions of times the
error of the logarithms.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from mapreduce_rq.core.numbers.rational import Rational
from mapreduce_rq.core.text import plural

DECISIVE_BITS = 53 + 12
"""Bits by which the tail should be smaller than the result. In one of some thousand x this does not decide the double,
and more terms are needed."""

ALWAYS = 1000
"""Terms up to which all that were asked for are used, though fewer decide the double: they cost a millisecond, and make
the bound smaller."""

GUARD_BITS = 48
"""Bits by which the tail must be smaller than the last digit asked for: 12 guard digits, and some more."""

MAX_BITS = 1 << 34
"""Bits of the integers of a sum at most: 2 GB. Multiplying them takes about 10 GB of memory."""

FOREVER = 10**18
"""More terms than can ever be computed; for a large x the terms begin to shrink only at n = |x|."""

OVERFLOWS = Rational(70979, 100)  # > 1024 ln 2 = 709.782712...: beyond every double
UNDERFLOWS = Rational(-74514, 100)  # < -1075 ln 2 = -745.133219...: below half of the smallest double
SLACK = 2.0


class Decided(NamedTuple):
    """A result that needs no terms, and why it is known."""

    value: float
    bound: str | None
    why: str


class Planned(NamedTuple):
    """How many terms to begin with, and the result if it is known without any."""

    total: int
    decided: Decided | None = None


def plan_digits(x: Rational, asked: int | None, digits: int) -> Planned:
    """The terms to compute for ``digits`` digits of e^x, or of the sum of ``asked`` terms.

    Raises ValueError where the sum would be an integer of more than MAX_BITS bits.
    """
    if x.num == 0:
        return Planned(1)
    total = enough(x, bits=digits * math.log2(10) + GUARD_BITS, least=-math.inf)
    if asked is not None:
        total = min(asked, max(total, ALWAYS))
    bits = total * (math.log2(abs(x.num) * x.den) + math.log2(total + 1))
    if bits > MAX_BITS:
        raise ValueError(f"too large: {total} terms in integers of {bits / 8e9:.1f} GB (at most {MAX_BITS / 8e9:.1f})")
    return Planned(total)


def plan(x: Rational, asked: int | None) -> Planned:
    """The terms to compute for the double of e^x, or of the sum of ``asked`` terms of its series."""
    if x.num == 0:
        return Planned(1)
    if asked is None:
        if at_least(x, OVERFLOWS):
            return Planned(0, Decided(math.inf, None, "e^x is larger than the largest double: x > 1024 ln 2"))
        if at_least(UNDERFLOWS, x):
            why = "e^x is below half of the smallest double: x < -1075 ln 2"
            return Planned(0, Decided(0.0, "2.471e-324", why))
        return Planned(enough(x))
    decided = _decide_sum(x, asked)
    if decided is not None:
        return Planned(0, decided)
    if asked <= ALWAYS or at_least(UNDERFLOWS, x):
        return Planned(asked)
    return Planned(min(asked, max(ALWAYS, enough(x))))


def enough(x: Rational, bits: float = DECISIVE_BITS, least: float = -1022.0) -> int:
    """About how many terms leave a tail ``bits`` bits below e^x, or below 2^least if that is more."""
    size = log2_abs(x)
    if size > 60:
        return FOREVER
    result = max(log2_exp(x), least)
    low, high = 0, 1
    while _log2_tail(size, high) > result - bits:
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        if _log2_tail(size, middle) > result - bits:
            low = middle
        else:
            high = middle
    return high


def log2_exp(x: Rational) -> float:
    """About log2 of e^x, for x within doubles."""
    return x.num / x.den * math.log2(math.e)


def log2_abs(x: Rational) -> float:
    """log2 |x|, also where x itself is no double; x is not 0."""
    return math.log2(abs(x.num)) - math.log2(x.den)


def log2_term(size: float, n: int) -> float:
    """About log2 of |x|^n / n! for log2 |x| = ``size``."""
    return n * size - math.lgamma(n + 1) * math.log2(math.e)


def at_least(x: Rational, y: Rational) -> bool:
    """Whether x >= y, exactly."""
    return x.num * y.den >= y.num * x.den


def _log2_tail(size: float, count: int) -> float:
    """About log2 of the bound on the sum of the terms after the first ``count``; infinite while they still grow."""
    if size > math.log2(count + 1) - 1e-9:
        return math.inf
    return log2_term(size, count) - math.log2(1 - 2 ** (size - math.log2(count + 1)))


def _decide_sum(x: Rational, asked: int) -> Decided | None:
    """The double of the sum of ``asked`` terms where bounds alone decide it: an infinity, or zero; otherwise None."""
    size = log2_abs(x)
    if x.num > 0:
        # each term is a lower bound of the sum, and the largest term is the one at n = x, or the last one
        n = asked - 1 if size > 55 else min(asked - 1, x.num // x.den)
        if _surely(log2_term(size, n), n, size) > 1025:
            return Decided(math.inf, None, f"the sum is larger than the largest double: term {n} alone is")
        return None
    # the terms alternate: while they grow, the last one is larger than the sum of all before it; when they shrink, the
    # error is below the first one left out
    if size > math.log2(asked):
        leading, ratio = asked - 1, 2 ** (math.log2(asked - 1) - size) if asked > 1 else 0.0
    else:
        leading, ratio = asked, 2 ** (size - math.log2(asked + 1))
    if ratio < 1 - 1e-9:
        least = _surely(log2_term(size, leading) + math.log2(1 - ratio), leading, size)
        if least > 1025:
            value = math.inf if asked % 2 else -math.inf
            return Decided(value, None, f"the sum is beyond the largest double: term {leading} leads it")
    if at_least(UNDERFLOWS, x) and _log2_tail(size, asked) + _margin(asked, size) < -1085:
        # |S_N| <= e^-745.14 + 2^-1085 < 2^-1075
        why = f"both e^x and what follows {plural(asked, 'term')} are below half of the smallest double"
        return Decided(0.0, "2.471e-324", why)
    return None


def _margin(n: int, size: float) -> float:
    """More than the error of :func:`log2_term`."""
    return SLACK + 1e-12 * (n * abs(size) + 2 * math.lgamma(n + 1))


def _surely(estimate: float, n: int, size: float) -> float:
    """A value that log2 of the term certainly exceeds."""
    return estimate - _margin(n, size)
