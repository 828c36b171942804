"""At a named place, or at two, somebody dies, is cut off or paused, or the server is full.

A sample of the places is here; ``scripts/chaos`` plays all of them.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

import pytest

from tests.chaos.arena import Arena
from tests.chaos.failpoints import Failpoint, all_points, pairs, play
from tests.chaos.faults import Faults, Place, cut
from tests.chaos.stories import STORIES
from tests.support.servers import RealServer
from tests.support.stage import until


@pytest.mark.parametrize("story", STORIES)
def test_one_fault_leaves_the_result_exact(recorded: RealServer, story: str) -> None:
    points = [point for point in all_points() if point.story == story]
    rng = random.Random(story)
    for point in rng.sample(points, min(2, len(points))):
        live(recorded, point)


FULL = [
    point
    for point in all_points()
    if point.act == "full" and point.place.when == "before" and point.place.verb in {"lay", "laid", "body", "pieces"}
]


@pytest.mark.parametrize("point", FULL, ids=str)
def test_a_full_server_leaves_no_body_behind(recorded: RealServer, point: Failpoint) -> None:
    live(recorded, point)


@pytest.mark.parametrize("seed", range(4))
def test_two_faults_leave_the_result_exact(recorded: RealServer, seed: int) -> None:
    for pair in pairs(3, seed):
        live(recorded, *pair)


def test_who_leaves_and_is_cut_off_reports_its_dead_as_long_as_it_has_others(recorded: RealServer) -> None:
    cut_off = threading.Event()

    def cut_once() -> None:
        cut_off.set()
        cut()

    def wait_for_it() -> None:
        until(cut_off.is_set, 20, "the report cut off")

    def speak_for_the_dead() -> None:
        before = arena.met("host", "beat")
        host.beat_soon()
        until(lambda: arena.met("host", "beat") > before, 10, "a beat")

    # The first worker has struck itself off, and a beat enters it again before its supervisor hears of its end. The
    # second is in its first term until the report of that has failed.
    acts: dict[Place, Callable[[], None]] = {
        Place("host.0", "give back", "after"): speak_for_the_dead,
        Place("host", "bury"): cut_once,
        Place("host.1", "compute"): wait_for_it,
    }
    faults = Faults(acts)
    with Arena(recorded, "leaving", faults, terms=50) as arena:
        host = arena.crew("host", 2)
        arena.lead()
        until(lambda: all(arena.met(f"host.{n}", "compute") for n in range(2)), 10, "both at work")
        host.leaving = True
        until(lambda: not host.thread.is_alive(), 20, "its end")
        assert cut_off.is_set()
        assert not arena.entries()
        arena.crew("next", 1)
        arena.finish()


def live(server: RealServer, *points: Failpoint) -> None:
    """Play, and name the points if it fails."""
    try:
        play(server, *points)
    except AssertionError as error:
        raise AssertionError(f"{' and '.join(map(str, points))}: {error}") from error
