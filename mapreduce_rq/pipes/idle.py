"""Which workers wait for a task, in which queue, and until when. A task goes to the one that became idle last."""

from __future__ import annotations

from typing import NamedTuple

from mapreduce_rq.pipes.peer import Peer


class Idler(NamedTuple):
    """A worker that waits: a ``BLMOVE`` that is not answered yet."""

    peer: Peer
    channel: int
    hand: str
    """The list to which its task is to be moved."""
    until: float


class Idle:
    """All of them. The caller holds the hub's lock, except for ``any`` and ``expiry``."""

    def __init__(self) -> None:
        self._by_queue: dict[str, list[Idler]] = {}
        self.expiry = 0.0
        """The time of no idle worker is over before this."""

    def any(self) -> bool:
        """Whether a worker waits."""
        return any(self._by_queue.values())

    def add(self, queue: str, idler: Idler) -> None:
        """One more waits."""
        self._by_queue.setdefault(queue, []).append(idler)
        self.expiry = min(self.expiry, idler.until)

    def next_of(self, queue: str) -> Idler | None:
        """The one that is to have the next task of a queue: the one that became idle last, for its caches are warm."""
        waiting = self._by_queue.get(queue)
        return waiting.pop() if waiting else None

    def queues(self) -> list[str]:
        """The queues in which workers wait, or have waited."""
        return list(self._by_queue)

    def next_expired(self, now: float) -> Idler | None:
        """One whose time is over: it waits no more. None if there is none: then ``expiry`` is that of the next one."""
        for waiting in self._by_queue.values():
            for place, one in enumerate(waiting):
                if one.until <= now:
                    return waiting.pop(place)
        self.expiry = min((one.until for waiting in self._by_queue.values() for one in waiting), default=float("inf"))
        return None

    def forget(self, peer: Peer, channel: int | None = None) -> None:
        """A worker waits no more: on one channel, or on all of them."""
        for queue, waiting in self._by_queue.items():
            self._by_queue[queue] = [
                one for one in waiting if one.peer is not peer or channel not in {None, one.channel}
            ]
