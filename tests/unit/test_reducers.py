from __future__ import annotations

import copy
import math
import pickle
import struct
from collections import Counter
from decimal import Decimal
from fractions import Fraction
from statistics import NormalDist, variance
from typing import Any

import numpy as np
import pytest

from mapreduce_rq.core.bodies import PlainCodec
from mapreduce_rq.core.reducers.base import BadValue, Law
from mapreduce_rq.core.reducers.catalogue import REDUCERS, reducer
from mapreduce_rq.core.reducers.histogram import Bins
from mapreduce_rq.errors import BadParameter

OPTIONS: dict[str, dict[str, object]] = {"histogram": {"edges": [0.0, 1.0, 2.0]}}
TAKING_VALUES = [name for name in REDUCERS if name != "series"]
NUMERIC = (
    *("sum", "product", "min", "max", "argmin", "argmax", "mean", "variance", "stats"),
    *("histogram", "quantiles", "prefix_sums"),
)


def result(name: str, values: object, **options: object) -> object:
    made = reducer(name, **options)
    return made.finish_native(made.fold(0, values))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.1] * 10, 1.0),
        ([1e16, 1.0, -1e16], 1.0),
        ([1e308, 1e308, -1e308], 1e308),
        ([5e-324, 5e-324], 1e-323),
        ([2**53, 1.0, 1.0], 9007199254740994.0),
        ([2**60 + 1, -(2.0**60)], 1.0),
        ([-0.0, -0.0], 0.0),
        ([], 0.0),
        ([math.inf, 1.0], math.inf),
        ([-math.inf, 1e308], -math.inf),
        ([1e308, 1e308], math.inf),
        ([True, 0.5, np.float32(0.5), np.int64(2)], 4.0),
    ],
)
def test_sum_is_the_nearest_double_to_the_true_sum(values: list[float], expected: float) -> None:
    found = result("sum", values)
    assert isinstance(found, float)
    assert found == expected
    assert math.copysign(1, found) == math.copysign(1, expected)


@pytest.mark.parametrize("name", [name for name in TAKING_VALUES if name not in {"concat", "list", "count"}])
def test_each_scalar_of_numpy_is_taken_as_pythons_number_of_its_value(name: str) -> None:
    """Booleans are integers, as Python's are; ``list`` keeps the types."""
    options = OPTIONS.get(name, {})
    scalars: list[Any] = [np.bool_(True), np.bool_(False), np.int8(-1), np.uint64(2**64 - 1), np.intp(3)]
    if name != "int_sum":
        scalars += [np.float16(0.5), np.float32(1.5), np.float64(-0.25)]
    plain = [scalar.item() for scalar in scalars]
    assert repr(result(name, scalars, **options)) == repr(result(name, plain, **options))
    made = reducer(name, **options)
    for term, (scalar, value) in enumerate(zip(scalars, plain, strict=True)):
        assert made.lift_encoded(term, scalar) == made.lift_encoded(term, value)


@pytest.mark.parametrize("name", NUMERIC)
@pytest.mark.parametrize("value", [Fraction(1, 2), Decimal("0.5"), np.longdouble(0.5), np.str_("5"), 1j, "5", None])
def test_what_is_no_number_of_a_float_or_an_int_is_told_as_such(name: str, value: Any) -> None:
    if name in {"sum", "mean"} and isinstance(value, Fraction | Decimal):
        assert result(name, [1, value]) == (1.5 if name == "sum" else 0.75)  # these two take them
        return
    with pytest.raises(BadValue, match=r"term 1 is .*, and the reducer takes "):
        result(name, [1, value], **OPTIONS.get(name, {}))


@pytest.mark.parametrize("name", ["sum", "mean"])
@pytest.mark.parametrize("values", [[math.inf, -math.inf], [1, -math.inf, 2.0, math.inf]])
def test_both_infinities_are_taken_and_make_nan(name: str, values: list[float]) -> None:
    made = reducer(name)
    halves = made.merge(made.fold(0, values[:2]), made.fold(2, values[2:]))
    for found in (made.fold(0, values), made.fold(0, np.array(values)), halves):
        assert math.isnan(made.finish_native(made.decode(made.encode(found))))


def test_overflow_is_flagged_and_an_infinite_term_is_not() -> None:
    made = reducer("sum")
    assert made.describe(made.fold(0, [1e308, 1e308])).details == {"overflow": True}
    assert made.describe(made.fold(0, [math.inf])).details == {"overflow": False}


def test_sum_of_integers_stays_an_integer() -> None:
    found = result("sum", [1, 2**70, True])
    assert type(found) is int
    assert found == 2**70 + 2


