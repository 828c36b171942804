"""Arrays reduced element by element: exact, and the same bytes however terms are cut, ordered and laid out."""

from __future__ import annotations

import math
import random
import weakref
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import mapreduce_rq.functions.computation as functions
from mapreduce_rq.core.reducers.base import BadValue, MergeError, Reducer
from mapreduce_rq.core.reducers.catalogue import reducer
from mapreduce_rq.functions import blocks
from mapreduce_rq.functions.params import FunctionParams

SHAPES = st.sampled_from([(), (0,), (1,), (3,), (2, 2), (2, 0, 3), (2, 1, 2)])
EDGES = [
    *(0.0, -0.0, 1.0, -1.0, 0.1, 1 / 3, 2.0**53, 5e-324, -5e-324, 2.0**-1022),
    *(2.0**-53, -(2.0**-53), 2.0**-106, 2.0**-107, 1 + 2.0**-52, 2.0**-480, 2.0**-481, 2.0**480, 2.0**500),
    *(2.0**999, 2.0**1000, math.nextafter(2.0**1000, 0), -(2.0**1000), 1.7976931348623157e308, -1.7976931348623157e308),
]
FINITE = st.one_of(st.sampled_from(EDGES), st.floats(-10, 10), st.floats(allow_nan=False, allow_infinity=False))
DOUBLES = st.one_of(FINITE, FINITE, FINITE, st.sampled_from([math.inf, -math.inf]))
ELEMENTS: dict[str, Any] = {
    "?": st.booleans(),
    "i1": st.integers(-(2**7), 2**7 - 1),
    "u4": st.integers(0, 2**32 - 1),
    "i8": st.one_of(st.integers(-9, 9), st.integers(-(2**63), 2**63 - 1)),
    "u8": st.integers(0, 2**64 - 1),
    "f2": st.floats(width=16, allow_nan=False),
    "f4": st.floats(width=32, allow_nan=False),
    "f8": DOUBLES,
    "c8": st.complex_numbers(width=64, allow_nan=False),
    "c16": st.builds(complex, DOUBLES, DOUBLES),
}
LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "as it is": lambda array: array,
    "Fortran": lambda array: array.copy(order="F"),
    "big-endian": lambda array: array.astype(array.dtype.newbyteorder(">")),
    "every second one": lambda array: np.stack([array, array], axis=-1)[..., 0],
    "backwards": lambda array: array[::-1].copy()[::-1] if array.ndim else array,
    "read-only": lambda array: _sealed(array.copy()),
}


def _sealed(array: Any) -> Any:
    array.flags.writeable = False
    return array


@st.composite
def arrays(draw: st.DrawFn, kinds: str, most: int = 8) -> list[Any]:
    """Arrays of one shape, of some of these dtypes, in any layout."""
    shape = draw(SHAPES)
    allowed = draw(st.lists(st.sampled_from(kinds.split()), min_size=1, max_size=3))
    made = []
    for _ in range(draw(st.integers(1, most))):
        kind = draw(st.sampled_from(allowed))
        values = [draw(ELEMENTS[kind]) for _ in range(math.prod(shape))]
        array = np.array(values, dtype=kind).reshape(shape)
        made.append(LAYOUTS[draw(st.sampled_from(list(LAYOUTS)))](array))
    return made


def assert_one_total(made: Reducer[Any], values: list[Any], cuts: list[int], seed: int) -> Any:
    """Whatever the cuts, the order and the grouping of merges: the same bytes; the partial of all."""
    edges = sorted({0, len(values), *(cut % (len(values) + 1) for cut in cuts)})
    rng = random.Random(seed)
    whole = made.encode(made.fold(0, values))
    assert made.encode(made.decode(whole)) == whole
    bodies = [made.encode(made.fold(lo, values[lo:hi])) for lo, hi in pairwise(edges)]
    rng.shuffle(bodies)
    assert made.encode(made.merge_encoded(made.zero(), bodies)) == whole
    singles = [made.decode(made.lift_encoded(term, value)) for term, value in enumerate(values)]
    rng.shuffle(singles)
    while len(singles) > 1:
        at = rng.randrange(len(singles) - 1)
        right = made.encode(singles[at + 1])
        joined = made.merge(singles[at], singles[at + 1])
        assert made.encode(singles[at + 1]) == right
        singles[at : at + 2] = [joined]
    assert made.encode(made.merge(made.zero(), singles[0])) == whole
    return made.decode(whole)


