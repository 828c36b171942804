"""map_reduce hands out the value when the job's end is on its way: that it comes there is seen to afterwards."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from mapreduce_rq import Client
from mapreduce_rq.broker.keys import Keys
from mapreduce_rq.broker.redis_wire import RedisWire
from mapreduce_rq.broker.wire import Heard
from mapreduce_rq.runtime.master import sweep
from tests.support.commands import KEY
from tests.support.servers import FreshServer, RealServer
from tests.support.stage import allowed

VALUE = math.fsum(map(math.sqrt, range(10)))


@pytest.fixture
def raw(server: RealServer) -> Iterator[redis.Redis]:
    """A plain client of the same server."""
    with server.client() as client:
        yield client


def states(raw: Any, queue: str) -> list[bytes]:
    """Of the queue's jobs, oldest first; those of one second in any order."""
    keys = Keys(queue)
    return [raw.hget(keys.job(job.decode()), "state") for job in raw.zrange(keys.jobs, 0, -1)]


def warm_up(mrq: Client) -> None:
    """Have the workers there: the end of a job that has waited for them for long is waited for, too."""
    assert mrq.map_reduce(math.sqrt, range(10)) == VALUE


def lose_ends(monkeypatch: pytest.MonkeyPatch, raw: redis.Redis, count: int) -> None:
    """So many ends are sent, and their connection dies before the server looks at them."""
    # Who has looked around awaits the end, and a busy machine gives time for that.
    monkeypatch.setattr(sweep, "FIRST_LOOK_SECONDS", 60.0)
    ask, left = RedisWire.ask, [count]

    def losing(self: RedisWire, *request: Any, heard: Heard | None = None, **more: Any) -> None:
        lost = heard is not None and left[0] > 0
        if lost:
            left[0] -= 1
            me = self.call("CLIENT", "ID")
            raw.execute_command("CLIENT PAUSE", 10_000, "WRITE")
        ask(self, *request, heard=heard, **more)
        if lost:
            raw.client_kill_filter(_id=me)
            raw.client_unpause()

    monkeypatch.setattr(RedisWire, "ask", losing)


def test_a_lost_end_is_made_good_by_the_next_call(
    server: RealServer, queue: str, raw: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Client(server.url, queue=queue, keys=[KEY], local=1) as mrq:
        warm_up(mrq)
        lose_ends(monkeypatch, raw, 1)
        assert mrq.map_reduce(math.sqrt, range(10)) == VALUE
        assert sorted(states(raw, queue)) == [b"done", b"running"]
        assert mrq.map_reduce(math.sqrt, range(10)) == VALUE
        assert states(raw, queue) == [b"done"] * 3  # of the last end the server's answer is under way
        assert mrq.map_reduce(math.sqrt, range(10)) == VALUE
    assert states(raw, queue) == [b"done"] * 4


def test_a_lost_end_is_made_good_by_close(
    server: RealServer, queue: str, raw: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    mrq = Client(server.url, queue=queue, keys=[KEY], local=1)
    warm_up(mrq)
    lose_ends(monkeypatch, raw, 1)
    assert mrq.map_reduce(math.sqrt, range(10)) == VALUE
    assert sorted(states(raw, queue)) == [b"done", b"running"]
    mrq.close()
    assert states(raw, queue) == [b"done"] * 2


def test_the_end_of_a_large_result_is_waited_for(
    server: RealServer, queue: str, raw: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Client(server.url, queue=queue, keys=[KEY], local=1) as mrq:
        lose_ends(monkeypatch, raw, 1)
        assert mrq.map_reduce(math.sqrt, range(20_000), reduce="list") == [math.sqrt(k) for k in range(20_000)]
        assert states(raw, queue) == [b"done"]


def test_close_waits_for_nobody_who_is_gone(
    fresh_server: FreshServer, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = fresh_server("valkey")
    mrq = Client(server.url, queue=queue, keys=[KEY], local=1)
    with server.client() as raw:
        lose_ends(monkeypatch, raw, 1)
        assert mrq.map_reduce(math.sqrt, range(10)) == VALUE
    server.stop()
    began = time.monotonic()
    mrq.close()
    assert time.monotonic() - began < allowed(5)


@pytest.mark.parametrize("command", ["SCRIPT FLUSH", "FLUSHALL", "CLIENT KILL TYPE normal"])
def test_what_befalls_the_server_between_two_calls_costs_neither(
    fresh_server: FreshServer, queue: str, command: str
) -> None:
    server = fresh_server("redis")
    with server.client() as raw, Client(server.url, queue=queue, keys=[KEY], local=1) as mrq:
        for _ in range(3):
            assert mrq.map_reduce(math.sqrt, range(10)) == VALUE
            raw.execute_command(*command.split())
            began = time.monotonic()
            assert mrq.map_reduce(math.sqrt, range(10)) == VALUE
            assert time.monotonic() - began < allowed(5)
    # after the end of the client
    with server.client() as raw:
        assert set(states(raw, queue)) == {b"done"}
