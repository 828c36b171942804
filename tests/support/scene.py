"""One queue on one server with pools and masters on it, all of which end with the scene."""

from __future__ import annotations

from collections.abc import Container
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from mapreduce_rq.broker.connection import parse_url
from mapreduce_rq.broker.job_hash import JobState
from mapreduce_rq.broker.jobs import Jobs
from mapreduce_rq.broker.keys import Keys
from mapreduce_rq.broker.redis_wire import RedisWire
from mapreduce_rq.core.sealing import Codecs, Keyring
from mapreduce_rq.runtime.clock import Clock
from mapreduce_rq.runtime.master.cancel import cancel
from tests.support.fleet import KEY, Fleet, Follower, Leader
from tests.support.servers import RealServer
from tests.support.stage import Stage, until
from tests.support.terms import total_without


class Scene:
    """``url`` may lead elsewhere than to ``server`` itself: through a proxy, or to its sentinels."""

    def __init__(self, server: RealServer, queue: str, folder: Path, *, url: str = "") -> None:
        self.server = server
        self.url = url or server.url
        self.queue = queue
        self.keys = Keys(queue)
        self.codecs = Codecs(queue, Keyring([bytes.fromhex(KEY)]))
        self.stage = Stage(folder)
        self._stack = ExitStack()

    def fleet(self, size: int, *, url: str = "", **more: Any) -> Fleet:
        """A supervisor with ``size`` workers."""
        made = Fleet(url or self.url, self.queue, size, environment=self.stage.environment, **more)
        return self._stack.enter_context(made)

    def leader(self, function: str, terms: int, *, url: str = "", **limits: Any) -> Leader:
        """A master with a job over ``terms`` terms of a function of tests/terms.py."""
        self.stage.next_job()
        made = Leader(url or self.url, self.queue, function, terms, environment=self.stage.environment, **limits)
        return self._stack.enter_context(made)

    def follower(self, job: str, *, url: str = "") -> Follower:
        """A master that stands by for a job."""
        return self._stack.enter_context(Follower(url or self.url, self.queue, job))

    def jobs(self) -> Jobs:
        """The verbs over a wire of our own, connected."""
        wire = RedisWire(parse_url(self.server.url))
        self._stack.callback(wire.close)
        wire.connect()
        return Jobs(wire, self.keys, self.codecs)

    def state(self, job: str) -> JobState | None:
        """A job as it stands in Redis."""
        jobs = self.jobs()
        try:
            return jobs.load(job)
        finally:
            jobs.wire.close()

    def cancel(self, job: str, *, now: bool = False) -> str:
        """Cancel a job from this process."""
        jobs = self.jobs()
        try:
            return cancel(jobs, Clock(), job, now=now)
        finally:
            jobs.wire.close()

    def beats(self) -> dict[str, bytes]:
        """The registered workers and their beats or obituaries."""
        with self.server.client() as client:
            found = client.execute_command("HGETALL", self.keys.workers)
        return {wid.decode(): beat for wid, beat in found.items()}

    def vouched(self) -> int:
        """How many workers are registered by their supervisors."""
        beats = {wid: beat for wid, beat in self.beats().items() if not beat.startswith(b"X:")}
        return sum(bool(self.codecs.beat.at(wid).open(beat).count) for wid, beat in beats.items())

    def wait_beats(self, count: int) -> None:
        """Wait until ``count`` workers are registered."""
        until(lambda: self.vouched() >= count, 10, f"{count} workers vouched for")

    def hands(self) -> dict[int, list[int]]:
        """The terms of the tasks in each worker's hand, by its process."""
        found: dict[int, list[int]] = {}
        with self.server.client() as client:
            for wid in (name.removeprefix("f:") for name in self.names() if name.startswith("f:")):
                tasks = map(self.codecs.task.open, client.lrange(self.keys.in_flight(wid), 0, -1))
                found[int(wid.rsplit(":", 2)[1])] = [term for task in tasks for term in range(task.lo, task.hi)]
        return found

    def names(self) -> list[str]:
        """All keys of the queue, without the prefix."""
        with self.server.client() as client:
            found = client.keys(f"{self.keys.prefix}*")
        return sorted(key.decode().removeprefix(self.keys.prefix) for key in found)

    def check(
        self,
        leader: Leader,
        terms: int,
        *,
        victims: tuple[int, ...] = (),
        skipped: tuple[int, ...] = (),
        stopped: Container[int] = (),
    ) -> dict[str, Any]:
        """The job's record: done and exact, and no term was computed twice except those that a victim had in hand.

        ``stopped``: terms in the hand of a worker that was stopped for longer than a task may take. These may run twice
        elsewhere: as the copy of a late task, and again when the worker wakes up and, since its task takes long, gives
        the others in its hand back before it has heard of anything. Each is counted once.
        """
        record = leader.record()
        assert record["state"] == "done", record
        assert int(record["value"]) == total_without(terms, *skipped)
        assert {entry["term"] for entry in record["skipped"]} == set(skipped)
        runs = self.stage.runs()
        for term, times in self.stage.count().items():
            by = [pid for pid, at in runs if at == term]
            fair = [pid for pid in by if pid not in victims]
            most = 2 if term in stopped else 1
            assert times == 1 or len(fair) <= most, f"term {term} by {by}, of which {victims} were killed"
        return record

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
