"""Integrals by random samples that do not depend on how the work is cut.

Sample k uses the words at positions k d to k d + d - 1 of a counter-based generator (Philox; Salmon et al., "Parallel
random numbers: as easy as 1, 2, 3", 2011), so every worker gets the same sample. Words become doubles by an exact
product, and the integrands use + - * / and square roots only. So points and values are the same bits on every machine.
Count, sum and sum of squares are exact, so the estimate is the same bits, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import msgspec

from mapreduce_rq.core.computation import Computation
from mapreduce_rq.core.numbers.exact import FLOAT, UNIT_BITS
from mapreduce_rq.core.outcome import Outcome, Progress
from mapreduce_rq.core.parameters import Params
from mapreduce_rq.core.reducers.moments import NORMAL_95, Moments, Statistics, moments_of_array
from mapreduce_rq.core.text import plural

BLOCK = 1 << 15
"""Samples at a time: their arrays stay in the second-level cache."""


class Integrand(NamedTuple):
    """A function on the unit cube: its values at points, or ``volume`` times the share of points inside a body."""

    dimensions: int
    values: Callable[[Any], Any] | None  # of an array of points, a row a point
    inside: Callable[[Any], Any] | None
    volume: float
    truth: float  # the integral, where it is known


def _norm(points: Any) -> Any:
    """The sum of squares of each row, added from left to right: a fixed order gives the same bits everywhere."""
    total = points[:, 0] * points[:, 0]
    for axis in range(1, points.shape[1]):
        total += points[:, axis] * points[:, axis]
    return total


def _distance(points: Any) -> Any:
    import numpy as np  # map has imported it

    return np.sqrt(_norm(points[:, :2] - points[:, 2:]))


def _arc(points: Any) -> Any:
    x = points[:, 0]
    return 4.0 / (1.0 + x * x)


INTEGRANDS: dict[str, Integrand] = {
    # 4 times the area of a quarter of the disc
    "pi": Integrand(2, None, lambda points: _norm(points) < 1.0, 4.0, math.pi),
    # the integral of 4/(1+x^2) from 0 to 1
    "arc": Integrand(1, _arc, None, 1.0, math.pi),
    # the volume of the unit ball in five dimensions
    "ball5": Integrand(5, None, lambda points: _norm(points) < 1.0, 32.0, 8 * math.pi**2 / 15),
    # the mean distance of two points in the unit square
    "distance": Integrand(4, _distance, None, 1.0, (2 + math.sqrt(2) + 5 * math.asinh(1)) / 15),
}


class MonteCarloParams(Params, frozen=True, kw_only=True):
    """What to integrate, how many samples, and which random sequence."""

    of: Annotated[
        Literal["pi", "arc", "ball5", "distance"],
        msgspec.Meta(
            description="points in a disc, 4/(1+x^2) (both pi), the 5-dimensional unit ball's volume, "
            "or the mean distance of two points in the unit square"
        ),
    ] = "pi"
    samples: Annotated[int, msgspec.Meta(description="how many samples at most", ge=2, le=10**14)] = 10_000_000
    seed: Annotated[int, msgspec.Meta(description="which sequence of random points", ge=0, le=2**63 - 1)] = 0


class MonteCarlo(Computation[Moments]):
    """An integral from random samples: pi by points in a disc, and a few integrals whose value is known.

    The bound is statistical: it is half of the 95 % confidence interval, so for one seed in twenty the truth lies
    outside. It shrinks with the square root of the number of samples. The same seed and number of samples give the same
    bits on any workers. A sample costs 10 to 100 ns.
    """

    name: ClassVar[str] = "montecarlo"
    summary: ClassVar[str] = "pi and other integrals from random samples, with a confidence interval"
    Params = MonteCarloParams
    positional: ClassVar[str] = "of"
    seconds_per_term: ClassVar[float | None] = 5e-8
    first_stage: ClassVar[int] = 65_536
    samples: bool = True

    def __init__(self, params: MonteCarloParams) -> None:
        super().__init__(params)
        self.integrand = INTEGRANDS[params.of]
        self.reducer = Statistics()
        self.total: int | None = params.samples

    def map(self, lo: int, hi: int) -> Moments:
        found = self.reducer.zero()
        inside, volume = self.integrand.inside, self.integrand.volume
        for start in range(lo, hi, BLOCK):
            points = unit_points(self.params.seed, self.integrand.dimensions, start, min(start + BLOCK, hi))
            if inside is None:
                assert self.integrand.values is not None
                part = moments_of_array(self.integrand.values(points))
            else:
                hits = int(inside(points).sum())
                units = hits * int(volume)
                part = Moments(len(points), units << UNIT_BITS, units * int(volume) << 2 * UNIT_BITS, FLOAT)
            found = self.reducer.merge(found, part)
        return found

    def finish(self, partial: Moments, terms: int) -> Outcome:
        outcome = self.reducer.describe_sample(partial, None)
        details = {"of": self.params.of, "seed": self.params.seed, "samples": partial.n, "std": partial.std()}
        notes = ["bound: half the 95 % confidence interval"]
        if terms < self.params.samples:
            notes.append(f"{terms} of at most {plural(self.params.samples, 'sample')}")
        return msgspec.structs.replace(outcome, details=details, notes=tuple(notes))

    def peek(self, partial: Moments, terms: int) -> Progress | None:
        if partial.n < 2:
            return None
        value, error = partial.mean(), partial.half_width(NORMAL_95)
        return Progress(value=f"{value:.10g}", number=value, error=error, bound_kind="statistical")


def unit_points(seed: int, dimensions: int, lo: int, hi: int) -> Any:
    """Samples ``lo <= k < hi`` as rows of an array: points of the unit cube with coordinates k 2^-53."""
    import numpy as np  # heavy, hence here

    first = lo * dimensions
    generator = np.random.Philox(key=seed)
    generator.advance(first // 4)  # it counts blocks of four words
    words = generator.random_raw(hi * dimensions - first // 4 * 4)[first % 4 :] if lo < hi else np.empty(0, np.uint64)
    return ((words >> np.uint64(11)) * 2.0**-53).reshape(-1, dimensions)
