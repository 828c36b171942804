"""A client that is closed, or left, with jobs under way: it is over within seconds, and all who wait are told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mapreduce_rq import Client, JobError, Limits, UsageError
from mapreduce_rq.client import adopters
from mapreduce_rq.client.adopters import MOST_LED
from mapreduce_rq.core.job.record import State
from mapreduce_rq.runtime.master.observer import Silent
from tests.support.commands import MRQ, environment
from tests.support.fleet import KEY, Fleet
from tests.support.servers import FreshServer, RealServer, wait_gone
from tests.support.stage import allowed, until

SLOW = "tests.support.terms:slow_bytes"


@pytest.fixture(scope="module")
def server() -> Iterator[RealServer]:
    with RealServer("valkey") as running:
        yield running


class Caller:
    """A thread that calls something, and what came of it."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self.error: BaseException | None = None
        self._function = function
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self._function()
        except BaseException as error:
            self.error = error

    def told(self, kind: type[BaseException], seconds: float = 10.0) -> str:
        self.thread.join(allowed(seconds))
        assert not self.thread.is_alive(), "it waits still"
        assert type(self.error) is kind, repr(self.error)
        return str(self.error)


class Counts(Silent):
    """An observer that hears of the first progress."""

    def __init__(self) -> None:
        self.begun = threading.Event()

    def progressed(self, report: Any) -> None:
        self.begun.set()


def calls(client: Client, items: Any, count: int = 3) -> list[Caller]:
    """Threads with a map_reduce under way each."""
    seen = [Counts() for _ in range(count)]
    found = [
        Caller(lambda one=one: client.map_reduce(SLOW, items(), reduce="count", observer=one))  # type: ignore[misc]
        for one in seen
    ]
    for one in seen:
        assert one.begun.wait(20)
    return found


def test_closing_a_private_client_ends_the_calls_of_other_threads() -> None:
    client = Client(local=2)
    callers = calls(client, lambda: range(100_000))
    began = time.monotonic()
    client.close()
    assert time.monotonic() - began < allowed(8)
    for caller in callers:
        assert "was not finished, because its client was closed: its private server" in caller.told(JobError)
    with pytest.raises(UsageError, match="this client is closed"):
        client.map_reduce(SLOW, range(3))


@pytest.mark.parametrize("lazy", [False, True])
def test_closing_a_client_ends_the_calls_of_other_threads_and_lets_go_of_their_jobs(
    server: RealServer, queue: str, lazy: bool
) -> None:
    client = Client(server.url, queue=queue, keys=[KEY], local=2)
    callers = calls(client, lambda: iter(range(100_000)) if lazy else range(100_000))
    job = client.submit_function(SLOW, range(100_000), reduce="count")
    began = time.monotonic()
    client.close()
    assert time.monotonic() - began < allowed(8)
    then = "it is cancelled, for its items came from" if lazy else "it keeps what is counted: mrq resume "
    for caller in callers:
        assert then in caller.told(JobError)
    with pytest.raises(JobError, match="because its client was closed: it keeps what is counted"):
        job.result(5)
    with Client(server.url, queue=queue, keys=[KEY], local=0) as other:
        states = [other.job_state(name) for name in other.verbs.listed()]
        assert len(states) == 4
        expected = [State.CANCELLED_NOW] * 3 + [State.RUNNING] if lazy else [State.RUNNING] * 4
        assert sorted(state.state for state in states if state) == sorted(expected)
        assert all(state.master == "" for state in states if state), "whoever resumes one need not wait"


def test_a_job_that_its_server_was_not_told_to_cancel_is_not_called_cancelled(fresh_server: FreshServer) -> None:
    server = fresh_server("valkey")
    client = Client(server.url, keys=[KEY], local=1)
    (caller,) = calls(client, lambda: iter(range(100_000)), 1)
    server.kill9()
    client.close()
    said = caller.told(JobError)
    assert "Redis did not answer, so it may not be cancelled: mrq cancel function-" in said


def test_an_iterable_of_ones_own_items_may_close_the_client(server: RealServer, queue: str) -> None:
    client = Client(server.url, queue=queue, keys=[KEY], local=1)

    def items() -> Iterator[int]:
        yield from range(10)
        client.close()
        yield from range(10, 1000)

    caller = Caller(lambda: client.map_reduce(SLOW, items(), reduce="count"))
    assert "its client was closed" in caller.told(JobError, 20)


@pytest.mark.parametrize("private", [True, False], ids=["private", "shared"])
def test_closing_ends_who_waits_for_values(server: RealServer, queue: str, private: bool) -> None:
    client = Client("" if private else server.url, queue=queue, keys=None if private else [KEY], local=2)
    under_way = threading.Semaphore(0)

    def read() -> None:
        values: Any = client.imap(SLOW, iter(range(100_000)))
        next(values)
        under_way.release()
        for _ in values:
            pass

    callers = [Caller(read) for _ in range(3)]
    assert all(under_way.acquire(timeout=20) for _ in callers)
    began = time.monotonic()
    client.close()
    assert time.monotonic() - began < allowed(8)
    for caller in callers:
        assert "closed before its end" in caller.told(JobError)


