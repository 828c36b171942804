"""What CPython asks of multiprocessing's pool, asked of ours; where one can, of both, which must agree."""

from __future__ import annotations

import gc
import itertools
import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.pool import MaybeEncodingError  # type: ignore[attr-defined]
from multiprocessing.pool import Pool as TheirPool
from pathlib import Path
from typing import Any

import pytest

from mapreduce_rq import AsyncResult, Client, Pool
from tests.support.commands import KEY
from tests.support.servers import FreshServer
from tests.support.stage import allowed, until

SECONDS = 30.0


def sqr(x: int, wait: float = 0.0) -> int:
    time.sleep(wait)
    return x * x


def mul(x: int, y: int = 1) -> int:
    return x * y


def picky(x: int) -> int:
    if x % 5 == 3:
        raise SayWhen(x)
    return x


class SayWhen(Exception):
    """An exception of one's own."""


def wait_for(path: str) -> str:
    until(Path(path).exists, SECONDS, f"{path} is there")
    return path


def touch(path: str) -> None:
    Path(path).touch()


def lock(_: Any) -> Any:
    return threading.Lock()


def end_by(number: int) -> None:
    os.kill(os.getpid(), number)


class Refused:
    def __reduce__(self) -> Any:
        raise pickle.PicklingError("I stay here")


def sayer(count: int) -> Iterator[int]:
    """An iterable that raises at its end."""
    yield from range(count)
    raise SayWhen("no more")


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with Client(local=2) as made:
        yield made


@pytest.fixture
def pool(client: Client) -> Iterator[Pool]:
    with client.pool() as made:
        yield made


@pytest.fixture(scope="module")
def theirs() -> Iterator[TheirPool]:
    with multiprocessing.get_context("fork").Pool(2) as made:
        yield made


BOTH = ["theirs", "pool"]


