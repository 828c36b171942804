"""A pool's way to a queue in Redis."""

from __future__ import annotations

from collections.abc import Sequence

from mapreduce_rq.broker.connection import Endpoint
from mapreduce_rq.broker.redis_wire import RedisWire
from mapreduce_rq.broker.wire import Wire
from mapreduce_rq.runtime.pool.way import Birth


class ByRedis:
    """Connections to a server: each process has its own, and a server that is gone may come back."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    def wire(self, queue: str) -> Wire:
        """See Way, and Birth."""
        return RedisWire(self._endpoint.at(queue))

    def birth(self) -> Birth:
        """See Way."""
        return self

    def born(self, wid: str) -> None:
        """Do nothing: the worker connects by itself."""

    def watched(self) -> Sequence[int]:
        """Watch no descriptors: a wire finds out when it is used."""
        return ()

    def over(self) -> bool:
        """False: a server may come back."""
        return False

    def close(self) -> None:
        """See Way."""

    def clear_away(self, shelf: str) -> None:
        """Do nothing: the shelf of a private server is removed with the server."""
