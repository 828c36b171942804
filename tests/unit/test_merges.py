"""Merges of heavy neighbours: who does them, and when the master no longer waits for an answer."""

from __future__ import annotations

import pytest

from mapreduce_rq.core.job import merges
from mapreduce_rq.core.job.events import Push, Replied, Resumed, Settled, Surveyed
from mapreduce_rq.core.job.ledger import Ledger
from mapreduce_rq.core.job.merges import DIGEST_BYTES
from mapreduce_rq.core.job.whereabouts import UNMEASURED_SECONDS
from mapreduce_rq.core.job.work import compute_body
from mapreduce_rq.core.messages import ERROR, MAP, MERGE, OK, Answer, Failure, Limits, Spec, Task, encode_failure
from tests.sim.computation import SimComputation, TestParams, fold

COMPUTATION = SimComputation(TestParams(terms=32, ordered=True))  # eight terms of it are heavy


def mapped(lo: int, hi: int) -> Answer:
    return Answer(lo, hi, 0, MAP, OK, COMPUTATION.map_encoded(lo, hi), 10**6)


def merged(task: Task, seconds: float = 0.001) -> Answer:
    return Answer(task.lo, task.hi, 0, MERGE, OK, compute_body(COMPUTATION, task), int(seconds * 1e9))


def ledger_of(workers: int, terms: int = 32) -> Ledger:
    """A ledger with four heavy tasks out, or more of them."""
    spec = Spec(job="j", computation="sim", params={}, total=terms, limits=Limits(chunk=8), created=0, version="0")
    one = Ledger(spec, COMPUTATION, 0.0, workers=workers)
    one.receive(Resumed(), 0.0)
    return one


def asked(workers: int = 2) -> tuple[Ledger, Task]:
    """A ledger that has asked for the merge of its first two quarters."""
    one = ledger_of(workers)
    one.receive(Replied("w", [mapped(0, 8)]), 0.0)
    (push,) = one.receive(Replied("w", [mapped(8, 16)]), 0.0)
    assert isinstance(push, Push)
    (task,) = push.tasks
    assert (task.op, task.lo, task.hi) == (MERGE, 0, 16)
    return one, task


def finish(one: Ledger) -> None:
    """Answer all the terms."""
    one.receive(Replied("w", [mapped(16, 24)]), 0.0)
    (push,) = one.receive(Replied("w", [mapped(24, 32)]), 0.0)
    assert isinstance(push, Push)
    (task,) = push.tasks
    assert one.receive(Replied("w", [merged(task)]), 0.0) == []


def test_a_merge_is_waited_for_as_long_as_it_takes_when_there_is_other_work() -> None:
    one, task = asked()
    for now in range(1000):
        one.receive(Surveyed(list(one.out.values()), [task], 2, slack=False), float(now))
    assert len(one.merges) == 1


def test_a_merge_that_takes_longer_than_its_like_is_done_here() -> None:
    one, task = asked()
    finish(one)  # with another merge that took a millisecond
    look = Surveyed([], [task], 2, slack=True)
    assert one.receive(look, 10.0) == []
    assert one.receive(look, 14.9) == []
    assert one.receive(look, 15.1) == [Settled()]
    assert one.tally.prefix() == (32, fold(range(32), ordered=True))


def test_without_its_like_it_has_a_minute() -> None:
    one, task = asked()
    one.receive(Replied("w", [mapped(16, 32)]), 0.0)
    look = Surveyed([], [task], 2, slack=True)
    assert one.receive(look, 10.0) == []
    assert one.receive(look, 9.9 + UNMEASURED_SECONDS) == []
    assert one.receive(look, 10.1 + UNMEASURED_SECONDS) == [Settled()]