def test_sum_bound_is_the_distance_from_the_exact_sum() -> None:
    made = reducer("sum")
    outcome = made.describe(made.fold(0, [0.1] * 10))
    exact = abs(10 * Fraction(0.1) - 1)
    assert outcome.bound is not None
    assert exact <= Fraction(outcome.bound) <= exact * Fraction(1001, 1000)
    assert outcome.bound_kind == "proven"


@pytest.mark.parametrize("kind", ["i8", "u8", "i4", "u4", "i1", "?"])
def test_integer_arrays_do_not_wrap(kind: str) -> None:
    largest = 1 if kind == "?" else np.iinfo(kind).max
    array = np.full(1000, largest, dtype=kind)
    assert result("int_sum", array) == 1000 * int(largest)
    assert result("sum", array) == 1000 * int(largest)


def test_product_is_exact_and_rounded_once() -> None:
    assert result("product", range(1, 51)) == math.factorial(50)
    assert result("product", [0.1, 3]) == float(Fraction(0.1) * 3)
    assert result("product", [1e200, 1e200, 1e-300]) == float(Fraction(1e200) ** 2 * Fraction(1e-300))
    assert result("product", [2, 0, 5]) == 0
    assert result("product", []) == 1
    assert result("product", [-2.5, 4]) == -10.0
    assert result("product", [math.inf, -2]) == -math.inf
    assert math.isnan(result("product", [math.inf, 0]))  # type: ignore[arg-type]


def test_product_of_a_hundred_thousand_is_quick() -> None:
    made = reducer("product")
    found = made.fold(0, range(1, 100_001))
    assert made.finish_native(found).bit_length() == math.factorial(100_000).bit_length()


def test_extremes_take_the_first_of_equals() -> None:
    values = [3, 1, 1.0, -0.0, 0.0, 7, 7.0]
    assert result("argmin", values) == 3
    assert math.copysign(1, result("min", values)) == -1  # type: ignore[arg-type]
    assert result("argmax", values) == 5
    assert type(result("max", values)) is int
    assert result("max", [2**60, float(2**60), 2**60 + 1]) == 2**60 + 1
    assert result("min", [10**400, 1e308]) == 1e308
    assert result("min", []) is None


def test_extremes_of_an_array_are_those_of_its_list() -> None:
    values = [5.0, -1.0, 8.0, -1.0, 8.0]
    for name in ("min", "max", "argmin", "argmax"):
        assert result(name, np.array(values)) == result(name, values)


def test_statistics_are_correctly_rounded() -> None:
    values = [1e9 + 0.1, 1e9 + 0.2, 1e9 + 0.4]
    exact = variance(map(Fraction, values))
    assert result("variance", values) == float(exact)
    assert result("mean", values) == float(sum(map(Fraction, values)) / 3)
    found = result("stats", values)
    assert isinstance(found, dict)
    assert found["std"] ** 2 == pytest.approx(float(exact), rel=1e-15)
    assert found["half_width"] == pytest.approx(1.959963984540054 * (float(exact) / 3) ** 0.5, rel=1e-14)
    assert found["count"] == 3


def test_statistics_of_few_or_special_values() -> None:
    assert math.isnan(result("mean", []))  # type: ignore[arg-type]
    assert result("mean", [4]) == 4.0
    assert math.isnan(result("variance", [4]))  # type: ignore[arg-type]
    assert result("variance", [4, 4, 4.0]) == 0.0
    assert result("mean", [math.inf, 1]) == math.inf
    assert result("mean", [1e308, 1e308]) == 1e308
    made = reducer("mean", confidence=0.99)
    assert made.quantile == NormalDist().inv_cdf(0.995)  # type: ignore[attr-defined]


def test_histogram_edges() -> None:
    values = [-1, 0.0, -0.0, 0.5, 1.0, 2.0, 2.5, math.inf, -math.inf]
    expected = Bins((0.0, 1.0, 2.0), (3, 2), 2, 2)
    assert result("histogram", values, edges=[0, 1, 2]) == expected
    assert result("histogram", np.array(values), edges=[0, 1, 2]) == expected
    assert result("histogram", values, low=0, high=2, bins=2) == expected


def test_counter_takes_keys_and_collections_of_keys() -> None:
    assert result("counter", ["a", "b", "a"]) == Counter(a=2, b=1)
    assert result("counter", [["x", "y", "x"], {"y": 3}, ("pair", 1), {"z"}]) == Counter(
        {"x": 2, "y": 4, ("pair", 1): 1, "z": 1}
    )
    made = reducer("counter")
    kinds = made.fold(0, [1, True, 1.0])
    assert made.describe(kinds).details == {"distinct": 3, "counted": 3}
    assert made.finish_native(kinds) == Counter({1: 3})


def test_topk_orders_by_count_then_key() -> None:
    assert result("topk", list("bbaaccd"), k=3) == [("a", 2), ("b", 2), ("c", 2)]
    assert result("topk", [5, "x", 5, b"x"], k=5) == [(5, 2), (b"x", 1), ("x", 1)]


