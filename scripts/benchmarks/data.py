"""What people map over is data: arrays, records, words, in and out, beside the peers that take the same functions.

The unit is Pool's time in the same round: a machine that slows down does so for both. Items are made before the clock
starts, and each contender has a process of its own. Of a large result, the peak of the caller's memory is measured too.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import redis

from benchmarks import work
from benchmarks.machine import installed, status_number
from benchmarks.ours import KEYRING, attached, fleet, wait_until
from benchmarks.report import number
from benchmarks.sampling import Figure, Group, Row, Settings, say
from mapreduce_rq import Client, Files
from mapreduce_rq.runtime.server.embedded import EmbeddedServer

Map = Callable[[Callable[[Any], Any], Sequence[Any]], Iterable[Any]]
"""As the built-in map, on somebody's workers."""


@dataclass(frozen=True)
class Case:
    """Some items and what is to become of them. ``peers`` do it with ``map``; ``ours`` with what we have for it."""

    figure: Figure
    items: Callable[[bool], Sequence[Any]]
    peers: Callable[[Map, Sequence[Any]], Any]
    ours: Callable[[Client, Sequence[Any]], Any]
    check: Callable[[Any], Any] = field(default=lambda found: found)  # equal for equal results
    signed: float | None = None  # the target over Redis, where it is another one
    beside_plain: bool = False  # a plain loop does it in about that time, so the notes compare with it, too


OURS, SIGNED, PLAIN = "**mrq**", "mrq, over Redis, signed", "one process, a plain loop"


def figure(name: str, title: str, target: float, *, drawn: bool = True) -> Figure:
    """A figure of this group."""
    return Figure(name, title, "x Pool", target, more_is_better=False, drawn=drawn)


_TITLE = "450 arrays of 1 MB to a list: the caller's growth at its peak, over the result"
MEMORY = Figure("list-memory", _TITLE, "x", 1.5, more_is_better=False)


@cache
def arrays(quick: bool) -> Sequence[Any]:
    """Arrays of a megabyte."""
    import numpy as np  # only where it is measured

    return [np.full(131_072, 0.5 * k) for k in range(20 if quick else 200)]


@cache
def records(quick: bool) -> Sequence[Any]:
    """Small dicts."""
    return [{"id": k, "price": 0.25 * k, "name": f"article {k % 977}"} for k in range(10_000 if quick else 100_000)]


@cache
def lines(quick: bool) -> Sequence[Any]:
    """Lines of some twelve words, of which some are frequent: 35 MB of them."""
    words = [f"word{k:05}" for k in range(20_000)]
    return [
        " ".join(words[(k * k * (j + 1) + 7 * j) % (1 + (k * 31 + j) % 20_000)] for j in range(10))
        for k in range(40_000 if quick else 400_000)
    ]


def total(map_: Map, items: Sequence[Any]) -> float:
    """A sum of what comes back."""
    return float(sum(map_(work.array_sum, items)))


def counted(map_: Map, items: Sequence[Any]) -> Counter[str]:
    """How often each word occurs."""
    return Counter(chain.from_iterable(map_(str.split, items)))


@cache
def numbers(quick: bool) -> Sequence[int]:
    """A record for each."""
    return range(100_000 if quick else 1_000_000)


def summed(map_: Map, items: Sequence[Any]) -> dict[int, float]:
    """The sum of each key's values, as a caller of a pool folds the pairs that come back."""
    sums: dict[int, float] = {}
    for key, value in map_(work.pair, items):
        sums[key] = sums.get(key, 0.0) + value
    return sums


@cache
def file_of_lines(quick: bool) -> Sequence[str]:
    """The name of a file of those lines, for as long as this process is there."""
    folder = tempfile.TemporaryDirectory(prefix="mrq-bench-")
    atexit.register(folder.cleanup)
    path = Path(folder.name, "words.txt")
    path.write_text("\n".join(lines(quick)) + "\n", encoding="utf-8")
    return [str(path)]


def counted_in_file(map_: Map, items: Sequence[str]) -> Counter[str]:
    """How often each word occurs in the file, whose lines the caller reads."""
    with open(items[0], encoding="utf-8") as file:
        return counted(map_, list(file))


def _of(function: Callable[[Any], Any]) -> Callable[[Map, Sequence[Any]], Any]:
    return lambda map_, items: list(map_(function, items))


def _listed(function: Callable[[Any], Any]) -> Callable[[Client, Sequence[Any]], Any]:
    return lambda client, items: client.map_reduce(function, items, reduce="list")


