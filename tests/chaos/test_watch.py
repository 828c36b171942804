"""A dashboard, or its page in a browser, is open beside a live fleet for half a minute: `scripts/watch` has ten."""

from __future__ import annotations

import pytest

from tests.chaos.viewers import InABrowser, OnATerminal, Viewer
from tests.chaos.watch import KEY_SECONDS, KILLS, SAMPLES, Watch


# Something is done in the browser each second: so each quarter of the time has each kind of page once. On a terminal
# the circle of keys is longer than a quarter at any pace.
@pytest.mark.parametrize(("viewer", "key_seconds"), [(OnATerminal, KEY_SECONDS), (InABrowser, 1.0)])
def test_a_dashboard_that_is_left_open_neither_grows_nor_slows_down(viewer: type[Viewer], key_seconds: float) -> None:
    found = Watch(0.5, 1, sample_seconds=2.0, key_seconds=key_seconds, viewer=viewer)
    assert found.run() == []
    assert len(found.samples) >= SAMPLES
    assert found.samples[-1].pictures > 30 / viewer.seconds_apart / 4
    assert found.samples[-1].killed >= KILLS