def columns(values: list[Any]) -> list[list[Any]]:
    """For each place the elements of all arrays there, as Python's numbers."""
    flat = [array.ravel().tolist() for array in values]
    return [list(column) for column in zip(*flat, strict=True)]


def scalar(name: str, column: list[Any]) -> Any:
    """What the reducer makes of these numbers, which other tests hold against fractions."""
    made = reducer(name)
    return made.finish_native(made.fold(0, column))


def same(found: Any, expected: Any) -> bool:
    """Equal with the same sign of zero, or both nan."""
    return (found == expected and math.copysign(1, found) == math.copysign(1, expected)) or (
        math.isnan(found) and math.isnan(expected)
    )


CUTS = st.lists(st.integers(0, 50), max_size=4)


@given(arrays("? i1 u4 i8 u8 f2 f4 f8"), CUTS, st.integers())
@example([np.array([1.7976931348623157e308])] * 3 + [np.array([-1.7976931348623157e308])] * 3, [2], 0)
@example([np.array([2.0**1000]), np.array([-1.0]), np.array([2.0**-1074])], [1], 0)
@example([np.array([1.0]), np.array([2.0**-53]), np.array([2.0**-200])], [1], 0)
@example([np.array([1.0 + 2**-52]), np.array([-(2.0**-53)]), np.array([2.0**-107])], [2], 1)
def test_each_element_of_a_sum_is_the_exact_sum_rounded_once(values: list[Any], cuts: list[int], seed: int) -> None:
    found = reducer("sum").finish_native(assert_one_total(reducer("sum"), values, cuts, seed))
    whole = all(array.dtype.kind in "biu" for array in values)
    assert type(found) is np.ndarray
    assert found.shape == values[0].shape
    if not whole:
        assert found.dtype == np.float64
    for element, column in zip(found.ravel().tolist(), columns(values), strict=True):
        if whole:
            assert type(element) is int
            assert element == sum(column)
        elif all(map(math.isfinite, column)):
            assert same(element, rounded(sum(map(Fraction, column), Fraction(0))))
        else:
            assert same(element, scalar("sum", column))


def rounded(exact: Fraction) -> float:
    try:
        return float(exact) + 0.0
    except OverflowError:
        return math.inf if exact > 0 else -math.inf


@given(arrays("? i8 f4 f8 c8 c16"), CUTS, st.integers())
def test_complex_numbers_are_summed_by_their_parts(values: list[Any], cuts: list[int], seed: int) -> None:
    found = reducer("sum").finish_native(assert_one_total(reducer("sum"), values, cuts, seed))
    if any(array.dtype.kind == "c" for array in values):
        assert found.dtype == np.complex128
    for element, column in zip(found.ravel().tolist(), columns(values), strict=True):
        for part in ("real", "imag"):
            numbers = [
                float(getattr(value, part)) if type(value) is complex else getattr(value, part) for value in column
            ]
            assert same(getattr(element, part), scalar("sum", numbers))


@given(arrays("i8 u8", most=40), st.integers(1, 40))
def test_sums_of_integers_are_words_where_all_fit(values: list[Any], times: int) -> None:
    made = reducer("sum")
    found = made.finish_native(made.fold(0, values * times))
    sums = [sum(column) * times for column in columns(values)]
    assert found.ravel().tolist() == sums
    assert found.dtype == (np.int64 if all(-(2**63) <= value < 2**63 for value in sums) else object)


@given(arrays("? i1 u4 i8 u8 f2 f4 f8"), CUTS, st.integers())
@example([np.array([1.0])] * 5 + [np.array([1.0 + 2**-52])], [3], 0)
@example([np.array([1.0 + 2**-52]), np.array([1.0])], [1], 0)
@example([np.array([1.0 + 2**-52]), np.array([1.0]), np.array([2.0**-200]), np.array([-(2.0**-201)])], [1], 0)
@pytest.mark.parametrize("name", ["mean", "variance"])
def test_each_element_of_a_mean_and_a_variance_is_that_of_its_numbers(
    name: str, values: list[Any], cuts: list[int], seed: int
) -> None:
    found = reducer(name).finish_native(assert_one_total(reducer(name), values, cuts, seed))
    assert type(found) is np.ndarray
    assert found.shape == values[0].shape
    assert found.dtype == np.float64
    for element, column in zip(found.ravel().tolist(), columns(values), strict=True):
        assert same(element, scalar(name, column))
        if all(map(math.isfinite, column)) and (name == "mean" or len(column) > 1):
            exact = [Fraction(value) for value in column]
            middle = sum(exact, Fraction(0)) / len(exact)
            if name == "mean":
                assert same(element, rounded(middle))
            else:
                assert same(
                    element, rounded(sum(((value - middle) ** 2 for value in exact), Fraction(0)) / (len(exact) - 1))
                )


