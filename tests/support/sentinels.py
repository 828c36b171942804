"""A replicated Redis under real sentinels: a master, a replica, and three that watch and vote."""

from __future__ import annotations

import secrets
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Self

import redis

from tests.support.servers import RealServer, die_with_parent, find_server, free_port

WAIT_SECONDS = 30.0


class Group:
    """One service: two servers of the flavour Redis and ``sentinels`` sentinels that know each other.

    ``down_after``: milliseconds without an answer until a sentinel takes a server for dead.
    """

    service = "main"

    def __init__(
        self, *, sentinels: int = 3, sentinel_password: str = "", down_after: int = 500, **config: Any
    ) -> None:
        self._sentinel_password = sentinel_password
        self._down_after = down_after
        self.directory = Path(tempfile.mkdtemp(prefix="mrq-test-"))
        self.servers: list[RealServer] = []
        self._sentinels: list[subprocess.Popen[bytes]] = []
        self.sentinel_ports = [free_port() for _ in range(sentinels)]
        self.password = secrets.token_hex(8)
        config |= {"tcp": True, "password": self.password, "masterauth": self.password}
        first, second = (RealServer("redis", repl_diskless_sync_delay="0", **config) for _ in range(2))
        self.servers += [first, second]
        with second.client() as client:
            client.replicaof("127.0.0.1", first.port)
        self.wait_replicated()
        quorum = sentinels // 2 + 1
        for port in self.sentinel_ports:
            self._sentinels.append(self._start_sentinel(port, first.port, quorum))
        self._wait(lambda: all(self._peers(port) == sentinels - 1 for port in self.sentinel_ports))

    @property
    def url(self) -> str:
        """The URL of the service, password included."""
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.sentinel_ports)
        return f"redis+sentinel://:{self.password}@{hosts}/{self.service}"

    def master(self) -> RealServer:
        """The server that the first sentinel takes for the master."""
        return self._server(self._master_port())

    def replica(self) -> RealServer:
        """The other one."""
        port = self._master_port()
        return next(server for server in self.servers if server.port != port)

    def wait_replicated(self) -> None:
        """Wait until a replica has all that the master has."""

        def caught_up() -> bool:
            for server in self.servers:
                with server.client() as client:
                    info = client.info("replication")
                if info["role"] == "master" and info["connected_slaves"]:
                    return bool(info["slave0"]["offset"] == info["master_repl_offset"])
            return False

        self._wait(caught_up)

    def wait_failover(self, old_port: int) -> RealServer:
        """Wait until every sentinel names another master than the one at ``old_port``, and it takes writes."""
        self._wait(lambda: all(self._master_port(port) != old_port for port in self.sentinel_ports))
        server = self.master()

        def leads() -> bool:
            with server.client() as client:
                return bool(client.info("replication")["role"] == "master")

        self._wait(leads)
        return server

    def stop(self) -> None:
        """End all of it. Again: nothing."""
        for sentinel in self._sentinels:
            sentinel.kill()
            sentinel.wait()
        self._sentinels.clear()
        for server in self.servers:
            server.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start_sentinel(self, port: int, master: int, quorum: int) -> subprocess.Popen[bytes]:
        binary = find_server("redis")
        assert binary
        config = self.directory / f"sentinel-{port}.conf"
        config.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {self.directory}\n"
            f"sentinel monitor {self.service} 127.0.0.1 {master} {quorum}\n"
            f"sentinel auth-pass {self.service} {self.password}\n"
            f"sentinel down-after-milliseconds {self.service} {self._down_after}\n"
            f"sentinel failover-timeout {self.service} 3000\n"
            + (f"requirepass {self._sentinel_password}\n" if self._sentinel_password else "")
        )
        words = [binary, str(config), "--sentinel"]
        return subprocess.Popen(words, stdout=subprocess.DEVNULL, preexec_fn=die_with_parent)

    def _ask(self, port: int, *command: str) -> Any:
        password = self._sentinel_password or None
        with redis.Redis(port=port, password=password, protocol=2, socket_timeout=5) as sentinel:
            return sentinel.execute_command(*command)

    def _peers(self, port: int) -> int:
        try:
            return len(self._ask(port, "SENTINEL", "SENTINELS", self.service))
        except redis.RedisError:
            return -1

    def _master_port(self, port: int | None = None) -> int:
        answer = self._ask(port or self.sentinel_ports[0], "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.service)
        return int(answer[1])

    def _server(self, port: int) -> RealServer:
        return next(server for server in self.servers if server.port == port)

    @staticmethod
    def _wait(done: Any) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while not done():
            assert time.monotonic() < deadline, "the group is not ready"
            time.sleep(0.02)
