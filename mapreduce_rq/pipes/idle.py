"""The workers that wait for a task, each in a queue and until a time. A task goes to the last one that became idle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from mapreduce_rq.pipes.peer import Peer


class Idler(NamedTuple):
    """A worker that waits: a ``BLMOVE`` that is not answered yet."""

    peer: Peer
    channel: int
    hand: str
    """The list to which its task will be moved."""
    until: float


class Idle:
    """All workers that wait. The caller holds the hub's lock, except for ``expiry``."""

    def __init__(self) -> None:
        self._by_queue: dict[str, list[Idler]] = {}
        self.expiry = 0.0
        """No idle worker's time is over before this."""

    def add(self, queue: str, idler: Idler) -> None:
        """Add a worker that waits."""
        self._by_queue.setdefault(queue, []).append(idler)
        self.expiry = min(self.expiry, idler.until)

    def next_of(self, lists: Mapping[str, object]) -> tuple[str, Idler] | None:
        """One of these lists for which a worker waits, and the worker for its next task: the one that became idle last,
        because its caches are warm.
        """
        for queue, waiting in self._by_queue.items():
            if waiting and queue in lists:
                return queue, waiting.pop()
        return None

    def next_expired(self, now: float) -> Idler | None:
        """Remove a worker whose time is over and return it. None if there is none: then ``expiry`` is the next time."""
        for waiting in self._by_queue.values():
            for place, one in enumerate(waiting):
                if one.until <= now:
                    return waiting.pop(place)
        self.expiry = min((one.until for waiting in self._by_queue.values() for one in waiting), default=float("inf"))
        return None

    def forget(self, peer: Peer, channel: int | None = None) -> None:
        """Remove a worker that waits no more: on one channel, or (None) on all."""
        for queue, waiting in self._by_queue.items():
            self._by_queue[queue] = [
                one for one in waiting if one.peer is not peer or channel not in {None, one.channel}
            ]
