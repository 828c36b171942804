from __future__ import annotations

import decimal
import math
from fractions import Fraction
from typing import Any

import flint
import pytest

from mapreduce_rq.computations import load
from mapreduce_rq.computations.const import FORMULAS, Const
from mapreduce_rq.core.computation import More, Outcome
from mapreduce_rq.core.reducers.series import split
from mapreduce_rq.errors import BadParameter, JobFailed
from tests.support.oracles import enclosure

ORACLES = {
    "pi": flint.arb.pi,
    "e": flint.arb.const_e,
    "ln2": flint.arb.const_log2,
    "zeta3": lambda: flint.arb(3).zeta(),
    "catalan": flint.arb.const_catalan,
}


def flints(name: str, digits: int) -> str:
    """That many digits of a constant, rounded from forty more."""
    with flint.ctx.workdps(digits + 60):
        text = ORACLES[name]().str(digits + 40, radius=False)
    return str(decimal.Context(prec=digits).create_decimal(text))


def run(name: str, digits: int, chunk: int = 1000, first: int | None = None) -> tuple[Outcome, int]:
    job = Const.create({"name": name, "digits": digits})
    reducer, partial, counted = job.reducer, job.reducer.zero(), 0
    total = first or job.total
    assert total is not None
    while True:
        for lo in range(counted, total, chunk):
            reply = reducer.encode(job.map(lo, min(lo + chunk, total)))
            partial = reducer.merge(partial, reducer.decode(reply))
        counted = total
        found = job.finish(partial, counted)
        if isinstance(found, Outcome):
            return found, counted
        assert isinstance(found, More)
        assert found.total > total
        total = found.total


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("digits", [1, 2, 3, 10, 50, 333, 5000])
def test_digits_are_those_of_flint(name: str, digits: int) -> None:
    outcome, _ = run(name, digits)
    assert outcome.value == flints(name, digits)
    assert (outcome.bound, outcome.bound_kind) == (f"5e-{digits + (name in {'ln2', 'catalan'}):02d}", "proven")


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("pi", "3.14159265358979323846264338327950288419716939937510582097494459"),
        ("e", "2.71828182845904523536028747135266249775724709369995957496696762772"),
        ("ln2", "0.693147180559945309417232121458176568075500134360255254120680009"),
        ("zeta3", "1.20205690315959428539973816151144999076498629234049888179227155"),
        ("catalan", "0.915965594177219015054603514932384110774149374281672134266498119"),
    ],
)
def test_published_digits(name: str, published: str) -> None:
    digits = len(published) - 2 + (name in {"pi", "e", "zeta3"})
    assert run(name, digits + 20)[0].value.startswith(published)


def test_a_hundred_thousand_digits_of_pi() -> None:
    outcome, _ = run("pi", 100_000, chunk=3000)
    assert outcome.value == flints("pi", 100_000)


@pytest.mark.parametrize("name", FORMULAS)
def test_too_few_terms_ask_for_more_and_nothing_is_recomputed(name: str) -> None:
    wanted = run(name, 200)[0].value
    job = Const.create({"name": name, "digits": 200})
    assert isinstance(job, Const)
    assert job.total is not None
    job.first = start = job.total * 3 // 4
    partial = job.map(0, start)
    found = job.finish(partial, start)
    while isinstance(found, More):
        partial = job.reducer.merge(partial, job.map(partial.hi, found.total))
        found = job.finish(partial, found.total)
    assert isinstance(found, Outcome)
    assert found.value == wanted
    assert partial.hi > start


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("terms", [1, 3, 40])
def test_ended_early_gives_the_digits_that_are_decided(name: str, terms: int) -> None:
    job = Const.create({"name": name, "digits": 1000})
    outcome = job.finish(job.map(0, terms), terms)
    assert isinstance(outcome, Outcome)
    if outcome.value == "none":
        assert terms <= 3
        return
    assert outcome.value == flints(name, outcome.details["digits"])
    assert outcome.details["digits"] < 1000


@pytest.mark.parametrize("name", FORMULAS)
def test_tails_are_bounded(name: str) -> None:
    formula = FORMULAS[name]
    limit = split(formula.term, 0, 400)
    true = Fraction(limit.t, limit.b * limit.q)
    job = Const.create({"name": name})
    assert isinstance(job, Const)
    for terms in (1, 2, 5, 30):
        piece = split(formula.term, 0, terms)
        error = abs(true - Fraction(piece.t, piece.b * piece.q))
        log2_error = math.log2(int(error.numerator)) - math.log2(int(error.denominator))
        assert log2_error <= job._log2_tail(piece) <= log2_error + 3


@pytest.mark.parametrize("name", FORMULAS)
def test_a_running_value_is_within_its_error(name: str) -> None:
    job = Const.create({"name": name, "digits": 60})
    low, high = enclosure(ORACLES[name], 400)
    for terms in (1, 2, 3, 7, 20):
        progress = job.peek(job.map(0, terms), terms)
        assert progress is not None
        assert progress.error is not None
        assert progress.number is not None
        assert low - Fraction(progress.error) <= Fraction(progress.number) <= high + Fraction(progress.error)


def test_what_is_never_decided_fails_loudly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mapreduce_rq.computations.const.round_enclosed", lambda *_: None)
    job = Const.create({"name": "catalan", "digits": 10})
    assert job.total is not None

    def on(total: int) -> None:
        while True:
            found: Any = job.finish(job.map(0, total), total)
            total = found.total

    with pytest.raises(JobFailed, match="do not decide 10 digits"):
        on(job.total)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"name": "phi"}, "const: name: "),
        ({}, "const needs name"),
        ({"name": "pi", "digits": 0}, "const: digits: "),
        ({"name": "pi", "digits": 10**12}, "const: digits: "),
    ],
)
def test_bad_parameters_are_one_line(raw: dict[str, Any], message: str) -> None:
    with pytest.raises(BadParameter) as caught:
        load("const").create(raw)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
