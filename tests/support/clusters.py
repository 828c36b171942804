"""A real cluster: three shards of a flavour, each with a primary and a replica, on free ports of the loopback."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from redis.crc import key_slot

from tests.support.servers import RealServer, free_port
from tests.support.stage import allowed

SLOTS = 16384
SHARDS = 3
WAIT_SECONDS = 30.0
_FILES = {"cert": "server.pem", "key": "server.key", "ca_cert": "ca.pem"}


class RealCluster:
    """``replicas``: whether each shard has one. A primary that is killed is replaced by it within some two seconds.

    ``tls``: a folder with certificates: each node has a port more, for TLS, and they talk to each other so.
    """

    def __init__(self, flavour: str = "redis", *, replicas: bool = True, tls: Path | None = None) -> None:
        self.password = secrets.token_hex(8)
        config: dict[str, Any] = {
            "tcp": True,
            "password": self.password,
            "masterauth": self.password,
            "cluster_enabled": "yes",
            "cluster_config_file": "nodes.conf",
            "cluster_node_timeout": "800",
            "cluster_replica_validity_factor": "0",
            "cluster_allow_replica_migration": "no",
            "repl_diskless_sync_delay": "0",
            "repl_ping_replica_period": "1",
        }
        if tls is not None:
            config |= {f"tls_{what}_file": str(tls / file) for what, file in _FILES.items()} | {"tls_cluster": "yes"}
        self.servers: list[RealServer] = []
        self.tls_ports: list[int] = []
        self._buses: list[int] = []  # the ports on which the nodes talk to each other
        for _ in range(SHARDS * (1 + replicas)):
            self._buses.append(free_port())
            if tls is not None:
                self.tls_ports.append(free_port())
                config["tls_port"] = str(self.tls_ports[-1])
            self.servers.append(RealServer(flavour, **config, cluster_port=str(self._buses[-1])))
        self._form()

    @property
    def url(self) -> str:
        """The URL that names every node, password included."""
        return self.url_of(*self.servers)

    def url_of(self, *servers: RealServer) -> str:
        """The URL that names some of the nodes."""
        return f"redis+cluster://:{self.password}@{','.join(f'127.0.0.1:{one.port}' for one in servers)}"

    def primaries(self) -> list[RealServer]:
        """The servers that serve slots now."""
        return [self._server(port) for port in sorted({port for _, _, port in self.slots()})]

    def slots(self) -> list[tuple[int, int, int]]:
        """First and last slot and the port of who serves them, as a living node says."""
        for server in self.servers:
            if server.alive:
                rows = _do(server, "CLUSTER", "SLOTS")
                return [(row[0], row[1], int(row[2][1])) for row in rows]
        raise AssertionError("all nodes are dead")

    def owner(self, queue: str) -> RealServer:
        """Who serves a queue's slot."""
        slot = slot_of(queue)
        return next(self._server(port) for first, last, port in self.slots() if first <= slot <= last)

    def queues(self, name: str) -> list[str]:
        """One queue for each shard, whose names begin so."""
        found: dict[int, str] = {}
        number = 0
        while len(found) < SHARDS:
            queue = f"{name}-{number}"
            found.setdefault(self.owner(queue).port, queue)
            number += 1
        return [found[server.port] for server in self.primaries()]

    def wait_failover(self, queue: str, killed: RealServer) -> None:
        """Wait until the replica of a server that was killed serves a queue, and all nodes know."""
        self._wait(lambda: self.owner(queue) is not killed and self._healthy())

    def begin_move(self, queue: str) -> tuple[RealServer, RealServer]:
        """Begin to move a queue's slot to another shard: from and to whom. Nothing of it is there yet."""
        slot, source = slot_of(queue), self.owner(queue)
        target = next(server for server in self.primaries() if server is not source)
        _do(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", _id(source))
        _do(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", _id(target))
        return source, target

    def move_keys(self, queue: str, source: RealServer, target: RealServer, most: int = 1_000_000) -> int:
        """Move keys of the slot; how many."""
        moved = 0
        slot = slot_of(queue)
        while moved < most:
            keys = _do(source, "CLUSTER", "GETKEYSINSLOT", slot, min(10, most - moved))
            if not keys:
                break
            words = ["MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "AUTH", self.password, "KEYS", *keys]
            _do(source, *words)
            moved += len(keys)
        return moved

    def end_move(self, queue: str, source: RealServer, target: RealServer) -> None:
        """All keys have been moved: the slot is the other's."""
        for server in (target, source, *(one for one in self.primaries() if one not in {source, target})):
            _do(server, "CLUSTER", "SETSLOT", slot_of(queue), "NODE", _id(target))

    def define(self, user: str) -> None:
        """Have each node know a user, given as a line of an ACL file."""
        for server in self.servers:
            _do(server, "ACL", "SETUSER", *user.split()[1:])

    def stop(self) -> None:
        """End all of it. Again: nothing."""
        for server in self.servers:
            server.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _form(self) -> None:
        primaries, replicas = self.servers[:SHARDS], self.servers[SHARDS:]
        for index, server in enumerate(primaries):
            _do(server, "CLUSTER", "ADDSLOTSRANGE", SLOTS * index // SHARDS, SLOTS * (index + 1) // SHARDS - 1)
            _do(server, "CLUSTER", "SET-CONFIG-EPOCH", index + 1)
        for server, bus in zip(self.servers[1:], self._buses[1:], strict=True):
            _do(self.servers[0], "CLUSTER", "MEET", "127.0.0.1", server.port, bus)
        self._wait(lambda: all(self._knows(server) == len(self.servers) for server in self.servers))
        for primary, replica in zip(primaries, replicas, strict=False):
            _do(replica, "CLUSTER", "REPLICATE", _id(primary))
        self._wait(self._healthy)
        self._wait(lambda: all(_synced(replica) for replica in replicas))

    def _healthy(self) -> bool:
        return all(
            b"cluster_state:ok" in _do(server, "CLUSTER", "INFO") and len(self._rows(server)) == SHARDS
            for server in self.servers
            if server.alive
        )

    def _rows(self, server: RealServer) -> set[int]:
        return {int(row[2][1]) for row in _do(server, "CLUSTER", "SLOTS")}

    def _knows(self, server: RealServer) -> int:
        lines = _do(server, "CLUSTER", "NODES").decode().splitlines()
        return sum("handshake" not in line for line in lines)

    def _server(self, port: int) -> RealServer:
        return next(server for server in self.servers if server.port == port)

    @staticmethod
    def _wait(done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + allowed(WAIT_SECONDS)
        while not done():
            assert time.monotonic() < deadline, "the cluster is not ready"
            time.sleep(0.02)


def slot_of(queue: str) -> int:
    """The slot of all keys of a queue."""
    return key_slot(queue.encode())


def _do(server: RealServer, *words: Any) -> Any:
    """A command's answer, as it comes."""
    with server.client() as client:
        connection = client.connection_pool.get_connection()
        try:
            connection.send_command(*words)
            return connection.read_response()
        finally:
            client.connection_pool.release(connection)


def _id(server: RealServer) -> str:
    return str(_do(server, "CLUSTER", "MYID").decode())


def _synced(server: RealServer) -> bool:
    return b"master_link_status:up" in _do(server, "INFO", "replication")
