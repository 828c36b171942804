"""The functions that are measured, found by name on every worker of every contender."""

from __future__ import annotations

import math
import os
import time
from typing import Any

from mapreduce_rq.functions.kernel import kernel

QUEENS_WORD = 1 << 64
"""Above it the solutions, below it the nanoseconds: both add up in one integer."""


def square(k: int) -> int:
    """Next to nothing."""
    return k * k


def exp_term(k: int) -> float:
    """A term of the series of e^2."""
    return float(2.0**k / math.factorial(k))


def spin(seconds: float) -> int:
    """Keep a core busy for so long by the clock, whoever else wants it; the nanoseconds it took."""
    started = time.perf_counter_ns()
    end = started + int(seconds * 1e9)
    while (now := time.perf_counter_ns()) < end:
        pass
    return now - started


def spin_10_ms(_: int) -> int:
    """A task of ten milliseconds of work."""
    return spin(0.010)


def spin_uneven(k: int) -> int:
    """A task of 1 to 100 ms, the same for the same k; a multiplicative hash spreads them."""
    return spin(0.001 + 0.099 * ((k * 2_654_435_761 + 12_345) % (1 << 32)) / (1 << 32))


def sleep(seconds: float) -> int:
    """Wait without using a core; the nanoseconds it took."""
    started = time.perf_counter_ns()
    time.sleep(seconds)
    return time.perf_counter_ns() - started


def sleep_1_ms(_: int) -> int:
    """A task that waits for a millisecond."""
    return sleep(0.001)


def sleep_10_ms(_: int) -> int:
    """A task that waits for ten."""
    return sleep(0.010)


def sleep_50_ms(_: int) -> int:
    """A task that waits for fifty."""
    return sleep(0.050)


def queens(k: int, size: int) -> int:
    """Solutions of the ``size`` queens problem with the first two queens on columns k; and the time it took."""
    started = time.perf_counter_ns()
    first, second = divmod(k, size)
    found = 0
    if abs(first - second) > 1:
        full = (1 << size) - 1
        columns = 1 << first | 1 << second
        left = ((1 << first) << 1 | 1 << second) << 1 & full
        right = ((1 << first) >> 1 | 1 << second) >> 1
        found = _place(full, columns, left, right)
    return found * QUEENS_WORD + time.perf_counter_ns() - started


def _place(full: int, columns: int, left: int, right: int) -> int:
    if columns == full:
        return 1
    found = 0
    free = full & ~(columns | left | right)
    while free:
        queen = free & -free
        free ^= queen
        found += _place(full, columns | queen, (left | queen) << 1 & full, (right | queen) >> 1)
    return found


def queens_13(k: int) -> int:
    """A task of the thirteen queens problem: 73 712 solutions in 169 tasks."""
    return queens(k, 13)


def queens_14(k: int) -> int:
    """A task of the fourteen queens problem: 365 596 solutions in 196 tasks."""
    return queens(k, 14)


@kernel(whole=True)
def count(lo: int, hi: int) -> int:
    """How many terms: a kernel that costs nothing."""
    return hi - lo


@kernel(whole=True)
def zeta2(lo: int, hi: int) -> int:
    """The terms 1/k^2 in units of 2^-80, each rounded down by floating point: integers, so that cuts do not show."""
    import numpy as np  # only where it is measured

    total = 0
    for start in range(lo, hi, 1 << 16):
        k = np.arange(start + 1, min(start + (1 << 16), hi) + 1, dtype=np.float64)
        np.multiply(k, k, out=k)
        np.divide(float(1 << 46), k, out=k)
        total += int(k.astype(np.int64).sum())
    return total << 34


@kernel(whole=True)
def primes(lo: int, hi: int) -> int:
    """How many primes there are from lo to hi: an odds-only sieve in pieces that fit the cache."""
    import numpy as np  # only where it is measured

    found = int(lo <= 2 < hi)
    roots = _small_primes(math.isqrt(max(hi, 4)) + 1)
    piece = 1 << 20
    for start in range(max(lo, 3) | 1, hi, 2 * piece):
        size = min(piece, (hi - start + 1) // 2)
        sieve = np.ones(size, dtype=np.bool_)  # of the odd numbers start, start + 2, ...
        end = start + 2 * size
        for p in roots:
            if p * p >= end:
                break
            first = max(p * p, (start + p - 1) // p * p)
            first += p * (first % 2 == 0)
            sieve[(first - start) // 2 :: p] = False
        found += int(np.count_nonzero(sieve))
    return found


_roots: dict[int, list[int]] = {}


def _small_primes(limit: int) -> list[int]:
    """The odd primes below a limit, kept."""
    if limit not in _roots:
        flags = bytearray([1]) * limit
        for p in range(3, math.isqrt(limit) + 1, 2):
            if flags[p]:
                flags[p * p :: 2 * p] = bytes(len(range(p * p, limit, 2 * p)))
        _roots[limit] = [p for p in range(3, limit, 2) if flags[p]]
    return _roots[limit]


def mark(k: int) -> int:
    """Write down who began this task and when, then wait; the file is named by MRQ_BENCH_MARKS."""
    line = f"{k} {os.getpid()} {time.monotonic_ns()}\n"
    with open(os.environ["MRQ_BENCH_MARKS"], "a", encoding="ascii") as file:
        file.write(line)
    time.sleep(float(os.environ["MRQ_BENCH_MARK_SECONDS"]))
    return 1


def same(item: Any) -> Any:
    """Nothing at all."""
    return item


def array_sum(array: Any) -> float:
    """The sum of an array."""
    return float(array.sum())


def megabyte(k: int) -> Any:
    """An array of a megabyte."""
    import numpy as np  # only where it is measured

    return np.full(131_072, float(k))


def pair(k: int) -> tuple[int, float]:
    """A record: one of 10^5 keys, and a value."""
    return k * 7919 % 100_000, 0.25 * k
