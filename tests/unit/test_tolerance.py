"""A tolerance stops a job at the same term whatever the cuts, says so when it is not met, and believes samples only."""

from __future__ import annotations

import itertools
import math
import random
import time
from fractions import Fraction
from typing import Any

import pytest

from mapreduce_rq.core.bodies import PlainCodec
from mapreduce_rq.core.computation import TermError
from mapreduce_rq.core.job.events import Push, Replied, Resumed, Settled
from mapreduce_rq.core.job.ledger import Ledger
from mapreduce_rq.core.messages import OK, Answer, Limits, Spec, Task
from mapreduce_rq.core.outcome import Outcome, Progress
from mapreduce_rq.functions.computation import FunctionComputation
from mapreduce_rq.functions.items import source_of


def uniform(term: int) -> float:
    return random.Random(term).random()


def uneven(term: int) -> float:
    """Ordered, and half of the sum is in the last fifth of the terms."""
    return float(term) ** 2


def run(
    chunk: int | None, *, terms: int | None, seed: int, function: Any = uniform, first_stage: int = 4096, **how: Any
) -> tuple[Ledger, FunctionComputation]:
    """A job led to its end; answers come in a random order. ``how``: parameters of the function, and ``rel_tol``."""
    limits = Limits(chunk=chunk, rel_tol=how.pop("rel_tol"))
    params = {"function": f"{__name__}:{function.__name__}", "reduce": "mean", "terms": terms} | how
    job = FunctionComputation.create(params)
    assert isinstance(job, FunctionComputation)
    job.first_stage = first_stage  # type: ignore[misc]
    spec = Spec(job="j", computation="function", params=params, total=terms, limits=limits, created=0, version="")
    items = source_of(itertools.count(), codec=PlainCodec(), clock=time.monotonic)
    ledger = Ledger(spec, job, 0.0, source=items if terms is None else None, workers=2)
    chance = random.Random(seed)
    out: list[Task] = []
    commands = ledger.receive(Resumed(), 0.0)
    for now in range(1, 100_000):
        out += [task for command in commands if isinstance(command, Push) for task in command.tasks]
        ledger.validate()
        if Settled() in commands:
            return ledger, job
        task = out.pop(chance.randrange(len(out)))
        partial = job.map_body(task.lo, task.hi, task.body) if task.body else job.map(task.lo, task.hi)
        answer = Answer(task.lo, task.hi, 0, 0, OK, job.reducer.encode(partial), 1000 * (task.hi - task.lo))
        commands = ledger.receive(Replied("w", [answer]), now / 1000)
    raise AssertionError("the job did not end")


def found_by(ledger: Ledger) -> tuple[int, bytes, bool | None]:
    """Terms counted, the exact total and whether the tolerance was met."""
    _, total = ledger.tally.prefix()
    return ledger.counted, ledger.computation.reducer.encode(total), ledger.met


@pytest.mark.parametrize("how", [{"terms": None, "samples": True}, {"terms": 10**6, "draw": 0}])
def test_where_it_stops_does_not_depend_on_the_cuts(how: dict[str, Any]) -> None:
    found = {found_by(run(chunk, rel_tol=0.01, seed=seed, **how)[0]) for seed, chunk in enumerate((None, 97, 1000))}
    assert len(found) == 1
    counted, _, met = found.pop()
    assert met
    # half a 95 % interval of the mean of n uniform values is 1.96 sqrt(1/12n); 1 % of 0.5 wants n of about 12 800
    assert 12_000 < counted < 20_000


def test_a_tolerance_out_of_reach_ends_with_all_terms_and_unmet() -> None:
    ledger, _ = run(500, rel_tol=1e-9, terms=5000, seed=0, samples=True)
    assert (ledger.counted, ledger.met) == (5000, False)


def test_all_terms_of_a_range_are_exact() -> None:
    ledger, job = run(500, rel_tol=1e-9, terms=5000, seed=0, draw=0)
    outcome = ledger.outcome()
    assert (ledger.counted, ledger.met) == (5000, True)
    assert outcome is not None
    assert outcome.value == str(sum(map(Fraction, map(uniform, range(5000)))) / 5000 + 0.0)
    assert outcome.bound_kind == "proven"
    assert float(outcome.bound or "inf") < 1e-16
    assert job.peek(ledger.tally.prefix()[1], 5000) == Progress(value=outcome.value, number=outcome.number)


@pytest.mark.parametrize("rel_tol", [0.1, 0.03])
def test_the_interval_covers_the_truth_of_ordered_terms_as_often_as_it_says(rel_tol: float) -> None:
    terms = 20_000
    truth = math.fsum(map(uneven, range(terms))) / terms
    covered = 0
    most = 0
    for seed in range(400):
        ledger, _ = run(997, rel_tol=rel_tol, terms=terms, seed=seed, function=uneven, first_stage=256, draw=seed)
        outcome = ledger.outcome()
        assert outcome is not None
        assert outcome.number is not None
        assert ledger.met
        most = max(most, ledger.counted)
        covered += abs(outcome.number - truth) <= float(outcome.bound or "nan")
    assert 0.92 <= covered / 400 <= 0.98
    assert most < terms


@pytest.mark.parametrize("how", [{}, {"draw": 3}])
def test_only_a_random_sample_has_an_error_on_the_way(how: dict[str, Any]) -> None:
    job = FunctionComputation.create({"function": f"{__name__}:uneven", "reduce": "mean", "terms": 10**6} | how)
    partial = job.map(0, 1000)
    shown, outcome = job.peek(partial, 1000), job.finish(partial, 1000)
    assert shown is not None
    assert isinstance(outcome, Outcome)
    if how:
        assert shown.bound_kind == outcome.bound_kind == "statistical"
        assert abs((shown.number or 0) - 1e12 / 3) < 2 * (shown.error or 0)
    else:
        assert (shown.error, shown.bound_kind) == (None, "none")
        assert outcome.bound_kind == "exact"  # as the mean of these; a record without all terms leaves it out


def test_values_that_are_all_the_same_say_nothing_of_others() -> None:
    ledger, _ = run(997, rel_tol=0.1, terms=20_000, seed=0, function=rare, draw=1)
    outcome = ledger.outcome()
    assert ledger.counted == 20_000
    assert outcome is not None
    assert outcome.value == str(1 / 20_000)


def rare(term: int) -> int:
    return int(term == 19_999)


def test_people_are_told_the_place_of_a_drawn_term() -> None:
    how = {"function": f"{__name__}:fails_at_seven", "reduce": "mean", "terms": 100, "draw": 0}
    job = FunctionComputation.create(how)
    (term,) = [k for k in range(100) if job.place(k) == 7]
    for ask in (lambda: job.map(0, 100), lambda: job.map(term, term + 1), lambda: job.map_encoded(term, term + 1)):
        with pytest.raises(TermError, match="at term 7: BadValue: term 7 is str 'seven', and") as caught:
            ask()
        assert caught.value.term == term


def fails_at_seven(term: int) -> object:
    return "seven" if term == 7 else term
