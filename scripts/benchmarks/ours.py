"""mrq as a contender: the defaults as shipped, with a private server, signed messages and crash safety."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import redis

from mapreduce_rq.broker.connection import parse_url
from mapreduce_rq.client.client import Client
from mapreduce_rq.core.messages import Limits
from mapreduce_rq.core.sealing import Keyring
from mapreduce_rq.functions.trust import Trust
from mapreduce_rq.runtime.pool.by_redis import ByRedis
from mapreduce_rq.runtime.pool.launch import LocalPool
from mapreduce_rq.runtime.pool.settings import PoolSettings
from mapreduce_rq.runtime.server.embedded import EmbeddedServer

SINGLES = Limits(chunk=1)
"""Every term its own message."""
READY_SECONDS = 60.0
KEYRING = Keyring([b"benchmark benchmark benchmark 32"])
"""For fleets that do not get their key from a private client."""


class Ours:
    """A client with its private server and workers; ``limits`` None: the defaults."""

    def __init__(self, client: Client, server: EmbeddedServer, limits: Limits | None) -> None:
        self.client = client
        self.server = server
        self.limits = limits

    def fold(self, function: Callable[[int], Any], n: int) -> Any:
        """The sum of function(k) for k < n."""
        return self.client.map_reduce(function, range(n), limits=self.limits)

    def one(self, function: Callable[[int], Any], k: int) -> Any:
        """function(k)."""
        return self.client.map_reduce(function, range(k, k + 1), limits=self.limits)

    def exp(self) -> None:
        """The main job."""
        self.client.submit("exp", x="2", terms=50, limits=self.limits).result()

    def worker_pids(self) -> list[int]:
        """The processes of the workers."""
        return [view.beat.pid for view in self.client.snapshot().workers if view.beat is not None]

    def ask(self, *command: str) -> Any:
        """A command's answer, over a connection of its own."""
        with redis.Redis.from_url(self.server.url) as connection:
            return connection.execute_command(*command)


@contextmanager
def opened(workers: int, limits: Limits | None = SINGLES) -> Iterator[Ours]:
    """So many workers of ours, all of them waiting for work."""
    with EmbeddedServer.start() as server, Client(local=workers, server=server) as client:
        ours = Ours(client, server, limits)
        wait_until(lambda: ours.ask("INFO", "clients")["blocked_clients"] >= workers, f"{workers} workers")
        yield ours


@contextmanager
def attached(server: EmbeddedServer) -> Iterator[Client]:
    """A client of a server whose workers are elsewhere."""
    server.wait_ready()
    with Client(server.url, keys=KEYRING.secrets()) as client:
        yield client


def fleet(url: str, workers: int) -> LocalPool:
    """A supervisor and its workers, as `mrq worker` starts them; to be stopped."""
    return LocalPool(PoolSettings(parse_url(url), "default", KEYRING, workers, trust=Trust(signed=True)), ByRedis)


def wait_until(true: Callable[[], bool], what: str, seconds: float = READY_SECONDS) -> None:
    """Wait for something to become true. Raises TimeoutError."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds:g} s for {what}")
        time.sleep(0.01)
