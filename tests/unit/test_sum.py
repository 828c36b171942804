from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import flint
import pytest

from mapreduce_rq.computations import load
from mapreduce_rq.computations.sum import TERM_BITS, Sum, term_blocks
from mapreduce_rq.errors import BadParameter
from tests.support.folding import fold
from tests.support.oracles import nearest

EXACT = {
    "zeta2": lambda k: Fraction(1, (k + 1) ** 2),
    "harmonic": lambda k: Fraction(1, k + 1),
    "leibniz": lambda k: Fraction(4 * (-1) ** k, 2 * k + 1),
}


@pytest.mark.parametrize("series", EXACT)
@pytest.mark.parametrize("lo", [0, 1, 999_999, 2_999_999_990, 10**12 - 40])
def test_terms_have_twice_the_precision_of_a_double(series: str, lo: int) -> None:
    k = lo
    for high, low in term_blocks(series, lo, lo + 40):
        for leading, trailing in zip(high.tolist(), low.tolist(), strict=True):
            exact = EXACT[series](k)
            assert abs(Fraction(leading) + Fraction(trailing) - exact) <= abs(exact) / 2**TERM_BITS
            k += 1
    assert k == lo + 40


@pytest.mark.parametrize(
    ("series", "value"),
    [("zeta2", 1.6449339668482315), ("harmonic", 16.69531136585985), ("leibniz", 3.1415925535897933)],
)
def test_ten_million_terms(series: str, value: float) -> None:
    outcome, _, _ = fold(Sum.create({"series": series, "terms": 10_000_000}), 3_000_001)
    assert outcome.number == value


@pytest.mark.parametrize("series", EXACT)
@pytest.mark.parametrize("terms", [1, 2, 3, 100, 32_769])
def test_the_sum_is_correctly_rounded(series: str, terms: int) -> None:
    def true() -> Any:
        if series == "harmonic":
            return flint.arb(terms + 1).digamma() + flint.arb.const_euler()
        if series == "zeta2":
            return flint.arb.pi() ** 2 / 6 - flint.arb(2).zeta(flint.arb(terms + 1))
        half = flint.arb(1) / 4
        sign = -1 if terms % 2 else 1
        # the tail of Leibniz' series by the digamma function
        near, far = flint.arb(terms) / 2 + half, flint.arb(terms) / 2 + 3 * half
        return flint.arb.pi() - sign * (far.digamma() - near.digamma())

    assert Sum.create({"series": series, "terms": terms}).total == terms
    outcome, _, _ = fold(Sum.create({"series": series, "terms": terms}), 1000)
    direct = sum(map(EXACT[series], range(min(terms, 100))), Fraction(0))
    expected = float(direct) if terms <= 100 else nearest(true)
    assert outcome.number == expected


@pytest.mark.parametrize(("series", "limit"), [("zeta2", math.pi**2 / 6), ("leibniz", math.pi)])
def test_the_bound_covers_the_limit_and_not_much_more(series: str, limit: float) -> None:
    for terms in (1, 7, 1000, 123_456):
        outcome, _, _ = fold(Sum.create({"series": series, "terms": terms}))
        assert outcome.bound is not None
        assert outcome.number is not None
        assert abs(limit - outcome.number) <= float(outcome.bound) <= 3 * abs(limit - outcome.number)
        assert outcome.bound_kind == "proven"


def test_a_series_that_diverges_has_no_bound() -> None:
    outcome, _, _ = fold(Sum.create({"series": "harmonic", "terms": 10}))
    assert (outcome.bound, outcome.bound_kind) == (None, "none")
    assert any("diverges" in note for note in outcome.notes)


@pytest.mark.parametrize("raw", [{"series": "zeta"}, {}, {"series": "zeta2", "terms": 0}])
def test_bad_parameters(raw: dict[str, Any]) -> None:
    with pytest.raises(BadParameter):
        load("sum").create(raw)