CASES = (
    Case(
        figure("arrays-in", "200 arrays of 1 MB in, a sum out", 1.0),
        arrays,
        total,
        lambda client, items: client.map_reduce(work.array_sum, items),
        signed=1.5,
    ),
    Case(
        figure("records", "100 000 small dicts in, a list out", 1.1),
        records,
        _of(work.same),
        _listed(work.same),
    ),
    Case(
        figure("integers", "10^6 integers of a range to a list", 0.8),
        lambda quick: range(100_000 if quick else 1_000_000),
        _of(work.same),
        _listed(work.same),
    ),
    Case(
        figure("words", "words of 400 000 lines (35 MB), counted", 0.9, drawn=False),
        lines,
        counted,
        lambda client, items: client.map_reduce(str.split, items, reduce="counter"),
        beside_plain=True,
    ),
    Case(
        figure("words-files", "words of a file of 35 MB, counted: read by our workers", 0.6),
        file_of_lines,
        counted_in_file,
        lambda client, items: client.map_reduce(str.split, Files(*items), reduce="counter"),
        beside_plain=True,
    ),
    Case(
        figure("words-shipped", "words of a file of 35 MB, counted: sent to our workers", 0.9, drawn=False),
        file_of_lines,
        counted_in_file,
        lambda client, items: client.map_reduce(str.split, Files(*items, ship=True), reduce="counter"),
        beside_plain=True,
    ),
    Case(
        figure("keys", "10^6 records by 10^5 keys, summed", 0.8),
        numbers,
        summed,
        lambda client, items: client.reduce_by_key(work.pair, items),
        beside_plain=True,
    ),
    Case(
        figure("arrays-out", "200 arrays of 1 MB out, a list", 0.4),
        lambda quick: range(20 if quick else 200),
        _of(work.megabyte),
        _listed(work.megabyte),
        lambda found: [float(each[0]) for each in found],
        signed=1.2,
    ),
)

Open = Callable[[int], AbstractContextManager[Callable[[Case, Sequence[Any]], Any]]]


@contextmanager
def open_plain(_: int) -> Iterator[Callable[[Case, Sequence[Any]], Any]]:
    """One process, a plain loop."""
    yield lambda case, items: case.peers(map, items)


@contextmanager
def open_pool(workers: int) -> Iterator[Callable[[Case, Sequence[Any]], Any]]:
    """multiprocessing.Pool with its own chunks."""
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        yield lambda case, items: case.peers(pool.map, items)


@contextmanager
def open_joblib(workers: int) -> Iterator[Callable[[Case, Sequence[Any]], Any]]:
    """Joblib's own workers and batches."""
    import joblib  # installed or not: asked before
    from joblib.externals.loky import get_reusable_executor

    with joblib.Parallel(n_jobs=workers) as parallel:

        def map_(function: Callable[[Any], Any], items: Sequence[Any]) -> Any:
            return parallel(joblib.delayed(function)(item) for item in items)

        yield lambda case, items: case.peers(map_, items)
    get_reusable_executor().shutdown()  # they would wait for five minutes more, and this process for them


@contextmanager
def open_dask(workers: int) -> Iterator[Callable[[Case, Sequence[Any]], Any]]:
    """dask.distributed: futures for batches of items, or of a large one each."""
    import logging

    from distributed import Client as Dask  # installed or not: asked before
    from distributed import LocalCluster

    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    options = {"threads_per_worker": 1, "dashboard_address": None, "silence_logs": logging.CRITICAL}
    with LocalCluster(workers, **options) as cluster, Dask(cluster) as client:

        def map_(function: Callable[[Any], Any], items: Sequence[Any]) -> Any:
            futures = [client.submit(_each, function, batch, pure=False) for batch in _batches(items)]
            return chain.from_iterable(client.gather(futures))

        yield lambda case, items: case.peers(map_, items)


@contextmanager
def open_ray(workers: int) -> Iterator[Callable[[Case, Sequence[Any]], Any]]:
    """Ray: the same batches."""
    import ray  # installed or not: asked before

    ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        remote = ray.remote(_each)

        def map_(function: Callable[[Any], Any], items: Sequence[Any]) -> Any:
            return chain.from_iterable(ray.get([remote.remote(function, batch) for batch in _batches(items)]))

        yield lambda case, items: case.peers(map_, items)
    finally:
        ray.shutdown()


def _each(function: Callable[[Any], Any], batch: Sequence[Any]) -> list[Any]:
    return [function(item) for item in batch]


