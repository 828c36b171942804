"""Digits in parts, as workers make them: what is off, what is decided, and what is refused."""

from __future__ import annotations

import decimal
from fractions import Fraction
from unittest.mock import patch

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mapreduce_rq.computations import load
from mapreduce_rq.core.computation import Ask, Outcome
from mapreduce_rq.core.numbers.expansion import Evaluate, Expansion, Peel, Product, Root, bits_of, encode, rounded, work
from mapreduce_rq.core.numbers.integers import from_bytes, to_bytes

EXPANSION = "mapreduce_rq.core.numbers.expansion"


@given(
    st.fractions(0, 1, max_denominator=10**30).filter(lambda number: number < 1),
    st.integers(-3, 3),
    st.lists(st.integers(1, 40), min_size=1, max_size=6),
)
@example(Fraction(1, 2), -1, [5, 5])
@example(Fraction(0), 1, [3, 3, 3])
@example(Fraction(123456, 10**6), -1, [2, 2, 30])
def test_parts_are_the_digits_of_the_number(number: Fraction, ulps: int, widths: list[int]) -> None:
    bits = bits_of(sum(widths)) + 64
    fixed = min(max((number.numerator << bits) // number.denominator + ulps, 0), (1 << bits) - 1)
    parts = msgspec.msgpack.decode(work(encode(Peel(Product(bits, [to_bytes(fixed)]), widths))), type=list[bytes])
    texts = [work(part).decode() for part in parts]
    assert [len(text) for text in texts] == widths
    exact = Fraction(fixed, 1 << bits) * 10 ** sum(widths)
    assert 0 <= exact - int("".join(texts)) < 1 + Fraction(1, 10**9)


@given(st.integers(1, 10**200), st.integers(1, 10**200), st.integers(1, 60))
def test_a_quotient_is_less_than_two_units_off(num: int, den: int, digits: int) -> None:
    num, den = sorted((num, den + num))
    expansion = Expansion(digits, 0, 0.0, lambda written: Outcome(value=str(written)))
    found = from_bytes(work(encode(Evaluate(expansion.quotient(num, den)))))
    assert abs(found - Fraction(num << expansion.bits, den)) < 2


@given(st.integers(1, 10**6), st.integers(1, 300))
def test_a_root_is_less_than_a_unit_off(number: int, bits: int) -> None:
    found = from_bytes(work(encode(Evaluate(Root(bits, number)))))
    assert found**2 <= number << (2 * bits) < (found + 1) ** 2


@given(st.from_regex(r"[1-9][09]{0,6}[0-9]{0,20}", fullmatch=True), st.integers(1, 28), st.integers(1, 10**12))
@example("99995", 4, 1)
@example("99996", 4, 1)
@example("12000", 2, 3)
@example("19999", 1, 1)
def test_rounding_figures_is_that_of_decimal(figures: str, wanted: int, error: int) -> None:
    if wanted >= len(figures):
        return
    unit = decimal.Decimal(10) ** (len(figures) - wanted)
    context = decimal.Context(prec=60)
    ends = [
        context.divide(decimal.Decimal(int(figures) + off), unit).to_integral_value(decimal.ROUND_HALF_UP)
        for off in (-error, error)
    ]
    found = rounded(figures, wanted, 7, error)
    if found is None:
        assert ends[0] != ends[1] or error * 2 > unit
        return
    assert ends[0] == ends[1]
    assert len(found.figures) == wanted
    assert int(found.figures) * 10 ** (found.exponent - 7) == ends[0]


@pytest.mark.parametrize("name", ["pi", "e", "ln2", "zeta3", "catalan"])
@pytest.mark.parametrize("digits", [1, 2, 3, 10, 50, 333, 5000])
@pytest.mark.parametrize("part", [1000, 7])
def test_constants_in_parts_are_constants_in_one_go(name: str, digits: int, part: int) -> None:
    job = load("const").create({"name": name, "digits": digits})
    assert job.total is not None
    whole = job.map(0, job.total)
    expected = job.finish(whole, job.total)
    assert isinstance(expected, Outcome)
    asked_from, here = patch(f"{EXPANSION}.ASKED_FROM", 1), patch(f"{EXPANSION}.PEELED_HERE", 60)
    with asked_from, here, patch(f"{EXPANSION}.LARGEST_PART", part):
        assert isinstance(job.finish(whole, job.total), Ask)
        assert job.conclude(whole, job.total) == expected


def test_a_number_that_is_not_where_it_is_expected_is_found_in_one_go() -> None:
    job = load("exp").create({"x": "1e-40", "digits": 20})  # 1.0000...: too near to a power of ten to be sure
    assert job.total is not None
    with patch(f"{EXPANSION}.ASKED_FROM", 1):
        found = job.finish(job.map(0, job.total), job.total)
    assert isinstance(found, Outcome)
    assert found.value == "1.0000000000000000000"


def test_wrong_answers_are_refused() -> None:
    job = load("exp").create({"x": "2", "digits": 100})
    assert job.total is not None
    with patch(f"{EXPANSION}.ASKED_FROM", 1), patch(f"{EXPANSION}.PEELED_HERE", 0):
        first = job.finish(job.map(0, job.total), job.total)
    assert isinstance(first, Ask)
    parts = job.work(first.bodies[0])
    for wrong in (b"", b"garbled", msgspec.msgpack.encode([]), msgspec.msgpack.encode([b"x", b"y"]), first.bodies[0]):
        with pytest.raises(ValueError, match=r"."):
            first.then([wrong])
    second = first.then([parts])
    assert isinstance(second, Ask)
    good = [job.work(body) for body in second.bodies]
    for texts in ([good[0], b""], [good[0], good[1] + b"0"], [good[0], b"x" * len(good[1])]):
        with pytest.raises(ValueError, match="not the digits"):
            second.then(texts)
    assert isinstance(second.then(good), Outcome)
    with pytest.raises(ValueError, match=r"."):
        job.work(b"garbled")
