"""A watch waits for a task and takes none, on a server of each flavour and on that of the simulation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache

import pytest

from mapreduce_rq.broker.connection import parse_url
from mapreduce_rq.broker.keys import Keys
from mapreduce_rq.broker.redis_wire import RedisWire
from mapreduce_rq.broker.tasks import Tasks
from mapreduce_rq.core.sealing import Codecs
from mapreduce_rq.runtime.polling import answered
from tests.broker.grounds import Ground, Looks, Simulated, on_server
from tests.support.servers import RealServer, need_server

WID = "host:1:w"


@pytest.fixture(scope="module")
def a_server() -> Iterator[Callable[[str], RealServer]]:
    """The server of a flavour, started when it is first asked for."""
    with ExitStack() as running:

        @cache
        def of(flavour: str) -> RealServer:
            need_server(flavour)
            return running.enter_context(RealServer(flavour))

        yield of


@pytest.fixture(params=["valkey", "redis", "the simulation"])
def ground(request: pytest.FixtureRequest, a_server: Callable[[str], RealServer]) -> Iterator[Ground]:
    """What carries the verbs: workers over pipes have one queue, and need no watch."""
    if request.param == "the simulation":
        yield Simulated()
    else:
        with on_server(a_server(request.param)) as served:
            yield served


@pytest.fixture
def raw(ground: Ground) -> Looks:
    """To look, and to put things there."""
    return Looks(ground.wire("master"))


def a_worker(ground: Ground, keys: Keys, codecs: Codecs) -> Tasks:
    return Tasks(ground.wire("worker"), keys, codecs)


def test_a_watch_ends_at_once_where_a_task_waits_and_leaves_all_as_it_was(
    ground: Ground, keys: Keys, codecs: Codecs, raw: Looks
) -> None:
    raw.lpush(keys.queue, b"t0", b"t1", b"t2")
    tasks = a_worker(ground, keys, codecs)
    tasks.ask_to_watch(10.0)
    assert tasks.watched()
    assert raw.lrange(keys.queue) == [b"t2", b"t1", b"t0"]
    assert tasks.take(WID, 0.0) == b"t0"


def test_a_watch_ends_with_its_time(ground: Ground, keys: Keys, codecs: Codecs, raw: Looks) -> None:
    tasks = a_worker(ground, keys, codecs)
    tasks.ask_to_watch(0.05)
    assert not tasks.watched()
    assert not raw.exists(keys.queue)


def test_one_task_ends_all_watches_and_comes_to_one_hand(
    ground: Ground, keys: Keys, codecs: Codecs, raw: Looks
) -> None:
    watchers = [a_worker(ground, keys, codecs) for _ in range(3)]
    for one in watchers:
        one.ask_to_watch(10.0)
    raw.lpush(keys.queue, b"t0")
    assert [one.watched() for one in watchers] == [True] * 3
    taken = [one.take(f"w{at}", 0.0) for at, one in enumerate(watchers)]
    assert taken == [b"t0", None, None]


def test_a_watch_keeps_no_task_from_who_takes(ground: Ground, keys: Keys, codecs: Codecs, raw: Looks) -> None:
    watcher, taker = a_worker(ground, keys, codecs), a_worker(ground, keys, codecs)
    watcher.ask_to_watch(10.0)
    ground.until_blocked(1)  # who waits first is served first; a watch that comes second has nothing to see
    taken: list[bytes | None] = []
    ground.together(lambda: taken.append(taker.take(WID, 10.0)), lambda: raw.lpush(keys.queue, b"t0"))
    assert taken == [b"t0"]
    assert watcher.watched()
    assert not raw.exists(keys.queue)


def test_several_watches_are_waited_for_in_one_call(server: RealServer, queue: str, codecs: Codecs) -> None:
    both = [Tasks(RedisWire(parse_url(server.url)), Keys(f"{queue}-{name}"), codecs) for name in "ab"]
    for tasks in both:
        tasks.wire.connect()
        tasks.ask_to_watch(10.0)
    wires = [tasks.wire for tasks in both]
    assert answered(wires, 0.0) == []
    with server.client() as client:
        client.lpush(both[1].keys.queue, b"t0")
        assert answered(wires, 10.0) == [wires[1]]
        assert both[1].watched()
        client.lpush(both[0].keys.queue, b"t0")
        assert answered(wires[:1], 10.0) == wires[:1]
        client.delete(*(tasks.keys.queue for tasks in both))
    for tasks in both:
        tasks.wire.close()
