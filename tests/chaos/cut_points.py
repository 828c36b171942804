"""Every byte of every request and answer of every transition: what if the connection is cut right there?

A first run of each story measures how long the request and the answer are; then one run for each byte.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from tests.chaos.arena import Arena
from tests.chaos.cutter import Cutter, Side
from tests.chaos.faults import Faults, Place
from tests.chaos.stories import STORIES, TRANSITIONS
from tests.support.servers import RealServer

TELLINGS = 5


@dataclass(frozen=True)
class CutPoint:
    """Cut the actor's connection after so many bytes of the request or the answer of its first ``verb`` in a story."""

    transition: str
    story: str
    actor: str
    verb: str
    side: Side
    after: int

    def __str__(self) -> str:
        where = f"byte {self.after} of the {self.side} of {self.actor}'s {self.verb}"
        return f"{self.transition.partition(' ')[0]}: {where} in the story {self.story!r}"


def all_points(server: RealServer, transitions: list[str] | None = None) -> Iterator[CutPoint]:
    """Every cut point there is, in order; each verb is measured in a run of its own."""
    for transition in transitions or TRANSITIONS:
        for story, actor, verb in TRANSITIONS[transition]:
            sizes = _measure(server, story, actor, verb)
            for after in range(sizes["request"] + 1):
                yield CutPoint(transition, story, actor, verb, "request", after)
            for after in range(1, sizes["answer"] + 1):
                yield CutPoint(transition, story, actor, verb, "answer", after)


def play(server: RealServer, point: CutPoint) -> bool:
    """Live through a cut: the job must end as its story says, with the exact value. Raises AssertionError.

    Whether the cut came: where a message is some bytes shorter this time than when it was measured, there is none.
    A story that did not come to its place, as happens where time is short, is told again.
    """
    before = Place(point.actor, point.verb)
    for _ in range(TELLINGS):
        with Cutter(server.socket) as cutter:
            acts = {before: partial(cutter.arm, point.side, point.after)}
            if before in _play(server, point.story, point.actor, cutter, acts).done:
                return cutter.cuts == 1
    raise AssertionError(f"{point}: never came there")


def _measure(server: RealServer, story: str, actor: str, verb: str) -> dict[Side, int]:
    sizes: list[dict[Side, int]] = []
    before, after = Place(actor, verb), Place(actor, verb, "after")
    for _ in range(TELLINGS):
        with Cutter(server.socket) as cutter:
            acts: dict[Place, Callable[[], None]] = {before: cutter.measure, after: partial(_note, cutter, sizes)}
            if after in _play(server, story, actor, cutter, acts).done:
                return sizes[0]
    raise AssertionError(f"{actor} never came through {verb} in the story {story!r}")


def _note(cutter: Cutter, sizes: list[dict[Side, int]]) -> None:
    sizes.append(cutter.measured())


def _play(
    server: RealServer, name: str, actor: str, cutter: Cutter, acts: Mapping[Place, Callable[[], None]]
) -> Faults:
    """One run of a story with ``actor`` behind the cutter and more to do at places."""
    story = STORIES[name]
    faults = Faults({**story.faults, **acts})
    routes = {actor: cutter.socket}
    with Arena(
        server, f"cut-{secrets.token_hex(6)}", faults, routes=routes, terms=story.terms, laid=story.laid
    ) as arena:
        story.play(arena)
        arena.finish(state=story.state)
    return faults