@given(arrays("i8 c8 c16"), CUTS, st.integers())
def test_means_and_variances_of_complex_numbers_are_of_their_parts(
    values: list[Any], cuts: list[int], seed: int
) -> None:
    means, variances = (
        reducer(name).finish_native(assert_one_total(reducer(name), values, cuts, seed))
        for name in ("mean", "variance")
    )
    for mean, variance, column in zip(means.ravel().tolist(), variances.ravel().tolist(), columns(values), strict=True):
        exact = []
        for part in ("real", "imag"):
            numbers = [getattr(value, part) for value in column]
            assert same(getattr(mean, part), float(scalar("mean", numbers)))
            if len(numbers) > 1 and all(map(math.isfinite, numbers)):
                made = reducer("variance")
                exact.append(Fraction(*made.fold(0, numbers).variance_fraction()))
        assert same(variance, rounded(exact[0] + exact[1]) if len(exact) == 2 else math.nan)


@given(arrays("? i1 u4 i8 u8 f2 f4 f8"), CUTS, st.integers())
@example([np.array([2**63], "u8"), np.array([-1])], [1], 0)
@pytest.mark.parametrize(("name", "of"), [("min", min), ("max", max)])
def test_each_element_of_an_extreme_is_one_of_its_numbers(
    name: str, of: Callable[[list[Any]], Any], values: list[Any], cuts: list[int], seed: int
) -> None:
    found = reducer(name).finish_native(assert_one_total(reducer(name), values, cuts, seed))
    assert found.shape == values[0].shape
    kinds = {array.dtype.newbyteorder("=") for array in values}
    if not found.shape:
        assert same(float(found), float(scalar(name, [array.item() for array in values])))
        return
    if len(kinds) == 1 or found.dtype.kind == "f":
        assert found.dtype == np.result_type(*sorted(kinds, key=str))
    assert (found.dtype.kind == "f") == any(kind.kind == "f" for kind in kinds)
    for element, column in zip(found.ravel().tolist(), columns(values), strict=True):
        assert same(element, float(of(column)) + 0.0) if found.dtype.kind == "f" else element == of(column)


def test_complex_numbers_and_places_have_no_extremes_here() -> None:
    with pytest.raises(BadValue, match="term 4 is an array of complex64, and the reducer takes arrays of booleans"):
        reducer("max").fold(4, [np.zeros(2, "c8")])
    for name in ("argmin", "argmax", "stats", "product"):
        with pytest.raises(BadValue, match=r"term 4 is ndarray array\(\[0., 0.\]\), and the reducer takes numbers"):
            reducer(name).fold(4, [np.zeros(2)])


