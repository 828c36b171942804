"""The doors: each interface that others have invented, on our workers, beside its original."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from typing import Any

from benchmarks import work
from benchmarks.machine import installed, status_number
from benchmarks.sampling import Figure, Group, Row, Settings, Table, say, timed, typical
from mapreduce_rq import Client
from mapreduce_rq.runtime.server.embedded import EmbeddedServer

TINY = Figure("doors-tiny", "doors: 100 000 calls that cost nothing", "calls/s")
TEN_MS = Figure("doors-10ms", "doors: 1 000 calls of 10 ms: share of the workers' time in calls", "%")
LARGE = Figure("doors-large", "doors: 200 values of 1 MB", "MB/s")
FIRST = Figure("doors-first", "doors: the first value of an endless iterable", "ms", more_is_better=False)
ALONE = Figure("submit-alone", "executor: a lone submit to its result", "ms", 0.5, more_is_better=False)
BULK = Figure("submit-bulk", "executor: submits answered, many at once", "calls/s", 30_000)
STREAM = Figure(
    "imap-memory", "imap over 10^7 items (quick: 10^6): growth of the peaks after the first tenth", "MB", 10,
    more_is_better=False,
)  # fmt: skip

Map = Callable[[Callable[[int], Any], range], Iterable[Any]]
"""The values of a function over a range, all of which the caller goes through."""


@contextmanager
def _doors(settings: Settings) -> Iterator[list[tuple[str, bool, Map]]]:
    """Ours and their originals, each with its workers running: names, whether it is ours, and how it maps."""
    n = settings.workers
    with ExitStack() as stack:
        client = stack.enter_context(Client("", local=n))
        pool = stack.enter_context(client.pool())
        executor = stack.enter_context(client.executor())
        found: list[tuple[str, bool, Map]] = [
            ("mrq imap", True, client.imap),
            ("mrq pool.map", True, pool.map),
            ("mrq pool.imap", True, pool.imap),
            ("mrq executor.map", True, executor.map),
        ]
        if installed("joblib"):
            found.append(("mrq joblib", True, _joblib("mrq", n, client)))
        if settings.peers:
            fork = multiprocessing.get_context("fork")
            original = stack.enter_context(fork.Pool(n))
            processes = stack.enter_context(ProcessPoolExecutor(n, mp_context=fork))
            found += [
                ("multiprocessing Pool.map", False, original.map),
                ("multiprocessing Pool.imap", False, original.imap),
                ("ProcessPoolExecutor.map", False, processes.map),
            ]
            if installed("joblib"):
                found.append(("joblib loky", False, _joblib("loky", n)))
            if installed("distributed"):
                found += _dask(stack, n)
        for _, _, each in found:
            deque(each(work.square, range(200)), maxlen=0)  # all workers are there, and what they need is imported
        yield found


def _joblib(backend: str, workers: int, client: Client | None = None) -> Map:
    import joblib  # only where it is measured

    from mapreduce_rq import register_joblib

    register_joblib()

    def mapped(function: Callable[[int], Any], items: range) -> Iterable[Any]:
        more = {"client": client} if client is not None else {}
        with joblib.parallel_config(backend, n_jobs=workers, **more):
            found: list[Any] = joblib.Parallel()(joblib.delayed(function)(k) for k in items)
        return found

    return mapped


def _dask(stack: ExitStack, workers: int) -> list[tuple[str, bool, Map]]:
    from distributed import Client as Dask  # only where it is measured
    from distributed import as_completed

    dask = stack.enter_context(Dask(n_workers=workers, threads_per_worker=1, dashboard_address=None))

    def gathered(function: Callable[[int], Any], items: range) -> Iterable[Any]:
        found: list[Any] = dask.gather(dask.map(function, items, pure=False))
        return found

    def completed(function: Callable[[int], Any], items: range) -> Iterable[Any]:
        return (value for _, value in as_completed(dask.map(function, items, pure=False), with_results=True))

    return [("Dask client.map", False, gathered), ("Dask as_completed", False, completed)]


def measure_doors(settings: Settings) -> Iterable[Row]:
    """The same three loads through each door."""
    table = Table()
    loads = [
        (TINY, work.square, 10_000 if settings.quick else 100_000, lambda n, took: n / took),
        (TEN_MS, work.sleep_10_ms, 100 if settings.quick else 1_000, lambda n, took: n * 1.0 / settings.workers / took),
        (LARGE, work.megabyte, 20 if settings.quick else 200, lambda n, took: n * 1.048576 / took),
    ]
    with _doors(settings) as doors:
        for turn in range(settings.rounds):
            say(f"  round {turn + 1} of {settings.rounds}")
            for figure, function, count, sample in loads:
                for name, ours, mapped in doors if settings.wants(figure.name) else ():
                    slow = name.startswith("Dask") and figure is TINY  # 0.3 ms a call
                    n = count // 10 if slow else count
                    took = timed(lambda: deque(mapped(function, range(n)), maxlen=0))  # noqa: B023  called at once
                    table.add(figure.name, name, sample(n, took), ours=ours)
    return table.rows.values()


def measure_first(settings: Settings) -> Iterable[Row]:
    """From the call to the first value; the iterable is closed then."""
    table = Table()

    def endless() -> Iterator[int]:
        k = 0
        while True:
            yield k
            k += 1

    with Client("", local=settings.workers) as client:

        def ours() -> None:
            with client.imap(work.square, endless()) as values:
                next(values)

        table.add(FIRST.name, "mrq imap", 1e3 * typical(ours, settings.seconds), ours=True)
    return table.rows.values()


def measure_submits(settings: Settings) -> Iterable[Row]:
    """One submit after the other's result; and many before the first result is asked for."""
    table = Table()
    many = 5_000 if settings.quick else 100_000

    def bulk(executor: Executor) -> None:
        futures = [executor.submit(work.square, k) for k in range(many)]
        wait(futures)
        assert futures[-1].result() == (many - 1) ** 2

    def both(name: str, executor: Executor, *, ours: bool) -> None:
        alone = typical(lambda: executor.submit(work.square, 3).result(), settings.seconds, most=5_000)
        table.add(ALONE.name, name, 1e3 * alone, ours=ours)
        table.add(BULK.name, name, many / timed(lambda: bulk(executor)), ours=ours)

    for turn in range(settings.rounds):
        say(f"  round {turn + 1} of {settings.rounds}")
        with Client("", local=settings.workers) as client, client.executor() as executor:
            both("mrq executor", executor, ours=True)
        if settings.peers:
            with ProcessPoolExecutor(settings.workers, mp_context=multiprocessing.get_context("fork")) as processes:
                both("ProcessPoolExecutor", processes, ours=False)
    return table.rows.values()


