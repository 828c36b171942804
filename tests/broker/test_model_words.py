"""Words that no caller should send: what a server refuses, the model of the simulation does not take.

So a script or a verb that comes to send such words fails in the simulation, too. The model may refuse more: what the
broker never uses.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from mapreduce_rq.broker.connection import parse_url
from mapreduce_rq.broker.redis_wire import RedisWire
from mapreduce_rq.broker.wire import Command
from mapreduce_rq.errors import BrokerError
from tests.broker.test_model import ModelWire
from tests.sim.model import Flavour
from tests.support.servers import FLAVOURS, FreshServer

NUMBERS = [
    "0", "1", "-1", "-0", "+1", "01", "-01", " 1", "1 ", "1\n", "1\0", "1_0", "1.0", "1e2", "0x10", "", "nan", "inf",
    "\u0661", "9223372036854775807", "-9223372036854775808", "9223372036854775808", "99999999999999999999",
]  # fmt: skip
IDS = [
    "0", "1", "1-1", "1-", "-1", "-", "+", "*", "$", "1-1-1", "01-01", "-01", " 1", "+1", "1_0", "x", "", "1-*",
    "1 -1", "18446744073709551615", "18446744073709551616", "18446744073709551615-18446744073709551615",
]  # fmt: skip
WITH_A_NUMBER = [
    "RPOP l #", "LPOP l #", "RPOP none #", "LPOP none #", "RPOP h #", "LRANGE l # -1", "LRANGE l 0 #",
    "LRANGE none # 1", "LTRIM l # -1", "LTRIM l 0 #", "LTRIM none # 1", "LREM l # a", "LREM none # a", "LREM h # a",
    "EXPIRE l #", "EXPIRE none #", "ZADD z # m", "ZRANGE z # -1", "ZRANGE z 0 #", "XADD s MAXLEN = # * a b",
    "XREAD COUNT # STREAMS s 0", "XREAD BLOCK # STREAMS s 0", "BLMOVE l l2 LEFT LEFT #", "BLMPOP # 1 l RIGHT COUNT 1",
    "BLMPOP 1 # l RIGHT COUNT 1", "BLMPOP 1 1 l RIGHT COUNT #", "HSET h # #", "LPUSH l #",
]  # fmt: skip
WITH_AN_ID = [
    "XTRIM s MINID = #", "XTRIM none MINID = #", "XTRIM h MINID = #", "XREAD STREAMS s #", "XREAD STREAMS none #",
    "XREAD STREAMS h #",
]  # fmt: skip
ODD = [
    "HSET h a", "HSET h a b c", "HSET l a b c", "ZADD z 1", "ZADD z 1 a 2", "ZADD z NX a", "XADD s * a",
    "XADD s * a b c", "XADD s NOMKSTREAM * a", "XADD h * a b", "LMOVE l l2 UP RIGHT", "LMOVE l l2 LEFT DOWN",
    "LMOVE none h LEFT LEFT", "LMOVE l h LEFT LEFT", "BLMOVE l h LEFT LEFT 1", "LPOP l 1 2", "RPOP l 1 2",
    "RENAME l l", "RENAME none none", "RENAME old l", "DEL l l", "UNLINK l h l", "EXISTS l l", "HDEL h f f",
    "HDEL l f", "HMGET h f f", "XLEN h", "HLEN l", "HSTRLEN h none", "HSTRLEN l f", "TTL l", "TTL old", "TYPE none",
    "ZREM l one", "ZADD l 1 a", "LLEN s", "XTRIM l MINID = 1",
]  # fmt: skip
COMMANDS = [
    *(f"{one}\t{number}" for one in WITH_A_NUMBER for number in NUMBERS),
    *(f"{one}\t{name}" for one in WITH_AN_ID for name in IDS),
    *ODD,
]


def command_of(text: str) -> Command:
    """The words of a line, with what is behind the tab for each ``#``."""
    line, _, hostile = text.partition("\t")
    return tuple(hostile if word == "#" else word for word in line.split(" "))


def outcome(wire: Any, command: Command) -> tuple[Any, Any]:
    """The answer, None for a refusal, and all data after it."""
    wire.call("DEL", "l", "l2", "h", "z", "s", "none", "old")
    wire.call("RPUSH", "l", "a", "b", "c", "a")
    wire.call("HSET", "h", "f", "v")
    wire.call("ZADD", "z", 1, "one", 2, "two")
    wire.call("XADD", "s", "*", "a", "1")
    wire.call("RPUSH", "old", "x")
    wire.call("EXPIRE", "old", 1000)
    try:
        answer = (wire.call(*command),)
    except BrokerError:
        answer = None
    keys = ("l", "l2", "h", "z", "s", "none", "old")
    reads = {b"list": ("LRANGE", 0, -1), b"hash": ("HGETALL",), b"zset": ("ZRANGE", 0, -1), b"stream": ("XLEN",)}
    kinds = {key: wire.call("TYPE", key) for key in keys}
    data = [
        (kind, wire.call(reads[kind][0], key, *reads[kind][1:])) if kind in reads else kind
        for key, kind in kinds.items()
    ]
    return answer, data


def without_ids(command: Command, answer: Any) -> Any:
    """Ids of entries come from clocks."""
    if answer is None or command[0] not in {"XADD", "XREAD"} or answer == (None,):
        return answer
    return "entries"


@pytest.fixture(params=FLAVOURS)
def real(request: pytest.FixtureRequest, fresh_server: FreshServer) -> Iterator[RedisWire]:
    flavour: Flavour = request.param
    wire = RedisWire(parse_url(fresh_server(flavour).url))
    wire.connect()
    yield wire
    wire.close()


def test_what_a_server_refuses_the_model_does_not_take(real: RedisWire) -> None:
    model = ModelWire("valkey")
    compared = 0
    for text in COMMANDS:
        command = command_of(text)
        (answer, data), (found, left) = outcome(real, command), outcome(model, command)
        if found is None and answer is not None:
            continue  # the model refuses more
        assert without_ids(command, found) == without_ids(command, answer), command
        assert left == data, command
        compared += 1
    assert compared > 0.9 * len(COMMANDS)
