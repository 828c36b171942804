from __future__ import annotations

import math
import subprocess
import sys
from fractions import Fraction
from typing import Any

import flint
import pytest

from mapreduce_rq.computations import load
from mapreduce_rq.computations.exp import Exp
from mapreduce_rq.computations.exp_plan import OVERFLOWS, UNDERFLOWS
from mapreduce_rq.core.computation import MAX_TERMS, More, Outcome
from mapreduce_rq.errors import BadParameter
from tests.support.oracles import arb, enclosure, nearest


def run(x: Any, terms: int | None = None, chunk: int | None = None) -> tuple[Outcome, int]:
    """The outcome, and how many terms it took; every partial goes through its bytes."""
    job = Exp.create({"x": x, "terms": terms})
    reducer = job.reducer
    total, counted, partial = job.total, 0, reducer.zero()
    assert total is not None
    while True:
        while counted < total:
            step = min(counted + (chunk or total), total)
            partial = reducer.merge(partial, reducer.decode(reducer.encode(job.map(counted, step))))
            counted = step
        found = job.finish(partial, counted)
        if isinstance(found, Outcome):
            return found, counted
        assert isinstance(found, More)
        assert found.total > total
        total = found.total


@pytest.mark.parametrize(
    ("x", "value"),
    [
        ("0", "1.0"),
        ("2", "7.38905609893065"),
        ("-30", "9.357622968840175e-14"),
        ("709.78", "1.7928227943945646e+308"),
        ("0x1.62e3d70a3d70ap+9", "1.7928227943945155e+308"),
        (float.fromhex("0x1.62e3d70a3d70ap+9"), "1.7928227943945155e+308"),
        ("710", "inf"),
        ("-745", "5e-324"),
        ("-745.2", "0.0"),
        ("1e9", "inf"),
        ("-1e9", "0.0"),
        ("1e3000", "inf"),
        ("1e-3000", "1.0"),
    ],
)
def test_the_double_nearest_to_the_exponential(x: Any, value: str) -> None:
    outcome, _ = run(x)
    assert outcome.value == value
    assert outcome.number == outcome.native == float(value)
    assert outcome.details["overflow"] is (value == "inf")
    assert outcome.details["underflow"] is (value == "0.0")


@pytest.mark.parametrize("chunk", [None, 1, 7])
def test_fifty_terms_of_two_are_fifty_terms(chunk: int | None) -> None:
    outcome, used = run("2", 50, chunk)
    assert used == 50
    assert (outcome.value, outcome.bound, outcome.bound_kind) == ("7.38905609893065", "3.853e-50", "proven")
    assert outcome.details["x"] == "2"


def test_x_is_what_was_written() -> None:
    assert run("0.1")[0].details["x"] == "1/10"
    assert run(0.1)[0].details["x"] == "3602879701896397/36028797018963968"
    assert run("1e-3000", 3)[0].details["x"] == "1e-3000"


@pytest.mark.parametrize("terms", [None, 1, 50, MAX_TERMS])
def test_zero_is_exact(terms: int | None) -> None:
    outcome, _ = run("0", terms)
    assert (outcome.value, outcome.bound, outcome.bound_kind) == ("1.0", "0", "exact")


@pytest.mark.parametrize(("x", "terms"), [("30", 20), ("-30", 29), ("1e9", 20), ("7", 6)])
def test_no_bound_while_the_terms_still_grow(x: str, terms: int) -> None:
    outcome, used = run(x, terms)
    assert used == terms
    assert (outcome.bound, outcome.bound_kind) == (None, "none")
    assert any(note.startswith("no bound") for note in outcome.notes)
    exact = sum(Fraction(x) ** n / math.factorial(n) for n in range(terms))
    assert outcome.number == float(exact)


def test_a_bound_as_soon_as_they_shrink() -> None:
    assert run("30", 30)[0].bound is not None
    assert run("-30", 30)[0].bound is not None


def test_a_million_terms_are_not_computed_for_two() -> None:
    outcome, used = run("2", 1_000_000)
    assert outcome.value == "7.38905609893065"
    assert used <= 1000
    assert any(note.startswith(f"1000000 terms asked, {used} used") for note in outcome.notes)


@pytest.mark.parametrize(
    ("x", "terms", "value"),
    [
        ("1e9", 50, math.inf),
        ("1e9", MAX_TERMS, math.inf),
        ("720", 10_000, math.inf),
        ("-1e9", 50, -math.inf),
        ("-1e9", 51, math.inf),
        ("-1e9", 2_000_000_001, math.inf),
        ("-1e9", MAX_TERMS, 0.0),
        ("-745.2", 100_000, 0.0),
    ],
)
def test_sums_that_bounds_alone_decide(x: str, terms: int, value: float) -> None:
    outcome, used = run(x, terms)
    assert used == 0
    assert outcome.number == value
    assert f"{terms} terms asked, 0 used" in outcome.notes


@pytest.mark.parametrize("x", ["-800", "-1500.5", "900", "720", "-750"])
@pytest.mark.parametrize("terms", [2, 100, 300, 700, 720, 760, 1400, 1900, 3000, 4500])
def test_what_bounds_decide_is_what_the_exact_sum_gives(x: str, terms: int) -> None:
    value = flint.fmpq(*Fraction(x).as_integer_ratio())
    total = flint.fmpq(1)
    for n in range(terms - 1, 0, -1):
        total = 1 + value / n * total
    try:
        expected = int(total.p) / int(total.q) + 0.0
    except OverflowError:
        expected = math.inf if total > 0 else -math.inf
    assert run(x, terms)[0].number == expected


