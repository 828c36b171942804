"""When work is late: compared with what has finished, and with nothing else."""

from __future__ import annotations

import pytest

from mapreduce_rq.core.patience import LEAST_SECONDS, REMEMBERED, Patience


def learned(*seconds: float, size: float = 1) -> Patience:
    """What is left of so many pieces of work of one size."""
    patience = Patience()
    for took in seconds:
        patience.learn(took, size)
    return patience


def test_of_what_nothing_is_known_nothing_is_late() -> None:
    assert Patience().seconds(1) == float("inf")


def test_patience_is_five_seconds_or_three_times_the_usual() -> None:
    assert learned(*[0.001] * 100).seconds(1) == LEAST_SECONDS == 5.0
    assert learned(*[10] * 100).seconds(1) == pytest.approx(30)
    assert learned(10).seconds(1) == pytest.approx(30)


def test_a_few_that_take_long_do_not_make_the_rest_wait() -> None:
    assert learned(*[100 if step % 25 == 0 else 2 for step in range(100)]).seconds(1) == pytest.approx(6)


def test_small_work_speaks_for_large_in_proportion_and_large_for_small_as_it_is() -> None:
    assert learned(10, size=4).seconds(12) == pytest.approx(90)
    assert learned(10, size=4).seconds(1) == pytest.approx(30)


def test_what_was_long_ago_is_forgotten() -> None:
    assert learned(*[1000] * 500, *[10] * REMEMBERED).seconds(1) == pytest.approx(30)
