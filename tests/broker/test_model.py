"""The model of the simulation is a Redis: the same answers and the same data, step by step, as real servers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any
from unittest.mock import patch

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from mapreduce_rq.broker.connection import parse_url
from mapreduce_rq.broker.jobs import COMMIT
from mapreduce_rq.broker.redis_wire import RedisWire
from mapreduce_rq.broker.refusals import translate
from mapreduce_rq.broker.tasks import LAY, REAP, SETTLE
from mapreduce_rq.broker.wire import Argument, Command, Script
from mapreduce_rq.errors import BrokerError, BrokerFull
from tests.sim import commands, scripts
from tests.sim.model import Flavour, Model
from tests.sim.network import ENDPOINT
from tests.sim.store import Refusal, SortedSet, Stream, id_text
from tests.support.servers import FLAVOURS, IN_CI, FreshServer, RealServer

EXAMPLES = 125 if IN_CI else 40
STEPS = 40  # in CI ten thousand in all

LISTS, HASHES, STREAMS, SETS = ["l1", "l2"], ["h1", "h2"], ["s1", "s2"], ["z1"]
KEYS = [*LISTS, *HASHES, *STREAMS, *SETS, "bodies", "pieces"]
WORDS = [b"", b"a", b"b", b"c", b"\xff\x00"]

word = st.sampled_from(WORDS)
words = st.lists(word, min_size=1, max_size=4)
number = st.integers(-5, 5)


def a_key(kinds: list[str]) -> st.SearchStrategy[str]:
    """Nearly always a key of the right type."""
    return st.sampled_from([*kinds * 6, *KEYS])


def command(*parts: Any) -> st.SearchStrategy[Command]:
    """A command of parts that are drawn, or stand as they are; a drawn list or tuple is spread."""
    drawn = [part if isinstance(part, st.SearchStrategy) else st.just(part) for part in parts]

    def spread(row: Sequence[Any]) -> Command:
        return tuple(word for part in row for word in (part if isinstance(part, list | tuple) else [part]))

    return st.tuples(*drawn).map(spread)


a_list, a_hash, a_set = a_key(LISTS), a_key(HASHES), a_key(SETS)
pairs = st.lists(st.tuples(word, word), min_size=1, max_size=3).map(lambda row: [item for pair in row for item in pair])
scores = st.lists(st.tuples(st.integers(0, 3), word), min_size=1, max_size=2)
side = st.sampled_from(["LEFT", "RIGHT"])

COMMANDS = st.one_of(
    command("LPUSH", a_list, words),
    command("RPUSH", a_list, words),
    command("RPOP", a_list),
    command("RPOP", a_list, st.integers(0, 4)),
    command("LRANGE", a_list, number, number),
    command("LTRIM", a_list, number, number),
    command("LLEN", a_list),
    command("LREM", a_list, st.integers(-2, 2), word),
    command("LMOVE", a_list, a_list, side, side),
    command("BLMOVE", a_list, a_list, side, side, "0.001"),
    command("HSET", a_hash, pairs),
    command("HGET", a_hash, word),
    command("HMGET", a_hash, words),
    command("HDEL", a_hash, words),
    command("HLEN", a_hash),
    command("HSTRLEN", a_hash, word),
    command("ZADD", a_set, scores.map(lambda row: [item for pair in row for item in pair])),
    command("ZRANGE", a_set, number, number),
    command("ZREM", a_set, words),
    command("XLEN", a_key(STREAMS)),
    command("DEL", st.lists(st.sampled_from(KEYS), min_size=1, max_size=2)),
    command("EXISTS", st.lists(st.sampled_from(KEYS), min_size=1, max_size=3)),
    command("TYPE", st.sampled_from(KEYS)),
    command("EXPIRE", st.sampled_from(KEYS), st.sampled_from([1000, 2000, 0, -1])),
    command("TTL", st.sampled_from(KEYS)),
)
XADDS = st.one_of(
    command("XADD", a_key(STREAMS), "*", "a", word),
    command("XADD", a_key(STREAMS), "NOMKSTREAM", "*", "a", word),
    command("XADD", a_key(STREAMS), "MAXLEN", "=", st.integers(-1, 2), "*", "a", word),
)


def when_full(server: RealServer) -> Flavour:
    """Which of the model's flavours a server is at its memory limit: a later Redis does there as Valkey does."""
    with server.client() as client:
        version = str(client.info("server")["redis_version"])  # Valkey says 7.2.4
    return "redis" if tuple(map(int, version.split(".")[:2])) < (7, 2) else "valkey"


