"""How many tasks a worker takes: enough to hide the way to Redis, no more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapreduce_rq.core.fleet.prefetch import BATCH_SECONDS, MAX_BATCH_SECONDS, MAX_LEAST, MAX_TASKS, Prefetch


def measured(task: float, trip: float, batches: int = 30) -> Prefetch:
    """A worker that has settled often enough to know both."""
    prefetch = Prefetch()
    for _ in range(batches):
        prefetch.worked(1, task, task)
        prefetch.settled(trip, trip)
        prefetch.want(0)
    return prefetch


def test_a_first_task_is_taken_alone() -> None:
    assert Prefetch().want(0) == 1
    assert Prefetch().want(1) == 0
    assert Prefetch().want(3) == -2


def test_before_anything_is_measured_nothing_is_long_nor_far_away() -> None:
    prefetch = Prefetch()
    assert (prefetch.expected, prefetch.long, prefetch.least) == (0.0, False, 0)
    assert prefetch.batch_seconds == BATCH_SECONDS
    prefetch.worked(1, 0.001, 0.001)
    assert prefetch.expected == pytest.approx(0.001)
    assert prefetch.want(0) == 5, "five milliseconds' worth, before the first settle is measured"


@pytest.mark.parametrize(
    ("task", "trip", "want"),
    [(0.021, 0.0002, 1), (0.019, 0.0002, 2), (0.41, 0.020, 1), (0.39, 0.020, 2), (2.1, 5.0, 1)],
)
def test_a_second_task_is_taken_only_where_the_wait_would_cost_a_twentieth(task: float, trip: float, want: int) -> None:
    assert measured(task, trip).want(0) == want


@pytest.mark.parametrize(
    ("task", "trip", "least"),
    [(0.001, 0.0105, 10), (0.010, 0.0002, 0), (0.001, 0.0325, MAX_LEAST), (0.001, 1.0, MAX_LEAST), (1e-6, 1e-6, 1)],
)
def test_fewer_tasks_than_last_a_round_trip_are_not_worth_it(task: float, trip: float, least: int) -> None:
    assert MAX_LEAST == 32
    assert measured(task, trip).least == least


@pytest.mark.parametrize(
    ("task", "trip", "want"),
    [
        (1.0, 0.0002, 1),  # a long task: nothing is hoarded
        (0.030, 0.0002, 1),
        (0.010, 0.0002, 2),  # one to go on with while the answer to the other travels
        (0.001, 0.0002, 5),  # five milliseconds' worth near by
        (0.001, 0.020, 160),  # eight round trips far away
        (0.200, 0.020, 2),  # a tenth of the time would be spent waiting
        (0.500, 0.020, 1),
        (1e-6, 0.0002, MAX_TASKS),
        (0.010, 5.0, 200),  # two seconds' worth, however slow the way
    ],
)
def test_a_hand_lasts_eight_round_trips_within_bounds(task: float, trip: float, want: int) -> None:
    assert measured(task, trip).want(0) == pytest.approx(want, abs=1)


def test_what_is_in_hand_is_not_taken_again() -> None:
    prefetch = measured(0.001, 0.020)
    assert prefetch.want(0) - prefetch.want(100) == 100
    assert prefetch.want(1000) == 0
    whole = prefetch.want(0)
    assert [prefetch.want(whole - more) for more in (2, 1, 0)] == [2, 1, 0]


def test_it_grows_step_by_step() -> None:
    prefetch = Prefetch()
    prefetch.worked(1, 1e-6, 1e-6)
    prefetch.settled(0.001, 0.001)
    assert [prefetch.want(0) for _ in range(5)] == [8, 64, 512, 1024, 1024]


def test_half_a_hand_is_settled_at_a_time() -> None:
    prefetch = Prefetch()
    assert prefetch.batch == 1
    prefetch = measured(0.001, 0.0002)
    assert prefetch.want(0) == 5
    assert prefetch.batch == 3
    assert measured(0.010, 0.0002).batch == 1


def test_what_was_taken_before_tasks_turned_out_long_is_given_back() -> None:
    prefetch = measured(1e-6, 0.0002)
    for _ in range(4):
        prefetch.want(0)
    assert prefetch.want(500) > 0
    prefetch.worked(1, 1.0, 1.0)
    assert prefetch.want(500) == -499
    assert prefetch.want(1) == 0


def test_nothing_is_given_back_that_others_may_have_copies_of() -> None:
    prefetch = measured(1e-6, 0.0002)
    prefetch.worked(1, 5.0, 5.0)
    assert prefetch.want(500) == 0
    prefetch.worked(1, 0.1, 0.1)
    assert prefetch.want(499) == 0
    assert prefetch.want(0) == 1
    prefetch.worked(1, 1.0, 1.0)
    assert prefetch.want(2) == -1


def test_one_task_that_others_may_have_a_copy_of_keeps_those_taken_after_it() -> None:
    prefetch = Prefetch()
    prefetch.worked(1, 5.0, 5.0)
    assert prefetch.want(1) == 0
    for _ in range(30):
        prefetch.worked(1, 0.001, 0.001)
    assert prefetch.want(1) > 0
    prefetch.worked(1, 0.1, 0.1)
    assert prefetch.want(3) == 0


def test_nothing_is_given_back_that_is_done_within_a_round_trip_or_two() -> None:
    prefetch = measured(1e-3, 0.0002)
    assert prefetch.want(500) == 0


@pytest.mark.parametrize(
    ("seconds", "trip", "long"),
    [(0.019, 0.0002, False), (0.021, 0.0002, True), (0.150, 0.020, False), (0.3, 0.020, False), (1, 0.020, True)],
)
def test_after_a_long_batch_the_answer_is_waited_for(seconds: float, trip: float, long: bool) -> None:
    prefetch = measured(0.001, trip)
    prefetch.worked(1, seconds, seconds)
    assert prefetch.long is long


def test_an_answer_that_was_there_already_says_nothing_of_the_distance() -> None:
    near = measured(1e-5, 0.0002)
    before = near.batch_seconds
    for _ in range(1000):
        near.settled(0.050, 0.00001)
    assert near.batch_seconds == before
    for _ in range(1000):
        near.settled(0.050, 0.020)
    assert near.batch_seconds == pytest.approx(0.4, rel=0.01)


@pytest.mark.parametrize(
    ("seconds", "first"), [(0.001, False), (0.019, False), (0.021, True), (0.99, True), (1.01, False), (60.0, False)]
)
def test_of_tasks_of_middle_length_the_next_one_is_taken_first(seconds: float, first: bool) -> None:
    assert measured(seconds, 0.0002).next_first is first
    assert not Prefetch().next_first  # before the first task was measured


def test_one_outage_does_not_make_it_hoard() -> None:
    prefetch = measured(0.1, 0.0002)
    prefetch.settled(30.0, 30.0)
    assert prefetch.want(0) * 0.1 <= MAX_BATCH_SECONDS


def test_one_slow_settle_is_not_yet_a_longer_distance() -> None:
    prefetch = measured(0.001, 0.0002)
    prefetch.settled(0.050, 0.050)
    assert prefetch.want(0) <= 10
    for _ in range(300):
        prefetch.settled(0.050, 0.050)
    for _ in range(3):
        prefetch.want(0)
    assert prefetch.want(0) == pytest.approx(400, abs=2)


def test_uneven_tasks_count_by_their_longest() -> None:
    even, uneven = Prefetch(), Prefetch()
    even.worked(100, 0.1, 0.001)
    uneven.worked(100, 0.1, 0.08)
    for prefetch in (even, uneven):
        prefetch.settled(0.020, 0.020)
        for _ in range(4):
            prefetch.want(0)
    assert even.want(0) == pytest.approx(160, abs=1)
    assert uneven.want(0) == pytest.approx(8, abs=1)


@given(st.lists(st.tuples(st.floats(1e-9, 100), st.integers(1, 512), st.floats(0, 100)), max_size=20))
def test_it_never_wants_more_than_the_most_nor_less_than_one(batches: list[tuple[float, int, float]]) -> None:
    prefetch = Prefetch()
    for seconds, tasks, trip in batches:
        prefetch.worked(tasks, seconds, seconds)
        prefetch.settled(trip, trip)
        assert 1 <= prefetch.want(0) <= MAX_TASKS
        assert 0 < prefetch.batch_seconds <= MAX_BATCH_SECONDS
