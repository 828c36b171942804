"""A master keeps its job while it computes for long: a real thread, and a real server."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from mapreduce_rq.broker.connection import parse_url
from mapreduce_rq.broker.jobs import Jobs
from mapreduce_rq.broker.keys import Keys
from mapreduce_rq.broker.redis_wire import RedisWire
from mapreduce_rq.core.sealing import Codecs
from mapreduce_rq.runtime.master import lease_keeper as keeping
from mapreduce_rq.runtime.master.lease import Lease, LeaseLost, Load
from mapreduce_rq.runtime.master.lease_keeper import Keeper
from tests.support.servers import RealServer
from tests.support.stage import until


@pytest.fixture
def lease(jobs: Jobs) -> Lease:
    """The hold on a job."""
    made = Lease(jobs, "job", "a")
    made.commit(expect="", what="create", fields=[("state", "running")])
    return made


@pytest.fixture
def keeper(lease: Lease, jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> Iterator[Keeper]:
    monkeypatch.setattr(keeping, "TEND_SECONDS", 0.01)
    made = Keeper(lease, jobs)
    made.start()
    yield made
    made.close()


def wait_for_another(jobs: Jobs, token: str) -> str:
    """The token that follows one. Fails after ten seconds."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        if (found := jobs.token("job").token) != token:
            return found
    pytest.fail(f"{token} stays")


def test_the_token_changes_while_the_master_computes_and_is_its_own_after(
    keeper: Keeper, lease: Lease, jobs: Jobs
) -> None:
    with keeper:
        first = wait_for_another(jobs, lease.token)
        second = wait_for_another(jobs, first)
        assert lease.owns(second)
    lease.commit()
    assert jobs.token("job").token == lease.token


def test_a_keeper_whose_server_hung_up_connects_again(
    keeper: Keeper, lease: Lease, jobs: Jobs, raw: redis.Redis
) -> None:
    with keeper:
        token = wait_for_another(jobs, lease.token)
        raw.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        jobs.wire.connect()
        assert lease.owns(wait_for_another(jobs, token))


def test_another_masters_token_stays(keeper: Keeper, lease: Lease, jobs: Jobs, raw: redis.Redis, keys: Keys) -> None:
    with keeper:
        wait_for_another(jobs, lease.token)
        raw.hset(keys.job("job"), "tok", "2:b:1")
        keeper.tend()
        keeper.tend()
    assert jobs.token("job").token == "2:b:1"
    with pytest.raises(LeaseLost):
        lease.commit()


def test_a_master_that_does_not_compute_has_to_keep_its_job_itself(keeper: Keeper, lease: Lease, jobs: Jobs) -> None:
    for _ in range(5):
        keeper.tend()
    assert jobs.token("job").token == lease.token == "1:a:1"


class Slow(RedisWire):
    """What it asks with a script arrives only when the answer is read."""

    def ask(self, *words: Any, **how: Any) -> None:
        self.asked = words, how

    def answer(self) -> Any:
        words, how = self.asked
        super().ask(*words, **how)
        return super().answer()


def test_a_push_on_its_way_is_left_alone(server: RealServer, keys: Keys, codecs: Codecs, jobs: Jobs) -> None:
    wire = Slow(parse_url(server.url))
    wire.connect()
    slow = Lease(Jobs(wire, keys, codecs), "job", "a")
    slow.commit(expect="", what="create", fields=[("state", "running")])
    keeper = Keeper(slow, jobs)
    with keeper:  # the master computes while its push travels, and for longer than between two looks
        slow.push(Load([b"task"]))
        for _ in range(3):
            keeper.tend()
        assert slow.pushed().waiting == 1
        before = slow.token
        for _ in range(2):
            keeper.tend()
        assert slow.token != before
    keeper.close()
    wire.close()


def test_a_keeper_has_one_thread_and_one_connection_and_leaves_neither(
    keeper: Keeper, lease: Lease, jobs: Jobs, raw: redis.Redis
) -> None:
    """However often it is started, and whatever it did."""

    def connections() -> set[str]:
        return {client["id"] for client in raw.client_list()} - before

    def threads() -> int:
        return sum(thread.name == "mrq keeper" for thread in threading.enumerate())

    before = {client["id"] for client in raw.client_list()}
    others = threads() - 1
    keeper.start()
    assert threads() == others + 1
    with keeper:
        token = wait_for_another(jobs, lease.token)
        first = connections()
        assert len(first) == 1
        wait_for_another(jobs, wait_for_another(jobs, token))
        assert connections() == first
    keeper.close()
    until(lambda: not connections(), 10, "its connection is closed")
    until(lambda: threads() == others, 10, "its thread ends")
    keeper.start()
    assert threads() == others


def test_it_opens_no_stream_and_lists_nothing(jobs: Jobs, lease: Lease, raw: redis.Redis, keys: Keys) -> None:
    raw.delete(keys.replies("job"), keys.jobs)
    lease.keep(jobs)
    assert jobs.token("job").token == lease.token == "1:a:2"
    assert not raw.exists(keys.replies("job"), keys.jobs)
    assert lease.commit().reopened
