"""Where a chaos scenario takes place: a server that writes its history, workers, a job, and the checks at the end.

Every scenario has the same oracle: the result has the digest of an undisturbed run, computed here; nothing of the job
is left but its record; and the server's history holds what every history must (tests/chaos/history.py).
"""

from __future__ import annotations

import secrets
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

import redis

from mapreduce_rq.computations import load
from mapreduce_rq.core.computation import Computation
from mapreduce_rq.core.job.ends import digest_of
from mapreduce_rq.core.messages import Spec
from mapreduce_rq.core.reducers.sums import IntSum
from tests.chaos.aof import files_of
from tests.chaos.conftest import HISTORY
from tests.chaos.history import Found, History
from tests.support.fleet import KEY, Fleet, Follower, Leader
from tests.support.scene import Scene
from tests.support.servers import RealServer
from tests.support.stage import until
from tests.support.terms import fingerprint, total

TERMS = 600
TERM_SECONDS = 0.02  # asleep: four workers take three seconds in all and hardly any of the processor
HOSTS, WORKERS = 2, 2
BACK_SECONDS = 3.0
"""From the server being up again to more being counted."""


class TooSlow(AssertionError):
    """All was exact, but not in time: on a busy machine that says little about us."""

    def __init__(self, text: str, figures: dict[str, float]) -> None:
        super().__init__(text)
        self.figures = figures


class Ground:
    """One scenario's server, queue and processes. ``server``: one that is there already; ``url`` leads to it."""

    def __init__(
        self, flavour: str = "valkey", *, server: RealServer | None = None, url: str = "", **config: Any
    ) -> None:
        self._stack = ExitStack()
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="mrq-test-")))
        self._recorded = server is None
        self.server = server or self._stack.enter_context(RealServer(flavour, **HISTORY, **config))
        self.scene = Scene(self.server, f"chaos-{secrets.token_hex(4)}", self.folder, url=url)
        self._stack.enter_context(self.scene)
        self.stage = self.scene.stage
        self.stage.write("seconds", str(TERM_SECONDS))
        self.figures: dict[str, float] = {}
        self._late: list[str] = []
        self.fleets: list[Fleet] = []
        self.leader: Leader | None = None
        self._terms = 0

    # -- who is there ----------------------------------------------------------------------------------------------

    def begin(self, terms: int = TERMS, *, hosts: int = HOSTS, function: str = "slow", **limits: Any) -> Leader:
        """Workers and a job; returns once it is under way."""
        self._terms = terms
        for _ in range(hosts):
            self.host()
        limits = {"chunk": 1, "attempts": 1000} | limits
        self.leader = self.scene.leader(function, terms, **limits)
        until(lambda: self.count() >= 10, 20, "the job under way")
        return self.leader

    def another(self, function: str = "slow", **limits: Any) -> Leader:
        """A master with another job of as many terms."""
        return self.scene.leader(function, self._terms, **{"chunk": 1, "attempts": 1000} | limits)

    def host(self, *, url: str = "") -> Fleet:
        """One more supervisor with its workers."""
        self.fleets.append(self.scene.fleet(WORKERS, url=url))
        return self.fleets[-1]

    def workers(self) -> list[int]:
        """All workers of all hosts."""
        return [worker for fleet in self.fleets if fleet.poll() is None for worker in fleet.workers()]

    def follower(self) -> Follower:
        """A standby for the job."""
        assert self.leader is not None
        return self.scene.follower(self.leader.job)

    @property
    def job(self) -> str:
        """The job's id."""
        assert self.leader is not None
        return self.leader.job

    def running(self) -> bool:
        """Whether it still runs, as far as the server can tell."""
        try:
            with self.server.client() as client:
                state = client.execute_command("HGET", self.scene.keys.job(self.job), "state")
        except redis.RedisError:
            return True
        return state in {b"running", None}

    def token(self) -> str:
        """The job's token."""
        state = self.scene.state(self.job)
        return state.token if state is not None else ""

    def count(self) -> int:
        """Terms begun so far."""
        return self.stage.begun_terms()

    def wait_progress(self, terms: int = 20, seconds: float = 30.0) -> float:
        """Wait until so many more terms have been begun; how long that took."""
        began, before = time.monotonic(), self.count()
        until(lambda: self.count() >= before + terms or not self.running(), seconds, "work going on")
        return time.monotonic() - began

    def wait_counted(self, seconds: float = 30.0) -> float:
        """Wait until the master has counted something more; how long that took."""
        assert self.leader is not None
        leader, began, known = self.leader, time.monotonic(), len(self.leader.said)

        def more() -> bool:
            return any(line.startswith("counted") for _, line in leader.said[known:]) or not self.running()

        until(more, seconds, "something counted")
        return time.monotonic() - began

    def back_to_work(self) -> None:
        """Wait until more is counted; how long that took is a figure."""
        self.figure("back to work after", self.wait_counted(), BACK_SECONDS)

    # -- figures and the end ---------------------------------------------------------------------------------------

    def figure(self, name: str, value: float, most: float) -> None:
        """Note a figure that has a bound; the largest counts."""
        self.figures[name] = max(value, self.figures.get(name, 0.0))
        if value > most:
            self._late.append(f"{name} {value:.2f} s, and {most:g} s are allowed")

    @contextmanager
    def meanwhile(self, act: Callable[[], None], every: float) -> Any:
        """Do something again and again in the background. What it raises is raised at the end."""
        stop = threading.Event()
        errors: list[BaseException] = []

        def run() -> None:
            try:
                while not stop.wait(every):
                    act()
            except BaseException as error:
                errors.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
        if errors:
            raise errors[0]

    def end(self, *masters: Leader, seconds: float = 300.0) -> Found | None:
        """The job's end as every scenario must have it; what the server's history held."""
        for master in masters or (self.leader,):
            assert master is not None
            self._check(master.record(seconds))
        until(lambda: not self._left(), 30, f"nothing left; there is {self._left()}")
        for fleet in self.fleets:
            assert fleet.poll() in {None, -9}, f"a supervisor ended by itself: {fleet.said[-3:]}"
            assert not any("please report" in line or "Traceback" in line for _, line in fleet.said)
        return self._history() if self._recorded else None

    def _check(self, record: dict[str, Any]) -> None:
        """A record must be that of an undisturbed run."""
        assert record["state"] == "done", record
        assert record["skipped"] == []
        if record["params"]["reduce"] == "list":
            assert list(map(int, record["value"].split())) == list(map(fingerprint, range(self._terms)))
            return
        assert int(record["value"]) == total(self._terms)
        assert record["digest"] == digest_of(IntSum().encode(total(self._terms)))

    def _left(self) -> list[str]:
        """What is there of tasks and replies."""
        try:
            return [name for name in self.scene.names() if name == "q" or name[:2] in {"f:", "r:"}]
        except redis.ConnectionError:
            return ["who knows what: we were cut off, too"]

    def _history(self) -> Found:
        history = History((bytes.fromhex(KEY),), computing=_fingerprints)
        return history.check(self.server.directory / "appendonlydir")

    def history_files(self) -> list[Path]:
        """The files of the server's append-only directory, in order."""
        return files_of(self.server.directory / "appendonlydir")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stack.close()
        if kind is None and self._late:
            raise TooSlow("; ".join(self._late), self.figures)


def _fingerprints(spec: Spec) -> Computation[Any]:
    """What every function of tests/terms.py computes, without what else it does."""
    return load("function").create(spec.params | {"function": "tests.support.terms:fingerprint"})
