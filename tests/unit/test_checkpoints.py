"""When a job's checkpoint is due."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from mapreduce_rq.runtime.master.checkpoints import (
    CHECKPOINT_SECONDS,
    CHECKPOINT_SHARE,
    CHECKPOINT_TASKS,
    HEAVY_BYTES,
    HEAVY_TIMES,
    Checkpoints,
)


def ledger(*, window: int = 0, requests: bool = False, counted: int = 7) -> Any:
    """What a checkpoint asks of a ledger."""
    return SimpleNamespace(requests=requests, counted=counted, pace=SimpleNamespace(window=lambda: window))


def test_one_is_due_after_a_second_with_news_or_after_many_tasks() -> None:
    checkpoints = Checkpoints(10.0)
    assert not checkpoints.due(ledger(), 1000.0)
    checkpoints.uncommitted = 1
    assert [checkpoints.due(ledger(), 10.0 + after) for after in (0.0, 0.99, CHECKPOINT_SECONDS)] == [
        False,
        False,
        True,
    ]
    for tasks, window in ((CHECKPOINT_TASKS, 0), (100, 200)):
        checkpoints.uncommitted = tasks
        assert not checkpoints.due(ledger(window=window), 10.0)
        checkpoints.uncommitted = tasks + 1
        assert checkpoints.due(ledger(window=window), 10.0)
    checkpoints.too_large = True
    assert not checkpoints.due(ledger(), 1000.0)


def test_one_that_took_long_is_not_made_again_soon() -> None:
    checkpoints = Checkpoints(0.0)
    checkpoints.uncommitted = 5
    checkpoints.written(7, 0.0, 0.5, 100)
    assert (checkpoints.uncommitted, checkpoints.stored) == (0, 7)
    checkpoints.uncommitted = 1000
    wait = CHECKPOINT_SHARE * 0.5
    assert [checkpoints.due(ledger(), 0.5 + after) for after in (wait - 0.1, wait)] == [False, True]


def test_after_a_takeover_the_first_news_is_written_at_once() -> None:
    checkpoints = Checkpoints(10.0)
    checkpoints.hurry()
    assert not checkpoints.due(ledger(), 10.0), "there is no news"
    checkpoints.uncommitted = 1
    assert checkpoints.due(ledger(), 10.0)
    checkpoints.written(7, 10.0, 10.01, 100)
    checkpoints.uncommitted = 1
    assert not checkpoints.due(ledger(), 10.5)


def test_while_workers_have_requests_one_is_due_unless_it_is_there() -> None:
    checkpoints = Checkpoints(0.0)
    checkpoints.uncommitted = 1
    assert checkpoints.due(ledger(requests=True), 0.0)
    checkpoints.stored = 7
    assert not checkpoints.due(ledger(requests=True), 1000.0)
    assert checkpoints.due(ledger(requests=True, counted=8), 0.0)


def test_a_heavy_one_waits_for_answers_of_some_times_its_size() -> None:
    checkpoints = Checkpoints(0.0)
    checkpoints.written(7, 0.0, 0.0, HEAVY_BYTES - 1)
    checkpoints.uncommitted = 1000
    assert not checkpoints.heavy
    assert checkpoints.due(ledger(), 1.0)
    checkpoints.written(7, 0.0, 0.0, HEAVY_BYTES)
    checkpoints.uncommitted = 1000
    for heard, due in ((0, False), (HEAVY_TIMES * HEAVY_BYTES - 1, False), (HEAVY_TIMES * HEAVY_BYTES, True)):
        checkpoints.heard = heard
        assert checkpoints.due(ledger(), 1000.0) is due
    checkpoints.heard = 0
    assert checkpoints.due(ledger(requests=True, counted=8), 0.0), "workers have requests: later there is no news"