def measure_memory(settings: Settings) -> Iterable[Row]:
    """What the peaks of all processes grow by after a tenth of the items; each order has processes of its own."""
    count = 1_000_000 if settings.quick else 10_000_000
    rows = []
    for order in ("imap", "imap_unordered"):
        say(f"  {count} items through {order}")
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as alone:
            took, tenth, all_of_them = alone.submit(_peaks, settings.workers, order, count).result()
        for party, before in tenth.items():
            note = f"{before:.1f} MB, {all_of_them[party]:.1f} MB; {count / took:.3g} items/s"
            rows.append(Row(STREAM.name, f"{order}, {party}", [all_of_them[party] - before], note, ours=True))
    return rows


def _peaks(workers: int, order: str, count: int) -> tuple[float, dict[str, float], dict[str, float]]:
    """Seconds for all items, and the peaks in megabytes after a tenth of them and after all."""
    with EmbeddedServer.start() as server, Client(local=workers, server=server) as client:
        pids = {"client": os.getpid(), "server": server.pid or 0}
        client.map_reduce(work.square, range(200))  # all workers are there
        found = [view.beat.pid for view in client.snapshot().workers if view.beat is not None]
        pids |= {f"worker {k + 1}": pid for k, pid in enumerate(found)}

        def peaks() -> dict[str, float]:
            return {party: status_number(pid, "VmHWM") / 1e3 for party, pid in pids.items()}

        started = time.perf_counter()
        values = iter(getattr(client, order)(work.square, range(count)))
        total = sum(itertools.islice(values, count // 10))
        tenth = peaks()
        total += sum(values)
        assert total == (count - 1) * count * (2 * count - 1) // 6  # each value once
        return time.perf_counter() - started, tenth, peaks()


GROUPS = (
    Group((TINY, TEN_MS, LARGE), measure_doors),
    Group((FIRST,), measure_first),
    Group((ALONE, BULK), measure_submits),
    Group((STREAM,), measure_memory),
)
