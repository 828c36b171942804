"""The partials of several tasks merged into one: which tasks, until when, and what becomes of them if it fails."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from mapreduce_rq.core.computation import Interruption
from mapreduce_rq.core.messages import MAP, MERGE, OK, OK_ASIDE, Answer, Limits, Spec, Task
from mapreduce_rq.core.reducers.by_key import ByKey
from mapreduce_rq.core.reducers.catalogue import reducer
from mapreduce_rq.errors import BrokerDown
from mapreduce_rq.runtime.worker.joint_answers import JOBS_KEPT, MOST_BYTES, MOST_SECONDS, CannotJoin, JointAnswer

KEYED = ByKey({"": reducer("int_sum")})
SUM = reducer("int_sum")
SPEC = Spec(
    job="job", computation="function", params={}, total=100, limits=Limits(), created=0.0, version="", joins=True
)


def task(lo: int, hi: int, **changes: Any) -> Task:
    return Task("job", lo, hi, **changes)


def spec(job: str = "job", **limits: Any) -> Spec:
    return msgspec.structs.replace(SPEC, job=job, limits=Limits(**limits))


def joined(*spans: tuple[int, int], job: str = "job", ns: int = 1000) -> JointAnswer:
    """With these tasks, each term of which has a key of its own."""
    joint = JointAnswer()
    join(joint, *spans, job=job, ns=ns)
    return joint


def join(joint: JointAnswer, *spans: tuple[int, int], job: str = "job", ns: int = 1000) -> None:
    joint.job = job
    for lo, hi in spans:
        partial = KEYED.fold(lo, [(key, key) for key in range(lo, hi)])
        joint.add(b"%d" % lo, KEYED, Answer(lo, hi, 0, MAP, OK, b"", ns), partial)


def as_it_is(body: bytes) -> tuple[bytes, int]:
    return body, OK


def answered(*spans: tuple[int, int], job: str = "job", joint: JointAnswer | None = None) -> JointAnswer:
    """After the answer to these tasks."""
    joint = JointAnswer() if joint is None else joint
    join(joint, *spans, job=job)
    joint.answer(as_it_is)
    return joint


# -- which tasks -------------------------------------------------------------------------------------------------------


def test_a_task_of_a_job_that_takes_joint_answers_is_joined() -> None:
    assert JointAnswer().takes(SPEC, task(0, 5)) is True


@pytest.mark.parametrize(
    ("of", "one"),
    [
        (msgspec.structs.replace(SPEC, joins=False), task(0, 5)),
        (SPEC, task(0, 5, op=MERGE)),
        (SPEC, task(0, 5, attempt=1)),
        (spec(logs=True), task(0, 5)),
        (spec(retries=1), task(0, 5)),
    ],
    ids=["its masters do not take them", "no span", "its worker died", "prints", "retries"],
)
def test_tasks_of_which_more_is_to_be_told_are_not_joined(of: Spec, one: Task) -> None:
    assert JointAnswer().takes(of, one) is False


def test_a_second_copy_of_a_task_is_not_joined_to_the_first() -> None:
    joint = joined((0, 5), (8, 9))
    for span in ((0, 5), (4, 6), (7, 10)):
        assert not joint.takes(SPEC, task(*span))
    assert joint.takes(SPEC, task(5, 8))
    assert joint.takes(spec("another"), task(0, 5))  # of another job: these are answered first
    joint.answer(as_it_is)
    assert joint.takes(SPEC, task(0, 5))


def test_values_are_folded_into_the_partial_of_the_tasks_before() -> None:
    joint = joined((5, 7))
    assert joint.begin(SPEC, task(7, 9)) is True
    assert joint.grow(lambda partial: KEYED.fold_into(partial, 7, [(7, 7), (8, 8)])) is True
    joint.add(b"7", KEYED, Answer(7, 9, 0, MAP, OK, b"", 500), None)
    answer = joint.answer(as_it_is)
    assert KEYED.finish_native(KEYED.decode(answer.body)) == {5: 5, 6: 6, 7: 7, 8: 8}
    assert answer.spans == [(5, 7), (7, 9)]
    assert answer.ns == 1500


@pytest.mark.parametrize(
    ("before", "of", "one"),
    [
        ([], SPEC, task(0, 5)),
        ([(5, 7), (0, 2)], SPEC, task(6, 9)),
        ([(5, 7), (0, 2)], SPEC, task(2, 5)),
        ([(5, 7)], spec(on_error="skip"), task(7, 9)),
    ],
    ids=["the first", "not behind", "between", "some may fail"],
)
def test_other_tasks_have_a_partial_of_their_own(before: list[tuple[int, int]], of: Spec, one: Task) -> None:
    joint = joined(*before)
    assert joint.begin(of, one) is False
    assert joint.grow(lambda _: pytest.fail("nothing may be folded")) is False


def test_after_a_task_with_a_partial_of_its_own_nothing_is_folded_without_asking() -> None:
    joint = joined((0, 2))
    joint.begin(SPEC, task(2, 3))
    join(joint, (2, 3))
    assert joint.grow(lambda _: pytest.fail("nothing may be folded")) is False


# -- the answer --------------------------------------------------------------------------------------------------------


def test_one_answer_has_the_terms_of_all() -> None:
    joint = joined((4, 6), (0, 1), (8, 9))
    assert len(joint) == 3
    assert joint.tasks == [b"4", b"0", b"8"]
    answer = joint.answer(as_it_is)
    assert answer == Answer(4, 6, 0, MAP, OK, answer.body, 3000, [(0, 1), (8, 9)])
    assert KEYED.finish_native(KEYED.decode(answer.body)) == {0: 0, 4: 4, 5: 5, 8: 8}
    assert len(joint) == 0
    join(joint, (20, 21))  # nothing of it is left
    assert joint.answer(as_it_is) == Answer(20, 21, 0, MAP, OK, KEYED.encode(KEYED.fold(20, [(20, 20)])), 1000)


def test_a_body_that_is_laid_aside_is_answered_with_its_reference() -> None:
    answer = joined((0, 5)).answer(lambda body: (b"@" + body[:1], OK_ASIDE))
    assert (answer.status, answer.body[:1], answer.also) == (OK_ASIDE, b"@", None)


# -- until when --------------------------------------------------------------------------------------------------------


def test_the_first_answer_to_each_job_is_given_at_once() -> None:
    joint = JointAnswer()
    at_once = []
    for job in ("job", "job", "another"):
        join(joint, (0, 1), job=job)
        at_once.append(joint.full)
        joint.answer(as_it_is)
    assert at_once == [True, False, True]


def test_it_is_answered_after_half_a_second_of_work() -> None:
    joint = answered((0, 1))
    join(joint, (1, 2), (2, 3), ns=int(MOST_SECONDS * 1e9 / 2) - 1)
    assert not joint.full
    join(joint, (3, 4), ns=2)
    assert joint.full


def test_it_is_answered_when_its_partial_is_large_as_far_as_the_last_one_tells() -> None:
    joint = answered((0, 100))
    each = len(KEYED.encode(KEYED.fold(0, [(key, key) for key in range(100)]))) / 100
    most = int(MOST_BYTES / each)
    join(joint, (0, most - 1))
    assert not joint.full
    join(joint, (most - 1, most + 1))
    assert joint.full


def test_where_a_key_may_have_any_number_of_bytes_terms_are_counted() -> None:
    def add(lo: int, hi: int) -> None:
        joint.add(b"%d" % lo, SUM, Answer(lo, hi, 0, MAP, OK, b"", 1), SUM.fold(lo, [1]))

    joint = JointAnswer()
    add(5000, 6000)
    most = MOST_BYTES * 1000 // len(joint.answer(as_it_is).body)  # terms, at as many bytes each
    full = []
    add(0, most - 1000)
    full.append(joint.full)
    add(most - 1000, most + 1000)
    full.append(joint.full)
    assert full == [False, True]


def test_the_sizes_of_some_jobs_are_known_and_not_of_all() -> None:
    joint = JointAnswer()
    for number in range(JOBS_KEPT):
        answered((0, 1), job=f"job-{number}", joint=joint)
    join(joint, (0, 1), job="job-0")
    assert not joint.full
    joint.answer(as_it_is)  # there is room for no more jobs
    join(joint, (0, 1), job="job-1")
    assert joint.full


# -- what fails --------------------------------------------------------------------------------------------------------


class Failing:
    """A reducer that raises at one of its steps."""

    def __init__(self, step: str, error: BaseException) -> None:
        self._step, self._error = step, error

    def __getattr__(self, name: str) -> Any:
        if name == self._step:
            raise self._error
        return getattr(KEYED, name)


def add_and_answer(joint: JointAnswer, how: Any) -> None:
    joint.add(b"2", how, Answer(2, 3, 0, MAP, OK, b"", 1), KEYED.fold(2, [(2, 2)]))
    joint.answer(as_it_is)


@pytest.mark.parametrize("step", ["merge", "breadth", "encode"])
def test_if_a_merge_or_the_encoding_raises_the_tasks_are_computed_one_by_one(step: str) -> None:
    error = ValueError("no")
    joint = joined((0, 2))
    with pytest.raises(CannotJoin) as caught:
        add_and_answer(joint, Failing(step, error))
    assert caught.value.__cause__ is error
    assert not joint.takes(SPEC, task(7, 9))
    assert joint.takes(spec("another"), task(7, 9))


@pytest.mark.parametrize("step", ["merge", "breadth", "encode"])
def test_an_interruption_is_not_the_tasks_fault(step: str) -> None:
    joint = joined((0, 2))
    with pytest.raises(Interruption):
        add_and_answer(joint, Failing(step, Interruption()))
    assert joint.takes(SPEC, task(7, 9))


def test_an_error_of_the_connection_is_not_the_tasks_fault() -> None:
    def fit(_: bytes) -> tuple[bytes, int]:
        raise BrokerDown("gone")

    joint = joined((0, 2))
    with pytest.raises(BrokerDown):
        joint.answer(fit)
    assert joint.takes(SPEC, task(7, 9))
    assert joint.tasks == [b"0"]  # the worker drops them, or answers later


def test_if_folding_into_the_partial_raises_the_tasks_are_computed_one_by_one() -> None:
    joint = joined((0, 2))
    joint.begin(SPEC, task(2, 3))
    assert isinstance(joint.torn(), CannotJoin)
    assert not joint.takes(SPEC, task(7, 9))


def test_of_some_jobs_it_is_known_that_they_cannot_be_joined_and_not_of_all() -> None:
    joint = JointAnswer()
    for number in range(JOBS_KEPT):
        joint.job = f"job-{number}"
        joint.torn()
    assert not joint.takes(spec("job-0"), task(0, 1))
    joint.job = "one more"
    joint.torn()
    assert joint.takes(spec("job-0"), task(0, 1))
    assert not joint.takes(spec("one more"), task(0, 1))


# -- what is given back ------------------------------------------------------------------------------------------------


def test_what_is_given_back_is_not_answered() -> None:
    joint = joined((0, 2), (2, 3))
    assert joint.give_back() == {b"0", b"2"}
    assert len(joint) == 0
    join(joint, (5, 6))
    assert joint.give_back() == {b"5"}
    assert joint.given_back == {b"0", b"2", b"5"}
    join(joint, (8, 9))
    answer = joint.answer(as_it_is)
    assert (answer.spans, answer.ns) == ([(8, 9)], 1000)
    assert KEYED.finish_native(KEYED.decode(answer.body)) == {8: 8}
    joint.drop()
    assert joint.given_back == frozenset()


def test_a_task_whose_values_went_into_a_partial_that_is_given_back_is_computed_again() -> None:
    joint = joined((0, 2))
    joint.begin(SPEC, task(2, 4))
    joint.grow(lambda partial: KEYED.fold_into(partial, 2, [(2, 2)]))
    assert joint.give_back() == {b"0"}
    assert joint.grow(lambda _: pytest.fail("it is not there any more")) is False
    for how in (KEYED, SUM):
        with pytest.raises(CannotJoin):
            joint.add(b"2", how, Answer(2, 4, 0, MAP, OK, b"", 1), None)
    assert len(joint) == 0


def test_what_is_dropped_is_forgotten() -> None:
    joint = joined((4, 6))
    joint.drop()
    assert len(joint) == 0
    assert joint.takes(SPEC, task(4, 6))
    assert not joint.begin(SPEC, task(6, 7))
    join(joint, (0, 1))
    assert joint.begin(SPEC, task(1, 3))
    assert joint.answer(as_it_is).spans == [(0, 1)]
