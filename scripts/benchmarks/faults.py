"""How soon work goes on after a death, by the tasks' own marks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from benchmarks import work
from benchmarks.ours import KEYRING, SINGLES, attached, fleet, wait_until
from benchmarks.sampling import Figure, Group, Row, Settings, Table, say
from mapreduce_rq.client.client import Client
from mapreduce_rq.core.messages import Limits
from mapreduce_rq.runtime.server.embedded import EmbeddedServer

KILLED = Figure("killed", "a worker's kill -9 to its task running elsewhere", "s", 1.0, more_is_better=False)
LOST = Figure(
    "lost", "a host lost (kill -9 of all on it) to its task running elsewhere", "s", 18.0, more_is_better=False
)
TAKEOVER = Figure("takeover", "a master's kill -9 to its job going on under another", "s", 12.0, more_is_better=False)


class Marks:
    """What :func:`benchmarks.work.mark` wrote: who began which task when."""

    def __init__(self, directory: str, seconds: float) -> None:
        self._path = Path(directory) / "marks"
        self._path.touch()
        os.environ["MRQ_BENCH_MARKS"] = str(self._path)
        os.environ["MRQ_BENCH_MARK_SECONDS"] = str(seconds)

    def of(self, k: int | None = None) -> list[tuple[int, float]]:
        """``(pid, monotonic seconds)`` of everybody who began task k, in order."""
        rows = [line.split() for line in self._path.read_text(encoding="ascii").splitlines()]
        return [(int(pid), int(when) / 1e9) for task, pid, when in rows if k is None or int(task) == k]


def measure(settings: Settings) -> Iterable[Row]:
    """Kill, and wait for the sign of life that follows."""
    table = Table()
    for turn in range(settings.rounds):
        say(f"  round {turn + 1} of {settings.rounds}")
        if settings.wants(KILLED.name):
            table.add(KILLED.name, "mrq, under a supervisor", _killed(), ours=True)
        if settings.wants(LOST.name) and not settings.quick:
            table.add(LOST.name, "mrq", _lost(), ours=True)
        if settings.wants(TAKEOVER.name) and not settings.quick:
            table.add(TAKEOVER.name, "mrq, a standby watching", _takeover(), ours=True)
    return table.rows.values()


def _killed() -> float:
    with tempfile.TemporaryDirectory() as directory:
        marks = Marks(directory, 0.5)
        with Client(local=2) as client:
            job = client.submit_function(work.mark, range(2), limits=SINGLES)
            wait_until(lambda: len(marks.of()) == 2, "both workers to begin")
            victim = marks.of(0)[0][0]
            died = time.monotonic()
            os.kill(victim, signal.SIGKILL)
            job.result(30)
            return marks.of(0)[1][1] - died


def _lost() -> float:
    with tempfile.TemporaryDirectory() as directory, EmbeddedServer.start() as server:
        marks = Marks(directory, 4.0)
        server.wait_ready()
        hosts = [fleet(server.url, 1), fleet(server.url, 1)]
        try:
            with attached(server) as client:
                wait_until(lambda: len(client.snapshot().workers) == 2, "both hosts")
                job = client.submit_function(work.mark, range(2), limits=SINGLES)
                wait_until(lambda: len(marks.of()) == 2, "both workers to begin")
                died = time.monotonic()
                os.kill(hosts[0].pid, signal.SIGKILL)  # its worker dies with it, and nobody says a word to Redis
                job.result(60)
                return next(rows[1][1] for rows in (marks.of(0), marks.of(1)) if len(rows) > 1) - died
        finally:
            for host in hosts:
                host.stop()


class _Hearing:
    """Notes when the standby says that it leads."""

    def __init__(self) -> None:
        self.leading = 0.0

    def progressed(self, report: object) -> None:
        """Not needed."""

    def noticed(self, text: str) -> None:
        """What the standby says."""
        if text.startswith("leading"):
            self.leading = time.monotonic()


def _takeover() -> float:
    with EmbeddedServer.start() as server:
        server.wait_ready()
        crew = fleet(server.url, 2)
        try:
            command = [sys.executable, "-m", "benchmarks.faults"]
            with (
                attached(server) as client,
                subprocess.Popen(command, cwd=sys.path[0], stdin=subprocess.PIPE) as leader,
            ):
                assert leader.stdin is not None
                leader.stdin.write(server.url.encode())
                leader.stdin.close()
                wait_until(lambda: any(view.report.counted for view in client.snapshot().jobs), "the job to begin")
                (job,) = (view.job for view in client.snapshot().jobs)
                died = time.monotonic()
                leader.kill()
                hearing = _Hearing()
                client.leader.follow(job, hearing)
                return hearing.leading - died
        finally:
            crew.stop()


def lead() -> None:
    """The first master of :func:`_takeover`: a job that outlasts it."""
    with Client(sys.stdin.read(), keys=KEYRING.secrets()) as client:
        client.map_reduce(work.sleep_10_ms, range(2_000), limits=Limits(chunk=5))


GROUP = Group((KILLED, LOST, TAKEOVER), measure)

if __name__ == "__main__":
    lead()
