"""A dashboard beside a live fleet, for half a minute: `scripts/watch` leaves it open for ten."""

from __future__ import annotations

from tests.chaos import watch
from tests.chaos.watch import Watch


def test_a_dashboard_that_is_left_open_neither_grows_nor_slows_down() -> None:
    found = Watch(0.5, 1, sample_seconds=2.0)
    assert found.run() == []
    assert len(found.samples) >= 8
    assert found.samples[-1].pictures > 30 / watch.INTERVAL / 4
    assert found.samples[-1].killed >= 3
