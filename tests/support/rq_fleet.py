"""Stock rq workers on a server of their own, and what tests do with them. They run functions of terms.py."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import redis
import rq
from rq.job import JobStatus

from mapreduce_rq.broker.clients import client_of
from mapreduce_rq.broker.connection import parse_url
from mapreduce_rq.broker.job_hash import JobState
from mapreduce_rq.broker.jobs import Jobs
from mapreduce_rq.broker.keys import Keys
from mapreduce_rq.broker.redis_wire import RedisWire
from mapreduce_rq.client.loops import ANY_LOOP
from mapreduce_rq.core.sealing import Codecs, Keyring
from tests.support.commands import environment
from tests.support.fleet import children_of
from tests.support.servers import RealServer, die_with_parent
from tests.support.stage import Stage, until

MAP_REDUCE = "mapreduce_rq.rq.map_reduce"
WORK = "mapreduce_rq.rq.work"
RQ = Path(sys.executable).with_name("rq")
OVER = {JobStatus.FINISHED, JobStatus.FAILED, JobStatus.STOPPED, JobStatus.CANCELED}


class RQWorker:
    """One ``rq worker``, as its users start it."""

    def __init__(self, url: str, folder: Path, name: str, *options: str, env: Mapping[str, str]) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [str(RQ), "worker", "-u", url, "-n", name, "--job-monitoring-interval", "1", *options],
                cwd=folder,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=die_with_parent,
            )
        self.pid = self._process.pid

    def horse(self) -> int:
        """Its horse, waiting for it."""
        return until(lambda: next(iter(children_of(self.pid)), 0), 20, f"a horse of {self.name}")

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def kill9(self) -> None:
        """Kill the rq worker alone: RQ's horses go on then."""
        self._process.kill()
        self._process.wait()

    def wait(self, seconds: float = 30.0) -> int:
        """Its exit code, waiting for its end."""
        return self._process.wait(seconds)

    def stop(self) -> None:
        """End it with its horse, however that is."""
        if self._process.poll() is None:
            for horse in children_of(self.pid):
                try:
                    os.killpg(horse, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            self._process.kill()
        self._process.wait()


class RQFleet:
    """A server, rq workers on it, and one RQ queue."""

    def __init__(self, server: RealServer, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self.stage = Stage(folder)
        self.url = server.tcp_url
        self.connection: Any = client_of(parse_url(self.url))
        self.queue = rq.Queue("default", connection=self.connection)
        self.env = environment({name: self.stage.environment[name] for name in ("MRQ_TEST_STAGE",)})
        self._stack = ExitStack()
        self._workers = 0

    def worker(self, *options: str, env: Mapping[str, str] | None = None) -> RQWorker:
        """A stock rq worker, once it listens."""
        self._workers += 1
        name = f"w{self._workers}"
        made = RQWorker(self.url, self.folder, name, *options, env=self.env | dict(env or {}))
        self._stack.callback(made.stop)
        until(lambda: b"Listening" in made.log.read_bytes(), 30, f"{name} listens: {made.log.read_text()}")
        return made

    def map_reduce(self, function: str, items: Any, queue: rq.Queue | None = None, **how: Any) -> rq.job.Job:
        """Enqueue one, of a function of tests/support/terms.py."""
        how = {"job_timeout": -1, "reduce": "int_sum"} | how
        found = (queue or self.queue).enqueue(MAP_REDUCE, f"tests.support.terms:{function}", items, **how)
        assert isinstance(found, rq.job.Job)
        return found

    def end(self, job: rq.job.Job, seconds: float = 60.0) -> JobStatus:
        """How an RQ job ended, waiting for it."""
        until(lambda: job.get_status() in OVER, seconds, f"the end of {job.id}: {self.logs()}")
        return job.get_status()

    def result(self, job: rq.job.Job, seconds: float = 60.0) -> Any:
        """What an RQ job returned, waiting for it."""
        status = self.end(job, seconds)
        assert status is JobStatus.FINISHED, f"{status}: {self.logs()}"
        return job.return_value(refresh=True)

    def status_is(self, job: rq.job.Job, status: JobStatus, seconds: float = 30.0) -> None:
        until(lambda: job.get_status() is status, seconds, f"{job.id} is {status}: {self.logs()}")

    def logs(self) -> str:
        return "\n".join(path.read_text() for path in sorted(self.folder.glob("w*.log")))

    def ours(self, job: rq.job.Job) -> str:
        """The job of ours that an RQ job leads, waiting for it."""
        return until(lambda: (self.connection.hget(job.key, "mrq") or b"").decode().partition(" ")[2], 30, "it leads")

    def state(self, job: str, *, key: str = "") -> JobState | None:
        """A job of ours as it stands in Redis."""
        wire = RedisWire(parse_url(self.url))
        wire.connect()
        try:
            keyring = Keyring([bytes.fromhex(key)] if key else [])
            return Jobs(wire, Keys("default"), Codecs("default", keyring)).load(job)
        finally:
            wire.close()

    def counted(self, job: str) -> int:
        """Terms counted, as its master last wrote it down."""
        found = self.state(job)
        return found.report.counted if found is not None and found.report is not None else 0

    def loops(self) -> list[str]:
        """The worker loops that run or wait, as RQ has them."""
        waiting = [job for job in self.queue.get_job_ids() if job.startswith(ANY_LOOP)]
        return list(dict.fromkeys([*waiting, *self.running()]))

    def running(self) -> list[str]:
        """The worker loops that run, as RQ has them: one that it takes from its queue is nowhere for a moment."""
        entries = self.connection.zrange(self.queue.started_job_registry.key, 0, -1)
        return [job for entry in entries if (job := entry.decode().partition(":")[0]).startswith(ANY_LOOP)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        self.connection.close()
        self.connection.connection_pool.disconnect()


def noted(job: rq.job.Job, connection: redis.Redis, *what: Any) -> None:
    """A callback: leaves a word of what RQ handed it."""
    connection.set(f"noted:{job.id}", repr(what[0] if what else None)[:1000])


def doubled(job_id: str) -> Any:
    """Depends on a map-reduce: twice its value."""
    current = rq.get_current_job()
    assert current is not None
    value: Any = rq.job.Job.fetch(job_id, connection=current.connection).return_value()
    return 2 * value


def quick() -> str:
    """Another RQ job, with nothing of ours in it."""
    return "done"