def test_list_gives_values_back_with_their_types() -> None:
    values = [1, 2**100, -(2**63), 0.5, "é", b"\x00", True, (1, [2]), {"a": (1,)}, {1, 2}, frozenset("ab"), 1j, [None]]
    found = result("list", values)
    assert found == values
    assert [type(value) for value in found] == [type(value) for value in values]


def test_prefix_sums_are_exact_and_rounded_once() -> None:
    assert result("prefix_sums", [1, 2**70, -(2**70)]) == [1, 1 + 2**70, 1]
    assert result("prefix_sums", [1e16, 1.0, 1.0, -1e16]) == [1e16, 1e16, 1e16 + 2, 2.0]
    assert result("prefix_sums", [0.1] * 10)[9] == 1.0  # type: ignore[index]
    assert result("prefix_sums", [1, 0.5, math.inf, 1, -math.inf])[:4] == [1, 1.5, math.inf, math.inf]  # type: ignore[index]
    assert result("prefix_sums", []) == []
    made = reducer("prefix_sums")
    assert made.describe(made.fold(0, [3, 4])).bound == "0"
    assert made.describe(made.fold(0, [2**-53, 1.0])).bound_kind == "proven"


def test_a_mean_beyond_the_doubles_has_no_bound() -> None:
    made = reducer("mean")
    outcome = made.describe(made.fold(0, [10**400, 10**400]))
    assert (outcome.value, outcome.bound, outcome.bound_kind) == ("inf", None, "none")


def test_concat_joins_text_or_bytes() -> None:
    assert result("concat", ["ab", "", "é"]) == "abé"
    assert result("concat", [b"ab", b"\xff"]) == b"ab\xff"
    assert result("concat", []) == ""


def test_distinct_is_exact_below_k_and_near_above() -> None:
    assert result("distinct", ["a", "b", "a", 1, 1, 0.0, -0.0]) == 4
    found = result("distinct", range(50_000), k=1024)
    assert abs(found - 50_000) < 4 * 50_000 / 1024**0.5  # type: ignore[operator]


def test_quantiles_lie_within_their_bucket() -> None:
    values = [math.ldexp(1 + k / 7000, k % 40 - 20) * (-1) ** k for k in range(7001)]
    made = reducer("quantiles", q=[0, 0.1, 0.5, 0.99, 1])
    found = made.quantiles(made.fold(0, values))  # type: ignore[attr-defined]
    ranks = sorted(values)
    for each in found:
        true = ranks[math.floor(each.share * 7000)]
        assert each.low <= true <= each.high
        assert abs(each.value - true) <= abs(true) * 2**-9
    assert made.fold(0, np.array(values)) == made.fold(0, values)


@pytest.mark.parametrize("name", TAKING_VALUES)
@pytest.mark.parametrize("bad", [None, object()])
def test_a_value_that_cannot_be_taken_is_named_with_its_term(name: str, bad: object) -> None:
    if (name == "count" and bad is not None) or (name == "list" and bad is None):
        return  # these take them
    good = "ok" if name == "concat" else 1
    with pytest.raises(BadValue, match=r"term 12 is (None|object <object.*), and the reducer takes ") as caught:
        reducer(name, **OPTIONS.get(name, {})).fold(10, [good, good, bad, good])
    assert caught.value.term == 12


NAN_AT = 70_003  # in the second batch of an iterator, and in a later block of an array
NANS: dict[str, tuple[Any, int]] = {
    "one nan": ([1.0, -0.0, math.nan, 5e300, math.nan], 2),
    "among integers": ([1, 2**70, 10**400, math.nan], 3),
    "among infinities": ([math.inf, -math.inf, 0, math.nan], 3),
    "a double of numpy": ([np.float64(1), np.float64("nan")], 1),
    "a float32": ([1, np.float32("nan"), 2], 1),
    "an array of no dimension": ([2.0, np.array(math.nan)], 1),
    "negative": ([1.0, math.copysign(math.nan, -1)], 1),
    "an array": (np.array([1.0, math.nan, 2.0, math.nan]), 1),
    "an array of float32": (np.array([1, 2, math.nan], dtype="f4"), 2),
    "an array of float16": (np.array([math.inf, math.nan], dtype="f2"), 1),
    "every second one": (np.array([1.0, 2.0, 3.0, 4.0, 5.0, math.nan])[1::2], 2),
    "a long list": ([0.5] * NAN_AT + [math.nan] * 2, NAN_AT),
    "a long array": (np.array([0.5] * NAN_AT + [math.nan, 1e300]), NAN_AT),
}


