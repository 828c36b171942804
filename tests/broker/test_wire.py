"""A wire: answers in the order of the asking, and those that somebody wants to hear without waiting for them."""

from __future__ import annotations

import os
from typing import Any

import pytest
import redis

from mapreduce_rq.broker.connection import parse_url
from mapreduce_rq.broker.jobs import COMMIT
from mapreduce_rq.broker.keys import Keys
from mapreduce_rq.broker.packing import LARGE_BYTES
from mapreduce_rq.broker.redis_wire import RedisWire
from mapreduce_rq.errors import BrokerDown, BrokerError, ForeignKey
from tests.support.servers import RealServer


def scripted(keys: Keys, expect: str = "", token: str = "1:a:1") -> tuple[list[str], list[str | int]]:
    """Keys and arguments of a commit."""
    job = "job"
    what = "create" if not expect else "keep"
    return [
        keys.job(job),
        keys.replies(job),
        keys.queue,
        keys.jobs,
        keys.values(job),
        keys.bodies(job),
        keys.pieces(job),
    ], [
        expect,
        token,
        what,
        1000,
        job,
        0,
        0,
        0,
    ]


@pytest.fixture
def heard() -> list[Any]:
    return []


def test_a_command_behind_a_script_has_its_own_answer(wire: RedisWire, keys: Keys) -> None:
    for _ in range(2):  # the script is sent whole, then by its sum
        wire.ask(COMMIT, *scripted(keys), then=("ECHO", "behind"))
        assert wire.answer()[0] in {b"ok", b"lost"}
        assert wire.answer() == b"behind"
    assert wire.call("ECHO", "more") == b"more"


def test_what_is_heard_comes_before_the_next_answer(wire: RedisWire, keys: Keys, heard: list[Any]) -> None:
    wire.ask(COMMIT, *scripted(keys), heard=heard.append)
    assert heard == []
    assert wire.call("ECHO", "x") == b"x"
    assert [answer[0] for answer in heard] == [b"ok"]
    wire.ask(COMMIT, *scripted(keys), heard=heard.append)
    assert wire.pipeline([("ECHO", "x"), ("ECHO", "y")]) == [b"x", b"y"]
    assert [answer[0] for answer in heard] == [b"ok", b"lost"]
    wire.ask(COMMIT, *scripted(keys, "1:a:1", "1:a:2"), heard=heard.append)
    wire.ask(COMMIT, *scripted(keys, "1:a:2", "1:a:3"))
    assert wire.answer()[0] == b"ok"
    assert [answer[0] for answer in heard] == [b"ok", b"lost", b"ok"]
    wire.ask(COMMIT, *scripted(keys), heard=heard.append)
    wire.hear()
    wire.hear()
    assert len(heard) == 4


def test_who_wants_to_hear_hears_of_errors_too(wire: RedisWire, keys: Keys, raw: redis.Redis, heard: list[Any]) -> None:
    raw.set(keys.job("job"), "not ours")
    wire.ask(COMMIT, *scripted(keys), heard=heard.append)
    assert wire.call("ECHO", "x") == b"x"
    wire.ask(COMMIT, *scripted(keys), heard=heard.append)
    wire.close()
    assert isinstance(heard[0], ForeignKey)
    assert isinstance(heard[1], BrokerDown)
    with pytest.raises(BrokerDown):
        wire.hear()


def test_a_connection_that_dies_tells_who_waits_to_hear(
    wire: RedisWire, keys: Keys, raw: redis.Redis, heard: list[Any]
) -> None:
    me = wire.call("CLIENT", "ID")
    raw.execute_command("CLIENT PAUSE", 10_000, "WRITE")
    wire.ask(COMMIT, *scripted(keys), heard=heard.append)
    raw.client_kill_filter(_id=me)
    raw.client_unpause()
    with pytest.raises(BrokerDown):
        wire.call("ECHO", "x")
    assert isinstance(heard[0], BrokerDown)


def test_an_error_of_the_script_leaves_nobody_with_the_answer_of_another(
    wire: RedisWire, keys: Keys, raw: redis.Redis
) -> None:
    raw.set(keys.job("job"), "not ours")
    wire.ask(COMMIT, *scripted(keys), then=("ECHO", "behind"))
    with pytest.raises(ForeignKey):
        wire.answer()
    with pytest.raises(BrokerDown):  # the other answer was left
        wire.call("ECHO", "x")
    wire.connect()
    assert wire.call("ECHO", "x") == b"x"


def test_forgotten_scripts_are_sent_whole_again(
    wire: RedisWire, keys: Keys, raw: redis.Redis, heard: list[Any]
) -> None:
    wire.script(COMMIT, *scripted(keys))
    raw.script_flush()
    assert wire.script(COMMIT, *scripted(keys, "1:a:1", "1:a:2"))[0] == b"ok"
    raw.script_flush()
    wire.ask(COMMIT, *scripted(keys), heard=heard.append)
    wire.hear()
    assert isinstance(heard[0], BrokerError)
    wire.ask(COMMIT, *scripted(keys), then=("ECHO", "behind"))
    with pytest.raises(BrokerDown, match="forgotten"):
        wire.answer()
    wire.connect()
    wire.ask(COMMIT, *scripted(keys), then=("ECHO", "behind"))
    assert wire.answer()[0] == b"lost"
    assert wire.answer() == b"behind"


def test_in_a_forked_child_a_wire_is_not_connected_and_writes_nothing(server: RealServer) -> None:
    wire = RedisWire(parse_url(server.url))
    wire.connect()
    number = wire.call("CLIENT", "ID")
    wire.ask_call("ECHO", "whose answer is it")
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            wire.call("SET", "by", "a child")
        except BrokerDown as error:
            code = 0 if "not connected" in str(error) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert wire.answer() == b"whose answer is it"
    assert wire.call("CLIENT", "ID") == number
    wire.close()


@pytest.mark.parametrize("sizes", [[LARGE_BYTES], [5, LARGE_BYTES - 1, LARGE_BYTES], [3 << 20, 0, 3 << 20, 1]])
def test_large_arguments_arrive_as_they_are(wire: RedisWire, keys: Keys, raw: redis.Redis, sizes: list[int]) -> None:
    name = keys.job("large")
    words = [bytes([65 + at]) * size for at, size in enumerate(sizes)]
    assert wire.call("RPUSH", name, *words) == len(words)
    answers = wire.pipeline([("ECHO", "x"), *(("RPUSH", name, word, 7) for word in words), ("ECHO", "y")])
    assert answers == [b"x", *range(len(words) + 2, 3 * len(words) + 1, 2), b"y"]
    wire.ask_call("ECHO", words[-1])
    assert wire.answer() == words[-1]
    assert raw.lrange(name, 0, -1) == words + [one for word in words for one in (word, b"7")]
