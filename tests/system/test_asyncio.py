"""The client for asyncio, and functions declared with ``async def``."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from functools import partial
from typing import Any

import pytest

from mapreduce_rq import AsyncClient, Client, JobCancelled, JobFailed, NoWorkers, UsageError, executor
from tests.support.commands import KEY
from tests.support.servers import FreshServer
from tests.support.stage import allowed, until

SECONDS = 30.0


def square(k: int) -> int:
    return k * k


def picky(k: int) -> int:
    if k == 7:
        raise LookupError(k)
    return k


def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


LOOPS: list[Any] = []


async def square_later(k: int, more: int = 0) -> tuple[int, int]:
    """Uses what only one and the same loop can keep."""
    if not LOOPS:
        LOOPS.append(asyncio.Lock())
    async with LOOPS[0]:
        await asyncio.sleep(0.001)
    return k * k + more, id(asyncio.get_running_loop())


async def fails_later(k: int) -> None:
    await asyncio.sleep(0)
    raise LookupError(k)


class Later:
    async def __call__(self, k: int) -> int:
        await asyncio.sleep(0)
        return -k


async def numbers(count: int | None = None, pause: float = 0.0) -> AsyncIterator[int]:
    for k in itertools.count() if count is None else range(count):
        await asyncio.sleep(pause)
        yield k


@pytest.fixture
def url(fresh_server: FreshServer, queue: str) -> Iterator[str]:
    """Of a server with two workers."""
    found = fresh_server().url
    with Client(found, local=2, queue=queue, keys=[KEY], allow_pickle=True):
        yield found


def run(main: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(main, SECONDS))


def test_on_a_private_server() -> None:
    async def main() -> None:
        async with AsyncClient(local=2) as mrq:
            assert await mrq.map_reduce(square, range(1000)) == sum(map(square, range(1000)))
            assert await mrq.map_reduce(pow, [2, 3], numbers(2), reduce="list") == [1, 3]
            assert await mrq.reduce_by_key(lambda k: (k % 2, k), numbers(10)) == {0: 20, 1: 25}
            job = await mrq.submit("exp", x="2", terms=50)
            assert (await job.result()).value.startswith("7.389")
            assert (job.status, job.done(), job.progress["counted"]) == ("done", True, 50)
            assert [value async for value in mrq.imap(square, range(500))] == [k * k for k in range(500)]
            assert [value async for value in mrq.imap(square, numbers(500))] == [k * k for k in range(500)]
            assert sorted([v async for v in mrq.imap_unordered(square, numbers(50))]) == [k * k for k in range(50)]
            assert [value async for value in mrq.starmap(pow, [(2, 3), (3, 2)])] == [8, 9]

    run(main())


def test_what_is_raised() -> None:
    async def main() -> None:
        async with AsyncClient(local=1) as mrq:
            with pytest.raises(JobFailed, match="at term 7") as failed:
                await mrq.map_reduce(picky, numbers(20))
            assert isinstance(failed.value.__cause__, LookupError)
            values = mrq.imap(picky, numbers(10))
            found: list[Any] = []
            while True:
                try:
                    found.append(await anext(values))
                except LookupError as error:
                    found.append(error.args)
                except StopAsyncIteration:
                    break
            assert found == [0, 1, 2, 3, 4, 5, 6, (7,), 8, 9]

            async def broken() -> AsyncIterator[int]:
                yield 1
                raise OSError("the line is cut")

            with pytest.raises(OSError, match="the line is cut"):
                assert [value async for value in mrq.imap(square, broken())] == []
            with pytest.raises(OSError, match="the line is cut"):
                await mrq.map_reduce(square, broken())
            with pytest.raises(UsageError):
                await mrq.map_reduce(square, 3)  # type: ignore[arg-type]
            with pytest.raises(UsageError):
                await anext(mrq.imap(square, range(3), buffersize=0))
        with pytest.raises(UsageError, match="closed"):
            await mrq.map_reduce(square, range(3))
        with pytest.raises(UsageError, match="not open"):
            await AsyncClient().map_reduce(square, range(3))

    run(main())


def test_the_loop_goes_on_while_jobs_run() -> None:
    async def main() -> int:
        beats = 0

        async def beat() -> None:
            nonlocal beats
            while True:
                await asyncio.sleep(0.01)
                beats += 1

        heart = asyncio.create_task(beat())
        async with AsyncClient(local=1) as mrq:
            await mrq.map_reduce(nap, [0.1] * 5)
        heart.cancel()
        return beats

    assert run(main()) > 15


def test_an_endless_async_iterable_is_read_no_further_than_there_is_room() -> None:
    read = []

    async def items() -> AsyncIterator[int]:
        try:
            for k in itertools.count():
                read.append(k)
                yield k
        finally:
            read.append(-1)

    async def main() -> None:
        async with AsyncClient(local=2) as mrq:
            async with mrq.imap(square, items(), buffersize=20) as values:
                assert [await anext(values) for _ in range(200)] == [k * k for k in range(200)]
                assert 200 <= len(read) <= 200 + 2 * 20 + 2
            while read[-1] != -1:  # noqa: ASYNC110  it is closed with the values
                await asyncio.sleep(0.01)
            assert [value async for value in values] == []

    run(main())


@pytest.mark.parametrize("how", ["map_reduce", "endless", "result"])
def test_cancelling_the_task_cancels_the_job(url: str, queue: str, how: str) -> None:
    async def main() -> None:
        async with AsyncClient(url, queue=queue, keys=[KEY], allow_pickle=True) as mrq:
            before = set(mrq.client.verbs.listed())
            if how == "result":
                job = await mrq.submit_function(nap, [0.2] * 1000)
                task = asyncio.create_task(job.result())
            else:
                items = [0.2] * 1000 if how == "map_reduce" else numbers(pause=0.01)
                task = asyncio.create_task(mrq.map_reduce(nap if how == "map_reduce" else square, items))
            while not (fresh := set(mrq.client.verbs.listed()) - before):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            (name,) = fresh
            state = mrq.client.job_state(name)
            assert state is not None
            assert state.record is not None
            assert state.record.state.word == "cancelled"

    run(main())


def test_a_task_that_waits_for_a_value_ends_its_job_when_it_is_cancelled(url: str, queue: str) -> None:
    async def main() -> None:
        async with AsyncClient(url, queue=queue, keys=[KEY], allow_pickle=True) as mrq:
            values = mrq.imap(nap, [0.1, 30.0])
            assert await anext(values) == 0.1
            task = asyncio.create_task(anext(values))
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert [value async for value in values] == []

    run(main())


def test_leaving_the_loop_over_values_ends_the_job() -> None:
    async def main() -> None:
        async with AsyncClient(local=1) as mrq:
            async for value in mrq.imap(square, itertools.count(), buffersize=10):
                assert value == 0
                break
            jobs = mrq.client.snapshot
            until(lambda: [job.state.word for job in jobs().jobs] == ["cancelled"], SECONDS, "its job is over")

    run(main())


def test_fifty_clients_in_one_loop(url: str, queue: str) -> None:
    async def one(number: int) -> int:
        async with AsyncClient(url, queue=queue, keys=[KEY], allow_pickle=True) as mrq:
            total: int = await mrq.map_reduce(square, range(number, number + 50), reduce="int_sum")
            values = [value async for value in mrq.imap(square, numbers(10))]
            assert values == [k * k for k in range(10)]
            return total

    async def main() -> list[int]:
        return await asyncio.gather(*(one(number) for number in range(50)))

    assert run(main()) == [sum(map(square, range(number, number + 50))) for number in range(50)]
    until(lambda: threading.active_count() < 60, SECONDS, "their threads are over")


def test_waiting_for_workers_has_an_end(fresh_server: FreshServer, queue: str) -> None:
    async def main() -> None:
        async with AsyncClient(fresh_server().url, queue=queue, keys=[KEY]) as mrq:
            with pytest.raises(NoWorkers):
                await mrq.map_reduce("math:sqrt", range(3), wait_workers=0.2)
            job = await mrq.submit_function("math:sqrt", range(3))
            await job.cancel()
            with pytest.raises(JobCancelled):
                await job.result()

    run(main())


def test_async_functions_run_in_workers() -> None:
    square_later: Any = globals()["square_later"]  # what they give is not what their types say
    with Client(local=2) as client:
        values, loops = zip(*client.imap(square_later, range(50), kwargs={"more": 1}), strict=True)
        assert values == tuple(k * k + 1 for k in range(50))
        assert len(set(loops)) <= 2
        assert client.map_reduce(Later(), range(5), reduce="list") == [0, -1, -2, -3, -4]
        assert client.map_reduce(partial(square_later, more=2), [3], reduce="list")[0][0] == 11
        with pytest.raises(JobFailed, match=r"LookupError: \d"):
            client.map_reduce(fails_later, range(3))
        with client.executor() as ex:
            assert ex.submit(square_later, 4).result(SECONDS)[0] == 16
            assert [value for value, _ in ex.map(square_later, range(5), chunksize=2)] == [0, 1, 4, 9, 16]
        with client.pool() as pool:
            assert [value for value, _ in pool.map(square_later, range(5))] == [0, 1, 4, 9, 16]
            later: Any = Later()
            assert pool.apply(later, (3,)) == -3


def test_an_executor_serves_a_loop() -> None:
    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        with executor(1) as ex:
            return await asyncio.gather(*(loop.run_in_executor(ex, square, k) for k in range(10)))

    assert run(main()) == [k * k for k in range(10)]


def test_a_worker_told_to_stop_ends_in_the_middle_of_a_coroutine() -> None:
    client = Client(local=1)
    values: Any = client.imap(asyncio.sleep, [60])
    with contextlib.suppress(TimeoutError):
        values.next(0.5)
    began = time.monotonic()
    client.close()
    assert time.monotonic() - began < allowed(10)
