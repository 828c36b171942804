"""Somebody dies, is cut off or paused at a named place, or at two: a sample here, all of them by ``scripts/chaos``."""

from __future__ import annotations

import random

import pytest

from tests.chaos.failpoints import Failpoint, all_points, pairs, play
from tests.chaos.stories import STORIES
from tests.servers import RealServer


@pytest.mark.parametrize("story", STORIES)
def test_one_fault_leaves_the_result_exact(recorded: RealServer, story: str) -> None:
    points = [point for point in all_points() if point.story == story]
    rng = random.Random(story)
    for point in rng.sample(points, min(2, len(points))):
        live(recorded, point)


@pytest.mark.parametrize("seed", range(4))
def test_two_faults_leave_the_result_exact(recorded: RealServer, seed: int) -> None:
    for pair in pairs(3, seed):
        live(recorded, *pair)


def live(server: RealServer, *points: Failpoint) -> None:
    """Play, and name the points if it fails."""
    try:
        play(server, *points)
    except AssertionError as error:
        raise AssertionError(f"{' and '.join(map(str, points))}: {error}") from error
