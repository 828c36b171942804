"""What a long ``finish`` asks of workers: asked once, used once, and done by the master where nobody answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from mapreduce_rq.core.computation import Ask, Outcome
from mapreduce_rq.core.job.events import Command, Push, Replied, Resumed, Settled, Surveyed
from mapreduce_rq.core.job.ledger import Ledger
from mapreduce_rq.core.job.work import compute_body
from mapreduce_rq.core.messages import (
    ERROR,
    MAP,
    OK,
    REQUEST,
    Answer,
    Checkpoint,
    Failure,
    Limits,
    Spec,
    Task,
    encode_failure,
)
from tests.sim.computation import SimComputation, TestParams, fold, text_of

TERMS = 40
VALUE = text_of(fold(range(TERMS), ordered=False))


class Counting(SimComputation):
    """Says what it did itself."""

    def __init__(self, asks: int) -> None:
        super().__init__(TestParams(terms=TERMS, asks=asks))
        self.done: list[bytes] = []

    def work(self, body: bytes) -> bytes:
        self.done.append(body)
        return super().work(body)


def counted(asks: int = 2, checkpoint: Checkpoint | None = None) -> tuple[Ledger, Counting]:
    """A ledger with every term counted that has asked for the first time."""
    computation = Counting(asks)
    limits = Limits(chunk=TERMS)
    spec = Spec(job="j", computation="sim", params={}, total=TERMS, limits=limits, created=0, version="0")
    ledger = Ledger(spec, computation, 0.0, checkpoint=checkpoint, workers=2)
    commands = ledger.receive(Resumed(), 0.0)
    if checkpoint is None:
        body = computation.map_encoded(0, TERMS)
        commands = ledger.receive(Replied("w", [Answer(0, TERMS, 0, MAP, OK, body, 1000)]), 0.1)
    assert commands == [Settled()]
    assert ledger.outcome() is None
    return ledger, computation


def pushed(commands: list[Command]) -> list[Task]:
    return [task for command in commands if isinstance(command, Push) for task in command.tasks]


def asked(ledger: Ledger) -> list[Task]:
    return pushed(ledger.receive(Resumed(), 0.2))


def answer(task: Task, status: int = OK) -> Answer:
    body = compute_body(SimComputation(TestParams(terms=TERMS)), task)
    if status != OK:
        body = encode_failure(Failure(None, "MemoryError", "", "", "w"))
    return Answer(task.lo, task.hi, task.attempt, task.op, status, body, 1000)


def value(ledger: Ledger) -> str:
    found = ledger.outcome()
    assert isinstance(found, Outcome)
    return found.value


def test_each_round_goes_out_once_and_its_answers_make_the_next() -> None:
    ledger, computation = counted()
    for last in (False, True):
        tasks = asked(ledger)
        assert [task.op for task in tasks] == [REQUEST, REQUEST]
        assert asked(ledger) == []
        first, second = map(answer, reversed(tasks))
        assert ledger.receive(Replied("w", [first, first]), 0.3) == []  # twice is ignored
        assert ledger.receive(Replied("v", [second]), 0.4) == [Settled()]
        if not last:
            assert ledger.outcome() is None
    assert (value(ledger), computation.done, ledger.ignored) == (VALUE, [], 2)


@pytest.mark.parametrize("status", [ERROR, OK])
def test_what_fails_or_is_no_answer_the_master_does_itself(status: int) -> None:
    ledger, computation = counted(asks=1)
    tasks = asked(ledger)
    bad = answer(tasks[0], status)
    if status == OK:
        bad = Answer(bad.lo, bad.hi, 0, REQUEST, OK, b"garbled", 1000)
    assert ledger.receive(Replied("w", [bad, answer(tasks[1])]), 0.3) == [Settled()]
    assert value(ledger) == VALUE
    assert computation.done == [task.body for task in (tasks[:1] if status == ERROR else tasks)]
    assert ledger.requests.malformed == (status == OK)


def test_what_is_lost_the_master_does_itself() -> None:
    ledger, computation = counted(asks=1)
    first, second = asked(ledger)
    assert ledger.receive(Surveyed([first], [second], 2, slack=False), 1.0) == []
    assert ledger.receive(Surveyed([first], [], 2, slack=False), 2.0) == []
    assert ledger.receive(Replied("w", [answer(first)]), 3.0) == [Settled()]
    assert (value(ledger), computation.done) == (VALUE, [second.body])


def test_what_is_held_for_much_longer_than_its_like_the_master_does_itself() -> None:
    ledger, computation = counted(asks=1)
    first, second = asked(ledger)
    assert ledger.receive(Replied("w", [answer(first)]), 0.3) == []
    for at in (1.0, 5.9):
        assert ledger.receive(Surveyed([], [second], 2, slack=True), at) == []
    assert ledger.receive(Surveyed([], [second], 2, slack=True), 6.1) == [Settled()]
    assert ledger.receive(Replied("w", [answer(second)]), 6.2) == [Settled()]
    assert (value(ledger), computation.done, ledger.ignored) == (VALUE, [second.body], 1)


def test_a_new_master_asks_for_what_is_neither_there_nor_answered() -> None:
    old, _ = counted(asks=1)
    first, second = asked(old)
    held = Surveyed([], [second], 1, slack=True)

    new, computation = counted(asks=1, checkpoint=old.checkpoint(1.0))
    assert asked(new) == []  # before it has looked
    assert new.receive(held, 1.1) == [Push([first])]
    assert new.receive(Replied("w", [answer(first), answer(second)]), 2.0) == [Settled()]
    assert (value(new), computation.done) == (VALUE, [])


def test_a_new_master_uses_answers_that_were_given_to_the_old_one() -> None:
    old, _ = counted(asks=1)
    first, second = asked(old)
    computation = Counting(1)
    new = Ledger(old.spec, computation, 0.0, checkpoint=old.checkpoint(1.0), workers=2)
    assert new.receive(Replied("w", [answer(second)]), 1.0) == [Settled()]
    assert new.outcome() is None
    assert new.receive(Surveyed([], [], 1, slack=True), 1.1) == [Push([first])]
    assert new.receive(Replied("w", [answer(first)]), 2.0) == [Settled()]
    assert (value(new), computation.done) == (VALUE, [])


def test_what_is_answered_before_a_new_master_has_asked_is_not_asked_for() -> None:
    old, _ = counted(asks=1)
    first, second = asked(old)
    new, computation = counted(asks=1, checkpoint=old.checkpoint(1.0))
    assert asked(new) == []  # it waits for its first look
    assert new.receive(Replied("w", [answer(second)]), 1.05) == []
    assert new.receive(Surveyed([], [], 1, slack=True), 1.1) == [Push([first])]
    assert new.receive(Replied("w", [answer(first)]), 2.0) == [Settled()]
    assert (value(new), computation.done) == (VALUE, [])


def test_concluding_does_everything_at_home() -> None:
    computation = Counting(2)
    found = computation.conclude(fold(range(TERMS), ordered=False), TERMS)
    assert isinstance(found, Outcome)
    assert (found.value, len(computation.done)) == (VALUE, 4)


def test_an_error_of_what_follows_comes_out() -> None:
    class Broken(Counting):
        def finish(self, partial: Any, terms: int) -> Ask:
            def then(_: Sequence[bytes]) -> Outcome:
                raise ValueError("always")

            return Ask([b"1:x"], then)

    old, _ = counted()
    ledger = Ledger(old.spec, Broken(1), 0.0, checkpoint=old.checkpoint(1.0))
    assert ledger.receive(Resumed(), 0.0) == [Settled()]
    assert ledger.outcome() is None
    (task,) = pushed(ledger.receive(Surveyed([], [], 1, slack=True), 0.1))
    assert ledger.receive(Replied("w", [answer(task)]), 0.2) == [Settled()]
    with pytest.raises(ValueError, match="always"):
        ledger.outcome()
