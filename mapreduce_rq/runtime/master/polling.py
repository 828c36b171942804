"""The wait of a thread that leads many jobs: for the sockets of its connections, and a bell that other threads ring."""

from __future__ import annotations

import math
import select
from collections.abc import Sequence

from mapreduce_rq.broker.wire import Pollable, Wire
from mapreduce_rq.errors import BrokerDown
from mapreduce_rq.runtime.master.bell import Bell


class Polling:
    """One call to the kernel waits for all of them. One thread uses it."""

    def __init__(self) -> None:
        self._bell = Bell(lambda: False)

    def wait(self, wires: Sequence[Wire], seconds: float) -> list[Wire]:
        """Those of the wires that have an answer, or are broken; waits ``seconds`` for one, or for the bell.

        Raises BrokerDown for a wire that is not connected.
        """
        if not seconds and not wires:
            return []
        poll = select.poll()
        poll.register(self._bell, select.POLLIN)
        there: dict[int, Wire] = {}
        for wire in wires:
            if not isinstance(wire, Pollable):
                raise BrokerDown(f"{type(wire).__name__} cannot be waited for with others")
            there[wire.fileno()] = wire
            poll.register(wire.fileno(), select.POLLIN)
        found = {descriptor for descriptor, _ in poll.poll(math.ceil(seconds * 1000))}
        if self._bell.fileno() in found:
            self._bell.heard()
        return [wire for descriptor, wire in there.items() if descriptor in found]

    def insist(self) -> None:
        """Ring the bell, from any thread."""
        self._bell.insist()

    def close(self) -> None:
        """Close the bell, because no thread waits any more."""
        self._bell.close()
