"""How large the next task is, how many are out, and when one is late."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapreduce_rq.core.job.chunking import (
    AHEAD_SECONDS,
    FIRST_TASK_SECONDS,
    FIRST_WINDOW,
    GROWTH,
    JOINT_SHARES,
    JOINT_WINDOW,
    KERNEL_SHARES,
    LEAST_JOINT_SECONDS,
    LEAST_TASK_SECONDS,
    LEAST_WIDE_SECONDS,
    MAX_GROWTH,
    MAX_WINDOW,
    MIN_WINDOW,
    MOST_JOINT_WINDOW,
    QUICK_WINDOW,
    SHARES,
    TARGET_TASK_BYTES,
    TARGET_TASK_SECONDS,
    WIDE_SHARES,
    WIDE_TASK_SECONDS,
    WIDE_WINDOW,
    Pace,
)

PLENTY = 10**12


def measured(cost: float, *, largest: int = 10**9, workers: int = 1, vectorised: bool = True) -> Pace:
    """The pace of terms that cost so many seconds each."""
    pace = Pace(None, None, vectorised=vectorised)
    pace.workers = workers
    for number in range(20):
        pace.observe(largest, 1, int(cost * largest * 1e9), largest, float(number))
    return pace


def test_a_fixed_size_is_the_size() -> None:
    pace = Pace(7, 1.0)
    assert [pace.size(left) for left in (PLENTY, 3, None)] == [7, 7, 7]


def test_with_no_idea_of_the_cost_the_first_task_is_one_term() -> None:
    assert Pace(None, None).size(PLENTY) == 1


def test_a_guess_sizes_the_first_tasks() -> None:
    assert Pace(None, 1e-6).size(PLENTY) == pytest.approx(FIRST_TASK_SECONDS / 1e-6, abs=1)
    assert Pace(None, 10.0).size(PLENTY) == 1


@pytest.mark.parametrize("cost", [1e-9, 1e-6, 1e-3, 0.5, 100.0])
def test_in_plenty_a_task_takes_the_target_time(cost: float) -> None:
    assert measured(cost).size(PLENTY) == pytest.approx(max(1, TARGET_TASK_SECONDS / cost), rel=0.01)


def grown(seconds_per_term: float, steps: int) -> list[int]:
    """The sizes of tasks that come back one by one."""
    pace = Pace(None, None)
    sizes = []
    for now in range(steps):
        sizes.append(pace.size(PLENTY))
        pace.observe(sizes[-1], 1, int(sizes[-1] * seconds_per_term * 1e9), sizes[-1], float(now))
    return sizes


def test_sizes_grow_step_by_step_from_what_has_come_back() -> None:
    assert grown(FIRST_TASK_SECONDS / 2, 3) == [1, GROWTH, 40]  # 40 of them are what a task is to take


def test_what_came_back_at_once_is_followed_by_as_much_as_a_first_task_may_take() -> None:
    assert grown(FIRST_TASK_SECONDS / 50, 3) == [1, 50, 50 * GROWTH]


def test_a_task_has_no_more_terms_than_answers_of_that_many_bytes() -> None:
    pace = Pace(None, None)
    for number in range(3):
        pace.observe(1000, 1, 1000, 1000, float(number), size=1000 * TARGET_TASK_BYTES // 100)
    assert pace.size(PLENTY) == 100
    assert measured(1e-9).size(PLENTY) > 100


def test_the_rate_is_that_of_the_terms_counted() -> None:
    pace = Pace(10, None)
    for number in range(50):
        pace.observe(50, 5, 1000, 10, number / 10)
    assert pace.terms_rate == pytest.approx(500, rel=0.05)


def test_a_task_is_late_after_three_times_what_the_others_took() -> None:
    pace = Pace(10, None)
    for number in range(30):
        pace.observe(50, 5, 50 * 10**9, 10, float(number))  # each of the five took ten seconds
    assert not pace.patience.is_over(25, 10)
    assert pace.patience.is_over(35, 10)


def test_no_step_is_larger_than_its_bound() -> None:
    assert grown(1e-9, 3) == [1, MAX_GROWTH, MAX_GROWTH**2]


@given(st.integers(1, 10**6), st.integers(1, 64), st.booleans())
def test_near_the_end_nobody_has_more_than_a_fair_share(left: int, workers: int, vectorised: bool) -> None:
    # of which a term is as small as a task may be
    pace = measured(LEAST_TASK_SECONDS, workers=workers, vectorised=vectorised)
    shares = (KERNEL_SHARES if vectorised else SHARES) * workers
    assert pace.size(left) == max(1, min(left // shares, int(TARGET_TASK_SECONDS / LEAST_TASK_SECONDS)))


def test_the_last_tasks_of_plain_functions_go_down_to_one_term_however_quick_the_others_were() -> None:
    """A kernel's do not: 115 calls more of a millisecond each."""
    for vectorised, size in ((True, 40), (False, 40 // SHARES)):
        pace = Pace(None, None, vectorised=vectorised)
        pace.observe(10**6, 1, 10**6, 10**6, 0.0)  # a nanosecond a term
        assert pace.size(40) == size


@given(st.integers(1, 10**9), st.integers(1, 64), st.floats(1e-9, 10))
def test_a_size_is_at_least_one_and_never_more_than_is_left(left: int, workers: int, cost: float) -> None:
    assert 1 <= measured(cost, workers=workers).size(left) <= left


def test_the_latest_costs_count_most() -> None:
    pace = measured(1e-3, largest=100)
    for now in range(20, 40):
        pace.observe(100, 1, int(100 * 1e-2 * 1e9), 100, float(now))
    assert pace.size(PLENTY) == pytest.approx(TARGET_TASK_SECONDS / 1e-2, rel=0.2)


def test_small_tasks_with_their_fixed_costs_do_not_speak_for_large_ones() -> None:
    pace = measured(1e-6, largest=100_000)
    for now in range(20, 25):
        pace.observe(10, 1, 1_000_000, 10, float(now))  # a millisecond for ten terms
    assert pace.size(PLENTY) == pytest.approx(TARGET_TASK_SECONDS / 1e-6, rel=0.2)


@given(st.sampled_from([None, 1, 50]), st.integers(1, 10**5), st.lists(st.integers(1, 10**6), max_size=10))
def test_the_window_has_bounds(chunk: int | None, workers: int, counts: list[int]) -> None:
    pace = Pace(chunk, None)
    pace.workers = workers
    for now, tasks in enumerate(counts):
        pace.observe(tasks, tasks, 1000 * tasks, 1, 0.1 * now)
        assert MIN_WINDOW <= pace.window() <= MAX_WINDOW
        assert pace.window() >= min(MAX_WINDOW, 4 * workers)


@given(st.integers(1, 50), st.integers(1, 100), st.integers(1, 10**12))
def test_tasks_of_a_fixed_size_last_some_seconds_of_all_workers(chunk: int, workers: int, nanoseconds: int) -> None:
    """Of long ones few are out, for a short job that comes later waits for all of them."""
    pace = Pace(chunk, None)
    assert pace.window() == FIRST_WINDOW
    pace.workers = workers
    pace.observe(chunk, 1, nanoseconds, chunk, 0.0)
    window, seconds = pace.window(), nanoseconds / 1e9
    assert window <= max(MIN_WINDOW, 4 * workers, AHEAD_SECONDS * workers / seconds)
    assert window >= min(QUICK_WINDOW, AHEAD_SECONDS * workers / seconds - 1)
    assert window >= 4 * workers


def test_the_window_follows_the_rate() -> None:
    pace = Pace(None, None)
    for step in range(100):
        pace.observe(1000, 1000, 10**6, 1, 0.1 * step)  # ten thousand a second
    assert 1000 < pace.window() < 5000


def test_even_tasks_are_alike_from_the_first_on_and_end_within_a_second() -> None:
    pace = Pace(None, 1e-6, even=800_000)  # for nobody knows how many workers
    assert pace.size(800_000) == pace.size(3) == 100_000
    pace.workers = 20
    assert pace.size(800_000) == 40_000
    assert Pace(None, 1e-6, even=800_000, workers=1).size(800_000) == 400_000
    pace = Pace(None, 1e-6, even=800_000, workers=2)
    assert pace.size(800_000) == 400_000
    pace.workers = 5
    assert pace.size(800_000) == 160_000
    pace.observe(1000, 1, 10**9, 1000, 0.0)  # a millisecond a term
    assert pace.size(800_000) == 1000
    assert Pace(None, None, even=800_000).size(800_000) == 1
    assert Pace(7, 1e-6, even=800_000).size(800_000) == 7


def test_where_partials_are_dear_tasks_are_few_and_large() -> None:
    pace = Pace(None, None, vectorised=False, wide=True, workers=4)
    for number in range(20):
        pace.observe(10**9, 1, 10**15, 10**9, float(number))  # 1 ms a term
    assert pace.size(PLENTY) == pytest.approx(WIDE_TASK_SECONDS / 1e-3, rel=0.01)
    assert pace.size(1000) == 1000 // (WIDE_SHARES * 4)
    assert pace.size(100) == pytest.approx(LEAST_WIDE_SECONDS / 1e-3, rel=0.01)
    assert pace.size(20) == 20
    assert pace.window() == WIDE_WINDOW * 4


def test_a_large_window_of_quick_tasks_is_no_reason_to_cut_all_the_rest_where_partials_are_dear() -> None:
    pace = Pace(None, None, vectorised=False, wide=True, workers=2)
    for number in range(1000):
        pace.observe(1, 1, 1000, 1, number / 1000)
    assert pace.window() == WIDE_WINDOW * 2


def test_where_answers_are_joined_the_tasks_out_last_a_second_for_each_worker_within_bounds() -> None:
    pace = Pace(None, None, vectorised=False, wide=True, joins=True, workers=2)
    assert pace.window() == JOINT_WINDOW * 2  # costs are not known
    pace.observe(512, 1, 500_000, 512, 0.0)  # a microsecond a term; so tasks of 50 ms may be cut
    assert pace.size(PLENTY) == pytest.approx(LEAST_WIDE_SECONDS / 1e-6, rel=0.1)
    assert pace.window() == MOST_JOINT_WINDOW * 2  # no worker must answer because nothing is in line
    pace.observe(150_000, 1, 150_000_000, 150_000, 0.1)
    pace.observe(500_000, 1, 500_000_000, 500_000, 0.7)
    assert pace.size(PLENTY) == pytest.approx(WIDE_TASK_SECONDS / 1e-6, rel=0.1)
    assert pace.window() == JOINT_WINDOW * 2  # a job that comes later waits for all of them
    assert pace.size(100_000) == 100_000 // (JOINT_SHARES * 2)
    assert pace.size(15_000) == pytest.approx(LEAST_JOINT_SECONDS / 1e-6, rel=0.01)  # the last ones are short