class TestBoth:
    """Each is asked of the original, too: what it does is what is wanted."""

    @pytest.fixture(params=BOTH)
    def either(self, request: pytest.FixtureRequest) -> Any:
        return request.getfixturevalue(request.param)

    def test_apply(self, either: Any) -> None:
        assert either.apply(sqr, (5,)) == 25
        assert either.apply(sqr, (), {"x": 3}) == 9
        assert either.apply(mul, [3], {"y": 4}) == 12
        with pytest.raises(SayWhen, match="3"):
            either.apply(picky, (3,))

    @pytest.mark.parametrize("chunksize", [None, 1, 7, 1000])
    def test_map(self, either: Any, chunksize: int | None) -> None:
        assert either.map(sqr, range(100), chunksize) == [x * x for x in range(100)]
        assert either.map(sqr, iter(range(10)), chunksize) == [x * x for x in range(10)]
        assert either.map(sqr, [], chunksize) == []
        assert either.starmap(mul, zip(range(50), itertools.count()), chunksize) == [x * x for x in range(50)]
        assert either.map_async(sqr, [2], chunksize).get(SECONDS) == [4]
        assert either.starmap_async(mul, [(2, 3), (4,)], chunksize).get(SECONDS) == [6, 4]

    @pytest.mark.parametrize("chunksize", [1, 7])
    def test_imap(self, either: Any, chunksize: int) -> None:
        assert list(either.imap(sqr, range(300), chunksize)) == [x * x for x in range(300)]
        assert sorted(either.imap_unordered(sqr, range(300), chunksize)) == [x * x for x in range(300)]
        assert list(either.imap(sqr, [])) == []
        values = either.imap(sqr, range(3))
        assert [values.next(), next(values), values.next(timeout=SECONDS)] == [0, 1, 4]
        with pytest.raises(StopIteration):
            next(values)
        with pytest.raises(StopIteration):
            values.next(timeout=0.1)

    def test_what_is_raised(self, either: Any) -> None:
        with pytest.raises(SayWhen):
            either.map(picky, range(20))
        with pytest.raises(SayWhen):
            either.map(picky, sayer(3))
        with pytest.raises(SayWhen):
            either.starmap(picky, [(1,), (8,)])
        values, found = either.imap(picky, range(10)), []
        for _ in range(10):
            try:
                found.append(next(values))
            except SayWhen as error:
                found.append(error.args)
        assert found == [0, 1, 2, (3,), 4, 5, 6, 7, (8,), 9]
        failing = either.imap(sqr, sayer(5))
        assert [next(failing) for _ in range(5)] == [0, 1, 4, 9, 16]
        with pytest.raises(SayWhen, match="no more"):
            next(failing)

    def test_results_to_ask(self, either: Any, tmp_path: Path) -> None:
        gate = tmp_path / "gate"
        held = either.apply_async(wait_for, (str(gate),))
        assert not held.ready()
        with pytest.raises(ValueError, match="not ready"):
            held.successful()
        with pytest.raises(multiprocessing.TimeoutError):
            held.get(0.01)
        held.wait(0.01)
        gate.touch()
        held.wait(SECONDS)
        assert held.ready()
        assert held.successful()
        assert held.get() == str(gate)
        failed = either.apply_async(picky, (3,))
        failed.wait(SECONDS)
        assert not failed.successful()
        with pytest.raises(SayWhen):
            failed.get()
        slow = either.imap(wait_for, [str(tmp_path / "other")])
        with pytest.raises(multiprocessing.TimeoutError):
            slow.next(timeout=0.01)
        (tmp_path / "other").touch()
        assert slow.next(SECONDS) == str(tmp_path / "other")

    def test_callbacks(self, either: Any) -> None:
        heard: list[Any] = []
        errors: list[BaseException] = []
        either.apply_async(sqr, (3,), callback=heard.append, error_callback=errors.append).get(SECONDS)
        either.map_async(sqr, range(4), callback=heard.append).get(SECONDS)
        either.starmap_async(mul, [(2, 3)], callback=heard.append).get(SECONDS)
        for failing in (
            either.apply_async(picky, (3,), callback=heard.append, error_callback=errors.append),
            either.map_async(picky, range(30), 2, callback=heard.append, error_callback=errors.append),
        ):
            with pytest.raises(SayWhen):
                failing.get(SECONDS)
        until(lambda: len(errors) == 2, SECONDS, "both errors are heard")
        assert heard == [9, [0, 1, 4, 9], [6]]
        assert [type(error) for error in errors] == [SayWhen, SayWhen]

    def test_one_that_fails_does_not_keep_others_from_being_done(self, either: Any, tmp_path: Path) -> None:
        with pytest.raises(TypeError):
            either.map(touch, [3j, *(str(tmp_path / str(k)) for k in range(10))], 1)
        assert len(list(tmp_path.iterdir())) == 10

    def test_what_cannot_travel(self, either: Any) -> None:
        with pytest.raises(pickle.PicklingError, match="I stay here"):
            either.apply(mul, (Refused(),))
        with pytest.raises(pickle.PicklingError, match="I stay here"):
            either.map(mul, [1, Refused(), 3])
        values = either.imap(mul, [7, Refused()])
        assert next(values) == 7
        with pytest.raises(pickle.PicklingError, match="I stay here"):
            next(values)
        for call in (either.apply_async(lock, (1,)), either.map_async(lock, [1, 2])):
            with pytest.raises(MaybeEncodingError, match=r"cannot pickle '_thread\.lock' object"):
                call.get(SECONDS)
        with pytest.raises(MaybeEncodingError, match=r"^Error sending result: '(lock )?<unlocked _th[^']*>'\. Reason"):
            next(either.imap(lock, [1]))
        with pytest.raises(NotImplementedError, match="cannot be passed between processes"):
            pickle.dumps(either)
        assert either.apply(sqr, (4,)) == 16

    @pytest.mark.parametrize("chunksize", [0, -3])
    def test_chunks_of_nothing(self, either: Any, chunksize: int) -> None:
        for call in (either.imap, either.imap_unordered):
            with pytest.raises(ValueError, match=r"Chunksize must be 1\+"):
                call(sqr, range(3), chunksize)