class ModelWire:
    """A wire to the model: at once, and whole."""

    def __init__(self, flavour: Flavour) -> None:
        self.model = Model(flavour)
        self.now_ms = 1_000_000

    def call(self, *command: Argument) -> Any:
        return self._do(lambda: self.model.call(command, self.now_ms))

    def pipeline(self, commands: Sequence[Command]) -> list[Any]:
        answers: list[Any] = []
        for one in commands:
            try:
                answers.append(self.model.call(one, self.now_ms))
            except Refusal as error:
                answers.append(error)
        return self._first_refusal(answers)

    def transaction(self, commands: Sequence[Command]) -> list[Any]:
        return self._first_refusal(self._do(lambda: self.model.transaction(commands, self.now_ms)))

    def script(self, script: Script, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        return self.eval(script.name, keys, arguments)

    def eval(self, name: str, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        return self._do(lambda: self.model.script(name, keys, arguments, self.now_ms))

    def _do(self, act: Callable[[], Any]) -> Any:
        try:
            return act()
        except Refusal as error:
            raise translate(redis.ResponseError(str(error)), ENDPOINT) from None

    def _first_refusal(self, answers: list[Any]) -> list[Any]:
        for answer in answers:
            if isinstance(answer, Refusal):
                raise translate(redis.ResponseError(str(answer)), ENDPOINT)
        return answers


class Comparison(RuleBasedStateMachine):
    """The same steps on both."""

    server: RealServer
    flavour: Flavour

    @initialize()
    def begin(self) -> None:
        self.real = RedisWire(parse_url(self.server.url))
        self.real.connect()
        self.real.call("CONFIG", "SET", "maxmemory", "0")
        self.real.call("FLUSHALL")
        self.model = ModelWire(self.flavour)

    def teardown(self) -> None:
        if hasattr(self, "real"):
            self.real.call("CONFIG", "SET", "maxmemory", "0")
            self.real.close()

    # -- steps -----------------------------------------------------------------------------------------------------

    @rule(drawn=COMMANDS)
    def do(self, drawn: Command) -> None:
        self.both(lambda wire: wire.call(*drawn))

    @rule(key=st.sampled_from(HASHES + LISTS))
    def read_a_hash(self, key: str) -> None:
        self.both(lambda wire: _unordered(wire.call("HGETALL", key)))  # a server may answer in any order

    @rule(drawn=XADDS)
    def add(self, drawn: Command) -> None:
        self.both(lambda wire: wire.call(*drawn) is None)  # ids come from clocks

    @rule(drawn=st.lists(st.one_of(COMMANDS, XADDS), min_size=1, max_size=4))
    def do_at_once(self, drawn: list[Command]) -> None:
        rows = [one for one in drawn if one[0] not in ("XADD", "BLMOVE")]
        adds = [one for one in drawn if one[0] == "XADD"]
        self.both(lambda wire: wire.transaction(rows + adds)[: len(rows)])

    @rule(drawn=st.lists(COMMANDS, min_size=1, max_size=3))
    def do_in_a_row(self, drawn: list[Command]) -> None:
        self.both(lambda wire: wire.pipeline(drawn))

    @rule(
        key=st.sampled_from(STREAMS), position=st.integers(-1, 5), count=st.integers(1, 3), wait=st.sampled_from([0, 1])
    )
    def read_a_stream(self, key: str, position: int, count: int, wait: int) -> None:
        ids = self.ids(key, position)
        block: list[Argument] = ["BLOCK", wait] if wait else []

        def read(wire: Any) -> Any:
            found = wire.call("XREAD", "COUNT", count, *block, "STREAMS", key, ids[wire is self.model])
            return found and [fields for _, fields in found[0][1]]

        self.both(read)

    @rule(key=st.sampled_from(STREAMS), position=st.integers(-1, 5), behind=st.booleans())
    def trim_a_stream(self, key: str, position: int, behind: bool) -> None:
        ids = [_behind(one) if behind else one for one in self.ids(key, position)]
        self.both(lambda wire: wire.call("XTRIM", key, "MINID", "=", ids[wire is self.model]))

    @rule(
        expect=st.sampled_from([b"", b"a", b"b"]),
        token=st.sampled_from([b"a", b"b"]),
        what=st.sampled_from(["", "", "create", "over", "over, kept", "keep", "trim"]),
        position=st.integers(-1, 3),
        number=st.sampled_from([0, 1000]),
        fields=st.lists(st.tuples(st.sampled_from(["state", "ck"]), word), max_size=2),
        bodies=st.lists(st.tuples(st.sampled_from([b"1", b"2"]), st.sampled_from([b"", b"body"])), max_size=3),
        items=st.booleans(),
        tasks=st.lists(word, max_size=5),
        keys=st.tuples(a_hash, a_key(STREAMS), a_list, a_set, a_key(STREAMS), st.just("bodies"), st.just("pieces")),
    )
    def commit(
        self,
        *,
        expect: bytes,
        token: bytes,
        what: str,
        position: int,
        number: int,
        fields: list[tuple[str, bytes]],
        bodies: list[tuple[bytes, bytes]],
        items: bool,
        tasks: list[bytes],
        keys: tuple[str, str, str, str, str, str, str],
    ) -> None:
        ids = self.ids(keys[1], position)
        seconds = 1000 if what.startswith("over") else number

        def run(wire: Any) -> Any:
            trimmed = ids[wire is self.model] if what == "trim" else what
            flat = [item for pair in [*fields, *bodies] for item in pair]
            head = [expect, token, trimmed, seconds, "job", len(fields), len(bodies), int(items)]
            return wire.script(COMMIT, keys, [*head, *flat, *tasks])

        self.both(run)

    @rule(
        length=st.integers(-1, 4),
        settled=st.integers(0, 3),
        least=st.integers(0, 4),
        want=st.integers(-3, 4),
        replies=st.lists(st.tuples(a_key(STREAMS), word), max_size=3),
        keys=st.tuples(a_list, a_list, a_hash),
        right=st.booleans(),
    )
    def settle(
        self,
        *,
        length: int,
        settled: int,
        least: int,
        want: int,
        replies: list[tuple[str, bytes]],
        keys: tuple[str, str, str],
        right: bool,
    ) -> None:
        held = self.model.model.now.keys.get(keys[0].encode(), ())
        if right and isinstance(held, tuple):
            length = len(held)
        streams = [key for key, _ in replies]
        sealed = [item for _, item in replies]
        self.both(lambda wire: wire.script(SETTLE, [*keys, *streams], [length, settled, want, *sealed, least]))

    @rule(
        key=a_key(STREAMS),
        name=st.sampled_from([b"a", b"b"]),
        pieces=st.lists(word, min_size=1, max_size=3),
        place=a_key(["pieces"]),
    )
    def lay(self, *, key: str, name: bytes, pieces: list[bytes], place: str) -> None:
        self.both(lambda wire: wire.script(LAY, [key, place], [name, *pieces]))

    @rule(
        moves=st.lists(st.tuples(word, word), max_size=3),
        obituary=st.sampled_from([b"", b"X", b"X:dead"]),
        keys=st.tuples(a_list, a_list, a_hash),
    )
    def reap(self, moves: list[tuple[bytes, bytes]], obituary: bytes, keys: tuple[str, str, str]) -> None:
        flat = [item for pair in moves for item in pair]
        self.both(lambda wire: wire.script(REAP, keys, ["a", obituary, *flat]))

    @precondition(lambda self: hasattr(self, "model") and not self.model.model.full)
    @rule()
    def fill(self) -> None:
        self.real.call("CONFIG", "SET", "maxmemory", "1")
        self.model.model.full = True

    @precondition(lambda self: hasattr(self, "model") and self.model.model.full)
    @rule()
    def empty(self) -> None:
        self.real.call("CONFIG", "SET", "maxmemory", "0")
        self.model.model.full = False

    # -- and the comparison ----------------------------------------------------------------------------------------

    def both(self, act: Callable[[Any], Any]) -> None:
        answers = [_answer(act, wire) for wire in (self.real, self.model)]
        assert answers[0] == answers[1], f"the server answers {answers[0]!r}, the model {answers[1]!r}"
        self.same_data()

    def same_data(self) -> None:
        kinds = [answer.decode() for answer in self.real.pipeline([("TYPE", key) for key in KEYS])]
        reads: dict[str, Callable[[str], Command]] = {
            "list": lambda key: ("LRANGE", key, 0, -1),
            "hash": lambda key: ("HGETALL", key),
            "zset": lambda key: ("ZRANGE", key, 0, -1, "WITHSCORES"),
            "stream": lambda key: ("XRANGE", key, "-", "+"),
        }
        there = [(key, kind) for key, kind in zip(KEYS, kinds, strict=True) if kind != "none"]
        contents = self.real.pipeline([reads[kind](key) for key, kind in there] + [("TTL", key) for key, _ in there])
        now = self.model.model.now
        assert {key.encode() for key, _ in there} == now.keys.keys()
        for (key, kind), found, ttl in zip(there, contents, contents[len(there) :], strict=False):
            value = now.keys[key.encode()]
            assert (ttl >= 0) == (key.encode() in now.expires), f"{key} has {ttl} s to live"
            if isinstance(value, Stream):
                assert kind == "stream"
                assert [tuple(fields) for _, fields in found] == [fields for _, fields in value.entries]
            elif isinstance(value, tuple):
                assert (kind, found) == ("list", list(value))
            elif isinstance(value, SortedSet):
                assert kind == "zset"
                assert {member: float(score) for member, score in zip(found[::2], found[1::2], strict=True)} == value
            else:
                assert (kind, _unordered(found)) == ("hash", value)

    def ids(self, key: str, position: int) -> tuple[str, str]:
        """The id of the entry at a position, on the server and in the model; before the first or behind the last."""
        value = self.model.model.now.keys.get(key.encode())
        if not isinstance(value, Stream) or position < 0 or not value.entries:
            return "0-0", "0-0"
        index = min(position, len(value.entries) - 1)
        real = self.real.call("XRANGE", key, "-", "+")[index][0].decode()
        return real, id_text(value.entries[index][0]).decode()


def _behind(name: str) -> str:
    milliseconds, _, sequence = name.partition("-")
    return f"{milliseconds}-{int(sequence) + 1}"


def _unordered(flat: list[bytes]) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _answer(act: Callable[[Any], Any], wire: Any) -> Any:
    try:
        return act(wire)
    except BrokerError as error:
        return type(error)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_the_model_answers_as_a_server_does(flavour: Flavour, fresh_server: FreshServer) -> None:
    class Here(Comparison):
        pass

    Here.server = fresh_server(flavour)
    Here.flavour = when_full(Here.server)

    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


# -- what a script sees, and what becomes of its answer -------------------------------------------------------------

SNIPPETS = [
    "return 3.99",
    "return -3.99",
    "return true",
    "return false",
    "return nil",
    "return {}",
    "return {1, 'a', {2.5, false}}",
    "return {1, nil, 3}",
    "return {KEYS[1], ARGV[2], #KEYS, #ARGV}",
    "return KEYS[0]",
    "return ARGV[9]",
    "return redis.call('HGET', KEYS[2], 'none') == false",
    "return redis.call('RPOP', 'nothing', 2) == false",
    "return type(redis.call('LLEN', KEYS[1]))",
    "return redis.call('LTRIM', KEYS[1], 0, -1)",
    "return redis.call('LTRIM', KEYS[1], 0, -1).ok",
    "return redis.call('LRANGE', KEYS[1], 0, -1)",
    "return redis.call('HMGET', KEYS[2], 'field', 'none')",
    "return #redis.call('HMGET', KEYS[2], 'field', 'none')",
    "redis.call('LPUSH', KEYS[1], 7, 1e15, 2^53, 1.5) return redis.call('LRANGE', KEYS[1], 0, -1)",
    "redis.call('LPUSH', KEYS[1], 'before') return redis.call('LLEN', KEYS[2])",
    "redis.call('LPUSH', KEYS[1], 'before') error('stop')",
    "return redis.call('LPUSH', KEYS[1])",
    "return redis.call('LPUSH', KEYS[1], nil)",
    "return redis.call('LPUSH', KEYS[1], false)",
    "return redis.call('LPUSH', KEYS[1], {})",
    "return redis.call('LPUSH', KEYS[1], unpack({}))",
    "return redis.call('LPOP', KEYS[1], 1.5)",
    "return redis.call('LPOP', KEYS[1], -1)",
    "return redis.call('LPOP', KEYS[1], 2)",
    "return redis.call('RPOP', KEYS[1], 0)",
    "return redis.call('EXPIRE', KEYS[1], 'soon')",
    "return redis.call('XTRIM', 'nothing', 'MINID', '=', 'create')",
    "return redis.call('NOSUCH', KEYS[1])",
    "return redis.call()",
    "return undefined",
    "undefined = 1",
    "local x = nil return x + 1",
    "return tonumber('x')",
    "return tonumber('12') + tonumber(ARGV[1])",
    "return math.min(3, 1, 2) .. ' ' .. math.ceil(1.2) .. ' ' .. math.floor(-1.2)",
    "return string.format('%d', 3)",
    "return {pcall(function() return 1 end)}",
    "local many = {} for i = 1, 4000 do many[i] = i end return redis.call('RPUSH', KEYS[1], unpack(many))",
    "local many = {} for i = 1, 9000 do many[i] = i end return redis.call('RPUSH', KEYS[1], unpack(many))",
    "return 'bytes \\0 \\255'",
]


@pytest.mark.parametrize("snippet", SNIPPETS, ids=range(len(SNIPPETS)))
def test_lua_in_the_model_is_lua_in_a_server(wire: RedisWire, snippet: str) -> None:
    source, keys, argv = f"#!lua\n{snippet}", ("list", "hash"), ("10", "second")
    model = ModelWire("valkey")
    asks: list[tuple[Any, Callable[[], Any]]] = [
        (wire, lambda: wire.call("EVAL", source, 2, *keys, *argv)),
        (model, lambda: model.eval("snippet", keys, argv)),
    ]
    answers = []
    with patch.dict(scripts.SCRIPTS, snippet=scripts.Program("snippet", source)):
        for one, ask in asks:
            one.call("DEL", *keys)
            one.call("RPUSH", "list", "a", "b", "c")
            one.call("HSET", "hash", "field", "value")
            try:
                answer = ask()
            except BrokerError as error:
                answer = type(error)
            answers.append((answer, one.call("LRANGE", "list", 0, -1)))
    assert answers[0] == answers[1]


def test_the_model_knows_how_many_words_each_command_has(wire: RedisWire) -> None:
    found = {name: wire.call("COMMAND", "INFO", name)[0][1] for name in commands.COMMANDS}
    assert found == commands.ARITY


# -- who waits at the server ---------------------------------------------------------------------------------------


class Waiting:
    """A client that waits in a thread of its own."""

    def __init__(self, server: RealServer, *command: Argument) -> None:
        self.wire = RedisWire(parse_url(server.url))
        self.wire.connect()
        self.answer: Any = None
        before = blocked(server)
        self._thread = threading.Thread(target=self._ask, args=command)
        self._thread.start()
        while blocked(server) == before and self._thread.is_alive():
            pass

    def _ask(self, *command: Argument) -> None:
        self.answer = _answer(lambda wire: wire.call(*command), self.wire)

    def join(self) -> Any:
        self._thread.join(10)
        assert not self._thread.is_alive()
        self.wire.close()
        return self.answer


def blocked(server: RealServer) -> int:
    with server.client() as client:
        return int(client.info("clients")["blocked_clients"])


@pytest.fixture(params=FLAVOURS)
def alone(request: pytest.FixtureRequest, fresh_server: FreshServer) -> RealServer:
    return fresh_server(request.param)


def test_who_waits_longest_is_served_first(alone: RealServer) -> None:
    first = Waiting(alone, "BLMOVE", "q", "f1", "RIGHT", "LEFT", "5")
    second = Waiting(alone, "BLMOVE", "q", "f2", "RIGHT", "LEFT", "5")
    with alone.client() as client:
        client.lpush("q", "a", "b", "c")
    assert (first.join(), second.join()) == (b"a", b"b")
    with alone.client() as client:
        assert client.lrange("f1", 0, -1) == [b"a"]
        assert client.lrange("q", 0, -1) == [b"c"]


def test_a_pop_that_waits_is_served_or_refused_when_the_server_is_full(alone: RealServer) -> None:
    waiting = Waiting(alone, "BLMOVE", "q", "f", "RIGHT", "LEFT", "5")
    wire = RedisWire(parse_url(alone.url))
    wire.connect()
    wire.call("CONFIG", "SET", "maxmemory", "1")
    wire.script(COMMIT, ("j", "r", "q", "J", "v", "b", "p"), ["", "t", "create", 1, "job", 0, 0, 0, "task"])
    assert waiting.join() == {"redis": b"task", "valkey": BrokerFull}[when_full(alone)]
    wire.close()


def test_a_reader_of_a_stream_that_goes_and_comes_waits_on(alone: RealServer) -> None:
    wire = RedisWire(parse_url(alone.url))
    wire.connect()
    wire.call("XADD", "r", "*", "a", "1")
    last = wire.call("XADD", "r", "*", "a", "2")
    waiting = Waiting(alone, "XREAD", "BLOCK", 5000, "STREAMS", "r", last)
    wire.call("DEL", "r")
    wire.call("XADD", "r", "*", "a", "3")
    assert waiting.join()[0][1][0][1] == [b"a", b"3"]
    wire.close()
