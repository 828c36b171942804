"""The way of a pool's supervisor and its workers to their queue: in a Redis or, over pipes, in the client itself.

Each way has a module of its own, ``by_redis.py`` and ``by_pipes.py``. The process that starts a pool names one, and
only that one is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from mapreduce_rq.broker.wire import Wire


class Birth(Protocol):
    """Things for a worker that is forked. They are made before the fork, and used on both sides."""

    def wire(self, queue: str) -> Wire:
        """In the worker: its wire to a queue, not connected yet."""

    def born(self, wid: str) -> None:
        """In its supervisor, after the worker was forked."""

    def over(self) -> bool:
        """In the worker: whether the client that it worked for is gone for good."""


class Way(Protocol):
    """The way to the queue."""

    def wire(self, queue: str) -> Wire:
        """The supervisor's own wire to a queue, not connected yet."""

    def birth(self) -> Birth:
        """Make the things for a worker, before it is forked."""

    def watched(self) -> Sequence[int]:
        """Descriptors that become readable when the way may have ended."""

    def over(self) -> bool:
        """Whether the way has ended: then the pool must end, too."""

    def close(self) -> None:
        """Close its descriptors."""

    def clear_away(self, shelf: str) -> None:
        """Remove files that no other process would remove, because the pool ends."""


WayTo = Callable[[Any], Way]
"""``ByRedis`` or ``ByPipes``: called with an endpoint of its kind."""
