"""What carries the verbs: a server of each flavour, workers over pipes, and the simulation's server.

A ground gives wires, runs several acts side by side, and ends. An act is a thread, and in the simulation an actor in
virtual time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from mapreduce_rq.broker.connection import parse_url
from mapreduce_rq.broker.redis_wire import RedisWire
from mapreduce_rq.broker.wire import Wire
from mapreduce_rq.pipes.hub import Hub
from mapreduce_rq.pipes.hub_wire import HubWire
from mapreduce_rq.pipes.lines import Line, LineWire, PipeEnd, a_line
from mapreduce_rq.pipes.waiting import BEST
from mapreduce_rq.runtime.pool.by_pipes import ByPipes
from tests.sim.network import Server
from tests.sim.scheduler import Actor, Scheduler
from tests.sim.wire import SimWire
from tests.support.servers import RealServer
from tests.support.stage import until

GROUNDS = ("valkey", "redis", "pipes", "the simulation")
ACT_SECONDS = 20.0


class Ground:
    """On threads: ``master`` and ``worker`` make wires of these two sides, which may be of different kinds."""

    def __init__(self, master: Callable[[], Wire], worker: Callable[[], Wire]) -> None:
        self._sides = {"master": master, "worker": worker}
        self._made: list[Wire] = []

    def wire(self, side: str) -> Wire:
        """A connected wire."""
        made = self._sides[side]()
        made.connect()
        self._made.append(made)
        return made

    def together(self, *acts: Callable[[], object]) -> None:
        """Do all of these side by side."""
        threads = [threading.Thread(target=act, daemon=True) for act in acts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(ACT_SECONDS)
            assert not thread.is_alive()

    def until_blocked(self, count: int) -> None:
        """Wait until so many requests wait at the server: it may read two that are there at once in any order."""

    def close(self) -> None:
        for made in self._made:
            made.close()


class Served(Ground):
    """On a real server."""

    def __init__(self, server: RealServer) -> None:
        endpoint = parse_url(server.url)
        super().__init__(lambda: RedisWire(endpoint), lambda: RedisWire(endpoint))
        self._server = server

    def until_blocked(self, count: int) -> None:
        with self._server.client() as client:
            until(lambda: client.info("clients")["blocked_clients"] == count, ACT_SECONDS, f"{count} that wait")


class Simulated(Ground):
    """Each act is an actor; a call from a test that is in none becomes one."""

    def __init__(self) -> None:
        self.scheduler = Scheduler(1)
        server = Server(self.scheduler, lambda *_: None, "valkey")
        super().__init__(lambda: self._driven(SimWire(server)), lambda: self._driven(SimWire(server)))

    def together(self, *acts: Callable[[], object]) -> None:
        actors = [Actor(self.scheduler, f"act {number}", act) for number, act in enumerate(acts)]  # type: ignore[arg-type]
        self.scheduler.run(self.scheduler.now + ACT_SECONDS, lambda: all(actor.dead for actor in actors))
        for actor in actors:
            if actor.error is not None:
                raise actor.error
            assert actor.dead

    def _driven(self, wire: SimWire) -> Any:
        return Driven(wire, self)

    def within(self, act: Callable[[], Any]) -> Any:
        """What the act returns, done in an actor."""
        current = self.scheduler.current
        if current is not None and current.runs:
            return act()
        found: list[Any] = []
        self.together(lambda: found.append(act()))
        return found[0]


class Driven:
    """A wire of the simulation whose every call is made in an actor."""

    def __init__(self, wire: SimWire, ground: Simulated) -> None:
        self._wire = wire
        self._ground = ground
        self.large = wire.large

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._wire, name)

        def call(*arguments: Any, **named: Any) -> Any:
            def act() -> Any:
                if self._wire.connection is not None:  # whoever calls waits for the answer
                    self._wire.connection.actor = self._ground.scheduler.actor()
                return method(*arguments, **named)

            return self._ground.within(act)

        return call


@contextmanager
def on_server(server: RealServer) -> Iterator[Ground]:
    """A real server."""
    ground = Served(server)
    try:
        yield ground
    finally:
        ground.close()


@contextmanager
def on_pipes(queue: str) -> Iterator[Ground]:
    """Pipes: a master stands in the hub's process, a worker and its supervisor at the ends of lines."""
    hub = Hub(BEST, queue, "")
    assert hub.supervisor_end is not None
    supervisor = ByPipes(PipeEnd(hub.supervisor_end.detach()))
    hub.supervisor_end = None
    lines: list[Line] = []

    def worker() -> Wire:
        theirs, hubs = a_line()
        supervisor.join(f"host:1:{len(lines)}", hubs)
        hubs.close()
        lines.append(Line(theirs))
        return LineWire(lines[-1])

    over = threading.Event()
    server = threading.Thread(target=lambda: _serve(hub, over), daemon=True)
    server.start()
    ground = Ground(lambda: HubWire(hub), worker)
    try:
        yield ground
    finally:
        over.set()
        server.join()
        ground.close()
        for line in lines:
            line.close()
        hub.close()
        supervisor.close()


def _serve(hub: Hub, over: threading.Event) -> None:
    while not over.is_set():
        hub.wait(over.is_set, 0.02)


class Looks:
    """The commands that tests look and prepare with, named as redis-py names them: every ground knows these."""

    def __init__(self, wire: Wire) -> None:
        self._call = wire.call

    def lpush(self, key: str, *values: bytes) -> None:
        self._call("LPUSH", key, *values)

    def lrange(self, key: str) -> Sequence[bytes]:
        found: list[bytes] = self._call("LRANGE", key, 0, -1)
        return found

    def llen(self, key: str) -> int:
        return int(self._call("LLEN", key))

    def hash(self, key: str) -> dict[bytes, bytes]:
        flat = self._call("HGETALL", key)
        return dict(zip(flat[::2], flat[1::2], strict=True))

    def hset(self, key: str, field: str, value: bytes) -> None:
        self._call("HSET", key, field, value)

    def zadd(self, key: str, member: str, score: int) -> None:
        self._call("ZADD", key, score, member)

    def members(self, key: str) -> list[str]:
        """Of a sorted set, by their scores."""
        return [member.decode() for member in self._call("ZRANGE", key, 0, -1)]

    def exists(self, *keys: str) -> int:
        return int(self._call("EXISTS", *keys))

    def delete(self, *keys: str) -> None:
        self._call("DEL", *keys)

    def entries(self, key: str) -> list[tuple[str, bytes]]:
        """Of a stream: the id and the reply."""
        found = self._call("XREAD", "COUNT", 1000, "STREAMS", key, "0-0")
        return [(entry.decode(), fields[1]) for entry, fields in found[0][1]] if found else []
