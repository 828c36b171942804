"""Figures of the default settings: mrq cuts the chunks itself, and no knob is touched."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks import work
from benchmarks.machine import installed
from benchmarks.ours import SINGLES, Ours, attached, fleet, opened, wait_until
from benchmarks.pools import open_executor, open_joblib, open_pool
from benchmarks.sampling import Figure, Group, Row, Settings, Table, rate, say, timed
from mapreduce_rq.core.messages import Limits
from mapreduce_rq.runtime.server.embedded import EmbeddedServer

CHEAP = Figure("cheap", "default settings, a cheap Python function over a range", "items/s", 1_000_000, drawn=True)
UNEVEN = Figure("uneven", "uneven tasks: time over the ideal makespan", "ratio", 1.05, more_is_better=False)
KERNELS = Figure("kernels", "vectorised kernels: two workers over one process in a plain loop", "times", 1.90)
FAR = Figure("far", "tasks of 1 ms on workers 20 ms away: share of their throughput nearby", "%", 90)
FAR_SECONDS = 0.020


def measure_cheap(settings: Settings) -> Iterable[Row]:
    """Items a second, and what one process does alone."""
    most = 1_000_000 if settings.quick else 10_000_000
    table = Table()
    for turn in range(settings.rounds):
        say(f"  round {turn + 1} of {settings.rounds}")
        with opened(settings.workers, None) as ours:
            ours.fold(work.square, 100_000)
            table.add(CHEAP.name, "mrq", most / timed(lambda: ours.fold(work.square, most)), ours=True)
        alone = rate(lambda n: sum(map(work.square, range(n))), settings.seconds, most)
        table.add(CHEAP.name, "one process, sum(map(f, range(n)))", alone)
        if not settings.peers:
            continue
        with open_pool(settings.workers, None) as pool:
            table.add(CHEAP.name, "multiprocessing.Pool", most / timed(lambda: pool.fold(work.square, most)))
        with open_executor(settings.workers) as executor:
            found = rate(lambda n: executor.fold(work.square, n), settings.seconds, most)
            table.add(CHEAP.name, "concurrent.futures", found)
        if installed("joblib"):
            with open_joblib(settings.workers, "auto") as joblib:
                joblib.fold(work.square, 100)
                found = rate(lambda n: joblib.fold(work.square, n), settings.seconds, most)
                table.add(CHEAP.name, "joblib", found)
    return table.rows.values()


def measure_uneven(settings: Settings) -> Iterable[Row]:
    """The makespan over half the work, the work being what the tasks themselves took."""
    table = Table()
    queens, cells = (work.queens_13, 169) if settings.quick else (work.queens_14, 196)
    jobs: list[tuple[str, Callable[[int], int], int]] = [
        ("1 to 100 ms", work.spin_uneven, 20 if settings.quick else 200),
        ("queens", queens, cells),
    ]
    for turn in range(settings.rounds):
        say(f"  round {turn + 1} of {settings.rounds}")
        for name, function, tasks in jobs:
            with opened(settings.workers, None) as ours:
                sample = _over_ideal(ours.fold, function, tasks, settings.workers)
                table.add(UNEVEN.name, f"mrq, {name}", sample, ours=True)
            for label, chunk in (("Pool", None), ("Pool chunksize 1", 1)) if settings.peers else ():
                with open_pool(settings.workers, chunk) as pool:
                    sample = _over_ideal(pool.fold, function, tasks, settings.workers)
                    table.add(UNEVEN.name, f"{label}, {name}", sample)
    return table.rows.values()


def _over_ideal(fold: Callable[..., Any], function: Callable[[int], int], tasks: int, workers: int) -> float:
    fold(work.square, 4)
    started = time.perf_counter()
    spent = fold(function, tasks) % work.QUEENS_WORD
    return (time.perf_counter() - started) / (spent / 1e9 / workers)


def measure_kernels(settings: Settings) -> Iterable[Row]:
    """The same kernel over the same terms: in a plain loop here, on mrq's workers, and on a Pool's."""
    terms = 100_000_000 if settings.quick else 1_000_000_000
    table = Table()
    for turn in range(settings.rounds):
        for kernel in (work.primes, work.zeta2):
            name = kernel.__name__
            say(f"  round {turn + 1} of {settings.rounds}: {name} to {terms:.0e}")
            plain, mrq, peer = _kernel_seconds(settings, kernel, terms)
            table.add(KERNELS.name, f"mrq, {name}", plain / mrq, note=f"{terms / mrq:.2e} terms/s", ours=True)
            if settings.peers:
                table.add(KERNELS.name, f"Pool, {name}", plain / peer)
    return table.rows.values()


def _kernel_seconds(settings: Settings, kernel: Callable[[int, int], int], terms: int) -> tuple[float, float, float]:
    """Seconds of a plain loop, of mrq and of a Pool."""
    size = max(terms // 100, 1 << 17)
    spans = [(lo, min(lo + size, terms)) for lo in range(0, terms, size)]
    with opened(settings.workers, None) as ours, multiprocessing.Pool(settings.workers) as pool:
        ours.client.map_reduce(kernel, range(1 << 20), reduce="int_sum")  # numpy is imported
        pool.starmap(kernel, [(0, 1 << 19)] * 8)
        return (
            timed(lambda: sum(kernel(lo, hi) for lo, hi in spans)),
            timed(lambda: ours.client.map_reduce(kernel, range(terms), reduce="int_sum")),
            timed(lambda: sum(pool.starmap(kernel, spans))),
        )


def measure_far(settings: Settings) -> Iterable[Row]:
    """Workers behind a proxy that holds every byte for half the added round trip, each way."""
    table = Table()
    for turn in range(settings.rounds):
        say(f"  round {turn + 1} of {settings.rounds}")
        kinds: list[tuple[str, Limits | None]] = [("one message each", SINGLES), ("chunks chosen", None)]
        for label, limits in kinds[:1] if settings.quick else kinds:
            near, far = (_far_rate(settings, limits, seconds) for seconds in (0.0, FAR_SECONDS))
            note = f"{near:.0f} tasks/s near, {far:.0f} far"
            table.add(FAR.name, f"mrq, {label}", 100 * far / near, note=note, ours=True)
    return table.rows.values()


def _far_rate(settings: Settings, limits: Limits | None, seconds: float) -> float:
    with EmbeddedServer.start() as server, attached(server) as client, _proxy(server, seconds) as url:
        crew = fleet(url, settings.workers)
        try:
            ours = Ours(client, server, limits)
            wait_until(lambda: ours.ask("INFO", "clients")["blocked_clients"] >= settings.workers, "workers")
            ours.fold(work.sleep_1_ms, 500)
            tasks = 1_000 * settings.workers * (1 if settings.quick else 5)
            return tasks / timed(lambda: ours.fold(work.sleep_1_ms, tasks))
        finally:
            crew.stop()


@contextmanager
def _proxy(server: EmbeddedServer, seconds: float) -> Iterator[str]:
    """The URL of a delaying proxy in front of the server."""
    command = [sys.executable, "-m", "benchmarks.proxy", server.socket, str(seconds / 2)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=sys.path[0]) as proxy:
        assert proxy.stdout is not None
        try:
            password = server.url.partition("://:")[2].partition("@")[0]
            yield f"redis://:{password}@127.0.0.1:{int(proxy.stdout.readline())}"
        finally:
            proxy.kill()


GROUPS = (
    Group((CHEAP,), measure_cheap),
    Group((UNEVEN,), measure_uneven),
    Group((KERNELS,), measure_kernels),
    Group((FAR,), measure_far),
)
