"""Named places in the life of a job where somebody is killed, cut off or paused, or the server is full: one at a time,
and two.
"""

from __future__ import annotations

import random
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Literal, Self

from tests.chaos.arena import SPEED, Arena
from tests.chaos.faults import Faults, Place, cut, kill
from tests.chaos.stories import STORIES, TRANSITIONS
from tests.support.servers import RealServer

Act = Literal["kill", "cut", "pause", "full"]

NEVER_SUBMITTED = {
    ("master", "kill", when, verb) for when, verb in (("before", "connect"), ("after", "connect"), ("before", "create"))
}
"""The master dies before there is a job: nothing is lost, for nothing was said to be there."""
PAUSE_SECONDS = 40.0
"""Of the fast clock; longer than it takes to give up anybody. A pause ends with the job at the latest."""
FULL_SECONDS = 15.0
"""Of the fast clock, in which the server refuses what needs memory; longer than a lease."""


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
    acts: tuple[Act, ...] = ("kill", "cut", "pause", "full")
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
    queue = f"fail-{secrets.token_hex(6)}"
    with ExitStack() as stack:
        for point in points:
            faults.at[point.place] = _act(point, arenas, server, stack)
        arena = stack.enter_context(Arena(server, queue, faults, terms=story.terms, laid=story.laid))
        arenas.append(arena)
        story.play(arena)
        if any(point.act == "pause" for point in points) and story.state == "done":
            arena.stand_by("patient")
        arena.finish(state=story.state)
    return {point for point in points if point.place in faults.done}


def _act(point: Failpoint, arenas: list[Arena], server: RealServer, stack: ExitStack) -> Callable[[], None]:
    if point.act == "kill":
        return kill
    if point.act == "cut":
        return cut
    if point.act == "full":
        return stack.enter_context(Full(server)).begin

    def pause() -> None:
        arena = arenas[0]
        arena.stopped(point.place.actor, stopped=True)
        deadline = time.monotonic() + PAUSE_SECONDS / SPEED
        while time.monotonic() < deadline and not arena.over():
            time.sleep(0.005)
        arena.stopped(point.place.actor, stopped=False)

    return pause


class Full:
    """A server at its memory limit for some time."""

    def __init__(self, server: RealServer) -> None:
        self._client = server.client()
        self._timer = threading.Timer(FULL_SECONDS / SPEED, self._limit, (0,))

    def begin(self) -> None:
        """From now on; the caller goes on at once."""
        self._limit(1)
        self._timer.start()

    def _limit(self, size: int) -> None:
        self._client.config_set("maxmemory", size)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        self._limit(0)
        self._client.close()
