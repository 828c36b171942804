"""Values as they come: each once and in its place, from items that need not end, in constant memory."""

from __future__ import annotations

import itertools
import operator
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mapreduce_rq import BadFunction, BadParameter, Client, JobError, RemoteError, UsageError
from tests.support.commands import KEY
from tests.support.servers import RealServer

N = 3000


def square(k: int) -> int:
    return k * k


def picky(k: int) -> int:
    if k % 100 == 3:
        raise LookupError(k)
    return k


def deadly(k: int) -> int:
    """Kills its worker at one term, once."""
    flag = Path(os.environ["MRQ_TEST_FLAG"])
    if k == 500:
        try:
            flag.touch(exist_ok=False)
        except FileExistsError:
            return square(k)
        os.kill(os.getpid(), signal.SIGKILL)
    return square(k)


@pytest.fixture(scope="module")
def private() -> Iterator[Client]:
    with Client(local=2) as client:
        yield client


@pytest.mark.parametrize("chunksize", [None, 1, 7])
@pytest.mark.parametrize("buffersize", [None, 1, 50])
def test_values_come_in_the_order_of_their_items(
    private: Client, chunksize: int | None, buffersize: int | None
) -> None:
    count = N if buffersize is None else 200
    found = list(private.imap(square, range(count), chunksize=chunksize, buffersize=buffersize))
    assert found == [k * k for k in range(count)]


def test_unordered_each_value_comes_once(private: Client) -> None:
    assert sorted(private.imap_unordered(square, range(N), chunksize=3)) == [k * k for k in range(N)]


def test_the_first_value_is_there_before_the_next_item_is(private: Client) -> None:
    gate = threading.Event()

    def items() -> Iterator[int]:
        yield 3
        assert gate.wait(20)
        yield 4

    with private.imap(square, items()) as values:
        assert next(values) == 9  # while the iterable waits for us
        gate.set()
        assert list(values) == [16]


@pytest.mark.parametrize("count", [10, 5000])
@pytest.mark.parametrize("chunksize", [None, 7])
def test_an_iterable_may_wait_for_the_values_of_what_it_gave(
    private: Client, count: int, chunksize: int | None
) -> None:
    gate = threading.Event()

    def items() -> Iterator[int]:
        yield from range(count)
        assert gate.wait(30)

    values = private.imap(abs, items(), chunksize=chunksize)
    assert [next(values) for _ in range(count)] == list(range(count))
    gate.set()
    assert list(values) == []


def test_an_endless_iterable_is_read_no_further_than_there_is_room(private: Client) -> None:
    read = []

    def items() -> Iterator[int]:
        for k in itertools.count():
            read.append(k)
            yield k

    with private.imap(square, items(), buffersize=40) as values:
        assert [next(values) for _ in range(500)] == [k * k for k in range(500)]
        assert 500 <= len(read) <= 500 + 40 + 1
    before = len(read)
    time.sleep(0.05)  # nothing more is read behind its end
    assert len(read) <= before + 1


def test_what_a_term_raises_stands_in_its_place(private: Client) -> None:
    values = private.imap(picky, range(300))
    found: list[Any] = []
    while True:
        try:
            found.append(next(values))
        except StopIteration:
            break
        except LookupError as error:
            found.append(("raised", error.args[0], any("in picky" in note for note in error.__notes__)))
    assert found == [("raised", k, True) if k % 100 == 3 else k for k in range(300)]


def test_where_pickles_are_not_trusted_a_stand_in_is_raised(server: RealServer, queue: str) -> None:
    with Client(server.url, local=2, queue=queue, keys=[KEY]) as client:
        values: Any = client.imap("builtins:int", ["1", "two", "3"])
        assert next(values) == 1
        with pytest.raises(RemoteError, match="ValueError: invalid literal"):
            next(values)
        assert list(values) == [3]
        with pytest.raises(BadFunction, match=r"item 1, a .*range"):
            list(client.imap("builtins:len", ["abc", range(3)], chunksize=1))


