"""Mean, variance and confidence interval from exact moments: the count, the sum and the sum of squares.

All three are exact, so each result is the correctly rounded value, for any order and grouping. The results of Welford's
and Chan's formulas, which merge means and variances, depend on the grouping: they were off by 10^4 to 10^5 units in the
last place.
"""

from __future__ import annotations

import math
import struct
import sys
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, NamedTuple

from msgspec.structs import replace

from mapreduce_rq.core.numbers.exact import (
    FLOAT,
    INT,
    NAN,
    NUMPY_WINS,
    UNIT_BITS,
    Total,
    flag_of,
    special,
    to_units,
    total_of_array,
)
from mapreduce_rq.core.numbers.rounding import nearest_double, upper_text
from mapreduce_rq.core.outcome import Outcome
from mapreduce_rq.core.reducers.base import Reducer
from mapreduce_rq.core.reducers.sums import ExactSum, array_kind, batches, describe_rounded, is_array, reals, refuse_nan
from mapreduce_rq.core.text import plural

NUMPY_PAYS = 1 << 17
"""From this number of values, importing numpy (80 ms) costs less than exact squares without it (600 ns more each)."""

NORMAL_95 = 1.959963984540054
"""The 97.5 % quantile of the normal distribution: 95 % lie within this number of standard deviations."""

_HEADER = struct.Struct("<QBII")  # count, flags, bytes of the sum, bytes of the sum of squares
_SQUARE_BITS = 2 * UNIT_BITS

OTHERS = (1 << 64) - 2
"""From this number on, the count field is not a count: it says which other kind of moments follows."""


class Moments(NamedTuple):
    """``n`` values, their sum in units of 2^-1074, the sum of their squares in units of 2^-2148, and flags."""

    n: int
    units: int
    squares: int
    flags: int

    def mean(self) -> float:
        """The double nearest to the mean; nan if there are no values."""
        value = self._special()
        if value is not None:
            return value
        return nearest_double(self.units, self.n << UNIT_BITS)

    def variance_fraction(self) -> tuple[int, int]:
        """The exact unbiased variance (divisor n - 1), as numerator and denominator; for two values or more."""
        return self.n * self.squares - self.units**2, self.n * (self.n - 1) << _SQUARE_BITS

    def variance(self) -> float:
        """The double nearest to the unbiased variance; nan for fewer than two values."""
        if self.n < 2 or self._special() is not None:
            return math.nan
        return nearest_double(*self.variance_fraction())

    def std(self) -> float:
        """The double nearest to the square root of the unbiased variance; nan for fewer than two values."""
        if self.n < 2 or self._special() is not None:
            return math.nan
        return nearest_root(*self.variance_fraction())

    def half_width(self, quantile: float = NORMAL_95, total: int | None = None) -> float:
        """Half the confidence interval of the mean: quantile times the standard error; nan for fewer than two values.

        ``total``: the size of the population, if the values are a random sample of it without replacement.
        """
        if self.n < 2 or self._special() is not None:
            return math.nan
        num, den = self.variance_fraction()
        if total is not None:
            num, den = num * (total - self.n), den * total
        return quantile * nearest_root(num, den * self.n)

    def _special(self) -> float | None:
        return math.nan if not self.n else special(self.flags)


