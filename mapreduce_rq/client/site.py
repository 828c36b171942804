"""The place where a client's jobs run: a shared server, a private server, or pipes; and the client's local workers.

The site starts what belongs to the client alone, and ends it. It holds no reference to the client: so a client that is
dropped without ``close`` is collected at once, and its workers end.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from msgspec.structs import replace

from mapreduce_rq.broker.connection import Endpoint, parse_url
from mapreduce_rq.broker.wire import Wire
from mapreduce_rq.client.environment import chosen_keys, chosen_url, key_bytes, variable_of
from mapreduce_rq.core.sealing import Keyring
from mapreduce_rq.errors import BadParameter
from mapreduce_rq.functions.sources import learn
from mapreduce_rq.functions.trust import Trust
from mapreduce_rq.pipes.lines import PipeEnd
from mapreduce_rq.pipes.url import is_pipes, parse_pipes
from mapreduce_rq.runtime.pool.cores import usable_cores
from mapreduce_rq.runtime.pool.launch import LocalPool
from mapreduce_rq.runtime.pool.settings import PoolSettings
from mapreduce_rq.runtime.server import guardian
from mapreduce_rq.runtime.server.embedded import EmbeddedServer
from mapreduce_rq.runtime.server.lookout import Private, leave_note
from mapreduce_rq.runtime.server.shelf import a_shelf
from mapreduce_rq.runtime.tracing import tracer

if TYPE_CHECKING:  # what few programs use is imported where it is: `mrq compute` must not pay for it
    from mapreduce_rq.pipes.hub import Hub
    from mapreduce_rq.runtime.pool.way import WayTo

log = logging.getLogger("mapreduce_rq.client")


class Site:
    """The place where one client's jobs run. ``size``: the number of local workers. Raises UsageError, BrokerError."""

    def __init__(
        self,
        url: str | Endpoint | None,
        queue: str,
        *,
        local: int | None,
        keys: Iterable[bytes | str] | None,
        server: EmbeddedServer | None,
    ) -> None:
        given_keys = None if keys is None else key_bytes(keys)  # checked even where they are not needed
        where = url if isinstance(url, Endpoint) else chosen_url(url) if server is None else ""
        pipes = parse_pipes(where) if isinstance(where, str) and is_pipes(where) else None
        self.private = not where or pipes is not None
        """Whether the server ends with the client. Over pipes there is no server, and it is true."""
        if local is not None and local < (1 if self.private else 0):
            what = "a client over pipes" if pipes else "a private server"
            raise BadParameter(f"{local} local workers: {what} needs at least one")
        self.hub: Hub | None = None
        self.server: EmbeddedServer | None = None
        self.pool: LocalPool | None = None
        self.shelf = ""
        self.size = local if local is not None else (usable_cores() if self.private else 0)
        self.endpoint: Endpoint | PipeEnd
        self._queue = queue
        self._once = pipes is not None and pipes.once
        if pipes is not None:
            pipes.check_room(self.size)
            self.shelf = a_shelf()
            from mapreduce_rq.pipes.hub import Hub  # few programs use it

            self.hub = Hub(pipes.collect, queue, self.shelf)
            self.endpoint = self.hub.pipe_end
            self.keyring = Keyring()  # no other process can reach a pipe
        elif self.private:
            self.server = server or EmbeddedServer.start()
            self.endpoint = parse_url(self.server.url)
            self.keyring = Keyring([os.urandom(32)])
            self.shelf = self.server.shelf
        else:
            self.endpoint = (where if isinstance(where, Endpoint) else parse_url(where)).at(queue)
            self.keyring = Keyring(chosen_keys() if given_keys is None else given_keys)
            variable = variable_of(where) if isinstance(where, str) else ""
            log.info("queue %s of %s%s", queue, self.endpoint, f", as {variable} says" if variable else "")

    def wire(self) -> Wire:
        """A new wire to the queue, which is not connected yet. Raises UsageError."""
        if self.hub is not None:
            from mapreduce_rq.pipes.hub_wire import HubWire  # few programs use it

            return HubWire(self.hub)
        assert isinstance(self.endpoint, Endpoint)
        if self.server is not None:
            from mapreduce_rq.runtime.server.private_wire import PrivateWire  # a run over pipes does not need it

            return PrivateWire(self.endpoint, self.server)
        from mapreduce_rq.broker.redis_wire import RedisWire  # as above

        return RedisWire(self.endpoint)

    def _way(self) -> WayTo:
        """The class by which local workers reach the queue."""
        if self.hub is not None:
            from mapreduce_rq.runtime.pool.by_pipes import ByPipes  # few programs use it

            return ByPipes
        from mapreduce_rq.runtime.pool.by_redis import ByRedis  # as above

        return ByRedis

    def start_workers(self, trust: Trust) -> None:
        """Fork the local workers. No connection may be open yet. Modules that are imported now need no import there."""
        if self.size:
            settings = PoolSettings(self.endpoint, self._queue, self.keyring, self.size, trust=trust, shelf=self.shelf)
            if self._once:
                settings = replace(settings, once=True, max_tasks=1)
            learn()
            self.pool = LocalPool(settings, self._way(), self.server)

    def wait_ready(self) -> None:
        """Wait until a private server answers. Raises ServerFailed."""
        if self.hub is not None:
            self.hub.started()
        if self.server is not None:
            self.server.wait_ready()
            what = f"{os.path.basename(sys.argv[0] or sys.executable)}:{os.getpid()}"
            key = self.keyring.secrets()[0]
            leave_note(self.server.directory, Private(self.server.url, self._queue, key, os.getpid(), what))

    def end(self) -> None:
        """End the local workers, then the private server, or what pipes left on disk. A second call does nothing."""
        if self.hub is not None:
            self.hub.close()  # this comes first, or the supervisor might wait for an answer
        if self.pool is not None:
            if self.private and tracer() is None:  # otherwise its workers have spans of OpenTelemetry to send
                self.pool.stop()
            else:
                self.pool.drain()
        if self.server is not None:
            self.server.stop()
        if self.hub is not None and self.hub.owned:
            guardian.remove(self.hub.shelf)  # where the supervisor could not
