"""A wire to a private server. If that server has died, waiting does not help: its data are gone with it."""

from __future__ import annotations

from mapreduce_rq.broker.connection import Endpoint
from mapreduce_rq.broker.redis_wire import RedisWire
from mapreduce_rq.errors import ServerFailed
from mapreduce_rq.runtime.server.embedded import EmbeddedServer


class PrivateWire(RedisWire):
    """A wire to the server that this process has started."""

    def __init__(self, endpoint: Endpoint, server: EmbeddedServer) -> None:
        super().__init__(endpoint)
        self._server = server

    def connect(self) -> None:
        """Connect anew. Raises ServerFailed if the server is dead, besides BrokerDown and BrokerRefused."""
        if not self._server.alive():
            raise ServerFailed(f"the private server died ({self._server.death}), and the job with it: run it again")
        super().connect()
