"""Clients in processes forked from theirs, with real forks: a child has its own ways, the parent is not touched."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mapreduce_rq import Client, JobError, UsageError
from tests.support.fleet import Fleet
from tests.support.servers import RealServer
from tests.support.stage import allowed, until

KEY = "6b" * 32
FORKS = multiprocessing.get_context("fork")


def ends_well(function: Callable[[], Any], *, leave: Callable[[int], Any] = os._exit) -> None:
    """Fork, call it in the child, and see that it raises nothing there."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        try:
            function()
            leave(0)
        except BaseException as error:
            if not isinstance(error, SystemExit):
                os.write(writer, traceback.format_exc().encode()[-4000:])
            os._exit(0 if isinstance(error, SystemExit) else 1)
    os.close(writer)
    with open(reader, encoding="utf-8") as said:
        text = said.read()
    _, status = os.waitpid(pid, 0)
    assert (text, os.waitstatus_to_exitcode(status)) == ("", 0)


@pytest.fixture(scope="module")
def server() -> Iterator[RealServer]:
    with RealServer("valkey", tcp=True) as running:
        yield running


@pytest.fixture(params=["private", "shared"])
def client(request: pytest.FixtureRequest, server: RealServer, queue: str) -> Iterator[Client]:
    if request.param == "private":
        with Client(local=2) as made:
            yield made
    else:
        with Fleet(server.url, queue, 2), Client(server.tcp_url, queue=queue, keys=[KEY]) as made:
            yield made


def works(client: Client, n: int = 20) -> None:
    assert client.map_reduce("math:factorial", range(n), reduce="count") == n


def identity(client: Client) -> tuple[int, dict[str, str]]:
    """The number of the client's own connection, and what its server says of it; over another one."""
    number = int(client.verbs.wire.call("CLIENT", "ID"))
    wire = client.wires.new()
    wire.connect()
    try:
        row = wire.call("CLIENT", "LIST", "ID", number).decode()
    finally:
        wire.close()
    return number, dict(pair.split("=", 1) for pair in row.split())


def use(client: Client) -> None:
    works(client)
    client.snapshot()
    assert client.job_state("nothing") is None


def use_and_close(client: Client) -> None:
    use(client)
    client.close()
    with pytest.raises(UsageError, match="closed"):
        works(client)


def close_only(client: Client) -> None:
    client.close()


def submit(client: Client) -> None:
    assert client.submit_function("math:factorial", range(9), reduce="count").result(20).native == 9


def drop(client: Client) -> None:
    client.__dict__.clear()
    gc.collect()


@pytest.mark.parametrize("how", [use, use_and_close, close_only, submit, drop])
@pytest.mark.parametrize("leave", [os._exit, sys.exit], ids=["_exit", "exit"])
def test_a_child_has_its_own_connections_and_the_parent_is_not_touched(
    client: Client, how: Callable[[Client], None], leave: Callable[[int], Any]
) -> None:
    works(client)
    before = identity(client)
    number = int(client.verbs.wire.call("CLIENT", "ID"))
    wire = client.wires.new()
    wire.connect()
    listed = wire.call("CLIENT", "LIST", "ID", number)
    ends_well(lambda: how(client), leave=leave)
    # The same connection is there, and not a byte has come over it: its row says how many have.
    after = wire.call("CLIENT", "LIST", "ID", number)
    assert bytes_in(after) == bytes_in(listed)
    wire.close()
    assert identity(client)[0] == before[0]
    works(client)


def bytes_in(row: bytes) -> str:
    found = dict(pair.split("=", 1) for pair in row.decode().split())
    return found["tot-net-in"] + " " + found["cmd"]


def test_a_fork_while_threads_lead_jobs(client: Client) -> None:
    over = threading.Event()
    failed: list[BaseException] = []

    def lead() -> None:
        try:
            while not over.is_set():
                works(client)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=lead) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for how in (use, use_and_close, close_only, submit, drop) * 3:
            ends_well(lambda how=how: how(client))  # type: ignore[misc]
    finally:
        over.set()
        for thread in threads:
            thread.join(30)
    assert failed == []
    works(client)


def test_a_job_of_the_parent_is_not_waited_for_in_a_child(client: Client) -> None:
    job = client.submit_function("tests.support.terms:slow_bytes", range(60), reduce="count")

    def ask() -> None:
        for question in (job.result, job.wait, job.done):
            with pytest.raises(
                UsageError, match=f"{job.id} is led by process {os.getppid()}, and this process is a fork of it"
            ):
                question()
        assert job.status == "running"
        client.close()

    ends_well(ask)
    assert job.result(30).native == 60
    ends_well(lambda: job.result().native == 60 or os._exit(9))  # it has ended: its result is there


