"""Spans of terms, and runs of spans: the bookkeeping behind "each term counted exactly once".

A :class:`Span` is half open, ``[lo, hi)``. :class:`Runs` is a set of terms kept as maximal disjoint
spans in order; a span enters only if it is disjoint from everything already there.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from typing import NamedTuple

MAX_TERMS = 10**15
"""The largest number of terms a job may have: spans must fit a signed 64-bit word with room to spare."""


class Span(NamedTuple):
    """Terms ``lo <= k < hi``."""

    lo: int
    hi: int

    @property
    def size(self) -> int:
        """The number of terms."""
        return self.hi - self.lo

    def halves(self) -> tuple[Span, Span]:
        """The two halves of a span of at least two terms, the first never the shorter."""
        middle = (self.lo + self.hi + 1) // 2
        return Span(self.lo, middle), Span(middle, self.hi)

    def __str__(self) -> str:
        return f"[{self.lo}, {self.hi})"


NO_TERMS = Span(0, 0)


class Runs:
    """A set of terms as maximal disjoint spans.

    ``add`` takes O(log n) for the search and O(n) for the list, where n is the number of runs. If results arrive nearly
    in order, there are only a few.
    """

    __slots__ = ("_his", "_los", "count")

    def __init__(self, spans: Iterable[tuple[int, int]] = ()) -> None:
        self._los: list[int] = []
        self._his: list[int] = []
        self.count = 0  # terms in all runs
        for lo, hi in spans:
            if not self.add(lo, hi):
                raise ValueError(f"runs overlap at {Span(lo, hi)}")

    def add(self, lo: int, hi: int) -> bool:
        """Add ``[lo, hi)`` if it is disjoint from every run. Returns whether it was."""
        if lo >= hi:
            raise ValueError(f"empty span {Span(lo, hi)}")
        los, his = self._los, self._his
        i = bisect_right(los, lo)  # runs before i begin at or before lo
        if i and his[i - 1] > lo:
            return False
        if i < len(los) and los[i] < hi:
            return False
        joins_left = bool(i) and his[i - 1] == lo
        joins_right = i < len(los) and los[i] == hi
        if joins_left and joins_right:
            his[i - 1] = his[i]
            del los[i], his[i]
        elif joins_left:
            his[i - 1] = hi
        elif joins_right:
            los[i] = lo
        else:
            los.insert(i, lo)
            his.insert(i, hi)
        self.count += hi - lo
        return True

    def touches(self, lo: int, hi: int) -> bool:
        """Whether any term of ``[lo, hi)`` is in a run."""
        i = bisect_right(self._los, lo)
        return bool(i and self._his[i - 1] > lo) or (i < len(self._los) and self._los[i] < hi)

    def gaps(self, lo: int, hi: int) -> Iterator[Span]:
        """The maximal spans of ``[lo, hi)`` outside of all runs, in order."""
        i = bisect_right(self._los, lo)
        at = max(lo, self._his[i - 1]) if i else lo
        while at < hi:
            if i == len(self._los) or self._los[i] >= hi:
                yield Span(at, hi)
                return
            if self._los[i] > at:
                yield Span(at, self._los[i])
            at = self._his[i]
            i += 1

    def covers(self, lo: int, hi: int) -> bool:
        """Whether every term of ``[lo, hi)`` is in a run."""
        i = bisect_right(self._los, lo)
        return bool(i) and self._his[i - 1] >= hi

    def pairs(self) -> list[tuple[int, int]]:
        """The runs as they are sent."""
        return list(zip(self._los, self._his, strict=True))

    def __iter__(self) -> Iterator[Span]:
        return (Span(lo, hi) for lo, hi in zip(self._los, self._his, strict=True))

    def __len__(self) -> int:
        return len(self._los)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Runs) and self._los == other._los and self._his == other._his

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        return f"Runs([{', '.join(map(str, self))}])"
