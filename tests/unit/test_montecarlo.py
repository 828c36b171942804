from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from mapreduce_rq.computations.montecarlo import INTEGRANDS, MonteCarlo, unit_points
from mapreduce_rq.core.reducers.moments import NORMAL_95
from tests.support.folding import fold


@pytest.mark.parametrize("dimensions", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(("lo", "hi"), [(0, 1), (1, 2), (3, 9), (17, 64), (999, 1000)])
def test_a_sample_depends_on_its_index_alone(dimensions: int, lo: int, hi: int) -> None:
    whole = unit_points(7, dimensions, 0, 1000)
    assert np.array_equal(unit_points(7, dimensions, lo, hi), whole[lo:hi])
    assert whole.shape == (1000, dimensions)
    assert ((whole >= 0) & (whole < 1)).all()


def test_points_are_those_of_the_published_generator() -> None:
    words = np.random.Philox(key=3).random_raw(8)
    expected = [Fraction(int(word) >> 11, 1 << 53) for word in words]
    assert [Fraction(x) for x in unit_points(3, 2, 0, 4).reshape(-1)] == expected
    assert not np.array_equal(unit_points(3, 2, 0, 4), unit_points(4, 2, 0, 4))


@pytest.mark.parametrize("of", INTEGRANDS)
def test_the_truth_is_within_three_standard_errors(of: str) -> None:
    outcome, _, _ = fold(MonteCarlo.create({"of": of, "samples": 200_000, "seed": 1}), 70_001)
    assert outcome.bound is not None
    assert outcome.number is not None
    assert outcome.bound_kind == "statistical"
    assert abs(outcome.number - INTEGRANDS[of].truth) <= 3 / NORMAL_95 * float(outcome.bound)


def test_points_in_the_disc_are_counted_exactly() -> None:
    points = unit_points(0, 2, 0, 5000)
    inside = sum(Fraction(x) ** 2 + Fraction(y) ** 2 < 1 for x, y in points)
    outcome, _, _ = fold(MonteCarlo.create({"of": "pi", "samples": 5000}))
    assert outcome.number == 4 * inside / 5000
    share = Fraction(inside, 5000)
    variance = 16 * share * (1 - share) * Fraction(5000, 4999)
    assert outcome.details["std"] == pytest.approx(math.sqrt(variance), rel=1e-15)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    covered = 0
    for seed in range(400):
        job = MonteCarlo.create({"of": "pi", "samples": 2000, "seed": seed})
        progress = job.peek(job.map(0, 2000), 2000)
        assert progress is not None
        assert progress.number is not None
        assert progress.error is not None
        covered += abs(progress.number - math.pi) <= progress.error
    assert 0.92 <= covered / 400 <= 0.98
