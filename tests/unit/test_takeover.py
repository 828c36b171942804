"""A ledger that goes on from an earlier master's checkpoint: what was cut since, and what does not hold together."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from mapreduce_rq.computations import load
from mapreduce_rq.core.computation import Computation
from mapreduce_rq.core.job.chunking import FIRST_WINDOW
from mapreduce_rq.core.job.events import Broken, Push, Replied, Resumed, Settled, Surveyed
from mapreduce_rq.core.job.ledger import Ledger
from mapreduce_rq.core.messages import ERROR, MAP, OK, Answer, Checkpoint, Failure, Limits, Spec, Task, encode_failure
from mapreduce_rq.errors import BadMessage
from tests.support.terms import total

TERMS = 4 * FIRST_WINDOW


def parts(reduce: str = "int_sum") -> tuple[Spec, Computation[Any]]:
    params = {"function": "tests.support.terms:fingerprint", "reduce": reduce, "terms": TERMS}
    computation = load("function").create(params)
    spec = Spec(
        job="job",
        computation="function",
        params=params,
        total=TERMS,
        limits=Limits(chunk=1),
        created=0.0,
        version="",
    )
    return spec, computation


def ledger(checkpoint: Checkpoint | None = None, reduce: str = "int_sum") -> Ledger:
    spec, computation = parts(reduce)
    return Ledger(spec, computation, 0.0, checkpoint=checkpoint)


def pushed(commands: list[Any]) -> list[Task]:
    return [task for command in commands if isinstance(command, Push) for task in command.tasks]


def replied(*terms: int, reduce: str = "int_sum") -> Replied:
    computation = parts(reduce)[1]
    encode = computation.reducer.encode
    return Replied("w", [Answer(lo, lo + 1, 0, MAP, OK, encode(computation.map(lo, lo + 1)), 1000) for lo in terms])


def test_a_new_master_counts_and_adopts_what_was_cut_after_the_checkpoint() -> None:
    old = ledger()
    first = pushed(old.receive(Resumed(), 0.0))
    checkpoint = old.checkpoint(0.0)  # of before all that follows
    done = [task.lo for task in first]
    second = pushed(old.receive(replied(*done), 0.1))
    assert second
    assert second[0].lo == checkpoint.next
    answered, held, waiting, lost = second[:5], second[5:6], second[6:-1], second[-1]

    new = ledger(checkpoint)
    assert pushed(new.receive(replied(*done), 1.0)) == []  # it does not cut before it has looked
    replies = replied(*[task.lo for task in answered])
    more = pushed(new.receive(Surveyed(waiting, held, 1, False, [replies]), 1.1))
    new.validate()
    assert new.counted == len(done) + len(answered)
    assert more == [] or more[0].lo == waiting[-1].hi
    assert not {task.lo for task in more} & {task.lo for task in (*first, *answered, *held, *waiting)}
    assert new.out.keys() >= {task.lo for task in (*held, *waiting)}
    assert lost.lo in new.out  # nobody has it: it is cut again with what follows it


def test_a_failed_part_of_what_waits_to_go_out_again_is_no_task_of_its_own() -> None:
    old = ledger()
    old.receive(Resumed(), 0.0)
    failed = [Replied("w", [Answer(lo, 2, 0, MAP, ERROR, b"cannot be read", 1)]) for lo in (0, 1)]
    new = ledger(old.checkpoint(0.0))
    # Of the first task the rest, term 1, waits when the second one fails.
    commands = new.receive(Surveyed([], [], 1, False, [failed[0], replied(0), failed[1]]), 1.0)
    new.validate()
    assert new.counted == 1
    assert [task.lo for task in pushed(commands)] == [*range(1, 1 + len(commands[0].tasks))]  # type: ignore[union-attr]


@pytest.mark.parametrize(("reduce", "tasks"), [("int_sum", 3), ("list", 0)])
def test_a_checkpoint_counts_the_tasks_of_the_terms_that_it_holds(reduce: str, tasks: int) -> None:
    """That of a list holds none, for the replies are kept: how long a task of it took, it must not say."""
    old = ledger(reduce=reduce)
    old.receive(Resumed(), 0.0)
    old.receive(replied(0, 1, 2, reduce=reduce), 0.1)
    checkpoint = old.checkpoint(0.1)
    assert (old.tasks, checkpoint.tasks, sum(hi - lo for lo, hi in checkpoint.runs)) == (3, tasks, tasks)


def test_answers_beyond_the_cut_count_only_for_a_master_that_has_just_come() -> None:
    fresh = ledger()
    fresh.receive(Resumed(), 0.0)
    beyond = fresh.next + 1
    fresh.receive(replied(beyond), 0.1)
    assert fresh.counted == 0
    restored = ledger(fresh.checkpoint(0.0))
    restored.receive(Surveyed([], [], 1, True), 0.1)
    beyond = restored.next + 1
    restored.receive(replied(beyond), 0.2)
    assert restored.counted == 0
    restored = ledger(fresh.checkpoint(0.0))
    restored.receive(replied(TERMS), 0.1)  # beyond the end
    assert restored.counted == 0
    restored.receive(replied(TERMS - 1), 0.1)
    assert restored.counted == 1
    restored.validate()


def test_a_gap_below_what_was_cut_later_is_filled() -> None:
    old = ledger()
    old.receive(Resumed(), 0.0)
    new = ledger(old.checkpoint(0.0))
    new.receive(replied(TERMS // 2), 0.1)
    new.receive(Surveyed([], [], 1, True), 0.2)
    new.validate()
    now = 0.3
    while not new.settled():
        tasks = list(new.out.values())
        assert tasks
        now += 0.1
        commands = new.receive(replied(*[lo for task in tasks for lo in range(task.lo, task.hi)]), now)
        new.validate()
    assert commands == [Settled()]
    outcome = new.outcome()
    assert outcome is not None
    assert outcome.native == total(TERMS)


@pytest.mark.parametrize(
    "broken",
    [
        {"runs": [(0, 5), (3, 9)]},
        {"runs": [(5, 5)]},
        {"parts": [(0, 0, b"\x00\x00")]},
        {"job": "another"},
    ],
    ids=str,
)
def test_a_checkpoint_that_does_not_hold_together_is_refused(broken: dict[str, Any]) -> None:
    good = ledger().checkpoint(0.0)
    with pytest.raises(BadMessage, match="the checkpoint of job"):
        ledger(msgspec.structs.replace(good, **broken))


def test_what_a_former_master_has_cut_counts_as_tasks_answered_and_not_as_answered_twice() -> None:
    old = ledger()
    first = pushed(old.receive(Resumed(), 0.0))
    new = ledger(old.checkpoint(0.0))
    new.receive(replied(*(task.lo for task in first)), 0.1)
    assert (new.tasks, new.ignored) == (len(first), 0)
    new.receive(replied(first[0].lo, first[-1].lo), 0.2)
    assert (new.tasks, new.ignored) == (len(first), 2)


def test_what_failed_before_a_new_master_looked_around_is_judged_at_once() -> None:
    old = ledger()
    old.receive(Resumed(), 0.0)
    new = ledger(old.checkpoint(0.0))
    failure = encode_failure(Failure(2, "ValueError", "no", "", "w"))
    (broken,) = new.receive(Replied("w", [Answer(2, 3, 0, MAP, ERROR, failure, 1000)]), 0.1)
    assert isinstance(broken, Broken)
    assert broken.failure.message == "no"


def test_a_failure_of_terms_that_are_counted_by_then_ends_nothing() -> None:
    old = ledger()
    old.receive(Resumed(), 0.0)
    new = ledger(old.checkpoint(0.0))
    new.receive(replied(2), 0.1)
    failure = encode_failure(Failure(2, "ValueError", "no", "", "w"))
    assert new.receive(Replied("w", [Answer(2, 3, 0, MAP, ERROR, failure, 1000)]), 0.1) == []
    assert new.ignored == 1


def test_a_job_that_nobody_has_led_is_cut_on_before_the_first_look() -> None:
    old = ledger()
    first = pushed(old.receive(Resumed(), 0.0))
    spec, computation = parts()
    new = Ledger(spec, computation, 0.0, checkpoint=old.checkpoint(0.0), cut_on=False)
    more = pushed(new.receive(replied(first[0].lo), 0.1))
    assert more
    assert more[0].lo == first[-1].hi
    new.receive(Surveyed(first[1:], more, 1, False), 0.2)
    new.validate()