@pytest.fixture(params=["theirs", "ours"])
def fresh(request: pytest.FixtureRequest, client: Client) -> Iterator[Any]:
    """A pool of either kind to be ended by the test."""
    made = client.pool() if request.param == "ours" else multiprocessing.get_context("fork").Pool(2)
    yield made
    made.terminate()
    made.join()


class TestEnds:
    def test_close_and_join(self, fresh: Any, tmp_path: Path) -> None:
        results = [fresh.apply_async(sqr, (x, 0.01)) for x in range(20)]
        fresh.imap_unordered(touch, [str(tmp_path / str(k)) for k in range(20)])  # nobody takes its values
        with pytest.raises(ValueError, match="Pool is still running"):
            fresh.join()
        fresh.close()
        acts: list[Any] = [
            lambda: fresh.apply(sqr, (1,)),
            lambda: fresh.map(sqr, [1]),
            lambda: fresh.imap(sqr, [1]),
            lambda: fresh.apply_async(sqr, (1,)),
            fresh.__enter__,
        ]
        for act in acts:
            with pytest.raises(ValueError, match="Pool not running"):
                act()
        fresh.join()
        assert [result.get(0) for result in results] == [x * x for x in range(20)]
        assert len(list(tmp_path.iterdir())) == 20

    def test_terminate(self, fresh: Any) -> None:
        result = fresh.map_async(time.sleep, [0.1] * 1000, chunksize=1)
        began = time.monotonic()
        fresh.terminate()
        fresh.join()
        assert time.monotonic() - began < allowed(20)
        assert not result.ready() or not result.successful()

    def test_with(self, fresh: Any) -> None:
        with fresh as entered:
            assert entered is fresh
            assert fresh.apply(sqr, (3,)) == 9
        with pytest.raises(ValueError, match="Pool not running"):
            fresh.map(sqr, range(3))


