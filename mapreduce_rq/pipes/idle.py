"""The workers that wait for a task, each in a queue and until a time. A task goes to the last one that became idle."""

from __future__ import annotations

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
    """All workers that wait. The caller holds the hub's lock, except for ``any`` and ``expiry``."""

    def __init__(self) -> None:
        self._by_queue: dict[str, list[Idler]] = {}
        self.expiry = 0.0
        """No idle worker's time is over before this."""

    def any(self) -> bool:
        """Whether a worker waits."""
        return any(self._by_queue.values())

    def add(self, queue: str, idler: Idler) -> None:
        """Add a worker that waits."""
        self._by_queue.setdefault(queue, []).append(idler)
        self.expiry = min(self.expiry, idler.until)

    def next_of(self, queue: str) -> Idler | None:
        """The worker for the next task of a queue: the one that became idle last, because its caches are warm."""
        waiting = self._by_queue.get(queue)
        return waiting.pop() if waiting else None

    def queues(self) -> list[str]:
        """The queues in which workers wait, or have waited."""
        return list(self._by_queue)

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
