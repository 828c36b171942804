"""The ancestor: a process for each term over pipes, by its four ways to wait; and who wakes for one byte of a pipe."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import resource
import select
import signal
import time
from collections.abc import Callable, Iterable, Iterator

from benchmarks import work
from benchmarks.machine import status_number
from benchmarks.ours import wait_until
from benchmarks.sampling import Figure, Group, Row, Settings, Table, say, timed, typical
from mapreduce_rq import Client, Limits
from mapreduce_rq.broker.jobs import FIRST_REPLY
from mapreduce_rq.computations import load
from mapreduce_rq.errors import UsageError
from mapreduce_rq.pipes.waiting import COLLECTORS

ANCESTOR = Figure(
    "ancestor", "e^2 with as many terms as workers, one message a term, over pipes", "ms", more_is_better=False
)
HERD = Figure("herd", "200 idle workers and one task on a pipe: how many wake", "workers", more_is_better=False)
PIPES_LONE = Figure(
    "pipes-lone", "a lone task over pipes, p50: how many times multiprocessing.Pool's", "x", 1.5, more_is_better=False
)
PIPES_APPLY = Figure(
    "pipes-apply", "Pool.apply over pipes, p50: how many times multiprocessing.Pool's", "x", 1.5, more_is_better=False
)
PIPES_EXP = Figure(
    "pipes-exp",
    "e^2 with 50 terms on warm workers, one message a term, over pipes: how many times a Pool's time",
    "x",
    1.0,
    more_is_better=False,
)
PIPES_LARGE = Figure(
    "pipes-large",
    "a list of 200 values of 1 MB over pipes: how many times a Pool's time",
    "x",
    1.0,
    more_is_better=False,
)

MANY = 200
SINGLES = Limits(chunk=1)


def term(k: int) -> float:
    """A term of the series of e^2, also where k! is beyond doubles."""
    return float(2**k / math.factorial(k))


def measure(settings: Settings) -> Iterable[Row]:
    """Every mechanism at every size."""
    table = Table()
    if any(settings.wants(figure.name) for figure in (PIPES_LONE, PIPES_APPLY, PIPES_EXP, PIPES_LARGE)):
        _beside_a_pool(table, settings)
    if settings.wants(ANCESTOR.name):
        _raise_limits()
        for workers in (2, 50) if settings.quick else (2, 50, 200, 1000):
            _pool(table, settings, workers)
            for collect in COLLECTORS:
                say(f"  {workers} workers, {collect}")
                with contextlib.suppress(UsageError):  # select cannot wait for a thousand
                    _pooled(table, settings, collect, workers)
                    _per_term(table, collect, workers)
    if settings.wants(HERD.name):
        _herd(table, 3 if settings.quick else 20)
    return table.rows.values()


def _beside_a_pool(table: Table, settings: Settings) -> None:
    """The same calls on a Pool and over pipes, in turns: a lone task by two doors, e^2, and large values."""
    terms = 20 if settings.quick else 200
    for _ in range(settings.rounds):
        with (
            multiprocessing.get_context("fork").Pool(settings.workers) as pool,
            Client("pipes:", local=settings.workers) as client,
            client.pool() as same,
        ):
            lone = typical(lambda: pool.apply(work.square, (3,)), settings.seconds)
            ours = typical(lambda: client.map_reduce(work.square, range(3, 4)), settings.seconds)
            applied = typical(lambda: same.apply(work.square, (3,)), settings.seconds)
            summed = typical(lambda: sum(pool.map(term, range(50), 1)), settings.seconds)
            exp = typical(lambda: _exp(client, 50), settings.seconds)
            large = typical(lambda: pool.map(work.megabyte, range(terms)), settings.seconds / 4, least=3)
            listed = typical(
                lambda: client.map_reduce(work.megabyte, range(terms), reduce="list"), settings.seconds / 4, least=3
            )
        for name, mine, theirs in (
            (PIPES_LONE.name, ours, lone),
            (PIPES_APPLY.name, applied, lone),
            (PIPES_EXP.name, exp, summed),
            (PIPES_LARGE.name, listed, large),
        ):
            note = f"{mine * 1e3:.3g} ms, Pool {theirs * 1e3:.3g} ms"
            table.add(name, "mrq over pipes", mine / theirs, note=note, ours=True)


def _pool(table: Table, settings: Settings, workers: int) -> None:
    if not settings.peers:
        return
    began = time.perf_counter()
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        sum(pool.map(term, range(workers), 1))
        table.add(ANCESTOR.name, f"{workers} workers, multiprocessing.Pool, cold", (time.perf_counter() - began) * 1e3)
        warm = typical(lambda: sum(pool.map(term, range(workers), 1)), settings.seconds / 4, least=5)
        table.add(ANCESTOR.name, f"{workers} workers, multiprocessing.Pool, warm", warm * 1e3)


def _pooled(table: Table, settings: Settings, collect: str, workers: int) -> None:
    """Cold: until the first value; warm: the next values."""
    began = time.perf_counter()
    with Client(f"pipes:?collect={collect}", local=workers) as client:
        _gathered(client, workers)
        forked = time.perf_counter()
        _exp(client, workers)
        cold = time.perf_counter() - began
        fold = _fold(workers)
        collect_ms = (began + cold - forked - fold) * 1e3
        note = f"fork {(forked - began) * 1e3:.0f}, collect {collect_ms:.1f}, fold {fold * 1e3:.1f}"
        table.add(ANCESTOR.name, f"{workers} workers, {collect}, cold", cold * 1e3, note=note)
        warm = typical(lambda: _exp(client, workers), settings.seconds / 4, least=5)
        note = f"collect {(warm - fold) * 1e3:.1f}, fold {fold * 1e3:.1f}"
        table.add(ANCESTOR.name, f"{workers} workers, {collect}, warm", warm * 1e3, note=note)


def _per_term(table: Table, collect: str, workers: int) -> None:
    began = time.perf_counter()
    with Client(f"pipes:?collect={collect}&once=1", local=workers) as client:
        _exp(client, workers)
        table.add(ANCESTOR.name, f"{workers} workers, {collect}, a process a term", (time.perf_counter() - began) * 1e3)


def _exp(client: Client, terms: int) -> None:
    value = client.submit("exp", x="2", terms=terms, limits=SINGLES).result().value
    assert terms < 20 or value.startswith("7.38905609893065"), value


def _fold(terms: int) -> float:
    """Seconds to merge as many partials, and to round."""
    job = load("exp").create({"x": "2", "terms": terms})
    partials = [job.map(k, k + 1) for k in range(terms)]

    def fold() -> None:
        total = partials[0]
        for partial in partials[1:]:
            total = job.reducer.merge(total, partial)
        job.finish(total, terms)

    return timed(fold)


def _gathered(client: Client, workers: int) -> None:
    """All are there. Who waits for replies serves them meanwhile: of no job, none comes."""

    def there() -> bool:
        client.verbs.replies("none", FIRST_REPLY, 0.01)
        return len(client.verbs.registry()) >= workers

    wait_until(there, f"{workers} workers", seconds=120)


def _raise_limits() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4096 if hard == resource.RLIM_INFINITY else min(4096, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


# -- the herd ----------------------------------------------------------------------------------------------------------


def _herd(table: Table, tries: int) -> None:
    for collect in COLLECTORS:
        say(f"  herd, {collect}")
        for place, shared, locked in (
            ("one shared pipe", True, False),
            ("one shared pipe behind an accept lock", True, True),
            ("a pipe each", False, False),
        ):
            with _crowd(WAITS[collect], shared=shared, locked=locked) as (pids, writers):
                for turn in range(tries):
                    writer = writers[turn % len(writers)]
                    table.add(HERD.name, f"{place}, {collect}", _woken(pids, lambda: os.write(writer, b".")))  # noqa: B023  called at once
    say("  herd, mrq over pipes")
    with Client("pipes:", local=MANY) as client:
        _gathered(client, MANY)
        client.map_reduce(work.sleep_10_ms, range(4 * MANY), limits=SINGLES)
        pids = [int(wid.split(":")[1]) for wid in client.verbs.registry()]
        time.sleep(0.5)
        for _ in range(tries):
            found = _woken(pids, lambda: client.map_reduce(work.square, range(1, 2)))
            table.add(HERD.name, "mrq over pipes", found, ours=True)


def _woken(pids: list[int], act: Callable[[], object]) -> int:
    """How many of these processes got onto a core meanwhile."""
    before = {pid: status_number(pid, "voluntary_ctxt_switches") for pid in pids}
    act()
    time.sleep(0.1)
    return sum(status_number(pid, "voluntary_ctxt_switches") != count for pid, count in before.items())


def _read(reader: int) -> None:
    """As the ancestor's first version: a read that waits."""
    os.set_blocking(reader, True)
    os.read(reader, 1)


