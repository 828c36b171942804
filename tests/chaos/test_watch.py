"""A dashboard, or its page in a browser, is open beside a live fleet for half a minute: `scripts/watch` has ten."""

from __future__ import annotations

import pytest

from tests.chaos.viewers import InABrowser, OnATerminal, Viewer
from tests.chaos.watch import Watch


@pytest.mark.parametrize("viewer", [OnATerminal, InABrowser])
def test_a_dashboard_that_is_left_open_neither_grows_nor_slows_down(viewer: type[Viewer]) -> None:
    found = Watch(0.5, 1, sample_seconds=2.0, viewer=viewer)
    assert found.run() == []
    assert len(found.samples) >= 8
    assert found.samples[-1].pictures > 30 / viewer.seconds_apart / 4
    assert found.samples[-1].killed >= 3