@pytest.mark.parametrize("private", [True, False], ids=["private", "shared"])
@pytest.mark.parametrize("seconds", [None, 3600.0])
def test_closing_ends_who_waits_for_a_job_by_its_id(
    server: RealServer, queue: str, private: bool, seconds: float | None
) -> None:
    client = Client("" if private else server.url, queue=queue, keys=None if private else [KEY], local=int(private))
    job = client.job(client.submit_function(SLOW, range(100_000), reduce="count").id)
    waits, asks = Caller(lambda: job.wait(seconds)), Caller(lambda: job.result(seconds))
    assert not job.wait(1.5)
    client.close()
    for caller in (waits, asks):
        assert f"its client was closed while a thread waited for {job.id}" in caller.told(JobError)


def test_closing_with_many_jobs_does_not_add_up_their_times(server: RealServer, queue: str) -> None:
    client = Client(server.url, queue=queue, keys=[KEY], local=1)
    jobs = [client.submit_function(SLOW, range(100_000), reduce="count") for _ in range(12)]
    began = time.monotonic()
    client.close()
    assert time.monotonic() - began < allowed(8)
    assert all(job.wait(5) for job in jobs)


def test_closing_where_redis_says_nothing(fresh_server: FreshServer, queue: str) -> None:
    server = fresh_server("valkey")
    client = Client(server.url, queue=queue, keys=[KEY], local=1)
    assert client.map_reduce(SLOW, range(3), reduce="count") == 3
    client.submit_function(SLOW, range(100_000), reduce="count")
    os.kill(server.pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        client.close()
        assert time.monotonic() - began < allowed(18)
    finally:
        os.kill(server.pid, signal.SIGCONT)


PROGRAM = """
import sys, threading, time
from mapreduce_rq import Client
client = Client({url!r}, queue={queue!r}, local=2, keys=[{key!r}] if {url!r} else None)
jobs = [client.submit_function("time:sleep", [3600.0] * 5, reduce="list") for _ in range(3)]
while not any(worker.beat and worker.beat.state == "busy" for worker in client.snapshot().workers):
    time.sleep(0.05)
print("under way", flush=True)
{end}
"""
ENDS = {
    "exit": "sys.exit(0)",
    "end": "",
    "close": "client.close()",
    "error": "sys.tracebacklimit = 0; raise SystemExit(0)",
    "thread": (
        "threading.Thread(target=lambda: client.map_reduce('time:sleep', [3600.0] * 2, reduce='list'), daemon=True)"
        ".start(); time.sleep(0.3)"
    ),
    "pool": "pool = client.pool(); asked = pool.map_async(time.sleep, [3600.0] * 5); time.sleep(0.3)",
    "closed pool": "pool = client.pool(); pool.map_async(time.sleep, [3600.0] * 5); time.sleep(0.3); pool.close()",
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("private", [True, False], ids=["private", "shared"])
def test_an_interpreter_ends_with_jobs_in_flight(server: RealServer, queue: str, private: bool, end: str) -> None:
    program = PROGRAM.format(url="" if private else server.url, queue=queue, key=KEY, end=ENDS[end])
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(), text=True
    )
    assert process.stdout
    assert process.stdout.readline() == "under way\n"
    began = time.monotonic()
    _, said = process.communicate(timeout=60)
    assert time.monotonic() - began < allowed(15)
    assert process.returncode == 0, said
    assert "Traceback" not in said


def orphans(client: Client, count: int, name: str = "math:factorial") -> list[str]:
    """Jobs of which a master has let go."""
    found = []
    for _ in range(count):
        spec, computation, _ = client.planner.function(name, range(3), reduce="count", limits=Limits(chunk=3))
        master = client.leader.master(spec, computation, Silent())
        master.submit()
        master.stop = True
        assert master.run() is None
        found.append(spec.job)
    return found


def adopted(client: Client) -> int:
    """How many running jobs have a second master."""
    return sum(token.startswith("2:") for token, _ in client.verbs.leases().values())


def test_a_standby_leads_a_few_orphans_at_a_time(server: RealServer, queue: str) -> None:
    with Client(server.url, queue=queue, keys=[KEY], local=0) as client:
        jobs = orphans(client, 300)
        standby = subprocess.Popen(
            [*MRQ, "master", "-c", str(MOST_LED), "-u", server.url, "--queue", queue, "-q"],
            env=environment({"MRQ_KEY": KEY}),
        )
        try:
            with server.client() as raw:
                until(lambda: adopted(client) >= MOST_LED, 30, "jobs led by the standby")
                for _ in range(20):
                    time.sleep(0.1)
                    assert len(os.listdir(f"/proc/{standby.pid}/task")) <= 2 + 2 * MOST_LED
                    assert len(raw.client_list()) <= 4 + 2 * MOST_LED
            with Fleet(server.url, queue, 2):
                until(lambda: not client.verbs.leases(), 60, "all of them done")
            assert {client.job_state(job).state for job in jobs} == {State.DONE}  # type: ignore[union-attr]
        finally:
            standby.terminate()
            assert standby.wait(15) == 0
        assert wait_gone(standby.pid)


def test_orphans_that_count_nothing_make_room_for_others(
    server: RealServer, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adopters, "STINT_SECONDS", 2.0)
    with Client(server.url, queue=queue, keys=[KEY], local=0) as client:
        stuck = orphans(client, MOST_LED, "time:sleep")
        for job in stuck:
            client.verbs.withdraw(job)  # no worker ever gets to them, as far as can be seen from here
        good = orphans(client, 3)
        stop = threading.Event()
        standby = Caller(lambda: client.stand_by(Silent(), stop))
        try:
            until(lambda: client.job_state(good[0]).master != "", 30, "a later one led")  # type: ignore[union-attr]
        finally:
            stop.set()
            standby.thread.join(15)
        assert not standby.thread.is_alive()
