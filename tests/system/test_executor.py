"""What CPython asks of its executors, asked of ours; and what becomes of an executor that is used wrongly."""

from __future__ import annotations

import asyncio
import gc
import operator
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mapreduce_rq import Client, executor
from tests.support.commands import KEY, environment
from tests.support.servers import ROOT, FreshServer
from tests.support.stage import until

SECONDS = 30.0


def mul(x: int, y: int = 1) -> int:
    return x * y


def captured(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
    return args, kwargs


def wait_for(path: str) -> str:
    until(Path(path).exists, SECONDS, f"{path} is there")
    return path


def wait_and_raise(path: str) -> None:
    wait_for(path)
    raise LookupError("after waiting")


def end_by(number: int) -> None:
    os.kill(os.getpid(), number)


class Thing:
    def method(self) -> int:
        return 7


def make_thing(_: int) -> Thing:
    return Thing()


def lock(_: int) -> Any:
    return threading.Lock()


class Refused:
    """Nothing that can be pickled."""

    def __reduce__(self) -> Any:
        raise pickle.PicklingError("I stay here")


class Exiting:
    def __reduce__(self) -> Any:
        raise SystemExit(3)


class Unreadable:
    """What can be pickled and not be read."""

    def __reduce__(self) -> Any:
        return raising, (RuntimeError("I cannot be read"),)


class Deadly:
    def __reduce__(self) -> Any:
        return end_by, (signal.SIGKILL,)


def raising(error: BaseException) -> None:
    raise error


def made_of(kind: Callable[[], Any]) -> Any:
    return kind()


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with Client(local=2) as made:
        yield made


@pytest.fixture
def ex(client: Client) -> Iterator[Any]:
    with client.executor() as made:
        yield made


class TestCalls:
    def test_submit(self, ex: Any) -> None:
        assert isinstance(ex, futures.Executor)
        assert ex.submit(pow, 2, 8).result(SECONDS) == 256
        assert ex.submit(mul, 2, y=8).result(SECONDS) == 16
        assert ex.submit(captured, 1, self=2, fn=3, function=4).result(SECONDS) == (
            (1,),
            {"self": 2, "fn": 3, "function": 4},
        )
        assert ex.submit(lambda x: -x, 3).result(SECONDS) == -3
        assert ex.submit(Thing().method).result(SECONDS) == 7
        with pytest.raises(TypeError):
            ex.submit(fn=mul, x=1)  # type: ignore[call-arg]
        with pytest.raises(TypeError):
            ex.submit()  # type: ignore[call-arg]

    def test_what_a_call_raises_comes_out_of_its_future(self, ex: Any) -> None:
        failed = ex.submit(divmod, 1, 0)
        with pytest.raises(ZeroDivisionError):
            failed.result(SECONDS)
        assert type(failed.exception()) is ZeroDivisionError
        assert any("divmod" in note or "call" in note for note in failed.exception().__notes__)
        with pytest.raises(SystemExit):
            ex.submit(sys.exit, 1).result(SECONDS)
        with pytest.raises(KeyboardInterrupt):
            ex.submit(raising, KeyboardInterrupt()).result(SECONDS)
        assert ex.submit(mul, 3, 4).result(SECONDS) == 12

    @pytest.mark.parametrize(
        "how", [{}, {"chunksize": 3}, {"chunksize": 50}, {"buffersize": 1}, {"buffersize": 6, "chunksize": 2}]
    )
    def test_map(self, ex: Any, how: Any) -> None:
        assert list(ex.map(pow, range(10), range(10), **how)) == [k**k for k in range(10)]
        assert list(ex.map(mul, [], **how)) == []
        assert list(ex.map(mul, range(5), range(100), **how)) == [k * k for k in range(5)]

    def test_map_raises_where_the_call_did(self, ex: Any) -> None:
        values = ex.map(divmod, [1, 1, 1, 1], [2, 3, 0, 5])
        assert [next(values), next(values)] == [(0, 1), (0, 1)]
        with pytest.raises(ZeroDivisionError):
            next(values)
        assert list(values) == []

    def test_map_times_out(self, ex: Any) -> None:
        found: list[None] = []
        with pytest.raises(futures.TimeoutError):
            found.extend(ex.map(time.sleep, [0, 0, 3], timeout=1.5))
        assert found == [None, None]

    def test_map_reads_no_further_than_its_buffer(self, ex: Any) -> None:
        read = []

        def items() -> Iterator[int]:
            for k in range(100):
                read.append(k)
                yield k

        values = ex.map(mul, items(), buffersize=4)
        assert len(read) == 4
        assert [next(values) for _ in range(10)] == list(range(10))
        assert len(read) == 14
        values.close()
        assert list(ex.map(mul, items())) == list(range(100))

    @pytest.mark.parametrize(
        ("how", "kind"),
        [
            ({"chunksize": 0}, ValueError),
            ({"chunksize": -1}, ValueError),
            ({"buffersize": 0}, ValueError),
            ({"buffersize": 1.0}, TypeError),
        ],
    )
    def test_map_refuses_at_once(self, ex: Any, how: Any, kind: type[Exception]) -> None:
        with pytest.raises(kind):
            ex.map(mul, range(3), **how)

    def test_thousands_of_calls_have_their_own_values(self, ex: Any) -> None:
        made = [ex.submit(mul, k, 2) for k in range(5000)]
        assert [future.result(SECONDS) for future in made] == [2 * k for k in range(5000)]

    def test_from_many_threads(self, ex: Any) -> None:
        found: dict[int, list[int]] = {}

        def use(number: int) -> None:
            found[number] = [future.result(SECONDS) for future in [ex.submit(mul, number, k) for k in range(200)]]

        threads = [threading.Thread(target=use, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SECONDS)
        assert found == {number: [number * k for k in range(200)] for number in range(8)}

    def test_in_a_loop(self, ex: Any) -> None:
        async def main() -> list[int]:
            loop = asyncio.get_running_loop()
            return await asyncio.gather(*(loop.run_in_executor(ex, mul, k, k) for k in range(20)))

        assert asyncio.run(main()) == [k * k for k in range(20)]


class TestFutures:
    def test_callbacks(self, ex: Any) -> None:
        heard: list[Any] = []
        done = threading.Event()
        future = ex.submit(mul, 2, 3)

        def heard_of(answered: Any) -> None:
            heard.append(answered.result())
            ex.submit(mul, 3, 3).add_done_callback(heard_last)

        def heard_last(answered: Any) -> None:
            heard.append(answered.result())
            done.set()

        future.add_done_callback(lambda _: 1 / 0)  # is logged, and hurts nothing
        future.add_done_callback(heard_of)
        assert done.wait(SECONDS)
        assert heard == [6, 9]

    def test_as_completed(self, ex: Any, tmp_path: Path) -> None:
        gate = tmp_path / "gate"
        held, quick = ex.submit(wait_for, str(gate)), [ex.submit(mul, 2, k) for k in range(5)]
        order = futures.as_completed([held, *quick, held], timeout=SECONDS)
        first = [next(order) for _ in quick]
        assert set(first) == set(quick)
        with pytest.raises(futures.TimeoutError, match=r"1 \(of 6\) futures unfinished"):
            list(futures.as_completed([held, *quick], timeout=0.05))
        gate.touch()
        assert list(order) == [held]

    def test_wait(self, ex: Any, tmp_path: Path) -> None:
        one, other = tmp_path / "one", tmp_path / "other"
        quick, failing, held = (
            ex.submit(mul, 21, 2),
            ex.submit(wait_and_raise, str(one)),
            ex.submit(wait_for, str(other)),
        )
        done, left = futures.wait([quick, failing, held], return_when=futures.FIRST_COMPLETED, timeout=SECONDS)
        assert (done, left) == ({quick}, {failing, held})
        one.touch()
        done, left = futures.wait([quick, failing, held], return_when=futures.FIRST_EXCEPTION, timeout=SECONDS)
        assert (done, left) == ({quick, failing}, {held})
        done, left = futures.wait([failing, held], timeout=0.05)
        assert (done, left) == ({failing}, {held})
        other.touch()
        assert futures.wait([failing, held], timeout=SECONDS) == ({failing, held}, set())

    def test_a_value_waits_for_no_other_call(self, ex: Any, tmp_path: Path) -> None:
        """Neither for one that its worker has in hand beside it, nor for one of the same task."""
        gate = tmp_path / "gate"
        made = [ex.submit(mul, k, 2) for k in range(200)]
        held = [ex.submit(wait_for, str(gate)) for _ in range(2)]  # every worker has one
        assert [future.result(SECONDS / 3) for future in made] == [2 * k for k in range(200)]
        gate.touch()
        assert [future.result(SECONDS) for future in held] == [str(gate)] * 2

    def test_cancel(self, ex: Any, tmp_path: Path) -> None:
        gate = tmp_path / "gate"
        held = [ex.submit(wait_for, str(gate)) for _ in range(100)]
        until(held[0].running, SECONDS, "the first call has begun")
        assert not held[0].cancel()
        assert held[-1].cancel()
        gate.touch()
        with pytest.raises(futures.CancelledError):
            held[-1].result(SECONDS)
        assert held[0].result(SECONDS) == str(gate)
        assert all(future.result(SECONDS) == str(gate) for future in held[:-1])

    def test_nothing_is_held_on_to(self, ex: Any) -> None:
        thing, gone = Thing(), threading.Event()
        watch = weakref.ref(thing, lambda _: gone.set())
        ex.submit(thing.method)
        del thing
        assert gone.wait(SECONDS), watch
        for value in ex.map(make_thing, range(10)):
            seen = weakref.ref(value)
            del value

            def is_gone(seen: weakref.ref[Thing] = seen) -> bool:
                gc.collect()
                return seen() is None

            until(is_gone, SECONDS, "the value is gone")  # the thread that set it may hold it for a moment


class TestShutdown:
    def test_it_waits_for_all_and_takes_no_more(self, client: Client) -> None:
        with client.executor() as ex:
            made = [ex.submit(time.sleep, 0.01) for _ in range(20)]
        assert all(future.done() for future in made)
        with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
            ex.submit(pow, 2, 5)
        with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
            ex.map(pow, [2], [5])
        ex.shutdown()

    def test_cancelling_what_has_not_begun(self, client: Client) -> None:
        ex = client.executor()
        made = [ex.submit(time.sleep, 0.1) for _ in range(50)]
        until(made[0].running, SECONDS, "the first call is sent")
        ex.shutdown(cancel_futures=True)
        cancelled = [future for future in made if future.cancelled()]
        assert 20 < len(cancelled) < 50
        assert all(future.done() and (future.cancelled() or future.exception() is None) for future in made)

    def test_without_waiting(self, client: Client) -> None:
        ex = client.executor()
        values = ex.map(abs, range(-5, 5))
        ex.shutdown(wait=False)
        assert list(values) == [abs(k) for k in range(-5, 5)]

    def test_with_the_last_reference(self, client: Client) -> None:
        ex: Any = client.executor()
        job = ex.job
        values = ex.map(abs, range(-5, 5))
        del ex
        gc.collect()
        assert list(values) == [abs(k) for k in range(-5, 5)]
        until(lambda: (state := client.job_state(job)) is not None and not state.running, SECONDS, "its job is over")

    def test_a_cancelled_call_holds_nothing_up(self, client: Client) -> None:
        ex = client.executor()
        ex.submit(int).result(SECONDS)
        ex.submit(int).cancel()
        ex.shutdown()

    def test_a_closed_client(self) -> None:
        with Client(local=1) as client:
            ex = client.executor()
            held = ex.submit(time.sleep, 60)
            until(held.running, SECONDS, "it has begun")
        with pytest.raises(BrokenProcessPool, match="closed"):
            held.result(SECONDS)
        with pytest.raises(RuntimeError):
            ex.submit(mul, 1)

    @pytest.mark.parametrize("end", ["", "ex.shutdown(wait=False)", "del ex"])
    def test_with_the_interpreter(self, end: str) -> None:
        assert script(f"""
            ex = executor(1)
            ex.submit(say, "said").add_done_callback(lambda f: print("and heard", f.result(), flush=True))
            {end}
        """) == ("and heard said\n", "said\n")

    def test_after_the_interpreter(self) -> None:
        out, err = script(
            """
            import atexit
            @atexit.register
            def last():
                try:
                    ex.submit(id, None)
                except RuntimeError as error:
                    print(error)
            ex = executor(1)
            ex.submit(id, 42).result()
        """,
            first="import atexit",
        )
        assert (out, err) == ("cannot schedule new futures after interpreter shutdown\n", "")


def script(body: str, first: str = "") -> tuple[str, str]:
    """What a script prints on its two streams."""
    source = (
        f"{first}\n"
        + textwrap.dedent("""
        import sys, time
        from mapreduce_rq import executor
        def say(text):
            time.sleep(0.3)
            print(text, file=sys.stderr, flush=True)
            return text
    """)
        + textwrap.dedent(body)
    )
    done = subprocess.run(
        [sys.executable, "-c", source],
        env=environment(path=[ROOT]),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout, done.stderr


class TestMisuse:
    def test_arguments_that_cannot_travel_fail_their_call_alone(self, ex: Any) -> None:
        made = [
            ex.submit(mul, 1, 1),
            ex.submit(id, Refused()),
            ex.submit(mul, 2, 2),
            ex.submit(id, threading.Lock()),
            ex.submit(id, Exiting()),
            ex.submit(mul, 3, 3),
        ]
        assert [made[k].result(SECONDS) for k in (0, 2, 5)] == [1, 4, 9]
        with pytest.raises(pickle.PicklingError, match="I stay here"):
            made[1].result(SECONDS)
        with pytest.raises(TypeError, match=r"cannot pickle '_thread\.lock' object"):
            made[3].result(SECONDS)
        with pytest.raises(SystemExit):
            made[4].result(SECONDS)

    def test_values_that_cannot_travel_fail_their_call_alone(self, ex: Any) -> None:
        made = [ex.submit(mul, 1, 1), ex.submit(made_of, Refused), ex.submit(lock, 1), ex.submit(mul, 3, 3)]
        assert [made[k].result(SECONDS) for k in (0, 3)] == [1, 9]
        with pytest.raises(pickle.PicklingError, match="I stay here"):
            made[1].result(SECONDS)
        with pytest.raises(TypeError, match=r"cannot pickle '_thread\.lock' object"):
            made[2].result(SECONDS)

    def test_what_cannot_be_read_over_there(self, ex: Any) -> None:
        made = [ex.submit(mul, 1, 1), ex.submit(id, Unreadable()), ex.submit(mul, 3, 3)]
        assert [made[k].result(SECONDS) for k in (0, 2)] == [1, 9]
        with pytest.raises(BrokenProcessPool, match=r"I cannot be read"):
            made[1].result(SECONDS)

    def test_what_cannot_be_read_here(self, ex: Any) -> None:
        made = [ex.submit(mul, 1, 1), ex.submit(made_of, Unreadable), ex.submit(mul, 3, 3)]
        assert [made[k].result(SECONDS) for k in (0, 2)] == [1, 9]
        with pytest.raises(BrokenProcessPool, match=r"I cannot be read"):
            made[1].result(SECONDS)

    @pytest.mark.parametrize("deed", [(end_by, signal.SIGKILL), (os._exit, 0), (id, Deadly())])
    def test_a_call_that_ends_its_worker_breaks_alone(self, ex: Any, deed: Any) -> None:
        made = [ex.submit(mul, 1, 1), ex.submit(*deed), ex.submit(mul, 3, 3)]
        with pytest.raises(BrokenProcessPool, match=r"SIGKILL|exit code 0"):
            made[1].result(SECONDS)
        assert [made[k].result(SECONDS) for k in (0, 2)] == [1, 9]

    def test_a_forked_child_is_told(self, ex: Any) -> None:
        assert ex.submit(mul, 2, 2).result(SECONDS) == 4
        held = ex.submit(time.sleep, 0.5)
        reader, writer = os.pipe()
        if not (child := os.fork()):
            said = []
            try:
                for act in (partial(ex.submit, mul, 1), partial(held.result, 5)):
                    try:
                        act()
                    except RuntimeError as error:
                        said.append(str(error))
                ex.shutdown()
            except BaseException as error:
                said.append(f"{type(error).__name__}: {error}")
            finally:
                os.write(writer, "\n".join(said).encode())
                os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as told:
            lines = told.read().splitlines()
        os.waitpid(child, 0)
        assert len(lines) == 2, lines
        assert all("fork" in line for line in lines), lines
        assert held.result(SECONDS) is None
        assert ex.submit(mul, 2, 3).result(SECONDS) == 6

    @pytest.mark.parametrize(
        ("how", "kind"),
        [
            ({"initializer": 3}, TypeError),
            ({"max_tasks_per_child": 0}, ValueError),
            ({"max_tasks_per_child": 1.5}, TypeError),
        ],
    )
    def test_what_makes_no_executor(self, client: Client, how: Any, kind: type[Exception]) -> None:
        with pytest.raises(kind):
            client.executor(**how)
        for number in (0, -1):
            with pytest.raises(ValueError, match="max_workers must be greater than 0"):
                executor(number)


MARK = "unset"


def set_mark(mark: str) -> None:
    global MARK  # noqa: PLW0603  as initializers do
    MARK = mark


def get_mark() -> tuple[int, str]:
    time.sleep(0.02)
    return os.getpid(), MARK


def failing() -> None:
    raise ValueError("no beginning")


def test_it_stays_in_its_process(client: Client) -> None:
    with client.executor() as ex:
        for send in (pickle.dumps, lambda thing: ex.submit(captured, thing).result(SECONDS)):
            with pytest.raises(TypeError, match=r"cannot (be )?pickle"):
                send(ex)
        assert ex.submit(mul, 3).result(SECONDS) == 3


class TestProcesses:
    def test_each_is_initialized_once(self, client: Client) -> None:
        with client.executor(initializer=set_mark, initargs=("set",)) as ex:
            found = list(ex.map(lambda _: get_mark(), range(20)))
        assert {mark for _, mark in found} == {"set"}
        assert len({pid for pid, _ in found}) == 2

    def test_a_script_s_initializer_sets_what_its_functions_see(self) -> None:
        out, err = script("""
            STATE = None
            def begin(value):
                global STATE
                STATE = [value]
            def use(x):
                STATE.append(x)
                return STATE[0], len(STATE)
            with executor(1, initializer=begin, initargs=(7,)) as ex:
                print(list(ex.map(use, range(3))))
        """)
        assert (out, err) == ("[(7, 2), (7, 3), (7, 4)]\n", "")

    def test_one_that_cannot_begin_breaks_the_executor(self, client: Client) -> None:
        ex = client.executor(initializer=failing)
        with pytest.raises(BrokenProcessPool, match="no beginning"):
            ex.submit(mul, 1).result(SECONDS)
        with pytest.raises(BrokenProcessPool, match="no beginning"):
            until(lambda: ex.submit(mul, 1) is None, SECONDS, "it is broken")
        ex.shutdown()

    def test_each_makes_so_many_calls_and_no_more(self) -> None:
        with executor(1, max_tasks_per_child=3) as ex:
            pids = [ex.submit(os.getpid).result(SECONDS) for _ in range(7)]
            assert [len(set(pids[at : at + 3])) for at in (0, 3, 6)] == [1, 1, 1]
            assert len(set(pids)) == 3
            assert len({*ex.map(mul, range(20))}) == 20


class TestPlainQueue:
    """Where pickles are not trusted."""

    @pytest.fixture
    def plain(self, fresh_server: FreshServer, queue: str) -> Iterator[Any]:
        with Client(fresh_server().url, local=1, queue=queue, keys=[KEY]) as client, client.executor() as ex:
            yield ex

    def test_named_functions_and_plain_arguments_travel(self, plain: Any) -> None:
        assert plain.submit(mul, 2, y=4).result(SECONDS) == 8
        assert list(plain.map(pow, range(5), range(5), chunksize=2)) == [1, 1, 4, 27, 256]

    def test_nothing_else_does(self, plain: Any) -> None:
        with pytest.raises(Exception, match=r"<lambda> has no importable name.*allow_pickle"):
            plain.submit(lambda: 3).result(SECONDS)
        with pytest.raises(pickle.PicklingError, match="an argument cannot travel"):
            plain.submit(id, Thing()).result(SECONDS)
        assert plain.submit(mul, 2).result(SECONDS) == 2

    def test_a_worker_looks_at_each_name(self, fresh_server: FreshServer, queue: str) -> None:
        own: Any = {"queue": queue, "keys": [], "allow": ["_operator"]}
        with executor(1, url=fresh_server().url, **own) as ex:
            assert ex.submit(operator.add, 1, 2).result(SECONDS) == 3
            with pytest.raises(BrokenProcessPool, match=r"--allow (posix|os)"):
                ex.submit(os.getpid).result(SECONDS)
