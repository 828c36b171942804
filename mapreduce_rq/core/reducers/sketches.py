"""Approximate answers of bounded size: the number of distinct values, and quantiles.

Both sketches depend on the values alone, not on their order or grouping, so the digest is as reproducible as that of
an exact reducer. This excludes HyperLogLog with its running estimate, KLL, REQ and t-digest. We do not use the existing
libraries: datasketches has no wheel for the newest Python, imports numpy and takes no bytes; the buckets of ddsketch
come from the C library's logarithm, which differs between hosts.
"""

from __future__ import annotations

import math
import struct
from collections import Counter
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from operator import index
from typing import Any, ClassVar

import msgspec

from mapreduce_rq.core.numbers.rounding import upper_text
from mapreduce_rq.core.outcome import Outcome
from mapreduce_rq.core.plain_values import TAKES, pack
from mapreduce_rq.core.reducers.base import BadValue, Law, Reducer
from mapreduce_rq.core.reducers.sums import array_kind, batches, is_array, kind_of_scalar, listed, reals, refuse_nan

_HASHES = 1 << 64
_NUMBERS = frozenset("biuf")
_DOUBLE = struct.Struct("<d")
_BITS = struct.Struct("<q")


class Distinct(Reducer[set[int]]):
    """About the number of different values, from the k smallest of their 64-bit hashes; it is exact below k.

    The k-th smallest of n uniform hashes lies near k/n (Bar-Yossef et al., "Counting distinct elements in a data
    stream", 2002; unbiased form by Beyer et al., 2007); the standard error is 1/sqrt(k - 2), 1.6 % at k = 4096.
    Values of different types are different (1, 1.0 and True are three).
    """

    name: ClassVar[str] = "distinct"
    law: ClassVar[Law] = Law.APPROXIMATE

    def __init__(self, k: int = 4096) -> None:
        if not 16 <= k <= 1 << 20:
            raise ValueError(f"k is {k}, and must be from 16 to {1 << 20}")
        self.k = index(k)

    def zero(self) -> set[int]:
        return set()

    def merge(self, left: set[int], right: set[int]) -> set[int]:
        if len(left) >= self.k:
            largest = max(left)
            right = {each for each in right if each < largest}  # few new values are among the smallest
        left |= right
        return left if len(left) <= self.k else set(sorted(left)[: self.k])

    def encode(self, partial: set[int]) -> bytes:
        return struct.pack(f"<{len(partial)}Q", *sorted(partial))

    def decode(self, data: bytes) -> set[int]:
        if len(data) % 8 or len(data) > 8 * self.k:
            raise ValueError(f"{len(data)} bytes are not up to {self.k} hashes")
        hashes = struct.unpack(f"<{len(data) // 8}Q", data)
        found = set(hashes)
        if len(found) != len(hashes) or list(hashes) != sorted(hashes):
            raise ValueError("hashes that do not ascend")
        return found

    def fold(self, lo: int, values: Iterable[Any]) -> set[int]:
        if is_array(values):
            values = listed(values)
        found: set[int] = set()
        for start, batch in batches(lo, values):
            for term, value in enumerate(batch, start):
                try:
                    if value is None:
                        raise TypeError
                    if kind_of_scalar(value) in _NUMBERS:
                        value = value.item()  # noqa: PLW2901  as in an array
                    body = pack(value + 0.0 if type(value) is float else value)  # one zero
                except (TypeError, ValueError, RecursionError):
                    raise BadValue(term, value, TAKES) from None
                found.add(int.from_bytes(blake2b(body, digest_size=8).digest(), "little"))
            found = self.merge(found, set())
        return found

    def finish_native(self, partial: set[int]) -> int:
        if len(partial) < self.k:
            return len(partial)
        return round((self.k - 1) * _HASHES / (max(partial) + 1))

    def describe(self, partial: set[int]) -> Outcome:
        count = self.finish_native(partial)
        exact = len(partial) < self.k
        width = 1.96 * count / math.sqrt(self.k - 2)
        return Outcome(
            value=str(count),
            number=float(count),
            bound="0" if exact else upper_text(*width.as_integer_ratio(), digits=2),
            bound_kind="exact" if exact else "statistical",
            native=count,
            details={"approximate": not exact, "k": self.k},
            notes=() if exact else (f"approximate: from the {self.k} smallest hashes, bound of 95 % confidence",),
        )


class Quantile(msgspec.Struct, frozen=True):
    """The value below which a given share of the values lies. The exact one is between ``low`` and ``high``."""

    share: float
    value: float
    low: float
    high: float