@pytest.fixture
def nothing_travels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pairs are worth a wish, and too light to be sent."""
    monkeypatch.setattr(merges, "TRAVEL_BYTES", 1 << 62)


@pytest.mark.usefixtures("nothing_travels")
def test_what_is_too_light_to_travel_is_merged_here_while_there_are_terms_to_hand_out() -> None:
    one = ledger_of(workers=1)
    one.receive(Replied("w", [mapped(0, 8)]), 0.0)
    one.receive(Replied("w", [mapped(8, 16)]), 0.0)  # two are out, one of them in the worker's hand
    assert [(lo, hi) for lo, hi, _ in one.tally.parts()] == [(0, 16)]


@pytest.mark.usefixtures("nothing_travels")
def test_while_the_workers_have_the_last_terms_in_hand_the_master_leaves_them_the_cores() -> None:
    one = ledger_of(workers=2)
    one.receive(Replied("w", [mapped(0, 8)]), 0.0)
    one.receive(Replied("v", [mapped(8, 16)]), 0.0)
    assert [(lo, hi) for lo, hi, _ in one.tally.parts()] == [(0, 8), (8, 16)]
    one.receive(Replied("w", [mapped(16, 24)]), 0.0)
    assert one.receive(Replied("v", [mapped(24, 32)]), 0.0) == [Settled()]
    assert [(lo, hi) for lo, hi, _ in one.tally.parts()] == [(0, 32)]
    assert one.tally.prefix() == (32, fold(range(32), ordered=True))


def test_the_late_answer_to_a_merge_done_here_is_ignored() -> None:
    one, task = asked()
    one.receive(Surveyed(list(one.out.values()), [], 2, slack=False), 1.0)  # in the queue or in a hand it is not
    assert len(one.merges) == 0
    before = one.tally.parts()
    one.receive(Replied("w", [merged(task)]), 2.0)
    assert (one.ignored, one.tally.parts()) == (1, before)


def test_a_lost_merge_that_is_done_here_has_its_neighbour_and_the_next_merge_is_asked_for_at_once() -> None:
    """No answer may come for a long time, and workers would do nothing meanwhile."""
    one = ledger_of(workers=2, terms=40)
    for lo in (0, 8, 16):
        one.receive(Replied("w", [mapped(lo, lo + 8)]), 0.0)
    (push,) = one.receive(Replied("w", [mapped(24, 32)]), 0.0)
    assert isinstance(push, Push)
    (second,) = push.tasks
    assert one.receive(Replied("w", [merged(second)]), 0.0) == []
    (push,) = one.receive(Surveyed(list(one.out.values()), [], 2, slack=False), 1.0)  # the first merge is lost
    assert isinstance(push, Push)
    assert [(task.op, task.lo, task.hi) for task in push.tasks] == [(MERGE, 0, 32)]


def test_the_merge_of_other_partials_of_the_same_span_is_not_the_answer() -> None:
    """As by a master whose workers died of term 3, which it skipped, and whose history was undone."""
    one, task = asked()
    reducer = COMPUTATION.reducer
    left = reducer.encode(fold([0, 1, 2, 4, 5, 6, 7], ordered=True))
    right = COMPUTATION.map_encoded(8, 16)
    other = Task("j", 0, 16, 0, MERGE, len(left).to_bytes(8, "big") + left + right)
    one.receive(Replied("w", [merged(other)]), 1.0)
    assert len(one.merges) == 1
    one.receive(Replied("w", [merged(task)]), 1.0)
    assert (len(one.merges), one.tally.prefix()) == (0, (16, fold(range(16), ordered=True)))


@pytest.mark.parametrize("status", [OK, ERROR])
def test_a_merge_that_fails_is_done_here(status: int) -> None:
    one, task = asked()
    body = (
        merged(task).body[:DIGEST_BYTES] + b"garbled"
        if status == OK
        else encode_failure(Failure(None, "MemoryError", "", "", "w"))
    )
    one.receive(Replied("w", [Answer(task.lo, task.hi, 0, MERGE, status, body, 0)]), 1.0)
    assert len(one.merges) == 0
    assert one.tally.prefix() == (16, fold(range(16), ordered=True))


def test_a_lone_worker_is_asked_too_but_not_for_the_last_one() -> None:
    one, task = asked(workers=1)
    one.receive(Replied("w", [mapped(24, 32)]), 0.0)
    (push,) = one.receive(Replied("w", [mapped(16, 24)]), 0.0)
    assert isinstance(push, Push)
    assert one.receive(Replied("w", [merged(push.tasks[0]), merged(task)]), 0.0) == [Settled()]
    assert [part[:2] for part in one.tally.parts()] == [(0, 32)]
