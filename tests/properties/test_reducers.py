"""Every reducer: one value and the same bytes however its terms are cut, ordered and doubled; and its oracle."""

from __future__ import annotations

import math
import random
from collections import Counter
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mapreduce_rq.core.numbers.exact import to_units, total_by_fsum, total_of_array
from mapreduce_rq.core.reducers.base import BadValue, Law, Reducer
from mapreduce_rq.core.reducers.catalogue import REDUCERS, reducer
from mapreduce_rq.core.reducers.moments import moments_of_array, moments_of_floats, nearest_root

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
NUMBERS = st.one_of(FLOATS, st.integers(-(2**70), 2**70), st.integers(-5, 5), st.sampled_from([math.inf, -math.inf]))
KEYS = st.one_of(
    st.text(max_size=3),
    st.binary(max_size=2),
    st.integers(-2, 2),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.tuples(st.text(max_size=1), st.integers(0, 2)),
    st.floats(allow_nan=False),
)
PLAIN = st.recursive(
    st.one_of(st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=4), st.binary(max_size=4)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(st.text(max_size=2), st.one_of(inner, st.none()), max_size=3),
    ),
    max_leaves=8,
)
VALUES: dict[str, Any] = {
    "int_sum": st.integers(),
    "counter": st.one_of(KEYS, st.lists(KEYS, max_size=3), st.dictionaries(KEYS, st.integers(0, 9), max_size=3)),
    "topk": KEYS,
    "list": PLAIN,
    "concat": st.text(max_size=5),
    "distinct": PLAIN,
    "quantiles": st.one_of(FLOATS, st.integers(-(2**60), 2**60)),
    "count": PLAIN,
}
OPTIONS: dict[str, dict[str, Any]] = {
    "histogram": {"edges": [-1e9, -1.0, 0.0, 0.5, 1.0, 7.0, 1e300]},
    "distinct": {"k": 16},
}
NAMES = [name for name in REDUCERS if name != "series"]
NUMERIC = (
    *("sum", "product", "min", "max", "argmin", "argmax", "mean", "variance", "stats"),
    *("histogram", "quantiles", "prefix_sums"),
)


def merged(made: Reducer[Any], parts: list[tuple[int, bytes]], seed: int) -> bytes:
    """The bytes of encoded partials merged in any order and grouping; by the ordered law neighbours in any grouping."""
    rng = random.Random(seed)
    partials = [made.decode(body) for _, body in sorted(parts)]
    if made.law is not Law.ORDERED:
        rng.shuffle(partials)
    partials = partials or [made.zero()]
    while len(partials) > 1:
        at = rng.randrange(len(partials) - 1)
        partials[at : at + 2] = [made.merge(partials[at], partials[at + 1])]
    return made.canonical(partials[0])


@pytest.mark.parametrize("name", NAMES)
@given(st.data(), st.integers())
def test_cuts_order_and_grouping_change_no_byte(name: str, data: st.DataObject, seed: int) -> None:
    made = reducer(name, **OPTIONS.get(name, {}))
    values = data.draw(st.lists(VALUES.get(name, NUMBERS), max_size=40))
    cuts = sorted(set(data.draw(st.lists(st.integers(0, len(values)), max_size=8))) | {0, len(values)})
    folded = made.fold(0, values)
    whole = made.canonical(folded)
    parts = [(lo, made.encode(made.fold(lo, values[lo:hi]))) for lo, hi in pairwise(cuts)]
    assert merged(made, parts, seed) == whole
    assert made.canonical(made.decode(made.encode(folded))) == whole
    one_by_one = [(k, made.encode(made.lift(k, value))) for k, value in enumerate(values)]
    assert merged(made, one_by_one, seed) == whole
    streamed = made.merge_encoded(made.zero(), [body for _, body in parts])
    assert made.canonical(streamed) == whole
    made.describe(folded)


@pytest.mark.parametrize("name", NAMES)
@given(st.data())
def test_merging_leaves_the_right_one_alone(name: str, data: st.DataObject) -> None:
    made = reducer(name, **OPTIONS.get(name, {}))
    first, second, third = (data.draw(st.lists(VALUES.get(name, NUMBERS), min_size=4, max_size=4)) for _ in range(3))
    right = made.fold(4, second)
    before = made.canonical(right)
    once = made.merge(made.fold(0, first), right)
    assert made.canonical(right) == before
    made.merge(once, made.fold(8, third))
    assert made.canonical(right) == before
    if made.law is Law.ORDERED:
        left = made.fold(0, first)
        kept = made.canonical(left)
        made.merge(left, right)
        assert made.canonical(left) == kept


