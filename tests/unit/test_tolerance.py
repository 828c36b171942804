"""A tolerance stops a job at the same term whatever the cuts, and says so when it is not met."""

from __future__ import annotations

import itertools
import random
import time

import pytest

from mapreduce_rq.core.bodies import PlainCodec
from mapreduce_rq.core.job.ledger import Ledger, Push, Replied, Resumed, Settled
from mapreduce_rq.core.messages import OK, Answer, Limits, Spec, Task
from mapreduce_rq.functions.computation import FunctionComputation
from mapreduce_rq.functions.items import source_of


def uniform(term: int) -> float:
    return random.Random(term).random()


def run(chunk: int | None, *, rel_tol: float, terms: int | None, seed: int) -> tuple[int, bytes, bool | None]:
    """Terms counted, the exact total and whether the tolerance was met; answers come in a random order."""
    job = FunctionComputation.create({"function": f"{__name__}:uniform", "reduce": "mean", "terms": terms})
    limits = Limits(chunk=chunk, rel_tol=rel_tol)
    spec = Spec(job="j", computation="function", params={}, total=terms, limits=limits, created=0, version="")
    items = itertools.count() if terms is None else range(terms)
    ledger = Ledger(spec, job, 0.0, source=source_of(items, codec=PlainCodec(), clock=time.monotonic), workers=2)
    chance = random.Random(seed)
    out: list[Task] = []
    commands = ledger.receive(Resumed(), 0.0)
    for now in range(1, 100_000):
        out += [task for command in commands if isinstance(command, Push) for task in command.tasks]
        ledger.validate()
        if Settled() in commands:
            _, total = ledger.tally.prefix()
            return ledger.counted, job.reducer.encode(total), ledger.met
        task = out.pop(chance.randrange(len(out)))
        body = job.reducer.encode(job.map_body(task.lo, task.hi, task.body))
        answer = Answer(task.lo, task.hi, 0, 0, OK, body, 1000 * (task.hi - task.lo))
        commands = ledger.receive(Replied("w", [answer]), now / 1000)
    raise AssertionError("the job did not end")


@pytest.mark.parametrize("terms", [None, 10**6])
def test_where_it_stops_does_not_depend_on_the_cuts(terms: int | None) -> None:
    found = {run(chunk, rel_tol=0.01, terms=terms, seed=seed) for seed, chunk in enumerate((None, 97, 1000))}
    assert len(found) == 1
    counted, _, met = found.pop()
    assert met
    # half a 95 % interval of the mean of n uniform values is 1.96 sqrt(1/12n); 1 % of 0.5 wants n of about 12 800
    assert 12_000 < counted < 20_000


def test_a_tolerance_out_of_reach_ends_with_all_terms_and_unmet() -> None:
    counted, _, met = run(500, rel_tol=1e-9, terms=5000, seed=0)
    assert (counted, met) == (5000, False)
