"""When work is late: compared with what has finished, and with nothing else."""

from __future__ import annotations

from mapreduce_rq.core.stragglers import LEAST_SECONDS, REMEMBERED, Patience


def learned(*seconds: float, size: float = 1) -> Patience:
    """What is left of so many pieces of work of one size."""
    patience = Patience()
    for took in seconds:
        patience.learn(took, size)
    return patience


def late_after(patience: Patience, size: float) -> float:
    """The first half second at which work of this size is late."""
    return next((half / 2 for half in range(10_000) if patience.is_over(half / 2, size)), float("inf"))


def test_of_what_nothing_is_known_nothing_is_late() -> None:
    assert late_after(Patience(), 1) == float("inf")
    assert late_after(Patience(60), 1) == 60.5


def test_patience_is_five_seconds_or_three_times_the_usual() -> None:
    assert late_after(learned(*[0.001] * 100), 1) == LEAST_SECONDS + 0.5 == 5.5
    assert late_after(learned(*[10] * 100), 1) == 30.5
    assert late_after(learned(10), 1) == 30.5


def test_a_few_that_take_long_do_not_make_the_rest_wait() -> None:
    assert late_after(learned(*[100 if step % 25 == 0 else 2 for step in range(100)]), 1) == 6.5


def test_small_work_speaks_for_large_in_proportion_and_large_for_small_as_it_is() -> None:
    assert late_after(learned(10, size=4), 12) == 90.5
    assert late_after(learned(10, size=4), 1) == 30.5


def test_what_was_long_ago_is_forgotten() -> None:
    assert late_after(learned(*[1000] * 500, *[10] * REMEMBERED), 1) == 30.5
