"""Handles on the processes of tests/actors.py: pools of workers and masters, to listen to and to kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from tests.support.servers import ROOT, die_with_parent, wait_gone
from tests.support.stage import allowed, until

KEY = "6b" * 32
"""A signing key, as hex. Signed queues let functions be run by name."""


class Actor:
    """One process, and all it has said so far with the time of each line. ``prefix``: a program that executes it."""

    def __init__(
        self,
        role: str,
        settings: Mapping[str, Any],
        environment: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        self._process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "tests.support.actors", role, json.dumps(dict(settings))],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=die_with_parent,
        )
        self.pid = self._process.pid
        self.said: list[tuple[float, str]] = []
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()

    def _listen(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self.said.append((time.monotonic(), line.rstrip("\n")))

    def hear(self, start: str, seconds: float = 20.0) -> str:
        """The rest of the first line that begins so, waiting for it."""
        return self.heard_at(start, seconds)[1]

    def heard_at(self, start: str, seconds: float = 20.0) -> tuple[float, str]:
        """As :meth:`hear`, with the time it was said."""

        def heard() -> tuple[float, str] | None:
            return next(((at, line[len(start) :].strip()) for at, line in self.said if line.startswith(start)), None)

        until(lambda: heard() or self.poll() is not None, seconds, f"{start!r} said")
        if self.poll() is not None:
            self._listener.join()
        found = heard()
        assert found, f"{self.pid} ended without saying {start!r}: {[line for _, line in self.said][-5:]}"
        return found

    def poll(self) -> int | None:
        """Its exit code, None while it runs."""
        return self._process.poll()

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def kill9(self) -> None:
        """SIGKILL, and wait for its end."""
        self.signal(signal.SIGKILL)
        self.wait()

    def stop(self) -> None:
        """SIGSTOP, and wait until it stands."""
        self.signal(signal.SIGSTOP)
        until(lambda: state_of(self.pid) == "T", 5, "stopped")

    def go_on(self) -> None:
        """SIGCONT."""
        self.signal(signal.SIGCONT)

    def wait(self, seconds: float = 30.0) -> int:
        """Its exit code, waiting for its end."""
        code = self._process.wait(allowed(seconds))
        self._listener.join()
        return code

    def close(self) -> None:
        """Kill it if it is there still."""
        if self.poll() is None:
            self._process.kill()
        self._process.wait()
        self._listener.join()
        assert self._process.stdout
        self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Fleet(Actor):
    """A supervisor with its workers."""

    def __init__(
        self,
        url: str,
        queue: str,
        size: int,
        *,
        environment: Mapping[str, str] | None = None,
        keys: tuple[str, ...] = (KEY,),
        prefix: Sequence[str] = (),
        **more: Any,
    ) -> None:
        super().__init__("pool", {"url": url, "queue": queue, "size": size, "keys": keys} | more, environment, prefix)
        self.hear("ready", 60)

    def workers(self) -> list[int]:
        """Its children."""
        return children_of(self.pid)

    def close(self) -> None:
        workers = [] if self.poll() is not None else self.workers()
        super().close()
        for worker in workers:
            assert wait_gone(worker), f"worker {worker} outlives its supervisor"


class Leader(Actor):
    """A master that submits a function of tests/terms.py over a range."""

    def __init__(
        self,
        url: str,
        queue: str,
        function: str,
        terms: int,
        *,
        environment: Mapping[str, str] | None = None,
        keys: tuple[str, ...] = (KEY,),
        reduce: str = "int_sum",
        **limits: Any,
    ) -> None:
        settings = {"function": f"tests.support.terms:{function}", "terms": terms, "reduce": reduce, "limits": limits}
        super().__init__("lead", {"url": url, "queue": queue, "keys": keys} | settings, environment)

    @property
    def job(self) -> str:
        """Its job's id."""
        return self.hear("job ")

    def record(self, seconds: float = 60.0) -> dict[str, Any]:
        """The record its job ended with, and the ``state`` in it."""
        found: dict[str, Any] = json.loads(self.hear("ended ", seconds))
        return found


class Follower(Leader):
    """A master that stands by for a job."""

    def __init__(self, url: str, queue: str, job: str, *, keys: tuple[str, ...] = (KEY,)) -> None:
        Actor.__init__(self, "follow", {"url": url, "queue": queue, "keys": keys, "job": job})
        self.hear("following", 60)


def children_of(pid: int) -> list[int]:
    """The living children of a process."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except FileNotFoundError:
        return []
    return [child for child in map(int, text.split()) if state_of(child) not in "ZX"]


def state_of(pid: int) -> str:
    """The letter of its state as ps has it; X when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


def kill9(pid: int) -> None:
    """SIGKILL a process that is not our child, and wait for its end."""
    os.kill(pid, signal.SIGKILL)
    assert wait_gone(pid)
