"""Peers on a Redis: rq, huey, celery, dramatiq, each with worker processes of its own and as its manual says.

Every one of them uses the same server program as mrq, over the same kind of socket. The workers find it by
MRQ_BENCH_URL, and what they run in the *_app modules beside this one.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import redis

from benchmarks import work
from benchmarks.machine import installed
from benchmarks.pools import Contender, Function, Peer
from mapreduce_rq.runtime.server.embedded import EmbeddedServer

URL = "MRQ_BENCH_URL"
HERE = Path(__file__).resolve().parent
READY_SECONDS = 60


@cache
def server() -> EmbeddedServer:
    """The peers' server, one for all of them, named by MRQ_BENCH_URL; it ends with this process."""
    started = EmbeddedServer.start()
    started.wait_ready()
    os.environ[URL] = started.url
    return started


@contextmanager
def serving(*command: str) -> Iterator[None]:
    """Workers started by this command (a module and its arguments) on an empty server."""
    with redis.Redis.from_url(server().url) as connection:
        connection.flushall()
    paths = [str(HERE.parent), str(HERE.parent.parent), os.environ.get("PYTHONPATH", "")]
    process = subprocess.Popen(
        [sys.executable, "-m", *command],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        cwd=HERE.parent,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        process_group=0,
    )
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


class RqPeer:
    """rq: results come back over each job's result stream."""

    def __init__(self, queue: Any, prepare: Any) -> None:
        self._queue = queue
        self._prepare = prepare

    def fold(self, function: Function, n: int) -> Any:
        jobs = self._queue.enqueue_many([self._prepare(function, args=(k,)) for k in range(n)])
        return sum(self._value(job) for job in jobs)

    def one(self, function: Function, k: int) -> Any:
        return self._value(self._queue.enqueue(function, k))

    def _value(self, job: Any) -> Any:
        return job.latest_result(timeout=READY_SECONDS).return_value


@contextmanager
def open_rq(workers: int, kind: str) -> Iterator[Peer]:
    """Workers of the class ``kind``: Worker forks for every job, SimpleWorker does not."""
    with serving("benchmarks.rq_app", kind, str(workers)):
        from rq import Queue  # installed or not: asked before

        with redis.Redis.from_url(os.environ[URL]) as connection:
            peer = RqPeer(Queue("bench", connection=connection), Queue.prepare_data)
            peer.fold(work.square, 2 * workers)
            yield peer


class HueyPeer:
    """huey: one task object for every function."""

    def __init__(self, run: Any) -> None:
        self._run = run

    def fold(self, function: Function, n: int) -> Any:
        results = [self._run(function.__name__, k) for k in range(n)]
        return sum(result.get(blocking=True, backoff=1.0, max_delay=0.005) for result in results)

    def one(self, function: Function, k: int) -> Any:
        return self._run(function.__name__, k).get(blocking=True, backoff=1.0, max_delay=0.0005)


@contextmanager
def open_huey(workers: int) -> Iterator[Peer]:
    """One consumer with so many processes."""
    options = ("-q", "-k", "process", "-w", str(workers), "-n")
    with serving("huey.bin.huey_consumer", "benchmarks.huey_app.huey", *options):
        from benchmarks import huey_app

        peer = HueyPeer(huey_app.run)
        peer.fold(work.square, 2 * workers)
        yield peer


class CeleryPeer:
    """celery: a group, collected at once."""

    def __init__(self, run: Any, group: Any) -> None:
        self._run = run
        self._group = group

    def fold(self, function: Function, n: int) -> Any:
        return sum(self._group(self._run.s(function.__name__, k) for k in range(n)).apply_async().get(interval=0.005))

    def one(self, function: Function, k: int) -> Any:
        return self._run.delay(function.__name__, k).get()


@contextmanager
def open_celery(workers: int) -> Iterator[Peer]:
    """The default pool of processes."""
    options = ("-c", str(workers), "--loglevel=CRITICAL", "--without-gossip", "--without-mingle")
    with serving("celery", "-A", "benchmarks.celery_app", "worker", *options):
        from celery import group  # installed or not: asked before

        from benchmarks import celery_app

        peer = CeleryPeer(celery_app.run, group)
        peer.fold(work.square, 2 * workers)
        yield peer


class DramatiqPeer:
    """dramatiq with its result middleware."""

    def __init__(self, run: Any, group: Any) -> None:
        self._run = run
        self._group = group

    def fold(self, function: Function, n: int) -> Any:
        sent = self._group([self._run.message(function.__name__, k) for k in range(n)]).run()
        return sum(sent.get_results(block=True, timeout=READY_SECONDS * 1000))

    def one(self, function: Function, k: int) -> Any:
        return self._run.send(function.__name__, k).get_result(block=True, timeout=READY_SECONDS * 1000)


@contextmanager
def open_dramatiq(workers: int) -> Iterator[Peer]:
    """One thread a process, as everybody here."""
    options = ("--processes", str(workers), "--threads", "1", "--skip-logging")
    with serving("dramatiq", "benchmarks.dramatiq_app", *options):
        from dramatiq import group  # installed or not: asked before

        from benchmarks import dramatiq_app

        peer = DramatiqPeer(dramatiq_app.run, group)
        peer.fold(work.square, 2 * workers)
        yield peer


def queues(*, slow: bool) -> list[Contender]:
    """The peers that are installed; ``slow``: those too that take seconds to start."""
    found = []
    if installed("rq"):
        found.append(Contender("RQ SimpleWorker", lambda workers: open_rq(workers, "SimpleWorker")))
        if slow:
            found.append(Contender("RQ Worker", lambda workers: open_rq(workers, "Worker")))
    if installed("huey"):
        found.append(Contender("Huey", open_huey))
    if slow and installed("celery"):
        found.append(Contender("Celery", open_celery))
    if slow and installed("dramatiq"):
        found.append(Contender("Dramatiq", open_dramatiq))
    return found
