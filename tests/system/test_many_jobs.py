"""Many jobs under one `mrq master`: few connections and threads, one wait for all, and no job that keeps another."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mapreduce_rq import Client, Limits
from mapreduce_rq.broker.keys import Keys
from mapreduce_rq.core.fleet.liveness import DEAD_AFTER
from mapreduce_rq.runtime.master.standby import POLL_SECONDS
from tests.support.commands import KEY, User
from tests.support.servers import RealServer
from tests.support.stage import allowed, until
from tests.support.terms import STAGE, gated_sum, total

GATED = "tests.support.terms:gated"
NOTED = "tests.support.terms:noted"
ONE_BY_ONE = Limits(chunk=1)


@pytest.fixture
def server() -> Iterator[RealServer]:
    with RealServer("valkey", aof=True) as running:
        yield running


@pytest.fixture
def client(server: RealServer, queue: str) -> Iterator[Client]:
    with Client(server.url, queue=queue, keys=[KEY], local=0) as made:
        yield made


@pytest.fixture
def at(server: RealServer, queue: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[User]:
    with User(tmp_path, MRQ_URL=server.url, MRQ_QUEUE=queue, MRQ_KEY=KEY) as made:
        monkeypatch.setenv(STAGE, str(made.stage.folder))  # masters in this process fold
        yield made


class Heard:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.notices: list[str] = []

    def progressed(self, report: object) -> None:
        """Not kept."""

    def noticed(self, text: str) -> None:
        self.notices.append(text)


@contextmanager
def leading(server: RealServer, queue: str, at_once: int = 32) -> Iterator[Heard]:
    """A master of many jobs in this process."""
    stop, heard = threading.Event(), Heard()

    def lead() -> None:
        with Client(server.url, queue=queue, keys=[KEY], local=0) as mine:
            mine.stand_by(heard, stop, at_once=at_once)

    thread = threading.Thread(target=lead)
    thread.start()
    try:
        yield heard
    finally:
        stop.set()
        thread.join(20)
        assert not thread.is_alive()


def led(client: Client, job: str) -> bool:
    state = client.job_state(job)
    return state is not None and state.running and state.master != ""


def test_sixty_jobs_that_last_need_few_connections_and_threads(at: User, client: Client, server: RealServer) -> None:
    at.stage.write("gated", "0")
    master = at.start("master", "-c", "64")
    master.hear("leading the jobs")
    jobs = [client.submit_function_detached(GATED, range(2), reduce="int_sum", limits=ONE_BY_ONE) for _ in range(60)]
    until(lambda: all(led(client, job.id) for job in jobs), 20, "all are led")
    time.sleep(1.5)  # each has needed its lease kept by now
    threads = len(list(Path(f"/proc/{master.pid}/task").iterdir()))
    with server.client() as raw:
        mine = [one for one in raw.client_list() if one["cmd"] in {"xread", "blmpop", "blmove", "evalsha", "exec"}]
    assert threads <= 4, threads
    assert len(mine) <= 8, mine
    at.start("worker", "-c", "2")
    at.stage.open()
    assert [job.result(60).native for job in jobs] == [total(2)] * 60


def test_a_job_more_is_heard_while_others_are_waited_for(at: User, client: Client) -> None:
    at.stage.write("gated", "0 1 2 3")
    at.start("worker", "-c", "2")
    at.start("master").hear("leading the jobs")
    long = client.submit_function_detached(GATED, range(2, 3), reduce="int_sum", limits=ONE_BY_ONE)
    until(lambda: led(client, long.id), 20, "it is led")
    for _ in range(3):
        began = time.monotonic()
        assert client.submit_function_detached(NOTED, range(5, 9), reduce="count").result(30).native == 4
        took = time.monotonic() - began
        time.sleep(0.7)  # now the master waits for nothing but the long one
    assert took < allowed(5), took
    at.stage.open()
    assert long.result(30).native


def test_a_merge_that_takes_long_keeps_no_other_job_waiting(
    at: User, client: Client, server: RealServer, queue: str
) -> None:
    at.start("worker", "-c", "2")
    with leading(server, queue):
        heavy = client.submit_function_detached(NOTED, range(6), reduce=gated_sum, zero=0, limits=ONE_BY_ONE)
        until(lambda: led(client, heavy.id), 20, "it is led")
        for k in range(5):
            job = client.submit_function_detached(NOTED, range(100 + k), reduce="count")
            assert job.result(10).native == 100 + k
        state = client.job_state(heavy.id)
        assert state is not None
        time.sleep(DEAD_AFTER / 2 * POLL_SECONDS / 2)
        later = client.job_state(heavy.id)
        assert later is not None
        assert later.token != state.token, "its lease is not kept"
        assert later.master == state.master
        (at.stage.folder / "merge").touch()
        assert heavy.result(30).native == total(6)
        again = client.submit_function_detached(NOTED, range(7), reduce="count")
        assert again.result(10).native == 7


def test_it_lets_go_of_all_at_once_when_told_to_stop(at: User, client: Client) -> None:
    at.stage.write("gated", "0")
    at.start("worker", "-c", "1")
    master = at.start("master")
    master.hear("leading the jobs")
    jobs = [client.submit_function_detached(GATED, range(3), reduce="int_sum", limits=ONE_BY_ONE) for _ in range(12)]
    until(lambda: all(led(client, job.id) for job in jobs), 20, "all are led")
    began = time.monotonic()
    master.signal(signal.SIGTERM)
    assert master.wait() == 0
    assert time.monotonic() - began < allowed(3)
    states = [client.job_state(job.id) for job in jobs]
    assert all(state is not None and state.running and state.master == "" for state in states)


def test_an_idle_one_asks_for_little_however_many_records_there_are(
    client: Client, server: RealServer, queue: str, at: User
) -> None:
    with server.client() as raw, leading(server, queue):
        worker = at.start("worker", "-c", "2")
        jobs = [client.submit_function_detached(NOTED, range(2), reduce="count") for _ in range(40)]
        for job in jobs:
            job.wait(30)
        worker.signal(signal.SIGTERM)
        worker.wait()
        time.sleep(2 * POLL_SECONDS)
        before = _commands(raw)
        time.sleep(6.0)
        asked = {name: count - before.get(name, 0) for name, count in _commands(raw).items()}
    asked = {name: count for name, count in asked.items() if count and name != "info"}
    assert asked.get("zrange", 0) <= 4, asked
    assert sum(asked.values()) <= 6, asked


def _commands(raw: object) -> dict[str, int]:
    found = raw.info("commandstats")  # type: ignore[attr-defined]
    return {name.removeprefix("cmdstat_"): row["calls"] for name, row in found.items()}


def test_a_restart_of_redis_is_told_once_and_every_job_goes_on(
    at: User, client: Client, server: RealServer, queue: str
) -> None:
    at.stage.write("gated", "0")
    at.start("worker", "-c", "2")
    with leading(server, queue) as heard:
        jobs = [client.submit_function_detached(GATED, range(9), reduce="int_sum", limits=ONE_BY_ONE) for _ in range(5)]
        until(lambda: all(led(client, job.id) for job in jobs), 20, "all are led")
        server.kill9()
        until(lambda: [text for text in heard.notices if "trying again" in text], 20, "it is told")
        time.sleep(1.0)
        server.start()
        until(lambda: [text for text in heard.notices if "Redis is back" in text], 30, "it is told")
        at.stage.open()
        with Client(server.url, queue=queue, keys=[KEY], local=0) as other:
            assert [other.job(job.id).result(60).native for job in jobs] == [total(9)] * 5
        told = "\n".join(heard.notices)
        assert told.count("trying again") == 1, told
        assert told.count("is back") == 1, told


def test_an_outage_in_which_others_took_all_its_jobs_is_told_to_its_end(
    at: User, server: RealServer, queue: str
) -> None:
    at.stage.write("gated", "0")
    at.start("worker", "-c", "1")
    with leading(server, queue) as heard, server.client() as raw:

        def told(what: str) -> int:
            return "\n".join(heard.notices).count(what)

        for outages in (1, 2):
            with Client(server.url, queue=queue, keys=[KEY], local=0) as client:
                job = client.submit_function_detached(GATED, range(2), reduce="int_sum", limits=ONE_BY_ONE).id
                until(lambda: led(client, job), 20, "it is led")  # noqa: B023  # called here
            with raw.pipeline() as both:  # while it is cut off, another leads its job
                both.hset(Keys(queue).job(job), mapping={"tok": "7:another:1", "master": "another"})
                both.client_kill_filter(_type="normal", skipme=True)
                both.execute()
            until(lambda: told("is back") == outages, 20, "it is told")  # noqa: B023  # called here
            assert told("trying again") == outages
            assert raw.hget(Keys(queue).job(job), "master") == b"another", "it is told before that one counts as dead"


def test_no_more_are_led_than_was_said_and_urgent_ones_beside_them(
    at: User, client: Client, server: RealServer, queue: str
) -> None:
    at.stage.write("gated", "0")
    at.start("worker", "-c", "1")
    jobs = [client.submit_function_detached(GATED, range(2), reduce="int_sum", limits=ONE_BY_ONE) for _ in range(6)]
    hurry = Limits(chunk=1, urgent=True)
    with leading(server, queue, at_once=2):
        until(lambda: sum(led(client, job.id) for job in jobs) == 2, 20, "two are led")
        began = time.monotonic()
        urgent = [client.submit_function_detached(GATED, range(2), reduce="int_sum", limits=hurry) for _ in range(3)]
        until(lambda: sum(led(client, job.id) for job in urgent) == 2, 20, "two urgent ones are led")
        assert time.monotonic() - began < allowed(5)  # the jobs that have the other places do not end
        time.sleep(1.0)
        assert [sum(led(client, job.id) for job in row) for row in (jobs, urgent)] == [2, 2]
        at.stage.open()
        assert [job.result(60).native for job in jobs] == [total(2)] * 6
        assert [job.result(60).native for job in urgent] == [total(2)] * 3
    with server.client() as raw:
        assert raw.llen(Keys(queue).unled) == raw.llen(Keys(queue).unled_urgent) == 0
        assert not list(raw.scan_iter(match=f"{Keys(queue).prefix}r:*"))
