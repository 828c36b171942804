"""Counts the values between fixed edges."""

from __future__ import annotations

import math
import struct
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import msgspec

from mapreduce_rq.core.outcome import Outcome
from mapreduce_rq.core.reducers.base import Reducer
from mapreduce_rq.core.reducers.sums import array_kind, batches, is_array, reals, refuse_nan

MAX_BINS = 1 << 20


class Bins(msgspec.Struct, frozen=True):
    """A histogram: ``counts[i]`` values in ``edges[i] <= x < edges[i+1]``; the last bin includes its right edge."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    below: int
    above: int


class Histogram(Reducer[list[int]]):
    """Counts between ascending ``edges``, or in ``bins`` equal bins from ``low`` to ``high``; values outside are
    counted separately.

    A bin includes its left edge and not its right one; only the last bin includes both, as in numpy. The partial is the
    list of counts: values below the bins at the front, values above them at the end. nan is refused.
    """

    name: ClassVar[str] = "histogram"

    def __init__(
        self,
        edges: Sequence[float] | None = None,
        low: float | None = None,
        high: float | None = None,
        bins: int | None = None,
    ) -> None:
        if edges is None:
            if low is None or high is None or bins is None:
                raise ValueError("a histogram needs edges, or low, high and bins")
            if not 1 <= bins <= MAX_BINS:
                raise ValueError(f"bins is {bins}, and must be from 1 to {MAX_BINS}")
            if not math.isfinite(low) or not math.isfinite(high):
                raise ValueError("low and high must be finite")
            edges = [(low * (bins - i) + high * i) / bins for i in range(bins + 1)]
        self.edges = [float(edge) for edge in edges]
        if not 2 <= len(self.edges) <= MAX_BINS + 1:
            raise ValueError(f"{len(self.edges)} edges, and there must be from 2 to {MAX_BINS + 1}")
        if not all(left < right for left, right in zip(self.edges, self.edges[1:], strict=False)):
            raise ValueError("the edges of a histogram must ascend")
        self._codec = struct.Struct(f"<{len(self.edges) + 1}Q")

    def zero(self) -> list[int]:
        return [0] * (len(self.edges) + 1)

    def merge(self, left: list[int], right: list[int]) -> list[int]:
        return [a + b for a, b in zip(left, right, strict=True)]

    def encode(self, partial: list[int]) -> bytes:
        return self._codec.pack(*partial)

    def decode(self, data: bytes) -> list[int]:
        if len(data) != self._codec.size:
            raise ValueError(f"{len(data)} bytes, where the counts take {self._codec.size}")
        return list(self._codec.unpack(data))

    def fold(self, lo: int, values: Iterable[Any]) -> list[int]:
        if is_array(values) and array_kind(lo, values, "numbers (int or float)") == "f":
            return self._fold_array(lo, values)
        if is_array(values):
            values = values.ravel().tolist()  # type: ignore[attr-defined]  # an array has it
        counts, edges = self.zero(), self.edges
        last, top = edges[-1], len(edges) - 1
        for start, batch in batches(lo, values):
            numbers = list(reals(start, batch))
            refuse_nan(start, numbers)
            for value in numbers:
                if value == last:
                    counts[top] += 1
                else:
                    counts[bisect_right(edges, value)] += 1
        return counts

    def _fold_array(self, lo: int, values: Any) -> list[int]:
        import numpy as np  # the caller has imported it

        numbers = np.asarray(values.ravel(), dtype=np.float64)
        refuse_nan(lo, numbers)
        places = np.searchsorted(self.edges, numbers, side="right")
        places[numbers == self.edges[-1]] -= 1
        counts: list[int] = np.bincount(places, minlength=len(self.edges) + 1).tolist()
        return counts

    def finish_native(self, partial: list[int]) -> Bins:
        below, *counts, above = partial
        return Bins(tuple(self.edges), tuple(counts), below, above)

    def describe(self, partial: list[int]) -> Outcome:
        native = self.finish_native(partial)
        lines = [
            f"{left!r}\t{right!r}\t{count}"
            for left, right, count in zip(self.edges, self.edges[1:], native.counts, strict=False)
        ]
        return Outcome(
            value="\n".join(lines),
            bound="0",
            bound_kind="exact",
            native=native,
            details={"below": native.below, "above": native.above, "counted": sum(native.counts)},
        )
