"""Each interface, misused: what it raises is what its original raises; nothing hangs, nothing is lost, all works after.

What goes wrong is in the tables; the original stands beside ours where there is one, and must raise the same.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import pickle
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.pool import MaybeEncodingError  # type: ignore[attr-defined]
from pathlib import Path
from typing import Any

import pytest

from mapreduce_rq import (
    AsyncClient,
    BadFunction,
    BadParameter,
    Client,
    JobError,
    JobFailed,
    RemoteError,
    UsageError,
    WrongType,
)
from tests.system.test_fork import ends_well

joblib = pytest.importorskip("joblib")

SECONDS = 30.0


class Refused:
    """It cannot be sent, neither as a function nor as an item."""

    def __call__(self, *items: Any) -> int:
        return 1

    def __reduce__(self) -> Any:
        raise pickle.PicklingError("I stay here")


class TwoArguments(Exception):
    """It can be sent, and not be read."""

    def __init__(self, one: int, other: int) -> None:
        super().__init__("two")


def same(k: Any) -> Any:
    return k


MANY = 400
"""Terms of 0.01 s that are not done when a child is there, also where a fork takes seconds."""


def slow(k: int) -> int:
    time.sleep(0.01)
    return k


def until_there(path: str) -> None:
    while not os.path.exists(path):
        time.sleep(0.01)


def locked(k: int) -> Any:
    return threading.Lock() if k == 3 else k


def unreadable(k: int) -> int:
    if k == 3:
        raise TwoArguments(1, 2)
    return k


def late(k: int) -> int:
    if k == 3:
        raise TimeoutError("mine")
    return k


def stops(k: int) -> int:
    if k == 3:
        raise StopIteration
    return k


def stops_async(k: int) -> int:
    if k == 3:
        raise StopAsyncIteration
    return k


def failing() -> Iterator[int]:
    yield 1
    raise KeyError("the source")


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with Client(local=2) as made:
        yield made


fork = multiprocessing.get_context("fork")

Door = Callable[[Client, Any, Any], list[Any]]


def in_a_loop(client: Client, function: Any, items: Any) -> list[Any]:
    async def run() -> list[Any]:
        mrq = AsyncClient()
        mrq._client = client
        return [value async for value in mrq.imap(function, items)]

    return asyncio.run(run())


def by_pool(method: str, *, theirs: bool = False) -> Door:
    def run(client: Client, function: Any, items: Any) -> list[Any]:
        with fork.Pool(1) if theirs else client.pool() as pool:
            return list(getattr(pool, method)(function, items))

    return run


def by_executor(client: Client, function: Any, items: Any, *, theirs: bool = False) -> list[Any]:
    with ProcessPoolExecutor(1, mp_context=fork) if theirs else client.executor() as executor:
        return list(executor.map(function, items))


def by_submit(client: Client, function: Any, items: Any) -> list[Any]:
    with client.executor() as executor:
        return [future.result(SECONDS) for future in [executor.submit(function, item) for item in items]]


def by_joblib(client: Client, function: Any, items: Any) -> list[Any]:
    from mapreduce_rq import register_joblib

    register_joblib()
    with joblib.parallel_config("mrq", client=client, n_jobs=2):
        found: list[Any] = joblib.Parallel()(joblib.delayed(function)(item) for item in items)
    return found


DOORS: dict[str, Door] = {
    "imap": lambda client, function, items: list(client.imap(function, items)),
    "unordered": lambda client, function, items: list(client.imap_unordered(function, items)),
    "results": lambda client, function, items: list(
        client.submit_function(function, items, reduce="list", return_exceptions=False).results()
    ),
    "executor.map": by_executor,
    "submit": by_submit,
    "pool.map": by_pool("map"),
    "pool.imap": by_pool("imap"),
    "joblib": by_joblib,
    "asyncio": in_a_loop,
}
ORIGINALS: dict[str, Door] = {
    "executor.map": lambda *call: by_executor(*call, theirs=True),
    "pool.map": by_pool("map", theirs=True),
    "pool.imap": by_pool("imap", theirs=True),
}
OUR_OWN = ("imap", "unordered", "results", "asyncio")

Case = tuple[Any, Any, dict[str, type[BaseException]]]


def each(ours: type[BaseException], theirs: type[BaseException], **other: type[BaseException]) -> dict[str, Any]:
    """The error of each door: our own, those of others, and exceptions from the rule."""
    found = {name: ours if name in OUR_OWN else theirs for name in DOORS}
    return found | {name.replace("_", "."): kind for name, kind in other.items()}


CASES: dict[str, Case] = {
    "a function that cannot travel": (Refused(), range(5), each(BadFunction, pickle.PicklingError)),
    "a function that is none": (3, range(5), each(BadFunction, TypeError)),
    "an item that cannot travel": (same, [1, Refused(), 3], each(BadFunction, pickle.PicklingError)),
    "a value that cannot": (
        locked,
        range(6),
        each(TypeError, TypeError, results=JobFailed, pool_map=MaybeEncodingError, pool_imap=MaybeEncodingError),
    ),
    "items that are none": (same, None, each(BadParameter, TypeError)),
    "an iterable that raises": (same, failing, each(KeyError, KeyError)),
    # Where the original breaks as a whole, or stops without a word and loses the rest, ours says what it was.
    "an exception that cannot be read": (unreadable, range(6), each(RemoteError, RemoteError, results=JobFailed)),
    "a StopIteration": (
        stops,
        range(6),
        each(RuntimeError, RuntimeError, results=JobFailed, submit=StopIteration, pool_map=StopIteration),
    ),
    "a StopAsyncIteration": (
        stops_async,
        range(6),
        each(StopAsyncIteration, StopAsyncIteration, results=JobFailed, asyncio=RuntimeError),
    ),
    "a TimeoutError of its own": (late, range(6), each(TimeoutError, TimeoutError, results=JobFailed)),
}
THEIRS_DIFFER = ("an exception that cannot be read", "a StopIteration")


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("door", DOORS)
def test_what_cannot_be_done_is_said_and_the_next_call_works(client: Client, door: str, case: str) -> None:
    function, items, kinds = CASES[case]

    def call(through: Door) -> list[Any]:
        return through(client, function, items() if callable(items) else items)

    if door in ORIGINALS and case not in THEIRS_DIFFER:
        with pytest.raises(kinds[door]):
            call(ORIGINALS[door])
    with pytest.raises(kinds[door]) as caught:
        call(DOORS[door])
    assert type(caught.value) in {kinds[door], WrongType}  # that is a TypeError and a BadParameter
    if case == "a TimeoutError of its own" and door != "results":
        assert str(caught.value) == "mine"
    values = DOORS[door](client, same, range(40))
    assert sorted(value[1] if door == "results" else value for value in values) == list(range(40))


@pytest.mark.parametrize("door", ["imap", "of a small buffer", "unordered", "pool.imap"])
def test_threads_that_share_an_iterator_have_each_value_once_and_all_end(client: Client, door: str) -> None:
    pool = client.pool()
    doors: dict[str, Callable[[], Iterator[int]]] = {
        "imap": lambda: client.imap(same, range(5000)),
        "of a small buffer": lambda: client.imap(same, range(200), buffersize=3),
        "unordered": lambda: client.imap_unordered(same, range(5000)),
        "pool.imap": lambda: pool.imap(same, range(5000)),
    }
    values = doors[door]()
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.extend(values), daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
        assert not thread.is_alive()
    assert sorted(found) == list(range(200 if "small" in door else 5000))
    pool.terminate()


def test_tasks_that_share_an_iterator_have_each_value_once_and_all_end() -> None:
    async def run() -> None:
        found: list[int] = []
        async with AsyncClient(local=2) as mrq:
            values = mrq.imap(same, range(2000))

            async def take() -> None:
                async for value in values:
                    found.append(value)  # noqa: PERF401  several tasks do it

            await asyncio.wait_for(asyncio.gather(take(), take(), take()), SECONDS)
        assert sorted(found) == list(range(2000))

    asyncio.run(run())


def test_a_thread_that_waits_is_let_go_when_another_closes_the_iterator(client: Client) -> None:
    gate = threading.Event()

    def items() -> Iterator[int]:
        yield 0
        gate.wait(SECONDS)

    values = client.imap(same, items())
    assert next(values) == 0
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(list(values)), daemon=True)
    thread.start()
    values.close()
    thread.join(SECONDS)
    gate.set()
    assert found == [[]]


def test_after_its_end(client: Client) -> None:
    values = client.imap(same, range(9))
    assert next(values) == 0
    values.close()
    values.close()
    assert list(values) == []  # as a generator that is closed
    results = client.submit_function(same, range(9), reduce="list").results()
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert list(results) == []
    pool = client.pool()
    many = range(100_000)  # of 10 ms each: neither is done before its pool is ended, however late that is
    streamed, mapped = pool.imap(slow, many), pool.map_async(slow, many)
    assert next(streamed) == 0
    pool.terminate()
    asked: list[Callable[[], Any]] = [lambda: list(streamed), lambda: mapped.get(SECONDS)]
    for ask in asked:  # what is not there is said to be missing
        with pytest.raises(BrokenProcessPool):
            ask()
    pool.join()
    for call in (pool.map, pool.imap, pool.imap_unordered, pool.map_async, pool.apply):
        with pytest.raises(ValueError, match="Pool not running"):
            call(same, [1])


def test_after_the_end_of_its_client() -> None:
    many = range(100_000)  # of 10 ms each: none of the jobs is done before its client is closed, however late that is
    client = Client(local=2)
    executor, pool = client.executor(), client.pool()
    values, streamed = client.imap(slow, many), pool.imap(slow, many)
    results = client.submit_function(slow, many, reduce="list").results()
    next(results)
    assert [next(values), next(streamed)] == [0, 0]
    mapped, futures = pool.map_async(slow, many), [executor.submit(slow, k) for k in range(500)]
    futures.append(executor.submit(time.sleep, SECONDS))  # type: ignore[arg-type]  # its value is nothing
    client.close()
    asked: list[tuple[type[BaseException], Callable[[], Any]]] = [
        (JobError, lambda: list(values)),
        (JobError, lambda: list(results)),
        (BrokenProcessPool, lambda: list(streamed)),
        (BrokenProcessPool, lambda: mapped.get(SECONDS)),
        (BrokenProcessPool, lambda: futures[-1].result(SECONDS)),
        (BrokenProcessPool, lambda: executor.submit(same, 1)),
        (BrokenProcessPool, lambda: pool.map(same, [1])),
        *((UsageError, make) for make in (client.executor, client.pool, lambda: client.imap(same, [1]))),
    ]
    for kind, ask in asked:
        with pytest.raises(kind, match="closed"):
            ask()
    executor.shutdown()
    pool.close()
    pool.join()


def test_in_a_forked_child(client: Client, tmp_path: Path) -> None:
    executor, pool = client.executor(), client.pool()
    values, streamed = client.imap(slow, range(MANY)), pool.imap(slow, range(MANY))
    job = client.submit_function(slow, range(3 * MANY), reduce="list")
    results = job.results()
    first = next(results)
    assert [next(values), next(streamed)] == [0, 0]
    # Neither is done before the child has asked, however slow this machine is.
    asked_for = tmp_path / "asked"
    future, mapped = (
        executor.submit(until_there, str(asked_for)),
        pool.map_async(until_there, [str(asked_for)] * 3),
    )

    def child() -> None:
        asked: list[tuple[type[BaseException], Callable[[], Any]]] = [
            (UsageError, lambda: next(values)),
            (UsageError, lambda: next(streamed)),
            (UsageError, lambda: next(results)),
            (UsageError, lambda: next(job.results())),
            (RuntimeError, lambda: future.result(SECONDS)),
            (RuntimeError, lambda: mapped.get(SECONDS)),
            (RuntimeError, lambda: executor.submit(same, 1)),
            (RuntimeError, lambda: executor.map(same, [1])),
            (RuntimeError, lambda: pool.map(same, [1])),
            (RuntimeError, lambda: pool.imap(same, [1])),
        ]
        for kind, ask in asked:
            with pytest.raises(kind, match=f"is led by process {os.getppid()}, and this process is a fork of it"):
                ask()
        asked_for.touch()
        assert list(client.imap(same, range(3))) == [0, 1, 2]  # a new one is its own
        values.close()
        executor.shutdown()
        pool.close()
        pool.join()
        pool.terminate()

    ends_well(child)
    assert list(values) == list(streamed) == list(range(1, MANY))  # and the parent has lost nothing
    assert sorted([first, *results]) == [(k, k) for k in range(3 * MANY)]
    assert mapped.get(SECONDS) == [None] * 3
    assert future.result(SECONDS) is None
    pool.terminate()
    executor.shutdown()


@pytest.mark.parametrize("used", [False, True])
def test_a_client_that_is_closed_first_takes_its_pool_and_executor_with_it(used: bool) -> None:
    """They hung: an idle job ends well when its client is closed, and took calls that nobody read."""
    with Client(local=1) as client:
        pool, executor = client.pool(), client.executor()
        if used:
            assert pool.map(abs, [-1]) == [1]
            assert executor.submit(abs, -1).result(20) == 1
    for call in (
        lambda: pool.map(abs, [-1]),
        lambda: list(pool.imap(abs, [-1])),
        lambda: pool.apply(abs, (-1,)),
        lambda: executor.submit(abs, -1).result(20),
        lambda: list(executor.map(abs, [-1])),
    ):
        with pytest.raises(RuntimeError, match="the client is closed"):
            call()


@pytest.mark.parametrize(
    "call",
    [
        lambda client, _: client.job("exp"),
        lambda client, _: client.cancel("exp"),
        lambda client, _: client.retry("exp"),
        lambda client, _: client.snapshot(),
        lambda client, _: client.job_state("exp"),
        lambda client, _: client.map_reduce(abs, range(3)),
        lambda client, _: client.submit("exp", x=2, terms=5),
        lambda _, job: job.cancel(),
    ],
)
def test_a_closed_client_says_so(call: Callable[[Client, Any], object]) -> None:
    with Client(local=1) as client:
        job = client.submit("exp", x=2, terms=5)
        job.result(20)
    with pytest.raises(UsageError, match="this client is closed"):
        call(client, job)
