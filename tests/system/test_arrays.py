"""Arrays, decimals and fractions reduced by real workers: the same bits and the same digest at any schedule."""

from __future__ import annotations

import re
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from mapreduce_rq import Client, Limits
from mapreduce_rq.errors import JobFailed

TERMS = 60


def wild(k: int) -> Any:
    """Numbers of all sizes, most of which cancel."""
    rng = np.random.default_rng(k // 2)
    values = np.ldexp(rng.standard_normal((3, 50)), rng.integers(-300, 300, (3, 50)))
    return (-values if k % 2 else values) + 0.1 * k


def words(k: int) -> Any:
    """Integers in other layouts and orders of bytes."""
    return np.asfortranarray(np.arange(6, dtype=">i4").reshape(2, 3) * k)


def large(k: int) -> Any:
    """Arrays of megabytes, so that each answer is one."""
    return np.full(300_000, 0.1) * k


def shapes(k: int) -> Any:
    """One of them is of another shape."""
    return np.zeros(4 if k == 37 else 3)


def mixed(k: int) -> Any:
    """One of them is a number."""
    return 1.0 if k == 37 else np.zeros(3)


def with_nan(k: int) -> Any:
    """One has nan."""
    return np.array([[1.0, 2.0], [np.nan if k == 37 else 3.0, 4.0]])


@pytest.fixture(scope="module")
def private() -> Iterator[Client]:
    with Client(local=3) as client:
        yield client


@pytest.mark.parametrize("name", ["sum", "mean", "variance", "min", "max"])
def test_every_schedule_has_one_digest_and_one_value(private: Client, name: str) -> None:
    found = [
        private.submit_function(wild, range(TERMS), reduce=name, limits=Limits(chunk=chunk)).result()
        for chunk in (None, 1, 7, TERMS)
    ]
    assert len({result.digest for result in found}) == 1
    assert len({result.native.tobytes() for result in found}) == 1
    values = [[Fraction(float(x)) for x in column] for column in np.stack([wild(k) for k in range(TERMS)], -1)[1, :5]]
    means = [sum(column, Fraction(0)) / TERMS for column in values]
    expected = {
        "sum": [mean * TERMS for mean in means],
        "mean": means,
        "variance": [
            sum(((x - mean) ** 2 for x in column), Fraction(0)) / (TERMS - 1)
            for column, mean in zip(values, means, strict=True)
        ],
        "min": [min(column) for column in values],
        "max": [max(column) for column in values],
    }[name]
    assert found[0].native.shape == (3, 50)
    assert found[0].native[1, :5].tolist() == [float(value) for value in expected]


def test_integers_stay_integers(private: Client) -> None:
    found = private.map_reduce(words, range(TERMS))
    assert found.dtype == np.int64
    assert found.tolist() == [[0, 1770, 3540], [5310, 7080, 8850]]


def test_answers_of_megabytes_are_added_up(private: Client) -> None:
    found = private.map_reduce(large, range(TERMS), limits=Limits(chunk=5))
    assert found.shape == (300_000,)
    assert set(found.tolist()) == {float(sum(Fraction(0.1 * k) for k in range(TERMS)))}


@pytest.mark.parametrize("chunk", [None, 1, 7, TERMS])
@pytest.mark.parametrize(("function", "named"), [(shapes, r"\(4,\)"), (mixed, r"float 1\.0|\(3,\)")])
def test_values_that_do_not_belong_together_end_the_job_in_one_line(
    private: Client, function: Any, named: str, chunk: int | None
) -> None:
    with pytest.raises(JobFailed, match=named) as caught:
        private.map_reduce(function, range(TERMS), limits=Limits(chunk=chunk))
    assert "shape" in str(caught.value)


@pytest.mark.parametrize("chunk", [None, 1, 7, TERMS])
def test_terms_of_a_random_order_are_named_by_their_places(private: Client, chunk: int | None) -> None:
    with pytest.raises(JobFailed) as caught:
        private.map_reduce(shapes, range(TERMS), reduce="mean", limits=Limits(chunk=chunk, rel_tol=1e-9))
    text = str(caught.value)
    named = dict(re.findall(r"term (\d+) is an array of shape (\(\d,\))", text))
    assert named.pop("37") == "(4,)", text
    assert set(named.values()) == {"(3,)"}, text


@pytest.mark.parametrize("chunk", [None, 1, 7, TERMS])
@pytest.mark.parametrize("name", ["sum", "mean", "max"])
@pytest.mark.parametrize(("function", "what"), [(shapes, r"an array of shape \(4,\)"), (mixed, "float 1.0")])
def test_by_key_too_both_terms_are_named(
    private: Client, function: Any, what: str, name: str, chunk: int | None
) -> None:
    with pytest.raises(JobFailed) as caught:
        private.reduce_by_key(lambda k: (k % 2, function(k)), range(TERMS), name, limits=Limits(chunk=chunk))
    text = str(caught.value)
    assert re.search(rf"term 37 is {what}|other terms are numbers", text), text
    assert {int(term) % 2 for term in re.findall(r"term (\d+) is", text)} == {1}, text  # those of the same key


@pytest.mark.parametrize("name", ["sum", "mean", "variance", "min", "max"])
def test_nan_is_named_with_its_term_and_place(private: Client, name: str) -> None:
    with pytest.raises(JobFailed, match=r"term 37 is an array with nan at \(1, 0\)"):
        private.map_reduce(with_nan, range(TERMS), reduce=name)


def cents(k: int) -> Decimal:
    """Amounts of money, and one far from them."""
    return Decimal("1E+40") if k == 0 else Decimal("-1E+40") if k == 50 else Decimal(k).scaleb(-2)


def parts(k: int) -> Fraction:
    """One by one."""
    return Fraction(1, k + 1)


@pytest.mark.parametrize("name", ["sum", "mean"])
@pytest.mark.parametrize(
    ("function", "total", "mean"),
    [
        (cents, Decimal("17.20"), Decimal("17.20") / 60),
        (parts, sum(map(parts, range(TERMS))), sum(map(parts, range(TERMS))) / TERMS),
    ],
)
def test_decimals_and_fractions_are_exact(private: Client, name: str, function: Any, total: Any, mean: Any) -> None:
    found = [
        private.submit_function(function, range(TERMS), reduce=name, limits=Limits(chunk=chunk)).result()
        for chunk in (None, 1, 7, TERMS)
    ]
    assert len({result.digest for result in found}) == 1
    expected = total if name == "sum" else mean
    for result in found:
        assert type(result.native) is type(expected)
        assert result.native == expected
        assert str(result.native) == str(expected)
