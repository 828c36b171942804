"""A connection cut at any byte of any transition costs nothing: a sample here, all of them by ``scripts/chaos``."""

from __future__ import annotations

import random

import pytest

from tests.chaos.cut_points import CutPoint, all_points, play
from tests.chaos.stories import TRANSITIONS
from tests.support.servers import RealServer


def sampled(points: list[CutPoint]) -> list[CutPoint]:
    """One byte of each request and each answer, the same in every run; of each third all of it."""
    sides: dict[tuple[str, str, str, str], list[CutPoint]] = {}
    for point in points:
        sides.setdefault((point.story, point.actor, point.verb, point.side), []).append(point)
    rng = random.Random(str(points[0]))
    return [row[-1] if number % 3 == 0 else rng.choice(row) for number, row in enumerate(sides.values())]


@pytest.mark.parametrize("transition", TRANSITIONS)
def test_a_cut_anywhere_leaves_the_result_exact(recorded: RealServer, transition: str) -> None:
    points = sampled(list(all_points(recorded, [transition])))
    cuts = 0
    for point in points:
        try:
            cuts += play(recorded, point)
        except AssertionError as error:
            raise AssertionError(f"{point}: {error}") from error
    assert cuts >= len(points) - 1