@pytest.mark.parametrize("name", NAMES)
@given(st.data())
def test_bytes_that_no_partial_makes_are_refused(name: str, data: st.DataObject) -> None:
    made = reducer(name, **OPTIONS.get(name, {}))
    if data.draw(st.booleans()):
        body = data.draw(st.binary(max_size=60))
    else:
        valid = bytearray(
            made.encode(made.fold(0, data.draw(st.lists(VALUES.get(name, NUMBERS), min_size=1, max_size=4))))
        )
        if not valid:
            return
        bit = data.draw(st.integers(0, 8 * len(valid) - 1))
        valid[bit // 8] ^= 1 << bit % 8
        body = bytes(valid)
    try:
        partial = made.decode(body)
    except ValueError:
        return
    made.encode(made.merge(made.zero(), partial))


@given(st.lists(FLOATS, max_size=700), st.integers(-1000, 600))
@example([5e-324] * 3, 0)
@example([1.7976931348623157e308] * 300 + [-1.7976931348623157e308] * 299, 0)
def test_the_exact_sum_is_the_sum_of_fractions(values: list[float], shift: int) -> None:
    values = [scaled for value in values if math.isfinite(scaled := _scale(value, shift))]
    units = sum(map(to_units, values))
    assert total_by_fsum(values).units == units
    assert total_of_array(np.array(values)).units == units
    made = reducer("sum")
    exact = sum(map(Fraction, values), Fraction(0))
    assert made.finish_native(made.fold(0, [0.0, *values])) == rounded(exact)


def rounded(exact: Fraction) -> float:
    try:
        return float(exact)
    except OverflowError:
        return math.inf if exact > 0 else -math.inf


def _scale(value: float, shift: int) -> float:
    try:
        return math.ldexp(value, shift)
    except OverflowError:
        return value


@given(st.lists(NUMBERS, max_size=50))
@example([1.7976931348623157e308, 1e300, 1])
def test_sum_of_anything_follows_the_rules(values: list[float]) -> None:
    made = reducer("sum")
    found = made.finish_native(made.fold(0, values))
    infinite = {value for value in values if value in (math.inf, -math.inf)}
    if len(infinite) == 2:
        assert math.isnan(found)
    elif infinite:
        assert found == infinite.pop()
    else:
        exact = sum(map(Fraction, values), Fraction(0))
        assert found == (exact if values and all(isinstance(value, int) for value in values) else rounded(exact))


@given(st.lists(st.one_of(FLOATS, st.floats(-1e-300, 1e-300), st.floats(-10, 10)), min_size=1, max_size=60))
def test_moments_are_those_of_fractions(values: list[float]) -> None:
    squares = sum((Fraction(value) ** 2 for value in values), Fraction(0))
    for found in (moments_of_floats(values), moments_of_array(np.array(values))):
        assert Fraction(found.squares, 1 << 2148) == squares
        assert Fraction(found.units, 1 << 1074) == sum(map(Fraction, values))
        assert found.n == len(values)


@given(st.lists(st.floats(-1e150, 1e150), min_size=2, max_size=40))
def test_variance_is_the_exact_one_rounded(values: list[float]) -> None:
    made = reducer("variance")
    exact = [Fraction(value) for value in values]
    mean = sum(exact) / len(exact)
    assert made.finish_native(made.fold(0, values)) == float(sum((x - mean) ** 2 for x in exact) / (len(exact) - 1))


@given(st.fractions(min_value=0), st.integers(-600, 600))
def test_the_root_is_the_nearest_double(value: Fraction, power: int) -> None:
    value *= Fraction(4) ** power
    root = nearest_root(value.numerator, value.denominator)
    if math.isinf(root):
        assert value > Fraction(2) ** 2047
        return
    below = (Fraction(root) + Fraction(math.nextafter(root, 0))) / 2
    above = (Fraction(root) + Fraction(math.nextafter(root, math.inf))) / 2 if root < 1.7e308 else Fraction(2) ** 1025
    assert below**2 <= value <= above**2


@given(st.lists(KEYS, max_size=60))
def test_counter_is_the_counter_of_tagged_keys(keys: list[Any]) -> None:
    made = reducer("topk", k=1000)
    expected = Counter((type(key).__name__, key + 0.0 if isinstance(key, float) else key) for key in keys)
    found = made.finish_native(made.fold(0, keys))
    assert Counter({(type(key).__name__, key): count for key, count in found}) == expected
    assert [count for _, count in found] == sorted(expected.values(), reverse=True)


@given(st.lists(NUMBERS, min_size=1, max_size=40))
def test_extremes_are_those_of_the_list(values: list[float]) -> None:
    at = {name: reducer(name) for name in ("min", "max", "argmin", "argmax")}
    found = {name: made.finish_native(made.fold(0, values)) for name, made in at.items()}
    assert (found["argmin"], found["argmax"]) == (values.index(min(values)), values.index(max(values)))
    assert (found["min"], found["max"]) == (min(values), max(values))


@pytest.mark.parametrize("name", NUMERIC)
@given(st.data())
def test_the_first_nan_is_refused_wherever_it_stands(name: str, data: st.DataObject) -> None:
    made = reducer(name, **OPTIONS.get(name, {}))
    kinds = [data.draw(st.lists(VALUES.get(name, NUMBERS), max_size=20)) for _ in range(2)]
    lo, before = data.draw(st.integers(0, 2**40)), kinds[0]
    values = [*before, math.nan, *kinds[1], *data.draw(st.lists(st.just(math.nan), max_size=2))]
    given = [values, iter(values)]
    if all(isinstance(value, float) for value in values):
        given.append(np.array(values))
    for each in given:
        with pytest.raises(BadValue) as caught:
            made.fold(lo, each)
        assert caught.value.term == lo + len(before)


@given(st.lists(PLAIN, max_size=20))
def test_lists_come_back_as_they_went(values: list[Any]) -> None:
    made = reducer("list")
    found = made.finish_native(made.decode(made.encode(made.fold(0, values))))
    assert repr(found) == repr(values)


@given(st.lists(st.one_of(FLOATS, st.integers()), max_size=20))
def test_prefix_sums_are_the_sums_of_prefixes(values: list[Any]) -> None:
    made, sums = reducer("prefix_sums"), reducer("sum")
    expected = [sums.finish_native(sums.fold(0, values[: k + 1])) for k in range(len(values))]
    assert repr(made.finish_native(made.fold(0, values))) == repr(expected)


def test_the_confidence_interval_covers_the_mean_as_often_as_it_says() -> None:
    made = reducer("mean")
    covered = 0
    for seed in range(400):
        sample = np.random.default_rng(seed).exponential(size=400)
        moments = made.fold(0, sample)
        covered += abs(moments.mean() - 1) <= moments.half_width(made.quantile)  # type: ignore[attr-defined]
    assert 0.92 <= covered / 400 <= 0.98