def test_many_columns_and_many_rows_are_added_in_blocks() -> None:
    rng = np.random.default_rng(1)
    made = reducer("sum")
    for rows, size in ((3, 20_001), (70, 8193), (5000, 3)):
        values = [np.ldexp(rng.standard_normal(size), rng.integers(-80, 80, size)) for _ in range(rows)]
        values[rows // 2][size - 1] = math.inf
        values[-1][0] = 1.7e308
        values[-2][0] = 1.7e308
        found = made.finish_native(made.fold(0, values))
        sample = [0, 1, size // 2, size - 2, size - 1]
        for place in sample:
            assert same(found[place], scalar("sum", [float(array[place]) for array in values]))
        nan = [array.copy() for array in values]
        nan[-1][size - 2] = math.nan
        with pytest.raises(BadValue, match=f"term {rows + 6} is an array with nan at {size - 2}, and"):
            made.fold(7, nan)


REFUSED: dict[str, tuple[list[Any], str]] = {
    "shapes": (
        [np.zeros((2, 3)), np.zeros((2, 3)), np.zeros((3, 2))],
        r"term 7 is an array of shape \(3, 2\), .* arrays of one shape: term 5 is an array of shape \(2, 3\)",
    ),
    "a number": (
        [np.zeros(2), 1.5],
        r"term 6 is float 1.5, .* arrays of one shape: term 5 is an array of shape \(2,\)",
    ),
    "a list": ([np.zeros(2), [1, 2]], r"term 6 is list \[1, 2\], .* arrays of one shape"),
    "among numbers": (
        [1.5, 2, np.zeros(2)],
        r"term 7 is an array of shape \(2,\), .* either numbers or arrays: term 5 is float 1.5",
    ),
    "nan": ([np.zeros((2, 2)), np.array([[0, 0], [math.nan, 0]])], r"term 6 is an array with nan at \(1, 0\), and"),
    "nan after an infinity": ([np.array([math.inf, 0, math.nan])], r"term 5 is an array with nan at 2, and"),
    "a mask": ([np.ma.array([1, 2], mask=[False, True])], "term 5 is a MaskedArray, .* plain arrays"),
    "a wide float": ([np.zeros(2, np.longdouble)], r"term 5 is an array of (float|longdouble)\d*, .* 16 to 64 bits"),
    "objects": ([np.array([1, None])], "term 5 is an array of object, .* 16 to 64 bits"),
    "texts": ([np.array(["a"])], "term 5 is an array of <U1, .* 16 to 64 bits"),
    "dates": ([np.array(["2026-01-01"], "M8[D]")], "term 5 is an array of datetime64.*, .* 16 to 64 bits"),
    "records": ([np.zeros(2, [("a", "f8")])], "term 5 is an array of .*, .* 16 to 64 bits"),
}
TAKING_ARRAYS = ["sum", "mean", "variance", "min", "max"]


@pytest.mark.parametrize("name", TAKING_ARRAYS)
@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_reduced_is_refused_in_one_line(name: str, case: str) -> None:
    values, text = REFUSED[case]
    with pytest.raises(BadValue, match=f"^{text}") as caught:
        reducer(name).fold(5, values)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", TAKING_ARRAYS)
def test_values_that_are_folded_by_rows_name_their_terms(name: str) -> None:
    made, terms = reducer(name), [11, 15, 29]
    with pytest.raises(BadValue, match=r"^term 29 is .* \(4,\), .*: term 11 is an array of shape \(3,\)$"):
        made.fold_at(terms, [np.zeros(3), np.zeros(3), np.zeros(4)])
    with pytest.raises(BadValue, match=r"^term 29 is float 1.0, .*: term 11 is an array of shape \(3,\)$"):
        made.fold_at(terms, [np.zeros(3), np.zeros(3), 1.0])
    with pytest.raises(BadValue, match=r"^term 15 is .* \(3,\), .*: term 11 is float 1.0$"):
        made.fold_at(terms, [1.0, np.zeros(3), np.zeros(3)])
    with pytest.raises(BadValue, match=r"^term 8 is .* \(4,\), .*: another value of this term is .* \(3,\)$"):
        made.fold_at([8, 8], [np.zeros(3), np.zeros(4)])
    three, four = made.fold_at([11], [np.zeros(3)]), made.fold_at([29, 30], [np.zeros(4)] * 2)
    for left, right in ((three, four), (four, three)):
        with pytest.raises(MergeError, match=r"^term 29 is .* \(4,\), and term 11 is .* \(3,\): the reducer"):
            made.merge(made.decode(made.encode(left)), made.decode(made.encode(right)))


@pytest.mark.parametrize("name", TAKING_ARRAYS)
def test_partials_that_do_not_belong_together_name_their_terms(name: str) -> None:
    made = reducer(name)
    three, four, number = made.fold(3, [np.zeros(3)]), made.fold(8, [np.zeros(4)]), made.fold(2, [0.0])
    text = rf"term 8 is an array of shape \(4,\), and term 3 is an array of shape \(3,\): the reducer {name}"
    for left, right in ((three, four), (four, three)):
        with pytest.raises(MergeError, match=text):
            made.merge(left, right)
    for left, right in ((three, number), (number, three)):
        with pytest.raises(MergeError, match=rf"term 3 is an array of shape \(3,\), and other terms .* {name} takes"):
            made.merge(left, right)


@pytest.mark.parametrize("name", TAKING_ARRAYS)
@given(st.lists(st.one_of(DOUBLES, st.integers(-9, 9)), min_size=1, max_size=6), st.data(), st.integers())
def test_numbers_and_arrays_without_dimensions_are_alike(
    name: str, values: list[Any], data: st.DataObject, seed: int
) -> None:
    mixed = [np.array(value) if data.draw(st.booleans()) else value for value in values]
    mixed[data.draw(st.integers(0, len(values) - 1))] = np.array(values[0])
    values = [value.item() if isinstance(value, np.ndarray) else value for value in mixed]
    found = reducer(name).finish_native(assert_one_total(reducer(name), mixed, [1, 3], seed))
    assert found.shape == ()
    assert same(float(found), float(scalar(name, values)))


@pytest.mark.parametrize("name", TAKING_ARRAYS)
@given(arrays("? i1 i8 u8 f4 f8"), st.data())
def test_bytes_that_no_partial_of_arrays_makes_are_refused(name: str, values: list[Any], data: st.DataObject) -> None:
    made = reducer(name)
    body = bytearray(made.encode(made.fold(0, values)))
    for _ in range(data.draw(st.integers(1, 3))):
        bit = data.draw(st.integers(0, 8 * len(body) - 1))
        body[bit // 8] ^= 1 << bit % 8
    cut = data.draw(st.integers(0, len(body)))
    for forged in (bytes(body), bytes(body[:cut])):
        try:
            partial = made.decode(forged)
        except ValueError:
            continue
        made.encode(made.merge(made.zero(), partial))
        made.describe(partial)


@pytest.mark.parametrize("kind", ["f2", "f4", "i1", "u4", "b1"])
def test_extremes_that_their_type_does_not_have_are_refused(kind: str) -> None:
    made = reducer("max")
    for value in np.array([0, 1]).astype(kind):
        body = made.encode(made.fold(0, [np.array([value])]))
        made.describe(made.decode(body))
        other = np.array([1e300], "f8") if kind[0] == "f" else np.array([1 << 40], "i8")
        word = np.array([value], other.dtype).tobytes()
        assert body.count(word) >= 1
        with pytest.raises(ValueError, match="does not have"):
            made.decode(other.tobytes().join(body.rsplit(word, 1)))


@pytest.mark.parametrize("name", ["sum", "mean", "variance"])
@given(st.lists(st.lists(st.floats(-1e9, 1e9), min_size=3, max_size=3), min_size=2, max_size=5))
def test_the_bound_of_an_array_holds_for_each_element(name: str, rows: list[list[float]]) -> None:
    made = reducer(name)
    outcome = made.describe(made.fold(0, [np.array(row) for row in rows]))
    assert outcome.bound_kind in {"proven", "exact"}
    bound = Fraction(outcome.bound or "none")
    for element, column in zip(outcome.native.tolist(), zip(*rows, strict=True), strict=True):
        exact = [Fraction(value) for value in column]
        total = sum(exact, Fraction(0))
        middle = total / len(exact)
        spread = sum(((value - middle) ** 2 for value in exact), Fraction(0))
        wanted = {"sum": total, "mean": middle, "variance": spread / (len(exact) - 1)}[name]
        assert abs(Fraction(element) - wanted) <= bound
    assert made.describe(made.fold(0, [np.array([1.0, math.inf])] * 2)).bound is None


def test_a_task_holds_few_large_arrays_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "HELD_BYTES", 3 * 8000)
    made = functions.FunctionComputation(FunctionParams(function="tests:none", terms=200))
    held: list[weakref.ref[Any]] = []
    most = [0, 0]

    def array(k: int) -> Any:
        value = np.full(1000, 0.1 * k)
        held.append(weakref.ref(value))
        task = k // 100
        most[task] = max(most[task], sum(one() is not None for one in held[-50:]))
        return value

    made.function = array  # in place of what its name would find
    total = made.reducer.merge(made.map(0, 100), made.map(100, 200))
    assert most == [functions.FIRST_KEPT, 3]
    most[:], kept = [0, 0], [made.reducer.zero()]

    def grow(fold: Callable[[Any], Any]) -> bool:
        kept[0] = fold(kept[0])
        return True

    assert made.map_onto(grow, 0, 100, b"") == (None, 0)
    assert made.map_onto(grow, 100, 200, b"") == (None, 100)
    assert most == [3, 3]
    assert made.reducer.finish_native(kept[0]).tobytes() == made.reducer.finish_native(total).tobytes()
    assert set(made.reducer.finish_native(total).tolist()) == {float(sum(Fraction(0.1 * k) for k in range(200)))}
