"""The wait of a thread that leads many jobs: for the sockets of its connections, and a bell that other threads ring."""

from __future__ import annotations

from collections.abc import Sequence

from mapreduce_rq.broker.wire import Wire
from mapreduce_rq.runtime.master.bell import Bell
from mapreduce_rq.runtime.polling import answered


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
        found = answered([*wires, self._bell], seconds)
        if self._bell in found:
            self._bell.heard()
        return [wire for wire in wires if wire in found]

    def insist(self) -> None:
        """Ring the bell, from any thread."""
        self._bell.insist()

    def close(self) -> None:
        """Close the bell, because no thread waits any more."""
        self._bell.close()
