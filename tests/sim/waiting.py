"""How an actor waits for several connections at once, in the place of the kernel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from mapreduce_rq.broker.wire import Wire
from tests.sim.scheduler import Actor, Scheduler
from tests.sim.wire import SimWire


class SimWaiting:
    """Waits for the first answer that comes on several connections of one actor."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._waits: tuple[Actor, int] | None = None
        self._rung = False

    def wait(self, wires: Sequence[Wire], seconds: float) -> list[Wire]:
        actor = self._scheduler.actor()
        ticket = actor.ticket()
        asked = cast("Sequence[SimWire]", wires)
        there = [wire for wire in asked if wire.answered(ticket)]
        if not there and not self._rung:
            self._waits = actor, ticket
            actor.sleep(seconds)
            self._waits = None
        there = [wire for wire in asked if wire.answered(-1)]
        self._rung = False
        return list(there)

    def insist(self) -> None:
        self._rung = True
        if self._waits is not None:
            actor, ticket = self._waits
            self._scheduler.at(0, actor.wake, ticket)

    def close(self) -> None:
        """There is nothing to close."""