def test_values_that_come_to_the_parent_come_to_no_child(client: Client) -> None:
    values: Any = client.imap("tests.support.terms:slow_bytes", range(200))
    assert next(values) == bytes(20_000)

    def ask() -> None:
        with pytest.raises(UsageError, match=f"{values.job} is led by process {os.getppid()}"):
            list(values)
        values.close()
        client.close()

    for _ in range(3):
        ends_well(ask, leave=sys.exit)
    assert [value[0] for value in values] == list(range(1, 200))


def test_a_child_may_cancel_a_job_of_the_parent(client: Client) -> None:
    job = client.submit_function("tests.support.terms:slow_bytes", range(10_000), reduce="count")
    until(lambda: job.progress["counted"] > 0, 20, "under way")
    ends_well(job.cancel)
    with pytest.raises(JobError, match="cancelled"):
        job.result(20)


_shared: Client


def _square_sum(n: int) -> int:
    """In a pool's child: with the client that it has from its parent."""
    return int(_shared.map_reduce("math:factorial", range(n), reduce="count"))


class _Slow:
    """An argument whose pickling begins and waits."""

    begun, go = threading.Event(), threading.Event()

    def __reduce__(self) -> Any:
        self.begun.set()
        self.go.wait(30)
        return int, (7,)


def test_a_call_that_is_just_being_encoded_is_not_waited_for_in_a_child() -> None:
    """Its future is neither among those that wait nor among those that were sent."""
    with Client(local=1) as client, client.executor() as executor:
        slow: Any = _Slow()
        future = executor.submit(abs, slow)
        until(_Slow.begun.is_set, 5, "its argument is being pickled")

        def is_told() -> None:
            with pytest.raises(RuntimeError, match="fork"):
                future.result(10)

        ends_well(is_told)
        _Slow.go.set()
        assert future.result(30) == 7


def test_a_pool_of_forked_processes(client: Client) -> None:
    global _shared  # noqa: PLW0603  as a module's own client
    _shared = client
    with FORKS.Pool(3) as pool:
        found = pool.map_async(_square_sum, range(5, 25), chunksize=1)
        for _ in range(5):
            works(client)
        assert found.get(60) == list(range(5, 25))
    works(client)


def test_servers_that_fork_before_they_serve(client: Client) -> None:
    """As gunicorn and Celery do: a client of the module, children that use it for long and end by signals."""
    reader, writer = os.pipe()
    pids = []
    for _ in range(3):
        pid = os.fork()
        if pid == 0:
            try:
                for _ in range(4):
                    works(client)
                os.write(writer, b".")
                while True:
                    works(client)
            except BaseException:
                os.write(writer, b"!" + traceback.format_exc().encode())
            finally:
                os._exit(1)
        pids.append(pid)
    os.close(writer)
    for _ in range(4):
        works(client)
    said = b""
    while len(said) < 3:
        said += os.read(reader, 4096)
    for pid, number in zip(pids, (signal.SIGTERM, signal.SIGKILL, signal.SIGINT), strict=True):
        os.kill(pid, number)
    for pid in pids:
        os.waitpid(pid, 0)
    works(client)
    assert said == b"..."


def test_a_program_that_is_started_by_one_has_nothing_of_its_client(client: Client) -> None:
    """As execnet and pytest-xdist do: a new interpreter, which may inherit descriptors and no more."""
    program = (
        "import os, sys\nfrom mapreduce_rq import Client\n"
        "with Client('', local=1) as mrq: print(mrq.map_reduce('math:factorial', range(9), reduce='count'))\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, close_fds=False, check=False
    )
    assert (ran.stdout, ran.stderr, ran.returncode) == ("9\n", "", 0)
    works(client)


def test_what_a_child_started_ends_with_it_and_not_with_its_parent(client: Client) -> None:
    def own() -> None:
        with Client("", local=1) as mine:
            works(mine)
        works(client)

    ends_well(own)
    works(client)


def test_a_parent_that_closes_leaves_its_children_with_a_clear_word() -> None:
    ready, go = os.pipe()
    told, tell = os.pipe()
    with Client(local=1) as client:
        works(client)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                works(client)
                os.write(go, b".")
                os.read(told, 1)
                works(client)
            except JobError:
                code = 2
            except Exception as error:
                code = 0 if "the private server died" in str(error) else 3
            finally:
                os._exit(code)
        assert os.read(ready, 1) == b"."
    os.write(tell, b".")
    began = time.monotonic()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert time.monotonic() - began < allowed(10)


def test_a_client_does_not_travel(client: Client) -> None:
    with pytest.raises(UsageError, match="a client cannot be sent to another process: make one there"):
        pickle.dumps(client)