def _by_select(reader: int) -> None:
    select.select([reader], [], [])


def _by_poll(reader: int) -> None:
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    poll.poll()


def _by_epoll(reader: int) -> None:
    with select.epoll() as epoll:
        epoll.register(reader, select.EPOLLIN)
        epoll.poll()


WAITS: dict[str, Callable[[int], None]] = {
    "sequential": _read,
    "select": _by_select,
    "poll": _by_poll,
    "epoll": _by_epoll,
}


@contextlib.contextmanager
def _crowd(wait: Callable[[int], None], *, shared: bool, locked: bool) -> Iterator[tuple[list[int], list[int]]]:
    """MANY idle processes that wait in this way: their ids, and the pipes to write to."""
    lock: contextlib.AbstractContextManager[object] = (
        multiprocessing.get_context("fork").Lock() if locked else contextlib.nullcontext()
    )
    pipes = [os.pipe() for _ in range(1 if shared else MANY)]
    pids = []
    for number in range(MANY):
        reader = pipes[number % len(pipes)][0]
        os.set_blocking(reader, False)
        pid = os.fork()
        if not pid:
            try:
                while True:
                    with lock:
                        wait(reader)
                        with contextlib.suppress(BlockingIOError):
                            if wait is not _read:
                                os.read(reader, 1)
            finally:
                os._exit(0)
        pids.append(pid)
    try:
        time.sleep(1.0)  # everybody sleeps
        yield pids, [writer for _, writer in pipes]
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        for pid in pids:
            os.waitpid(pid, 0)
        for reader, writer in pipes:
            os.close(reader)
            os.close(writer)


GROUP = Group((ANCESTOR, HERD, PIPES_LONE, PIPES_APPLY, PIPES_EXP, PIPES_LARGE), measure)