def test_a_tie_of_two_terms_needs_a_third() -> None:
    # 1 + 2^-53 lies midway between two doubles: alone it goes to the even one, with what follows to the other
    assert run("0x1p-53", 2)[0].number == 1.0
    assert run("0x1p-53")[0].number == 1.0000000000000002


def test_the_constants_of_the_plan_are_proven() -> None:
    low, _ = enclosure(lambda: arb(Fraction(*OVERFLOWS)).exp(), 200)
    assert low > 2**1024
    _, high = enclosure(lambda: arb(Fraction(*UNDERFLOWS)).exp(), 200)
    assert high < Fraction(1, 1 << 1075) * Fraction(999, 1000)


@pytest.mark.parametrize("x", ["1/3", "-0.7", "100", "-100", "-700", "0x1.fffffffffffffp-3", "709.782712893384"])
def test_against_flint(x: str) -> None:
    outcome, used = run(x)
    exact = Exp.create({"x": x}).x  # type: ignore[attr-defined]
    assert outcome.number == nearest(lambda: arb(Fraction(*exact)).exp())
    assert used > 0


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"x": "nan"}, "exp: x: nan is not a finite number"),
        ({"x": math.nan}, "exp: x: nan is not a finite number"),
        ({"x": math.inf}, "exp: x: inf is not a finite number"),
        ({"x": "inf"}, "exp: x: inf is not a finite number"),
        ({"x": ""}, "exp: x: it is empty"),
        ({"x": "1/0"}, "exp: x: 1/0 divides by zero"),
        ({"x": "1e999999999"}, "exp: x: the exponent 999999999 is out of range"),
        ({"x": [2]}, "exp: x: list"),
        ({}, "exp needs x"),
        ({"x": "2", "terms": 0}, "exp: terms: "),
        ({"x": "2", "terms": -1}, "exp: terms: "),
        ({"x": "2", "terms": "1e30"}, "exp: terms: "),
        ({"x": "2", "terms": 10**30}, "exp: terms: "),
        ({"x": "2", "term": 5}, "exp has no parameter term: did you mean terms?"),
    ],
)
def test_bad_parameters_are_one_line(raw: dict[str, Any], message: str) -> None:
    with pytest.raises(BadParameter) as caught:
        Exp.create(raw)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_job_ended_early_says_so() -> None:
    job = Exp.create({"x": "2", "terms": 50})
    outcome = job.finish(job.map(0, 10), 10)
    assert isinstance(outcome, Outcome)
    assert "ended after 10 of 50 terms" in outcome.notes
    exact = sum(Fraction(2**n, math.factorial(n)) for n in range(10))
    assert outcome.number == float(exact)
    assert outcome.bound is not None
    low, high = enclosure(lambda: arb(Fraction(2)).exp(), 200)
    assert high - exact <= Fraction(outcome.bound)
    assert low - exact > Fraction(outcome.bound) / 2


@pytest.mark.parametrize("x", ["2", "-30", "700", "-745", "1/3"])
def test_a_running_value_is_within_its_error(x: str) -> None:
    job = Exp.create({"x": x})
    assert isinstance(job, Exp)
    assert job.total is not None
    low, high = enclosure(lambda: arb(Fraction(x)).exp(), 4000)
    for terms in range(1, job.total, 1 + job.total // 20):
        progress = job.peek(job.map(0, terms), terms)
        if terms + 1 <= abs(Fraction(x)):
            assert progress is None or progress.error is None
        elif progress is not None:
            assert progress.number is not None
            assert progress.error is not None
            assert low - Fraction(progress.error) <= Fraction(progress.number) <= high + Fraction(progress.error)
    assert job.peek(job.map(1, 3), 2) is None


def test_the_main_job_imports_neither_numpy_nor_gmpy2() -> None:
    code = (
        "import sys\n"
        "from mapreduce_rq.computations import load\n"
        "job = load('exp').create({'x': '2', 'terms': 50})\n"
        "partial = job.reducer.decode(job.reducer.encode(job.map(0, 50)))\n"
        "assert job.finish(partial, 50).value == '7.38905609893065'\n"
        "print(sorted({'numpy', 'gmpy2', 'fractions'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout.strip() == "[]"


def test_it_is_in_the_catalogue() -> None:
    assert load("exp") is Exp


@pytest.mark.parametrize("x", ["1e400", "-1e400", "1e12", "-1e12", "-12345678901234567890"])
def test_digits_that_would_take_forever_are_refused(x: str) -> None:
    with pytest.raises(BadParameter, match=r"exp: digits: too large: \d+ terms in integers of"):
        Exp.create({"x": x, "digits": 5})


def test_digits_of_a_finite_sum_far_from_one() -> None:
    outcome, used = _digits("1e400", 3, 10)
    assert (outcome.value, used) == ("5.000000000e+799", 3)
    outcome, used = _digits("-1e400", 2, 4)
    assert (outcome.value, used) == ("-1.000e+400", 2)


def _digits(x: str, terms: int, digits: int) -> tuple[Outcome, int]:
    job = Exp.create({"x": x, "terms": terms, "digits": digits})
    assert job.total is not None
    found = job.finish(job.map(0, job.total), job.total)
    assert isinstance(found, Outcome)
    return found, job.total
