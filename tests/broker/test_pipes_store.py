"""What stands in for Redis under workers over pipes is one: the same answers and the same data, step by step.

It is held against the simulation's model, which runs the scripts of ``broker/lua`` themselves and is held against real
servers in test_model.py. So the three that carry the verbs (a server, the model, pipes) answer alike.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from mapreduce_rq.broker.wire import Argument, Command
from mapreduce_rq.pipes.store import Store
from tests.sim.model import Model
from tests.sim.store import Refusal, SortedSet, id_text
from tests.sim.store import Stream as ModelStream
from tests.support.servers import IN_CI

LISTS, HASHES, STREAMS = ["l1", "l2"], ["h1", "h2"], ["s1", "s2"]
word = st.sampled_from([b"", b"a", b"b", b"c", b"\xff\x00"])
words = st.lists(word, min_size=1, max_size=4)
a_list, a_hash, a_stream = st.sampled_from(LISTS), st.sampled_from(HASHES), st.sampled_from(STREAMS)
a_key = st.sampled_from([*LISTS, *HASHES, *STREAMS, "z1"])
bound = st.integers(-5, 5)


def command(*parts: Any) -> st.SearchStrategy[Command]:
    drawn = [part if isinstance(part, st.SearchStrategy) else st.just(part) for part in parts]
    return st.tuples(*drawn).map(
        lambda row: tuple(word for part in row for word in (part if isinstance(part, list) else [part]))
    )


COMMANDS = st.one_of(
    command("LPUSH", a_list, words),
    command("RPUSH", a_list, words),
    command("LRANGE", a_list, bound, bound),
    command("LREM", a_list, st.integers(-2, 2), word),
    command("LLEN", a_list),
    command("BLMOVE", a_list, a_list, "RIGHT", "LEFT", "0.001"),
    command("LMOVE", a_list, a_list, "RIGHT", "LEFT"),
    command("HSET", a_hash, st.tuples(word, word).map(list)),
    command("HGET", a_hash, word),
    command("HMGET", a_hash, words),
    command("HGETALL", a_hash),
    command("HDEL", a_hash, words),
    command("HLEN", a_hash),
    command("HSTRLEN", a_hash, word),
    command("ZADD", "z1", st.integers(0, 3), st.sampled_from(["a", "b", "c"])),
    command("ZRANGE", "z1", bound, bound),
    command("ZREM", "z1", st.sampled_from(["a", "b", "c"])),
    command("XLEN", a_stream),
    command("UNLINK", st.lists(a_key, min_size=1, max_size=2)),
    command("EXISTS", st.lists(a_key, min_size=1, max_size=3)),
    command("TYPE", a_key),
)


class Comparison(RuleBasedStateMachine):
    """The same steps on both, at the same times."""

    @initialize()
    def begin(self) -> None:
        self.now_ms = 1_000_000
        self.store = Store(lambda: self.now_ms / 1000)
        self.model = Model()

    @rule(drawn=COMMANDS)
    def do(self, drawn: Command) -> None:
        self.both(lambda: self.store.call(drawn), lambda: self.model.call(drawn, self.now_ms))

    @rule(seconds=st.sampled_from([1, 10]))
    def wait(self, seconds: int) -> None:
        self.now_ms += 1000 * seconds
        self.do(("TYPE", "l1"))

    @rule(key=a_stream, position=st.integers(-1, 5), count=st.integers(1, 3))
    def read_a_stream(self, key: str, position: int, count: int) -> None:
        ours, theirs = self.ids(key, position)

        def read(call: Callable[[Command], Any], after: str) -> Any:
            found = call(("XREAD", "COUNT", count, "STREAMS", key, after))
            return found and [fields for _, fields in found[0][1]]

        self.both(
            lambda: read(self.store.call, ours), lambda: read(lambda words: self.model.call(words, self.now_ms), theirs)
        )

    @rule(
        expect=st.sampled_from([b"", b"a", b"b"]),
        token=st.sampled_from([b"a", b"b"]),
        what=st.sampled_from(["", "", "create", "over", "over, kept", "keep", "trim"]),
        position=st.integers(-1, 3),
        number=st.sampled_from([0, 5]),
        fields=st.lists(st.tuples(st.sampled_from(["state", "ck"]), word), max_size=2),
        tasks=st.lists(word, max_size=5),
        keys=st.tuples(
            a_hash, st.just("s1"), a_list, st.just("z1"), st.just("s2"), st.just("bodies"), st.just("pieces")
        ),
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
        tasks: list[bytes],
        keys: tuple[str, ...],
    ) -> None:
        seconds = 5 if what.startswith("over") else number
        flat = [item for pair in fields for item in pair]
        ours, theirs = self.ids("s1", position)

        def row(entry: str) -> list[Argument]:
            return [
                expect,
                token,
                _behind(entry) if what == "trim" else what,
                seconds,
                "job",
                len(fields),
                0,
                0,
                *flat,
                *tasks,
            ]

        self.both(
            lambda: self.store.script("commit", keys, row(ours)),
            lambda: self.model.script("commit", keys, row(theirs), self.now_ms),
        )

    @rule(
        length=st.integers(-1, 4),
        settled=st.integers(0, 3),
        least=st.integers(0, 4),
        want=st.integers(-3, 4),
        replies=st.lists(st.tuples(a_stream, word), max_size=3),
        keys=st.sampled_from([("l1", "l2", "h1"), ("l2", "l1", "h2")]),
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
        if right:
            length = len(self.store.lists.get(keys[0], ()))
        names = [*keys, *(key for key, _ in replies)]
        row: list[Argument] = [length, settled, want, *(sealed for _, sealed in replies), least]
        self.both(
            lambda: self.store.script("settle", names, row),
            lambda: self.model.script("settle", names, row, self.now_ms),
        )

    @rule(
        moves=st.lists(st.tuples(word, word), max_size=3),
        obituary=st.sampled_from(["", "X", "X:dead"]),
        keys=st.tuples(a_list, a_list, a_hash),
    )
    def reap(self, moves: list[tuple[bytes, bytes]], obituary: str, keys: tuple[str, ...]) -> None:
        row: list[Argument] = ["a", obituary, *(item for pair in moves for item in pair)]
        self.both(
            lambda: self.store.script("reap", keys, row), lambda: self.model.script("reap", keys, row, self.now_ms)
        )

    def both(self, ours: Callable[[], Any], theirs: Callable[[], Any]) -> None:
        try:
            expected = theirs()
        except Refusal:
            return  # out of range: no verb asks for it
        found = ours()
        assert found == expected, f"the model answers {expected!r}, the store {found!r}"
        self.same_data()

    def same_data(self) -> None:
        keys = self.model.now.keys
        assert {key: list(value) for key, value in self.store.lists.items()} == {
            key.decode(): list(value)
            for key, value in keys.items()
            if isinstance(value, tuple) and not isinstance(value, ModelStream)
        }
        assert {key: stream.entries for key, stream in self.store.streams.items()} == {
            key.decode(): [fields[1] for _, fields in value.entries]
            for key, value in keys.items()
            if isinstance(value, ModelStream)
        }
        assert self.store.hashes == {
            key.decode(): value
            for key, value in keys.items()
            if isinstance(value, dict) and not isinstance(value, SortedSet)
        }
        assert self.store.jobs == {
            key.decode(): {member.decode(): score for member, score in value.items()}
            for key, value in keys.items()
            if isinstance(value, SortedSet)
        }

    def ids(self, key: str, position: int) -> tuple[str, str]:
        """The id of the entry at a position, in the store and in the model; before the first or behind the last."""
        value = self.model.now.keys.get(key.encode())
        if not isinstance(value, ModelStream) or position < 0 or not value.entries:
            return "0-0", "0-0"
        index = min(position, len(value.entries) - 1)
        return f"0-{self.store.streams[key].first + index}", id_text(value.entries[index][0]).decode()


def _behind(name: str) -> str:
    milliseconds, _, sequence = name.partition("-")
    return f"{milliseconds}-{int(sequence) + 1}"


def test_the_store_answers_as_the_model_does() -> None:
    run_state_machine_as_test(
        Comparison,
        settings=settings(
            max_examples=200 if IN_CI else 60,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_a_stream_that_is_opened_again_repeats_no_id() -> None:
    store = Store()
    keys = ("j", "r", "q", "J", "v")
    store.script("commit", keys, ["", "1", "create", 1, "job", 0])
    store.script("settle", ("f", "q", "w", "r"), [0, 0, 0, b"one", 0])
    ((first, _),) = store.call(("XREAD", "COUNT", 9, "STREAMS", "r", "0-0"))[0][1]
    store.call(("UNLINK", "r"))
    assert store.script("commit", keys, ["1", "2", "", 0, "job", 0])[2] == 1
    store.script("settle", ("f", "q", "w", "r"), [0, 0, 0, b"two", 0])
    ((second, _),) = store.call(("XREAD", "COUNT", 9, "STREAMS", "r", first.decode()))[0][1]
    assert second > first