def _batches(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """One item each where there are few, else a hundred batches: what the manuals advise."""
    size = max(1, len(items) // 100) if len(items) > 1000 else 1
    return (items[at : at + size] for at in range(0, len(items), size))


@contextmanager
def open_ours(workers: int) -> Iterator[Callable[[Case, Sequence[Any]], Any]]:
    """A private server, as `Client()` has it."""
    with Client(local=workers) as client:
        yield lambda case, items: case.ours(client, items)


@contextmanager
def open_signed(workers: int) -> Iterator[Callable[[Case, Sequence[Any]], Any]]:
    """A server of others, every message through it and signed, plain values only."""
    with EmbeddedServer.start() as server, _with_fleet(server, workers) as client:
        yield lambda case, items: case.ours(client, items)


@contextmanager
def _with_fleet(server: EmbeddedServer, workers: int) -> Iterator[Client]:
    with ExitStack() as stack:
        pool = fleet(server.url, workers)
        stack.callback(pool.stop)
        client = stack.enter_context(attached(server))
        wait_until(lambda: len(client.snapshot().workers) >= workers, f"{workers} workers")
        assert client.keyring.kid == KEYRING.kid
        yield client


def contenders(settings: Settings) -> dict[str, Open]:
    """Who takes part, by name; Pool first, whose time is the unit."""
    found: dict[str, Open] = {
        "multiprocessing.Pool": open_pool,
        OURS: open_ours,
        SIGNED: open_signed,
        PLAIN: open_plain,
    }
    if settings.peers:
        others = (("joblib", "joblib", open_joblib), ("distributed", "Dask", open_dask), ("ray", "Ray", open_ray))
        slow = {"distributed", "ray"} if settings.quick else set()
        found |= {name: opener for module, name, opener in others if module not in slow and installed(module)}
    return found


def measure(settings: Settings) -> Iterable[Row]:
    """A row for each contender and case: its time over Pool's in each round. The notes tell the seconds."""
    seconds: dict[tuple[str, str], list[float]] = {}
    names = list(contenders(settings))
    for turn in range(settings.rounds):
        for name in names:
            say(f"  round {turn + 1} of {settings.rounds}: {name}")
            try:
                with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as alone:
                    for case, took in alone.submit(_turn, settings, name).result().items():
                        seconds.setdefault((case, name), []).append(took)
            except Exception as error:
                if "mrq" in name or name.startswith("multi"):
                    raise
                say(f"  {name} failed, and is left out of this round: {type(error).__name__}: {error}")
    cases = {case.figure.name: case for case in CASES}
    rows = []
    for (called, name), took in seconds.items():
        case, unit, plain = cases[called], seconds[called, names[0]], seconds[called, PLAIN]
        ratios = [one / other for one, other in zip(took, unit, strict=False)]
        note = f"{statistics.median(took):.3g} s"
        if "mrq" in name and case.beside_plain:
            note += f", {number(statistics.median(took) / statistics.median(plain))} x plain"
        target = case.signed if name == SIGNED else None
        rows.append(Row(called, name.strip("*"), ratios, note, ours=name == OURS, target=target))
    return rows + (measure_memory(settings) if settings.wants(MEMORY.name) else [])


def measure_memory(settings: Settings) -> list[Row]:
    """What the caller's resident memory grows by at its peak, over the bytes of the result; Pool's beside ours."""
    size = 45 if settings.quick else 450
    rows = []
    for name in ("multiprocessing.Pool", OURS, SIGNED):
        say(f"  memory of a list of {size} MB: {name}")
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as alone:
            growth, server = alone.submit(_grown, settings.workers, name, size).result()
        note = f"the server holds {server / 1e6:.1f} MB after it" if server else ""
        target = MEMORY.target if name == SIGNED else None
        rows.append(Row(MEMORY.name, name.strip("*"), [growth], note, ours=name == OURS, target=target))
    return rows


def _grown(workers: int, name: str, size: int) -> tuple[float, float]:
    """The growth of this process at its peak over the result's bytes; the bytes that the server uses after it."""
    with ExitStack() as stack:
        if name == OURS:
            server = stack.enter_context(EmbeddedServer.start())
            client = stack.enter_context(Client(local=workers, server=server))
        elif name == SIGNED:
            server = stack.enter_context(EmbeddedServer.start())
            client = stack.enter_context(_with_fleet(server, workers))
        else:
            pool = stack.enter_context(multiprocessing.get_context("fork").Pool(workers))
            pool.map(work.megabyte, range(workers))
            before = status_number(os.getpid(), "VmRSS")
            found = pool.map(work.megabyte, range(size))
            return _growth(before, found), 0.0
        client.map_reduce(work.megabyte, range(workers), reduce="list")
        before = status_number(os.getpid(), "VmRSS")
        found = client.map_reduce(work.megabyte, range(size), reduce="list")
        growth = _growth(before, found)
        with redis.Redis.from_url(server.url) as connection:
            return growth, float(connection.info("memory")["used_memory"])


def _growth(before: int, found: Sequence[Any]) -> float:
    for each in found:
        each.sum()  # memory that is mapped is resident when it was read
    return (status_number(os.getpid(), "VmHWM") - before) * 1024 / sum(each.nbytes for each in found)


def _turn(settings: Settings, name: str) -> dict[str, float]:
    """One contender's seconds for each case, the better of two: the first makes its workers import what they need."""
    found = {}
    for case in CASES:
        if not settings.wants(case.figure.name):
            continue
        items = case.items(settings.quick)
        with contenders(settings)[name](settings.workers) as run:
            results, times = [], []
            for _ in range(2):
                started = time.perf_counter()
                result = run(case, items)
                times.append(time.perf_counter() - started)
                results.append(case.check(result))
                del result
            assert results[0] == results[1], case.figure.name
        found[case.figure.name] = min(times)
    return found


GROUP = Group((*(case.figure for case in CASES), MEMORY), measure, "data")
