"""Partial sums of famous series, from terms of twice the precision of a double.

A term is kept as two doubles, the quotient and the error of its rounding; together they are exact to 2^-103 of the
term. The doubles of all terms are added exactly. So it is known whether the double nearest to this sum is also the one
nearest to the true sum of the terms. Kernels use + - * / and integers only, which give the same bits on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

import msgspec

from mapreduce_rq.core.computation import Computation
from mapreduce_rq.core.numbers.exact import FLOAT, UNIT_BITS, Total, total_of_array
from mapreduce_rq.core.numbers.rational import Rational
from mapreduce_rq.core.numbers.rounding import decided_double, nearest_double, upper_text
from mapreduce_rq.core.outcome import Outcome, Progress
from mapreduce_rq.core.parameters import Params
from mapreduce_rq.core.reducers.sums import ExactSum
from mapreduce_rq.core.text import plural

BLOCK = 1 << 15
"""Terms at a time: their arrays stay in the second-level cache."""

TERM_BITS = 103
"""A term's error is below 2^-103 of the term: its second double is rounded four times, by 2^-106 each."""

LIMITS = {"zeta2": "pi^2/6", "harmonic": None, "leibniz": "pi"}


class SumParams(Params, frozen=True, kw_only=True):
    """Which series, and how many terms."""

    series: Annotated[
        Literal["zeta2", "harmonic", "leibniz"],
        msgspec.Meta(description="1/n^2 to pi^2/6, 1/n (diverges), or 4 (-1)^n / (2n+1) to pi"),
    ]
    terms: Annotated[int, msgspec.Meta(description="how many terms", ge=1, le=10**12)] = 1_000_000


class Sum(Computation[Total]):
    """The sum of the first terms of a series: zeta2 (1/n^2), harmonic (1/n) or leibniz (4 - 4/3 + 4/5 ...).

    The value is the double nearest to the true sum of that many terms. The bound is the proven distance from the value
    to the series' limit, rounding included. The harmonic series has no limit, so it has no bound. A term costs about
    20 ns.
    """

    name: ClassVar[str] = "sum"
    summary: ClassVar[str] = "partial sums of 1/n^2, 1/n or Leibniz' series, correctly rounded"
    Params = SumParams
    positional: ClassVar[str] = "series"
    seconds_per_term: ClassVar[float | None] = 3e-8
    term_params: ClassVar[tuple[str, ...]] = ("series",)

    def __init__(self, params: SumParams) -> None:
        super().__init__(params)
        self.reducer = ExactSum()
        self.total: int | None = params.terms

    def map(self, lo: int, hi: int) -> Total:
        units = 0
        for high, low in term_blocks(self.params.series, lo, hi):
            units += total_of_array(high).units + total_of_array(low).units
        return Total(units, FLOAT)

    def term(self, k: int) -> Rational:
        if self.params.series == "leibniz":
            return Rational(-4 if k % 2 else 4, 2 * k + 1)
        return Rational(1, (k + 1) ** (2 if self.params.series == "zeta2" else 1))

    def finish(self, partial: Total, terms: int) -> Outcome:
        series = self.params.series
        # all terms together are below 4 (1 + ln(2 terms + 1)), or below the sum if they are positive
        size = 4 << UNIT_BITS if series == "zeta2" else 160 << UNIT_BITS
        decided = decided_double(partial.units, 1 << UNIT_BITS, size >> TERM_BITS, 1 << UNIT_BITS)
        value = nearest_double(partial.units, 1 << UNIT_BITS) if decided is None else decided
        notes = [f"the double nearest to the sum of {plural(terms, 'term')}"]
        if decided is None:
            of = plural(terms, "term")
            notes = [f"a double next to the sum of {of}, which is within 2^-95 of the middle of two doubles"]
        if terms < self.params.terms:
            notes.append(f"ended after {terms} of {plural(self.params.terms, 'term')}")
        limit = LIMITS[series]
        bound = None
        if limit is None:
            notes.append("no bound: the series diverges")
        elif terms:
            tail = (1, terms) if series == "zeta2" else (4, 2 * terms + 1)
            half_ulp_num, half_ulp_den = math.ulp(value).as_integer_ratio()
            bound = upper_text(tail[0] * half_ulp_den + tail[1] * half_ulp_num, tail[1] * half_ulp_den)
            notes.append(f"bound: the distance to the limit, {limit}")
        return Outcome(
            value=repr(value),
            number=value,
            bound=bound,
            bound_kind="proven" if bound else "none",
            native=value,
            details={"series": series, "limit": limit},
            notes=tuple(notes),
        )

    def peek(self, partial: Total, terms: int) -> Progress | None:
        value = nearest_double(partial.units, 1 << UNIT_BITS)
        return Progress(value=f"{value:.15g}", number=value)


def term_blocks(series: str, lo: int, hi: int) -> Iterator[tuple[Any, Any]]:
    """Terms ``lo <= k < hi`` as arrays of their leading and their trailing doubles."""
    import numpy as np  # heavy, hence here

    for start in range(lo, hi, BLOCK):
        k = np.arange(start, min(start + BLOCK, hi), dtype=np.int64)
        if series == "zeta2":
            yield quotients(1.0, *square(k + 1))
        elif series == "harmonic":
            yield quotients(1.0, (k + 1).astype(np.float64), None)
        else:
            high, low = quotients(4.0, (2 * k + 1).astype(np.float64), None)
            odd = 1 - start % 2  # where in the block the first odd k is
            np.negative(high[odd::2], out=high[odd::2])
            np.negative(low[odd::2], out=low[odd::2])
            yield high, low


def square(n: Any) -> tuple[Any, Any]:
    """n^2 of an array of integers below 2^53 as two arrays of doubles whose sums are exact."""
    import numpy as np  # the caller has imported it

    if n[-1] < 3_000_000_000:
        whole = n * n
        high = whole.astype(np.float64)
        return high, (whole - high.astype(np.int64)).astype(np.float64)
    number = n.astype(np.float64)
    high = number * number
    head, tail = halves(number)
    return high, ((head * head - high) + 2 * (head * tail)) + tail * tail


def quotients(numerator: float, high: Any, low: Any | None) -> tuple[Any, Any]:
    """The quotients numerator / (high + low) as two arrays of doubles: the rounded quotients, and their errors.

    The remainder of a rounded quotient is a double; Dekker's product finds it without a fused multiply-add.
    """
    quotient = numerator / high
    product = quotient * high
    q_head, q_tail = halves(quotient)
    h_head, h_tail = halves(high)
    error = ((q_head * h_head - product) + q_head * h_tail + q_tail * h_head) + q_tail * h_tail
    remainder = (numerator - product) - error
    if low is not None:
        remainder -= quotient * low
    return quotient, remainder / high


def halves(values: Any) -> tuple[Any, Any]:
    """Each double as the sum of two with 26 bits (Veltkamp's splitting)."""
    scaled = values * 134217729.0  # 2^27 + 1
    head = scaled - (scaled - values)
    return head, values - head
