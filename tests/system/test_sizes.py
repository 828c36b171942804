"""What does not fit through Redis fails with its size, the limit and a remedy; nothing is tried for ever."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mapreduce_rq import Client, JobFailed, Limits, TooLarge
from mapreduce_rq.broker.connection import parse_url
from mapreduce_rq.broker.keys import Keys
from mapreduce_rq.broker.redis_wire import LARGE_LOSSES, RedisWire
from mapreduce_rq.broker.tasks import REAP
from mapreduce_rq.broker.wire import SPARE_BYTES, USUAL_BYTES
from mapreduce_rq.errors import BrokerDown, BrokerError
from mapreduce_rq.runtime.master import checkpoints
from mapreduce_rq.runtime.master.ended import Ended
from mapreduce_rq.runtime.master.fields import Fields
from tests.support.commands import mrq
from tests.support.servers import FLAVOURS, RealServer, need_server
from tests.support.terms import total

KEY = "6b" * 32
MB = 1 << 20
BIG = 2_000_000
OVER = Limits().max_body + 1


@pytest.fixture(scope="module", params=FLAVOURS)
def server(request: pytest.FixtureRequest) -> Iterator[RealServer]:
    """One that takes a megabyte at once; whoever may not ask for that is `blind`."""
    need_server(request.param)
    with RealServer(request.param, proto_max_bulk_len="1mb", tcp=True) as running, running.client() as raw:
        raw.execute_command("ACL", "SETUSER", "blind", "on", ">secret", "~*", "&*", "+@all", "-config")
        yield running


@pytest.fixture(params=["told", "untold"])
def client(request: pytest.FixtureRequest, server: RealServer, queue: str) -> Iterator[Client]:
    url = server.url if request.param == "told" else f"redis://blind:secret@127.0.0.1:{server.port}/0"
    with Client(url, queue=queue, keys=[KEY], local=2, allow_pickle=True) as made:
        workers = pids(made)
        yield made
        # Whatever was too large, no worker has died of it, and all of them are there for the next job.
        assert pids(made) == workers
        assert made.map_reduce("tests.support.terms:fingerprint", range(100), reduce="int_sum") == total(100)
        assert made.snapshot().waiting == 0


@pytest.fixture
def plain_server() -> Iterator[Client]:
    with RealServer(FLAVOURS[0]) as running, Client(running.url, keys=[KEY], local=2, allow_pickle=True) as made:
        yield made


def pids(client: Client) -> set[str]:
    deadline = time.monotonic() + 20
    while len(found := {worker.wid for worker in client.snapshot().workers if worker.beat}) < 2:
        assert time.monotonic() < deadline, "two workers"
        time.sleep(0.01)
    return found


def test_a_function_that_carries_too_much_queues_nothing(client: Client) -> None:
    load = bytes(BIG)
    with pytest.raises(TooLarge, match=r"the function with what it carries has 2,00\d,\d{3} bytes, and [\d,]+ is the"):
        client.map_reduce(lambda _: len(load), range(3), reduce="int_sum")
    assert client.snapshot().waiting == 0


def test_a_function_that_no_reader_takes_queues_nothing(client: Client) -> None:
    load = bytes(34_000_000)
    with pytest.raises(
        TooLarge, match=r"carries has 34,00\d,\d{3} bytes, and 33,554,432 is the most: have workers read"
    ):
        client.map_reduce(lambda _: len(load), range(3), reduce="int_sum")
    assert client.verbs.listed() == []


@pytest.mark.parametrize("before", [0, 50])
def test_an_item_that_does_not_fit_is_named(client: Client, before: int) -> None:
    items = [b"x"] * before + [bytes(BIG)] + [b"y"] * 50
    message = rf"item {before} has 2,000,\d{{3}} bytes, and [\d,]+ is the most: cut it up, or pass where workers"
    with pytest.raises((TooLarge, JobFailed), match=message):
        client.map_reduce(len, items, reduce="int_sum")


def test_what_does_not_fit_is_the_same_error_at_each_door(client: Client) -> None:
    """At imap, pool and executor it was a RemoteError."""
    items = [b"x", bytes(BIG), b"y"]
    with client.pool() as pool, client.executor() as executor:
        doors: list[Callable[[], object]] = [
            lambda: list(client.imap(len, items)),
            lambda: pool.map(len, items),
            lambda: pool.apply(len, (bytes(BIG),)),
            lambda: executor.submit(len, bytes(BIG)).result(),
            lambda: list(executor.map(len, items)),
            lambda: list(client.imap(bytes, [1, BIG])),
            lambda: pool.map(bytes, [1, BIG]),
            lambda: executor.submit(bytes, BIG).result(),
        ]
        for door in doors:
            with pytest.raises(TooLarge, match=r"has 2,000,\d{3} bytes, and [\d,]+ is the most: ") as caught:
                door()
            assert caught.value.limit < caught.value.size
    with pytest.raises(JobFailed) as failed:
        client.map_reduce(len, [b"x"] * 50 + items, reduce="int_sum")
    assert type(failed.value.__cause__) is TooLarge


def test_an_item_that_does_not_fit_may_be_left_out(client: Client) -> None:
    items = [b"x"] * 5 + [bytes(BIG)] + [b"yy"] * 5
    found = client.submit_function(len, items, reduce="int_sum", limits=Limits(on_error="skip")).result(60)
    assert (found.native, [one["term"] for one in found.skipped]) == (15, [5])
    assert [one["kind"] for one in found.skipped] == ["TooLarge"]


def test_items_that_fit_travel_however_many_they_are(client: Client) -> None:
    assert client.map_reduce(len, (bytes(1000) for _ in range(8000)), reduce="int_sum") == 8_000_000
    assert client.map_reduce(len, (bytes(400_000) for _ in range(12)), reduce="int_sum") == 4_800_000
    near = MB - 2 * SPARE_BYTES
    assert client.map_reduce(len, [bytes(near)] * 3, reduce="int_sum") == 3 * near


@pytest.mark.parametrize("before", [0, 50])
def test_an_answer_that_does_not_fit_fails_its_term(client: Client, before: int) -> None:
    with pytest.raises(
        JobFailed, match=rf"failed at term {before} on \S+: TooLarge: the partial has 2,000,\d{{3}} bytes, and"
    ):
        client.map_reduce(bytes, [1000] * before + [BIG] + [10] * 50, reduce="concat")


def test_answers_that_fit_travel_however_many_they_are(client: Client) -> None:
    assert len(client.map_reduce(bytes, [30_000] * 300, reduce="concat")) == 9_000_000
    values = client.map_reduce(lambda _: bytes(300_000), range(20), reduce="list")
    assert [len(value) for value in values] == [300_000] * 20


def test_an_answer_over_the_limit_of_the_job_names_that(client: Client) -> None:
    with pytest.raises(JobFailed, match=r"the partial has [\d,]+ bytes, and 100,000 is the most: .*max_body"):
        client.map_reduce(bytes, [200_000], reduce="concat", limits=Limits(max_body=100_000))


def test_a_private_server_lays_aside_what_is_over_the_limit() -> None:
    with Client(local=2) as private, private.executor() as executor, private.pool() as pool:
        assert len(executor.submit(bytes, OVER).result()) == OVER
        assert len(pool.apply(bytes, (OVER,))) == OVER
        assert len(next(private.imap(bytes, [OVER]))) == OVER
        (value,) = private.map_reduce(bytes, [OVER], reduce="list")
        assert len(value) == OVER
        with pytest.raises(JobFailed, match=r"the partial has 5,0.. bytes, and 4,000 is the most"):
            private.map_reduce(bytes, [5000], reduce="concat", limits=Limits(max_body=4000))


def test_on_a_shared_server_calls_return_all_that_redis_takes(plain_server: Client) -> None:
    with plain_server.executor() as executor, plain_server.pool() as pool:
        assert len(executor.submit(bytes, OVER).result()) == OVER
        assert len(pool.apply(bytes, (OVER,))) == OVER
        assert len(next(pool.imap(bytes, [OVER]))) == OVER
        assert len(next(plain_server.imap(bytes, [OVER]))) == OVER
    with pytest.raises(TooLarge, match=r"and 100,000 is the most"):
        next(plain_server.imap(bytes, [200_000], limits=Limits(max_body=100_000)))
    with pytest.raises(JobFailed, match=r"67,108,864 is the most: .*max_body \(512 MiB at most\)"):
        plain_server.map_reduce(bytes, [OVER], reduce="concat")


def test_values_that_come_one_by_one(client: Client) -> None:
    values: Any = client.imap(len, [b"x", bytes(BIG), b"yy"])
    assert next(values) == 1
    with pytest.raises(Exception, match=r"item 1 has 2,000,\d{3} bytes"):
        next(values)
    assert list(values) == [2]
    values = client.imap(bytes, [5, BIG, 6])
    assert next(values) == bytes(5)
    with pytest.raises(Exception, match=r"the partial has 2,000,\d{3} bytes"):
        next(values)
    assert list(values) == [bytes(6)]


def entry(term: int) -> dict[int, bytes]:
    time.sleep(0.01)
    return {term: bytes(10_000)}


def entry_once_there_is(path: Path, term: int) -> dict[int, bytes]:
    """The second half of the terms waits for this file."""
    while term >= 500 and not path.exists():
        time.sleep(0.01)
    return entry(term)


def both(left: dict[int, bytes], right: dict[int, bytes]) -> dict[int, bytes]:
    return left | right


def test_what_is_counted_may_outgrow_redis_where_its_caller_alone_wants_it(
    client: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given_up = 0
    seen = tmp_path / "given up"
    made = Fields.checkpoint_that_fits

    def counted(*arguments: Any, **named: Any) -> bytes | None:
        nonlocal given_up
        checkpoint = made(*arguments, **named)
        if checkpoint is None and arguments[1].counted < 1000:  # those at the end aside
            given_up += 1
            seen.touch()
        return checkpoint

    monkeypatch.setattr(Fields, "checkpoint_that_fits", counted)
    monkeypatch.setattr(checkpoints, "CHECKPOINT_SHARE", 0)  # one after 32 tasks, however long the last one took
    # Without an end to it, a checkpoint of megabytes would be made each second, to be thrown away.
    made_when = partial(entry_once_there_is, seen)
    assert len(client.map_reduce(made_when, range(1000), reduce=both, zero={}, limits=Limits(chunk=1))) == 1000
    assert given_up == 1


def test_what_is_counted_and_must_stand_in_redis_ends_the_job(client: Client) -> None:
    job = client.submit_function(entry, range(5000), reduce=both, zero={})
    with pytest.raises(
        JobFailed, match=r"TooLarge: what is counted by now has [\d,]+ bytes, and [\d,]+ is the most: fold to"
    ):
        job.result(60)


def digits(_: int) -> int:
    return 10**1_500_000


def test_a_value_that_fits_no_record_is_made_of_what_is_counted(client: Client) -> None:
    job = client.submit_function(digits, range(2), reduce="int_sum")
    assert job.result(60).native == 2 * 10**1_500_000
    state = client.job_state(job.id)
    assert state is not None
    assert state.record is not None
    assert client.result_of(Ended(state.record, None)).native == 2 * 10**1_500_000


def test_a_private_server_has_larger_items_and_values_laid_aside() -> None:
    with Client("", local=1) as client:
        client.verbs.wire.call("CONFIG", "SET", "proto-max-bulk-len", "1mb")
        assert client.map_reduce(len, [bytes(BIG)], reduce="int_sum") == BIG
        assert len(client.map_reduce(bytes, [BIG], reduce="concat")) == BIG


# -- the wire ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("setting", "limit"), [("proto-max-bulk-len", 2 * MB), ("client-query-buffer-limit", 3 * MB)])
def test_a_wire_knows_what_its_server_takes(server: RealServer, setting: str, limit: int) -> None:
    wire = RedisWire(parse_url(server.url))
    wire.connect()
    with server.client() as raw:
        before = raw.config_get("proto-max-bulk-len", "client-query-buffer-limit")
        try:
            raw.config_set("proto-max-bulk-len", 512 * MB)
            raw.config_set(setting, limit)
            wire.connect()
            assert wire.limit() == limit
            assert wire.call("ECHO", bytes(limit - 64)) == bytes(limit - 64)
            with pytest.raises(TooLarge) as caught:
                wire.call("ECHO", bytes(limit + 1))
            assert (caught.value.size, caught.value.limit) == (limit + 1, limit)
            assert wire.call("ECHO", b"it is connected still") == b"it is connected still"
            with pytest.raises(TooLarge):
                wire.pipeline([("ECHO", b"not sent"), ("ECHO", bytes(limit + 1))])
            with pytest.raises(TooLarge):
                wire.transaction([("ECHO", bytes(limit + 1))])
            assert wire.call("ECHO", b"nor is an answer on its way") == b"nor is an answer on its way"
        finally:
            for name, value in before.items():
                raw.config_set(name, value)
    wire.close()


def test_a_wire_to_a_server_that_does_not_tell_learns_it(server: RealServer) -> None:
    wire = RedisWire(parse_url(f"unix://blind:secret@{server.socket}"))
    wire.connect()
    assert wire.limit() == USUAL_BYTES
    for _ in range(LARGE_LOSSES):
        wire.connect()
        with pytest.raises(BrokerError) as caught:
            wire.call("ECHO", bytes(BIG))
        assert type(caught.value) is BrokerDown
    wire.connect()
    with pytest.raises(TooLarge):
        wire.call("ECHO", bytes(BIG))
    assert wire.call("ECHO", bytes(MB // 2)) == bytes(MB // 2)
    wire.close()


def test_a_task_of_the_largest_size_can_be_given_back(server: RealServer, queue: str) -> None:
    """What commit.lua has let through grows by the reason of a death on its way back."""
    keys = Keys(queue)
    wire = RedisWire(parse_url(server.url))
    wire.connect()
    largest = bytes(MB - SPARE_BYTES)
    with server.client() as raw:
        raw.lpush(keys.in_flight("w"), largest)
    arguments: list[str | bytes | int] = [
        "w",
        "",
        largest,
        largest + b"killed by SIGKILL (a name of 64 letters on such a host)",
    ]
    assert wire.script(REAP, [keys.in_flight("w"), keys.queue, keys.workers], arguments) == 1
    wire.call("DEL", keys.queue)
    wire.close()


def test_a_workers_name_has_a_size() -> None:
    ran = mrq("worker", "-u", "redis://localhost:1", "--name", "x" * 201)
    assert (ran.code, ran.out) == (2, "")
    assert "--name: 201 characters; it stands in each sign of life: 200 at most" in ran.err


def test_the_error_travels() -> None:
    error = TooLarge("item 3", 7, 5, "cut it up")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.size, again.limit) == (str(error), 7, 5)
    assert str(error) == "item 3 has 7 bytes, and 5 is the most: cut it up"