def test_workers_that_write_pickles_write_none_for_a_client_that_reads_none(server: RealServer, queue: str) -> None:
    with (
        Client(server.url, local=2, queue=queue, keys=[KEY], allow_pickle=True) as trusting,
        Client(server.url, queue=queue, keys=[KEY], allow_pickle=False) as plain,
    ):
        assert list(trusting.imap(square, range(9))) == [k * k for k in range(9)]  # its workers are there
        values: Any
        with plain.imap("builtins:abs", range(-9, 0)) as values:
            assert values.next(timeout=20) == 9
            assert list(values) == list(range(8, 0, -1))
        assert plain.map_reduce("builtins:abs", range(-9, 0), reduce="list") == list(range(9, 0, -1))
        assert plain.map_reduce("builtins:abs", range(-9, 0), reduce=operator.add, zero=0) == 45
        with pytest.raises(RemoteError, match=r"a range cannot travel\): have the function return such values$"):
            list(plain.imap("builtins:range", [3]))


def test_an_iterable_that_raises_ends_it_behind_what_came_before(private: Client) -> None:
    def items() -> Iterator[int]:
        yield from range(5)
        raise OSError("the disk is gone")

    found: list[int] = []
    with pytest.raises(OSError, match="the disk is gone"):
        found.extend(private.imap(square, items()))
    assert found == [k * k for k in range(len(found))]


def test_workers_that_die_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MRQ_TEST_FLAG", str(tmp_path / "died"))
    with Client(local=2) as client:
        assert list(client.imap(deadly, range(1000), chunksize=5)) == [k * k for k in range(1000)]
    assert (tmp_path / "died").exists()


def test_closing_it_ends_the_job(server: RealServer, queue: str) -> None:
    with Client(server.url, local=1, queue=queue, keys=[KEY], allow_pickle=True) as client:
        values = client.imap(square, itertools.count())
        assert next(values) == 0
        values.close()
        state = client.job_state(values.job)
        assert state is not None
        assert state.record is not None
        assert state.record.state.word == "cancelled"
        assert list(values) == []


def test_an_iterator_that_is_dropped_ends_its_job(private: Client) -> None:
    for value in private.imap(square, itertools.count(), buffersize=10):  # noqa: B007
        break
    assert value == 0
    unread = private.imap(square, itertools.count(), buffersize=10)
    del unread
    assert [job.state.word for job in private.snapshot().jobs if job.state.word == "running"] == []


def test_a_client_that_is_closed_ends_what_it_streams() -> None:
    client = Client(local=1)
    values = client.imap(square, itertools.count())
    assert next(values) == 0
    client.close()
    with pytest.raises(JobError, match="was closed before its end"):
        for _ in values:
            pass
    with pytest.raises(UsageError, match="closed"):
        client.imap(square, range(3))


def awaited(gate: threading.Event) -> Iterator[int]:
    """Three items, and then none until the gate is open."""
    yield from range(3)
    gate.wait(60)


def test_all_that_was_read_so_far_being_answered_is_not_the_end_of_the_iterable(server: RealServer, queue: str) -> None:
    gate = threading.Event()
    with Client(server.url, local=1, queue=queue, keys=[KEY], allow_pickle=True) as client:
        closed, terminated = (client.imap(square, awaited(gate)) for _ in range(2))
        for values in (closed, terminated):
            assert [next(values) for _ in range(3)] == [0, 1, 4]
        closed.close()
        terminated.terminate()
        assert list(closed) == []
        with pytest.raises(JobError, match="was closed before its end"):
            next(terminated)
        assert {job.state.word for job in client.snapshot().jobs} == {"cancelled"}
        left = client.imap(square, awaited(gate))
        assert [next(left) for _ in range(3)] == [0, 1, 4]
    with pytest.raises(JobError, match="was closed before its end"):
        next(left)
    gate.set()


def test_a_buffer_of_nothing_is_refused(private: Client) -> None:
    with pytest.raises(BadParameter, match="buffersize: 0"):
        private.imap(square, range(3), buffersize=0)
