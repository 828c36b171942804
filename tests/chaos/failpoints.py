"""Named places in the life of a job where somebody is killed, cut off or paused: one at a time, and two."""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from tests.chaos.arena import SPEED, Arena
from tests.chaos.faults import Faults, Place, cut, kill
from tests.chaos.stories import STORIES, TRANSITIONS
from tests.support.servers import RealServer

Act = Literal["kill", "cut", "pause"]

NEVER_SUBMITTED = {
    ("master", "kill", when, verb) for when, verb in (("before", "connect"), ("after", "connect"), ("before", "create"))
}
"""The master dies before there is a job: nothing is lost, for nothing was said to be there."""
PAUSE_SECONDS = 40.0
"""Of the fast clock; longer than it takes to give up anybody. A pause ends with the job at the latest."""


@dataclass(frozen=True)
class Failpoint:
    """What happens to whom, where; ``story`` is one in which that place is met."""

    story: str
    place: Place
    act: Act

    def __str__(self) -> str:
        return f"{self.act} {self.place} in the story {self.story!r}"


def all_points() -> list[Failpoint]:
    """Every failpoint there is."""
    places = [row for rows in TRANSITIONS.values() for row in rows]
    places.append(("plain", "host.0", "compute"))
    acts: tuple[Act, ...] = ("kill", "cut", "pause")
    return [
        Failpoint(story, Place(actor, verb, when), act)
        for story, actor, verb in places
        for when in ("before", "after")
        for act in acts
        if (verb, act) != ("compute", "cut")  # nothing is sent there
        and (actor, act, when, verb) not in NEVER_SUBMITTED
    ]


def pairs(count: int, seed: int) -> Iterator[tuple[Failpoint, Failpoint]]:
    """So many pairs of different failpoints of one story, drawn at random."""
    rng = random.Random(seed)
    points = all_points()
    while count:
        first, second = rng.sample(points, 2)
        if first.place != second.place and STORIES[first.story].state == STORIES[second.story].state:
            count -= 1
            yield first, second


def play(server: RealServer, *points: Failpoint) -> set[Failpoint]:
    """The story of the first point with all these faults in it: it must end as it should, with the exact value.

    The points that were met: after the first fault the story may take another way than to the second.
    Raises AssertionError.
    """
    story = STORIES[points[0].story]
    arenas: list[Arena] = []
    faults = Faults(dict(story.faults))
    for point in points:
        faults.at[point.place] = _act(point, arenas)
    queue = f"fail-{secrets.token_hex(6)}"
    with Arena(server, queue, faults, terms=story.terms, laid=story.laid) as arena:
        arenas.append(arena)
        story.play(arena)
        if any(point.act == "pause" for point in points) and story.state == "done":
            arena.stand_by("patient")
        arena.finish(state=story.state)
    return {point for point in points if point.place in faults.done}


def _act(point: Failpoint, arenas: list[Arena]) -> Callable[[], None]:
    if point.act == "kill":
        return kill
    if point.act == "cut":
        return cut

    def pause() -> None:
        arena = arenas[0]
        arena.stopped(point.place.actor, stopped=True)
        deadline = time.monotonic() + PAUSE_SECONDS / SPEED
        while time.monotonic() < deadline and not arena.over():
            time.sleep(0.005)
        arena.stopped(point.place.actor, stopped=False)

    return pause
