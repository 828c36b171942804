"""How a pool's supervisor and its workers reach their queue: in a Redis or, over pipes, in the client itself.

The ways stand in modules of their own, ``by_redis.py`` and ``by_pipes.py``: who starts a pool names one, and only that
is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from mapreduce_rq.broker.wire import Wire


class Birth(Protocol):
    """The things that a worker is given when it is forked. They are made before, and used on both sides."""

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
        """Before a worker is forked."""

    def watched(self) -> Sequence[int]:
        """Descriptors that become readable when the way may have ended."""

    def over(self) -> bool:
        """Whether the way has ended: then the pool must end, too."""

    def close(self) -> None:
        """Forget it."""

    def clear_away(self, shelf: str) -> None:
        """The pool ends: remove what no other process would remove."""


WayTo = Callable[[Any], Way]
"""``ByRedis`` or ``ByPipes``: called with an endpoint of its kind."""
