"""Heavy partials are merged by workers: the same bytes as one serial fold, whatever is lost, doubled or garbled."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mapreduce_rq.core.job.merges
import mapreduce_rq.core.job.tally
from mapreduce_rq.computations import load
from mapreduce_rq.core.job.events import Broken, Push, Replied, Resumed, Settled, Surveyed
from mapreduce_rq.core.job.ledger import Ledger
from mapreduce_rq.core.job.work import compute_body
from mapreduce_rq.core.messages import MERGE, OK, Answer, Limits, Spec, Task

TERMS = 120
EXP = load("exp").create({"x": "1/3", "terms": TERMS})
SERIAL = EXP.reducer.encode(EXP.map(0, TERMS))


@pytest.fixture(autouse=True, scope="module")
def everything_is_heavy() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mapreduce_rq.core.job.tally, "HEAVY_BYTES", 1)
        patch.setattr(mapreduce_rq.core.job.merges, "TRAVEL_BYTES", 1)
        yield


@given(st.integers(0, 2**32), st.sampled_from([1, 3, 7, 20]))
def test_merges_by_workers_change_no_byte(seed: int, chunk: int) -> None:
    chance = random.Random(seed)
    limits = Limits(chunk=chunk)
    spec = Spec(job="j", computation="exp", params={}, total=EXP.total, limits=limits, created=0, version="")
    ledger = Ledger(spec, EXP, 0.0, workers=2)
    queue: list[Task] = []
    merges = 0
    commands = ledger.receive(Resumed(), 0.0)
    for now in range(1, 5000):
        queue += [task for command in commands if isinstance(command, Push) for task in command.tasks]
        assert not any(isinstance(command, Broken) for command in commands)
        ledger.validate()
        if Settled() in commands:
            break
        commands = []
        if queue and chance.random() < 0.85:
            task = queue.pop(chance.randrange(len(queue)))
            if chance.random() < 0.1:
                continue  # lost
            if task.op == MERGE:
                merges += 1
                body = b"garbled" if chance.random() < 0.1 else compute_body(EXP, task)
            else:
                body = EXP.map_encoded(task.lo, task.hi)
            answer = Answer(task.lo, task.hi, 0, task.op, OK, body, 1000)
            commands = ledger.receive(Replied("w", [answer] * chance.choice([1, 1, 2])), float(now))
        else:
            commands = ledger.receive(Surveyed(list(queue), [], 2, not queue), float(now))
    else:
        pytest.fail("the job did not end")
    terms, total = ledger.tally.prefix()
    assert terms == TERMS
    assert EXP.reducer.encode(total) == SERIAL
    assert merges or chunk == 20