class TestOurs:
    def test_a_terminated_result_says_so(self, client: Client) -> None:
        pool = client.pool()
        result: AsyncResult[None] = pool.apply_async(time.sleep, (60,))
        values = pool.imap(time.sleep, [60])
        pool.terminate()
        with pytest.raises(Exception, match="closed"):
            result.get(SECONDS)
        with pytest.raises((StopIteration, Exception)):
            values.next(SECONDS)

    def test_a_call_that_was_not_sent_before_the_end_raises_what_one_that_was_does(self) -> None:
        unsent: Future[None] = Future()
        assert unsent.cancel()
        unsent.set_running_or_notify_cancel()
        with pytest.raises(BrokenProcessPool, match="closed"):
            AsyncResult([unsent], list, None, None).get(0)

    def test_a_call_that_ends_its_worker_is_told(self, pool: Pool) -> None:
        with pytest.raises(BrokenProcessPool, match="SIGKILL"):
            pool.apply(end_by, (signal.SIGKILL,))
        with pytest.raises(BrokenProcessPool, match="SIGKILL"):
            pool.map(end_by, [signal.SIGKILL])
        assert pool.map(sqr, range(10)) == [x * x for x in range(10)]

    def test_many_threads_use_one(self, pool: Pool) -> None:
        found: dict[int, Any] = {}

        def use(number: int) -> None:
            found[number] = pool.map(sqr, range(number, number + 100)), list(pool.imap(sqr, range(number)))

        threads = [threading.Thread(target=use, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SECONDS)
        assert found == {n: ([x * x for x in range(n, n + 100)], [x * x for x in range(n)]) for n in range(6)}

    def test_a_dropped_pool_ends_its_job(self, client: Client) -> None:
        pool = client.pool()
        job = repr(pool).rpartition("job=")[2].rstrip(">")
        assert pool.apply(sqr, (2,)) == 4
        del pool
        gc.collect()
        until(lambda: (state := client.job_state(job)) is not None and not state.running, SECONDS, "it is over")

    def test_a_dropped_pool_answers_what_it_was_asked(self, client: Client) -> None:
        """As the original, which warns besides."""
        assert client.pool().apply_async(sqr, (3, 0.2)).get(SECONDS) == 9
        assert client.pool().map_async(sqr, range(7)).get(SECONDS) == [k * k for k in range(7)]
        assert client.pool().starmap_async(sqr, [(k, 0.05) for k in range(4)]).get(SECONDS) == [0, 1, 4, 9]
        failed = client.pool().apply_async(picky, (3,))
        with pytest.raises(SayWhen):
            failed.get(SECONDS)

    def test_a_forked_child_is_told(self, pool: Pool) -> None:
        reader, writer = os.pipe()
        if not (child := os.fork()):
            try:
                pool.apply(sqr, (2,))
            except BaseException as error:
                os.write(writer, f"{type(error).__name__}: {error}".encode())
            finally:
                os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as told:
            said = told.read()
        assert said.startswith("RuntimeError: "), said
        assert "fork" in said
        os.waitpid(child, 0)
        assert pool.apply(sqr, (2,)) == 4

    def test_where_pickles_are_not_trusted(self, fresh_server: FreshServer, queue: str) -> None:
        with Client(fresh_server().url, local=1, queue=queue, keys=[KEY]) as client, client.pool() as pool:
            assert pool.map(sqr, range(20)) == [x * x for x in range(20)]
            assert pool.starmap(mul, [(2, 3)]) == [6]
            assert list(pool.imap(sqr, range(20))) == [x * x for x in range(20)]
            assert pool.apply(mul, (2,), {"y": 4}) == 8
            with pytest.raises(Exception, match="SayWhen: 3"):
                pool.map(picky, range(5))


MARK = "unset"


def begin(mark: str) -> None:
    global MARK  # noqa: PLW0603  as initializers do
    MARK = mark


def mark(_: int) -> tuple[int, str]:
    time.sleep(0.01)
    return os.getpid(), MARK


SHARED: dict[str, str] = {}


def share(things: dict[str, str]) -> None:
    global SHARED  # noqa: PLW0603  as initializers do
    SHARED = things


def shared(key: str) -> str:
    return SHARED[key]


class TestProcesses:
    def test_each_is_initialized(self, client: Client) -> None:
        with client.pool(initializer=begin, initargs=("begun",)) as pool:
            assert {word for _, word in pool.map(mark, range(20), 1)} == {"begun"}
            assert {word for _, word in pool.imap(mark, range(20))} == {"begun"}
            assert pool.apply(mark, (1,))[1] == "begun"

    def test_what_it_cannot_begin_with_raises_its_own_error(self, client: Client) -> None:
        for wrong in ({"initargs": (multiprocessing.Lock(),)}, {"initargs": [multiprocessing.Value("i")]}):
            with pytest.raises(RuntimeError, match="shared between processes through inheritance"):
                client.pool(initializer=begin, **wrong)
            with pytest.raises(RuntimeError, match="shared between processes through inheritance"):
                client.executor(initializer=begin, initargs=tuple(wrong["initargs"]))
        with (
            multiprocessing.Manager() as manager,
            client.pool(initializer=share, initargs=(manager.dict(word="begun"),)) as pool,
        ):
            assert pool.apply(shared, ("word",)) == "begun"

    def test_each_does_so_much_and_no_more(self, client: Client) -> None:
        with client.pool(maxtasksperchild=2) as pool:
            pids = [pid for pid, _ in pool.map(mark, range(12), 1)]
        assert max(map(pids.count, pids)) <= 2

    @pytest.mark.parametrize(
        ("how", "kind"),
        [({"initializer": 3}, TypeError), *[({"maxtasksperchild": wrong}, ValueError) for wrong in (0, -1, 0.5, "12")]],
    )
    def test_what_makes_no_pool(self, client: Client, how: Any, kind: type[Exception]) -> None:
        with pytest.raises(kind):
            client.pool(**how)