class Quantiles(Reducer["Counter[int]"]):
    """Quantiles to a proven relative error of 2^-9, 0.2 % (of normal doubles): counts by their leading bits.

    A bucket holds the doubles that agree in sign, exponent and the first eight bits of the mantissa, so finding
    it takes a shift and no logarithm, and a quantile is between the bucket's ends. Quantile q of n values is the one
    of rank floor(q (n - 1)), counted from 0. nan is refused; integers become their nearest doubles.
    """

    name: ClassVar[str] = "quantiles"
    law: ClassVar[Law] = Law.APPROXIMATE

    def __init__(self, q: float | Sequence[float] = (0.25, 0.5, 0.75, 0.9, 0.99)) -> None:
        self.q = [float(share) for share in ([q] if isinstance(q, (int, float)) else q)]
        if not self.q or not all(0 <= share <= 1 for share in self.q):
            raise ValueError("q must be shares from 0 to 1, at least one")

    def zero(self) -> Counter[int]:
        return Counter()

    def merge(self, left: Counter[int], right: Counter[int]) -> Counter[int]:
        left.update(right)
        return left

    def encode(self, partial: Counter[int]) -> bytes:
        return msgspec.msgpack.encode(sorted(partial.items()))

    def decode(self, data: bytes) -> Counter[int]:
        try:
            pairs = msgspec.msgpack.decode(data, type=list[tuple[int, int]])
        except msgspec.MsgspecError as error:
            raise ValueError(f"not counts of buckets: {error}") from None
        found = Counter(dict(pairs))
        if len(found) != len(pairs) or pairs != sorted(pairs) or any(count < 1 for count in found.values()):
            raise ValueError("counts of buckets that no values make")
        if not all(-_BUCKETS <= bucket < _BUCKETS for bucket in found):
            raise ValueError("a bucket that holds no double")
        return found

    def fold(self, lo: int, values: Iterable[Any]) -> Counter[int]:
        if is_array(values):
            if array_kind(lo, values, "numbers (int or float)") == "f":
                return self._fold_array(lo, values)
            values = values.ravel().tolist()  # type: ignore[attr-defined]  # an array has it
        found: Counter[int] = Counter()
        for start, batch in batches(lo, values):
            numbers = list(reals(start, batch))
            refuse_nan(start, numbers)
            for term, value in enumerate(numbers, start):
                try:
                    number = float(value)
                except OverflowError:
                    raise BadValue(term, value, "numbers that doubles can hold") from None
                found[_bucket(number)] += 1
        return found

    def _fold_array(self, lo: int, values: Any) -> Counter[int]:
        import numpy as np  # the caller has imported it

        flat = np.asarray(values.ravel(), dtype=np.float64) + 0.0
        refuse_nan(lo, flat)
        bits = flat.view(np.int64)
        places = np.where(bits >= 0, bits >> _DROPPED, ~((bits & 0x7FFFFFFFFFFFFFFF) >> _DROPPED))
        buckets, counts = np.unique(places, return_counts=True)
        return Counter(dict(zip(buckets.tolist(), counts.tolist(), strict=True)))

    def finish_native(self, partial: Counter[int]) -> dict[float, float]:
        return {found.share: found.value for found in self.quantiles(partial)}

    def quantiles(self, partial: Counter[int]) -> list[Quantile]:
        """Each quantile with the ends of its bucket; an empty list if there are no values."""
        n = sum(partial.values())
        found = []
        for share in self.q if n else ():
            rank = math.floor(share * (n - 1))
            for bucket in sorted(partial):
                rank -= partial[bucket]
                if rank < 0:
                    low, high = _ends(bucket)
                    middle = low / 2 + high / 2
                    if bucket == 0 or math.isinf(middle):  # zero is more likely than the subnormals beside it
                        middle = low
                    found.append(Quantile(share, middle, low, high))
                    break
        return found

    def describe(self, partial: Counter[int]) -> Outcome:
        found = self.quantiles(partial)
        width = max((max(each.high - each.value, each.value - each.low) for each in found), default=math.nan)
        return Outcome(
            value="\n".join(f"{each.share:g}\t{each.value:.4g}" for each in found) or "none",
            number=found[0].value if len(found) == 1 else None,
            bound=upper_text(*width.as_integer_ratio(), digits=2) if math.isfinite(width) else None,
            bound_kind="proven" if math.isfinite(width) else "none",
            native=self.finish_native(partial),
            details={
                "approximate": True,
                "count": sum(partial.values()),
                "quantiles": {f"{each.share:g}": [each.low, each.value, each.high] for each in found},
            },
            notes=("approximate: each quantile to a relative error of 2^-9",),
        )


_KEPT = 8  # the number of bits of the mantissa in a bucket's number
_DROPPED = 52 - _KEPT
_BUCKETS = 1 << (63 - _DROPPED)


def _bucket(number: float) -> int:
    """The bucket of a number. Buckets are in the order of their numbers; buckets of negative numbers are negative."""
    bits: int = _BITS.unpack(_DOUBLE.pack(number + 0.0))[0]
    return bits >> _DROPPED if bits >= 0 else ~((bits & 0x7FFFFFFFFFFFFFFF) >> _DROPPED)


def _ends(bucket: int) -> tuple[float, float]:
    """The smallest and the largest double of a bucket."""
    if bucket < 0:
        low, high = _ends(~bucket)
        return -high, -low
    first = bucket << _DROPPED
    low = _DOUBLE.unpack(_BITS.pack(first))[0]
    if math.isinf(low):
        return low, low
    return low, _DOUBLE.unpack(_BITS.pack(first | ((1 << _DROPPED) - 1)))[0]
