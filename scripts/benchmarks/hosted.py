"""On fleets of others: stock rq workers that map-reduce, detached jobs under one master, many clients at once."""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import redis
import rq

from benchmarks import work
from benchmarks.ours import KEYRING, attached, fleet, wait_until
from benchmarks.sampling import Figure, Group, Row, Settings, Table, say
from mapreduce_rq.client.client import Client
from mapreduce_rq.runtime.server.embedded import EmbeddedServer

ON_RQ = Figure("rq", "200 000 items on two stock rq workers: enqueue to result", "s", more_is_better=False)
DETACHED = Figure("detached", "small detached jobs under one `mrq master`, two workers", "jobs/s")
CLIENTS = Figure("clients", "50 clients with small jobs, two workers: submit to result", "ms", more_is_better=False)

ITEMS = 200_000
MANY = 50
HERE = sys.path[0]
"""The folder of this program, from which workers import its functions."""


def measure_rq(settings: Settings) -> Iterable[Row]:
    """Cold: the first job of two rq workers that listen. Warm: those that follow.

    Preloaded: the rq workers have imported us, and with them every process that they fork for a job.
    """
    table = Table()
    for preload in (False, True) * settings.rounds:
        how = ", preloaded" if preload else ""
        with EmbeddedServer.start() as server, tempfile.TemporaryDirectory() as folder:
            server.wait_ready()
            with redis.Redis.from_url(server.url) as connection, _rq_workers(server.url, Path(folder), 2, preload):
                wait_until(lambda: len(rq.Worker.all(connection=connection)) == 2, "two rq workers")
                queue = rq.Queue("default", connection=connection)
                for number in range(2 if settings.quick else 4):
                    took = _on_rq(queue)
                    table.add(ON_RQ.name, f"mrq, {'warm' if number else 'cold'}{how}", took)
    return table.rows.values()


@contextlib.contextmanager
def _rq_workers(url: str, folder: Path, number: int, preload: bool) -> Iterator[None]:
    path = f"{HERE}{os.pathsep}{Path(HERE).parent}"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MRQ_")}
    command = [str(Path(sys.executable).with_name("rq")), "worker", "-u", url]
    if preload:
        (folder / "preload.py").write_text("import mapreduce_rq.rq\n", encoding="ascii")
        command += ["-c", "preload"]
    with contextlib.ExitStack() as stack:
        for index in range(number):
            log = stack.enter_context((folder / f"{index}.log").open("wb"))
            process = subprocess.Popen(
                [*command, "-n", f"bench-{index}"],
                cwd=folder,
                env=environment | {"PYTHONPATH": path},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            stack.callback(process.wait)
            stack.callback(process.terminate)
        yield


def _on_rq(queue: rq.Queue) -> float:
    began = time.perf_counter()
    job = queue.enqueue(
        "mapreduce_rq.rq.map_reduce", "benchmarks.work:square", range(ITEMS), reduce="int_sum", job_timeout=-1
    )
    while (status := job.get_status()) not in {rq.job.JobStatus.FINISHED, rq.job.JobStatus.FAILED}:
        time.sleep(0.002)
    took = time.perf_counter() - began
    if job.return_value(refresh=True) != sum(k * k for k in range(ITEMS)):
        raise RuntimeError(f"the RQ job is {status}: {job.return_value()}")
    return took


def measure_detached(settings: Settings) -> Iterable[Row]:
    """Jobs of ten terms that cost nothing, all queued by one client; until the last one is done."""
    table = Table()
    jobs = 100 if settings.quick else 1000
    with EmbeddedServer.start() as server:
        server.wait_ready()
        crew = fleet(server.url, 2)
        key = KEYRING.secrets()[0].hex()
        command = [sys.executable, "-m", "mapreduce_rq", "master", "-q", "-u", server.url]
        environment = os.environ | {"MRQ_KEY": key, "PYTHONPATH": f"{HERE}{os.pathsep}{Path(HERE).parent}"}
        with subprocess.Popen(command, env=environment) as master, attached(server) as client:
            try:
                client.submit_function_detached(work.square, range(10)).result(60)
                for _ in range(settings.rounds):
                    say(f"  {jobs} detached jobs")
                    began = time.perf_counter()
                    queued = [client.submit_function_detached(work.square, range(10)) for _ in range(jobs)]
                    submitted = time.perf_counter() - began
                    for job in queued:
                        job.result(600)
                    took = time.perf_counter() - began
                    note = f"{jobs} jobs; queued in {submitted:.2f} s"
                    table.add(DETACHED.name, "mrq", jobs / took, note=note, ours=True)
            finally:
                master.terminate()
                crew.stop()
    return table.rows.values()


def measure_clients(settings: Settings) -> Iterable[Row]:
    """Clients in threads of one process, which the processor shares with the workers: an upper bound."""
    table = Table()
    each = 4 if settings.quick else 20
    with EmbeddedServer.start() as server:
        server.wait_ready()
        crew = fleet(server.url, 2)
        try:
            for _ in range(settings.rounds):
                say(f"  {MANY} clients")
                found = sorted(_crowd(server.url, each))
                table.add(CLIENTS.name, "mrq, p50", 1e3 * statistics.median(found), ours=True)
                table.add(CLIENTS.name, "mrq, p99", 1e3 * found[int(0.99 * len(found))])
        finally:
            crew.stop()
    return table.rows.values()


def _crowd(url: str, each: int) -> list[float]:
    """The seconds of every job."""
    ready = threading.Barrier(MANY)
    found: list[float] = []

    def run() -> None:
        with Client(url, keys=KEYRING.secrets()) as client:
            client.map_reduce(work.square, range(10))
            ready.wait()
            for _ in range(each):
                began = time.perf_counter()
                client.map_reduce(work.square, range(10))
                found.append(time.perf_counter() - began)

    threads = [threading.Thread(target=run) for _ in range(MANY)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(found) != each * MANY:
        raise RuntimeError(f"{len(found)} of {each * MANY} jobs ended well")
    return found


GROUPS = (
    Group((ON_RQ,), measure_rq),
    Group((DETACHED,), measure_detached),
    Group((CLIENTS,), measure_clients),
)