@pytest.mark.parametrize("name", NUMERIC)
@pytest.mark.parametrize("values", NANS)
def test_nan_is_refused_and_its_term_named(name: str, values: str) -> None:
    made = reducer(name, **OPTIONS.get(name, {}))
    given, at = NANS[values]
    if name == "quantiles" and values == "among integers":
        given = [1, 2, 3, math.nan]  # it takes none beyond the doubles
    expected = rf"^term {10 + at} is float nan, and the reducer takes numbers other than nan$"
    for taken in (given, iter(given)):
        with pytest.raises(BadValue, match=expected) as caught:
            made.fold(10, taken)
        assert caught.value.term == 10 + at
    for lift in (made.lift, made.lift_encoded):
        with pytest.raises(BadValue, match=expected):
            lift(10 + at, given[at])


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("sum", bytes([9, 0])),  # flags of a float and of a nan
        ("product", bytes([9]) + bytes(8) + b"\x01"),
        ("mean", struct.pack("<QBII", 1, 9, 2, 2) + bytes([9, 0, 0, 0])),
        ("min", struct.pack("<qcd", 3, b"f", math.nan)),
        ("argmax", struct.pack("<qcd", 3, b"f", math.nan)),
        ("prefix_sums", struct.pack("<qqqB", 3, 4, 1, 0) + PlainCodec().encode([math.nan])),
        ("prefix_sums", struct.pack("<qqqB", 3, 4, 1, 0) + PlainCodec().encode(["text"])),
    ],
)
def test_a_partial_that_only_nan_could_make_is_refused(name: str, body: bytes) -> None:
    with pytest.raises(ValueError, match=r"nan|flags|shortest|no numbers"):
        reducer(name).decode(body)


@pytest.mark.parametrize("name", ["sum", "product", "min", "mean", "histogram", "quantiles", "prefix_sums"])
@pytest.mark.parametrize("bad", ["1", 1j, [1.0], np.array(["1"])])
def test_numbers_only(name: str, bad: object) -> None:
    with pytest.raises(BadValue):
        reducer(name, **OPTIONS.get(name, {})).lift(3, bad)


def test_integers_only() -> None:
    with pytest.raises(BadValue, match=r"term 3 is float 1\.0, and the reducer takes integers"):
        reducer("int_sum").lift(3, 1.0)


@pytest.mark.parametrize("name", TAKING_VALUES)
def test_every_reducer_keeps_its_contract_on_nothing(name: str) -> None:
    made = reducer(name, **OPTIONS.get(name, {}))
    zero = made.zero()
    assert made.decode(made.encode(zero)) == zero
    assert made.encode(made.fold(5, [])) == made.encode(zero)
    assert made.encode(made.merge(made.zero(), made.zero())) == made.encode(zero)
    made.describe(made.zero())
    assert made.name == name


def test_laws() -> None:
    laws = {name: reducer(name, **OPTIONS.get(name, {})).law for name in REDUCERS}
    assert {name for name, law in laws.items() if law is Law.ORDERED} == {"list", "concat", "prefix_sums", "series"}
    assert {name for name, law in laws.items() if law is Law.APPROXIMATE} == {"distinct", "quantiles"}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("summ", {}, "did you mean sum"),
        ("zzz", {}, "the names are sum, int_sum"),
        ("sum", {"k": 1}, "takes no options, not k"),
        ("topk", {"k": 0}, "k is 0"),
        ("histogram", {}, "needs edges"),
        ("histogram", {"edges": [1, 1]}, "must ascend"),
        ("histogram", {"low": 0, "high": math.inf, "bins": 3}, "must be finite"),
        ("mean", {"confidence": 1.0}, "between 0 and 1"),
        ("quantiles", {"q": [2]}, "from 0 to 1"),
        ("distinct", {"k": 1}, "from 16"),
    ],
)
def test_bad_reducers(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(BadParameter, match=message):
        reducer(name, **options)


@pytest.mark.parametrize("spread", [0, 30, 120, 900])
def test_long_arrays_of_any_spread_are_summed_exactly(spread: int) -> None:
    rng = np.random.default_rng(spread)
    values = np.ldexp(rng.normal(size=70_000), rng.integers(-spread, spread + 1, 70_000))
    made = reducer("sum")
    numerators = [value.as_integer_ratio() for value in values.tolist()]
    exact = sum(num * ((1 << 1074) // den) for num, den in numerators)
    found = made.fold(0, values)
    assert found.units == exact
    assert made.fold(0, values.tolist()) == found


def test_a_refusal_that_travelled_is_the_same() -> None:
    error = BadValue(3, "abc", "numbers", (1, "str 'x'"))
    error.renumber((10).__add__)
    assert repr(error) == """BadValue(13, "str 'abc'", 'numbers', (11, "str 'x'"))"""
    for found in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert (repr(found), str(found), vars(found)) == (repr(error), str(error), vars(error))
