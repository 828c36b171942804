"""How many primes there are up to a number, by a segmented sieve of Eratosthenes over odd numbers."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Annotated, Any, ClassVar

import msgspec

from mapreduce_rq.core.computation import Computation
from mapreduce_rq.core.outcome import Outcome, Progress
from mapreduce_rq.core.parameters import Params
from mapreduce_rq.core.reducers.sums import IntSum, describe_integer

SPAN = 1 << 20
"""Integers of one term."""

WHEEL = (3, 5, 7, 11, 13)
"""Primes whose multiples are struck out by copying a pattern instead of one by one."""

SEGMENT = 1 << 21
"""Odd numbers sieved at a time, one byte each: few enough for the cache, and enough to be worth a call."""


class PrimesParams(Params, frozen=True, kw_only=True):
    """The number up to which primes are counted."""

    to: Annotated[int, msgspec.Meta(description="count the primes up to this number", ge=0, le=10**13)]


class Primes(Computation[int]):
    """How many primes there are up to ``to``, exactly.

    A term is a block of 2^20 integers and costs about 1 ms; so 10^9 takes about a second of one core. The count is
    exact, so there is no bound.
    """

    name: ClassVar[str] = "primes"
    summary: ClassVar[str] = "how many primes there are up to a number"
    Params = PrimesParams
    seconds_per_term: ClassVar[float | None] = 1e-3

    def __init__(self, params: PrimesParams) -> None:
        super().__init__(params)
        self.reducer = IntSum()
        self.total: int | None = -(-(params.to + 1) // SPAN)

    @cached_property
    def base(self) -> Any:
        """The odd primes up to the square root of the last number, without those of the wheel, as an array."""
        import numpy as np  # heavy, hence here

        top = math.isqrt(self.params.to)
        sieve = np.ones(top // 2 + 1, dtype=np.bool_)  # index i stands for 2 i + 1
        for i in range(1, (math.isqrt(top) + 1) // 2):
            if sieve[i]:
                sieve[2 * i * (i + 1) :: 2 * i + 1] = False
        odd = 2 * np.flatnonzero(sieve) + 1
        return odd[(odd > WHEEL[-1]) & (odd <= top)].astype(np.int64)

    @cached_property
    def pattern(self) -> Any:
        """Which odd numbers no prime of the wheel divides, as booleans for one segment and one period."""
        import numpy as np  # heavy, hence here

        period = math.prod(WHEEL)
        once = np.ones(period, dtype=np.uint8)
        for p in WHEEL:
            once[p // 2 :: p] = 0
        return np.tile(once, SEGMENT // period + 2)

    def map(self, lo: int, hi: int) -> int:
        first, last = lo * SPAN, min(hi * SPAN, self.params.to + 1)
        found: int = sum(first <= p < last for p in (2, *WHEEL))
        start = first | 1
        while start < last:
            stop = min(start + 2 * SEGMENT, last)
            found += self._count(start, (stop - start + 1) // 2)
            start += 2 * SEGMENT
        return found

    def _count(self, start: int, size: int) -> int:
        """How many primes, without those of the wheel, there are among ``size`` odd numbers from ``start`` on."""
        import numpy as np  # map has imported it

        skip = start // 2 % math.prod(WHEEL)
        sieve = self.pattern[skip : skip + size].copy()
        end = start + 2 * size
        base = self.base[: int(np.searchsorted(self.base, math.isqrt(end), side="right"))]
        # the first odd multiple of p from max(p^2, start) on, as an index
        first = np.maximum(base * base, (start + base - 1) // base * base)
        first += base * (first % 2 == 0)
        for p, at in zip(base.tolist(), ((first - start) // 2).tolist(), strict=True):
            sieve[at::p] = 0
        if start == 1:
            sieve[0] = 0  # 1 is no prime
        return int(np.count_nonzero(sieve))

    def finish(self, partial: int, terms: int) -> Outcome:
        outcome = describe_integer(partial)
        notes: tuple[str, ...] = ()
        assert self.total is not None
        if terms < self.total:
            notes = (f"ended early: the primes in {terms} of {self.total} blocks of {SPAN} integers",)
        return msgspec.structs.replace(outcome, details={"to": self.params.to}, notes=notes)

    def peek(self, partial: int, terms: int) -> Progress | None:
        return Progress(value=f"{partial} primes in {terms * SPAN} integers", number=float(partial))