def nearest_root(num: int, den: int) -> float:
    """The double nearest to the square root of num/den >= 0 (den > 0)."""
    if not num:
        return 0.0
    # an integer root of at least 60 bits, its last bit set if anything was dropped: that rounds as the root does
    shift = max(120 - num.bit_length() + den.bit_length(), 0)
    shift += shift & 1
    scaled, rest = divmod(num << shift, den)
    root = math.isqrt(scaled)
    if rest or root * root != scaled:
        root = root << 1 | 1
        return nearest_double(root, 2 << (shift // 2))
    return nearest_double(root, 1 << (shift // 2))


class Statistics(Reducer[Any]):
    """Count, mean, unbiased variance, standard deviation and the confidence interval of the mean, correctly rounded.

    Partials are Moments.

    The value is the mean, and it is exact. If the values are a random sample of a population, the value estimates the
    population's mean, and the bound is half the confidence interval. The interval rests on the central limit theorem,
    so it means little for a few values; if all values are equal, there is no bound. nan is refused.
    """

    live: ClassVar[bool] = True
    estimates: ClassVar[bool] = True
    name: ClassVar[str] = "mean"

    def __init__(self, confidence: float = 0.95) -> None:
        if not 0 < confidence < 1:
            raise ValueError(f"confidence is {confidence}, and must be between 0 and 1")
        self.confidence = confidence
        self.quantile = normal_quantile(confidence)

    def zero(self) -> Moments:
        return NOTHING

    def merge(self, left: Any, right: Any) -> Any:
        return Moments(left[0] + right[0], left[1] + right[1], left[2] + right[2], left[3] | right[3])

    def encode(self, partial: Any) -> bytes:
        if type(partial) is not Moments:
            return self.encode_others(partial)
        count, units, squares, flags = partial
        first, second = _SUM.encode(Total(units, flags)), _SUM.encode(Total(squares, 0))
        return _HEADER.pack(count, flags, len(first), len(second)) + first + second

    def decode(self, data: bytes) -> Any:
        if len(data) < _HEADER.size:
            raise ValueError(f"{len(data)} bytes are too few for moments")
        count, flags, first, second = _HEADER.unpack_from(data)
        if count >= OTHERS:
            return self.decode_others(count, memoryview(data)[8:])
        middle = _HEADER.size + first
        if middle + second != len(data):
            raise ValueError(f"{len(data)} bytes do not hold sums of {first} and {second} bytes")
        units, seen = _SUM.decode(data[_HEADER.size : middle])
        squares, none = _SUM.decode(data[middle:])
        if seen != flags or none or squares < 0:
            raise ValueError("sums that do not belong together")
        return Moments(count, units, squares, flags)

    def encode_others(self, partial: Any) -> bytes:
        """The bytes of a partial that is not of floats and integers, for reducers that have such partials."""
        raise NotImplementedError(f"the reducer {self.name} has no such partials")

    def decode_others(self, count: int, data: memoryview) -> Any:
        """The partial of such bytes; ``count`` says which kind it is. Raises ValueError."""
        raise ValueError("moments of other values than floats and integers")

    def fold(self, lo: int, values: Iterable[Any]) -> Any:
        if is_array(values):
            kind = array_kind(lo, values, "numbers (int or float)")
            if kind == "f":
                moments = moments_of_array(values)
                if moments.flags & NAN:
                    refuse_nan(lo, values)
                return moments
            values = values.ravel().tolist()  # type: ignore[attr-defined]  # an array has it
        found: Any = self.zero()
        for start, batch in batches(lo, values):
            kinds = set(map(type, batch))
            part: Any
            if all(issubclass(kind, float) for kind in kinds):  # numpy's doubles, too
                part = moments_of_floats(batch)
            else:
                part = self.fold_others(start, batch, kinds)
            if type(part) is Moments and part.flags & NAN:
                refuse_nan(start, list(reals(start, batch)))
            found = self.merge(found, part)
        return found

    def fold_others(self, lo: int, values: Sequence[Any], kinds: set[type]) -> Any:
        """The partial of values that are not all floats; ``kinds`` are their types."""
        numbers = list(reals(lo, values))
        whole = [value for value in numbers if isinstance(value, int)]
        part = moments_of_floats([value for value in numbers if isinstance(value, float)])
        if not whole:
            return part
        squares = sum(value * value for value in whole)
        more = Moments(len(whole), sum(whole) << UNIT_BITS, squares << _SQUARE_BITS, INT)
        return self.merge(part, more)

    def finish_native(self, partial: Moments) -> Any:
        return partial.mean()

    def describe(self, partial: Moments) -> Outcome:
        mean = partial.mean()
        found = Outcome(value=repr(mean), number=mean)
        if math.isfinite(mean):
            found = describe_rounded(mean, partial.units, partial.n << UNIT_BITS)
        return replace(found, native=self.finish_native(partial), details=self.details(partial))

    def describe_sample(self, partial: Any, total: int | None) -> Outcome:
        if type(partial) is not Moments:
            return replace(self.describe(partial), bound=None, bound_kind="none")
        mean, width = partial.mean(), partial.half_width(self.quantile, total)
        known = math.isfinite(width) and math.isfinite(mean) and width > 0
        of = "" if total is None else f", of {partial.n} of {plural(total, 'term')} drawn at random"
        return Outcome(
            value=repr(mean),
            number=mean,
            bound=upper_text(*width.as_integer_ratio()) if known else None,
            bound_kind="statistical" if known else "none",
            native=self.finish_native(partial),
            details=self.details(partial) | {"half_width": width},
            notes=(f"bound: half the {self.confidence:.6g} confidence interval of the mean{of}",) if known else (),
        )

    def details(self, partial: Moments) -> dict[str, Any]:
        """All statistics, for the outcome's details."""
        return {
            "count": partial.n,
            "mean": partial.mean(),
            "variance": partial.variance(),
            "std": partial.std(),
            "half_width": partial.half_width(self.quantile),
            "confidence": self.confidence,
        }


class AllStatistics(Statistics):
    """As mean, and the Python object is the dictionary of all statistics."""

    name: ClassVar[str] = "stats"

    def finish_native(self, partial: Moments) -> dict[str, Any]:
        return self.details(partial)


def normal_quantile(confidence: float) -> float:
    """The number of standard deviations to each side that contain this share of a normal distribution."""
    if confidence == 0.95:
        return NORMAL_95
    from statistics import NormalDist  # 6 ms, and seldom needed

    return NormalDist().inv_cdf((1 + confidence) / 2)


def moments_of_floats(values: Sequence[float]) -> Moments:
    """The exact moments of Python floats. They take about 700 ns per value, or 40 ns with numpy, if there are many."""
    if len(values) >= (NUMPY_WINS if "numpy" in sys.modules else NUMPY_PAYS):
        import numpy as np  # heavy, hence here

        return moments_of_array(np.fromiter(values, np.float64, len(values)))
    units, squares, flags = 0, 0, FLOAT if values else 0
    for value in values:
        if math.isfinite(value):
            part = to_units(value)
            units += part
            squares += part * part
        else:
            flags |= flag_of(value)
    return Moments(len(values), units, squares, flags)


def moments_of_array(array: Any) -> Moments:
    """The exact moments of a numpy array of doubles.

    A square is the exact sum of two doubles (Dekker, "A floating-point technique for extending the available
    precision", 1971) if neither it nor its rounding error leaves the range of doubles; other values are added one by
    one.
    """
    import numpy as np  # the caller has imported it

    array = np.ascontiguousarray(array, dtype=np.float64).reshape(-1)
    units, flags = total_of_array(array)
    squares = 0
    for start in range(0, array.size, 1 << 15):
        values = array[start : start + (1 << 15)]
        size = np.abs(values)
        plain = (size > 2.0**-480) & (size < 2.0**480)
        odd = values[~plain & (size > 0) & np.isfinite(values)]
        squares += sum(to_units(value) ** 2 for value in odd.tolist())
        values = values[plain]
        product = values * values
        scaled = values * 134217729.0  # 2^27 + 1: Veltkamp's splitting into halves of 26 bits
        high = scaled - (scaled - values)
        low = values - high
        error = ((high * high - product) + 2 * (high * low)) + low * low
        squares += (total_of_array(product).units + total_of_array(error).units) << UNIT_BITS
    return Moments(int(array.size), units, squares, flags)


_SUM = ExactSum()
NOTHING = Moments(0, 0, 0, 0)
