"""Mutants: each rule of the protocol, switched off. The simulation must notice it, or it does not prove the rule.

SAFETY: without the rule a value could be wrong, or counted work be lost. Any storm must show it within ten seeds.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, NamedTuple
from unittest.mock import patch

import msgspec

from mapreduce_rq.broker.jobs import FIRST_REPLY, Jobs
from mapreduce_rq.core.job.ledger import Ledger
from mapreduce_rq.core.job.tally import Tally
from mapreduce_rq.core.messages import Checkpoint, Reply
from mapreduce_rq.core.sealing import Codec
from mapreduce_rq.errors import BadMessage
from mapreduce_rq.runtime.master import exchange
from mapreduce_rq.runtime.master.lease import Lease
from mapreduce_rq.runtime.master.master import Master
from tests.sim import scripts
from tests.sim.model import Model
from tests.sim.store import encoded

Mutant = Callable[[], AbstractContextManager[Any]]
SAFETY: dict[str, Mutant] = {}


def safety(mutant: Mutant) -> Mutant:
    """List a mutant under its function's name."""
    SAFETY[mutant.__name__] = mutant
    return mutant


@safety
def count_twice() -> AbstractContextManager[Any]:
    """An answer is folded whether or not its terms are counted."""

    def count_row(self: Tally, row: list[tuple[int, int, bytes]], counted: list[tuple[int, int]]) -> None:
        for lo, hi, body in row:
            self._accumulator = self.reducer.merge(self._accumulator, self.reducer.decode(body))
            if not self.runs.touches(lo, hi):
                self.runs.add(lo, hi)
                counted.append((lo, hi))
                if self._ordered:
                    self._insert(lo, hi, self.reducer.decode(body))

    return patch.object(Tally, "_count_row", count_row)


@safety
def count_what_is_new_in_a_joint_answer() -> AbstractContextManager[Any]:
    """A joint answer is folded if any of its spans is new, and only these are noted as counted."""

    def count_joint(self: Tally, spans: list[tuple[int, int]], body: bytes) -> list[tuple[int, int]]:
        new = [(lo, hi) for lo, hi in spans if not self.runs.touches(lo, hi) and self.runs.add(lo, hi)]
        if new:
            self._accumulator = self.reducer.merge_encoded(self._accumulator, [body])
        return new

    return patch.object(Tally, "count_joint", count_joint)


class Edit(NamedTuple):
    """A script with another text in the place of one that stands there once."""

    script: str
    text: str
    other: str

    def __call__(self) -> AbstractContextManager[Any]:
        """The edit, as long as the context lasts."""
        source = scripts.SCRIPTS[self.script].source
        assert source.count(self.text) == 1, f"{self.script}.lua has {self.text!r} {source.count(self.text)} times"
        changed = scripts.Program(self.script, source.replace(self.text, self.other))
        return patch.dict(scripts.SCRIPTS, {self.script: changed})


EDITS = [
    Edit("commit", "KEYS[1], 'tok') or ''", "KEYS[1], 'tok') and ''"),
    Edit("commit", "if found ~= ARGV[1]", "if found == ''"),
    Edit("commit", "return {'lost'", "return {'ok'"),
    Edit("commit", "local what = ARGV[3]", "local what = ARGV[4]"),
    Edit("commit", "what == 'over' or what == 'over, kept'", "what == 'over'"),
    Edit("commit", "if what == 'over, kept' and", "if what == 'over' and"),
    Edit("commit", "redis.call('RENAME', KEYS[2], KEYS[5])", "redis.call('DEL', KEYS[2])"),
    Edit("commit", "redis.call('EXPIRE', KEYS[5], ARGV[4])", ""),
    Edit("commit", "elseif over then\n", "elseif what == 'create' then\n"),
    Edit("commit", "redis.call('DEL', KEYS[2])", ""),
    Edit("commit", "elseif what ~= '' and", "elseif"),
    Edit("commit", "'MINID', '=', what)", "'MINID', '=', '9999999999999-0')"),
    Edit("commit", "'ZADD', KEYS[4], ARGV[4], ARGV[5]", "'ZADD', KEYS[4], 0, ARGV[5]"),
    Edit("commit", "'MAXLEN', '=', 0,", "'MAXLEN', '=', 1,"),
    Edit("commit", "local opened = 0", "local opened = 1"),
    Edit("commit", "opened = 1", "opened = 0"),
    Edit("commit", "redis.call('EXPIRE', KEYS[1], ARGV[4])", ""),
    Edit("commit", "tonumber(ARGV[4]), 8 + 2", "tonumber(ARGV[4]), 10 + 2"),
    Edit("commit", "local last = fields + 2 *", "local last = fields + 3 *"),
    Edit("commit", "redis.call('DEL', KEYS[6], KEYS[7])", "redis.call('DEL', KEYS[7])"),
    Edit("commit", "redis.call('DEL', KEYS[6], KEYS[7])", "redis.call('DEL', KEYS[6])"),
    Edit("commit", "for i = fields + 1,", "for i = fields + 3,"),
    Edit("commit", "if ARGV[i + 1] == ''", "if ARGV[i + 1] == 'x'"),
    Edit("commit", "redis.call('HDEL', KEYS[6], ARGV[i])", ""),
    Edit("commit", "else\n      redis.call('HSET', KEYS[6], ARGV[i], ARGV[i + 1])", ""),
    Edit("commit", "redis.call('EXPIRE', KEYS[6], 600)", ""),
    Edit("commit", "if ARGV[8] == '1'", "if ARGV[8] == '0'"),
    Edit("commit", "redis.call('EXPIRE', KEYS[2], 600)", ""),
    Edit("commit", "'tok', ARGV[2], unpack", "'tok', ARGV[1], unpack"),
    Edit("commit", "for i = last + 1,", "for i = last,"),
    Edit("commit", "unpack(ARGV, i, math", "unpack(ARGV, i + 1, math"),
    Edit("commit", "return {'ok', redis", "return {'lost', redis"),
    Edit("settle", "for i = 4, #KEYS", "for i = 5, #KEYS"),
    Edit("settle", "'a', ARGV[i])", "'a', ARGV[1])"),
    Edit("settle", "local there = ARGV[i] == '@' and", "local there = ARGV[i] ~= '@' and"),
    Edit("settle", "redis.call('XLEN', KEYS[i]) > 0", "redis.call('XLEN', KEYS[i]) >= 0"),
    Edit("settle", "if ARGV[i] ~= '@' then", "if true then"),
    Edit("settle", "if not there then", "if there then"),
    Edit("settle", "local length = redis.call('LLEN', KEYS[1])", "local length = redis.call('LLEN', KEYS[2])"),
    Edit("settle", "if length ~= tonumber(ARGV[1])", "if length < tonumber(ARGV[1])"),
    Edit("settle", "local settled = tonumber(ARGV[2])", "local settled = length"),
    Edit("settle", "if settled > 0", "if settled > 1"),
    Edit("settle", "0, -1 - settled)", "0, 1 - settled)"),
    Edit("settle", "local want = tonumber(ARGV[3])", "local want = tonumber(ARGV[1])"),
    Edit("settle", "if want > 0", "if want > 1"),
    Edit("settle", "local waiting = redis.call('LLEN', KEYS[2])", "local waiting = redis.call('LLEN', KEYS[1])"),
    Edit("settle", "if want <= 0", "if want < 0"),
    Edit("settle", "local taken = redis.call('RPOP', KEYS[2]", "local taken = redis.call('LRANGE', KEYS[2], 0"),
    Edit("settle", "redis.call('LPUSH', KEYS[1], unpack(taken))", ""),
    Edit("settle", "return {'ok', over, taken}", "return {'ok', over, {}}"),
    Edit("settle", "local over = {}", "local over = {9}"),
    Edit("settle", "over[#over + 1] = i - 3", "over[#over + 1] = i - 4"),
    Edit("settle", "return {'differs', over, redis", "return {'ok', over, redis"),
    Edit("settle", "math.max(1, redis.call('HLEN', KEYS[3]))", "1"),
    Edit("settle", "share = length > settled and", "share = length >= settled and"),
    Edit("settle", "math.max(share, tonumber(ARGV[#KEYS + 1]) or 0))", "share)"),
    Edit("settle", "if want < 0", "if want < -1"),
    Edit(
        "settle", "local back = redis.call('LPOP', KEYS[1], -want)", "local back = redis.call('RPOP', KEYS[1], -want)"
    ),
    Edit("settle", "if back then", "if not back then"),
    Edit("settle", "'RPUSH', KEYS[2], unpack(back)", "'LPUSH', KEYS[2], unpack(back)"),
    Edit("settle", "return {'ok', over, {}}", "return {'ok', {}, over}"),
    Edit("reap", "local given = 0", "local given = ''"),
    Edit("reap", "for i = 3,", "for i = 5,"),
    Edit("reap", "ARGV[i]) == 1", "ARGV[i]) == 2"),
    Edit("reap", "'RPUSH', KEYS[2], ARGV[i + 1]", "'RPUSH', KEYS[2], ARGV[1]"),
    Edit("reap", "given = given + 1", "given = given + 2"),
    Edit("reap", "if ARGV[2] == 'X'", "if ARGV[2] ~= 'X'"),
    Edit("reap", "if redis.call('LLEN', KEYS[1]) == 0", "if redis.call('LLEN', KEYS[1]) ~= 0"),
    Edit("reap", "redis.call('HDEL', KEYS[3], ARGV[1])", ""),
    Edit("reap", "elseif ARGV[2] ~= ''", "elseif ARGV[2] == ''"),
    Edit("reap", "redis.call('HSET', KEYS[3], ARGV[1], ARGV[2])", ""),
    Edit("reap", "return given", "return {}"),
    Edit("lay", "if redis.call('EXISTS', KEYS[1]) == 0", "if redis.call('EXISTS', KEYS[1]) == 1"),
    Edit("lay", "for i = 2,", "for i = 3,"),
    Edit("lay", "redis.call('HSET', KEYS[2], ARGV[1] .. ':' .. (i - 2), ARGV[i])", ""),
    Edit("lay", "return 1", "return 0"),
]
"""One of every line of each script, or more, but for their first lines, which are mechanisms, and for what commit.lua
looks at before it begins: that is never out of range here (see tests/broker/test_commit.py)."""


@safety
def do_not_compare() -> AbstractContextManager[Any]:
    """The commit script sets without comparing."""
    return Edit("commit", "if found ~= ARGV[1] then", "if false then")()


@safety
def ignore_the_fence() -> AbstractContextManager[Any]:
    """A master that finds another master's token goes on with it."""
    return patch.object(Lease, "owns", return_value=True)


def _stale(name: str) -> AbstractContextManager[Any]:
    """A checkpoint with one field of the checkpoint before it."""
    checkpoint = Ledger.checkpoint
    last: dict[int, Any] = {}

    def stale_checkpoint(self: Ledger, now: float) -> Checkpoint:
        right = checkpoint(self, now)
        stale = last.get(id(self), getattr(right, name))
        last[id(self)] = getattr(right, name)
        return msgspec.structs.replace(right, **{name: stale})

    return patch.object(Ledger, "checkpoint", stale_checkpoint)


@safety
def store_older_runs() -> AbstractContextManager[Any]:
    """The runs are not stored together with the accumulator: theirs are those of the checkpoint before."""
    return _stale("runs")


@safety
def store_an_older_accumulator() -> AbstractContextManager[Any]:
    """As above, the other way round."""
    return _stale("parts")


@safety
def forget_the_runs() -> AbstractContextManager[Any]:
    """A new master takes over the accumulator, and not the runs that it is the fold of."""
    restore = Tally.restore.__func__  # type: ignore[attr-defined]

    def restore_parts(cls: type[Tally], reducer: Any, runs: Any, parts: Any) -> Tally:
        tally: Tally = restore(cls, reducer, runs, parts)
        tally.runs = type(tally.runs)()
        return tally

    return patch.object(Tally, "restore", classmethod(restore_parts))


@safety
def trim_without_checkpoint() -> AbstractContextManager[Any]:
    """Every commit trims what was read, with or without a checkpoint."""
    commit = Lease.commit

    def trimming(self: Lease, **arguments: Any) -> Any:
        if not arguments.get("what") and arguments.get("expect") is None:
            arguments["what"] = exchange.behind(READ_SO_FAR.get(id(self), FIRST_REPLY))
        return commit(self, **arguments)

    hear = Master._hear

    def hear_and_note(self: Master, wait: float) -> Any:
        answer = hear(self, wait)
        READ_SO_FAR[id(self._lease)] = self._exchange.cursor
        return answer

    READ_SO_FAR.clear()
    return _both(patch.object(Lease, "commit", trimming), patch.object(Master, "_hear", hear_and_note))


READ_SO_FAR: dict[int, str] = {}


@safety
def trim_too_far() -> AbstractContextManager[Any]:
    """A checkpoint trims the whole second of the last reply that was read."""

    def behind(entry: str) -> str:
        return "" if entry == FIRST_REPLY else f"{int(entry.partition('-')[0]) + 1000}-0"

    return patch.object(exchange, "behind", behind)


@safety
def trim_before_the_checkpoint() -> AbstractContextManager[Any]:
    """Trim and checkpoint in two steps: a failover can come between."""
    script = Model.script

    def in_two_steps(self: Model, name: str, keys: Any, arguments: Any, now_ms: int) -> Any:
        if name == "commit" and arguments[2] not in ("", "create", "over", "over, kept"):
            found = self.call(("HGET", keys[0], "tok"), now_ms)
            if found == encoded(arguments[0]):
                self.call(("XTRIM", keys[1], "MINID", "=", arguments[2]), now_ms)
        return script(self, name, keys, arguments, now_ms)

    return patch.object(Model, "script", in_two_steps)


@safety
def read_on_after_a_reconnect() -> AbstractContextManager[Any]:
    """After a reconnect the stream is read from where it was left, though it may be another stream."""
    resolve = Master._resolve

    def keep_cursor(self: Master, found: Any) -> Any:
        cursor = self._exchange.cursor
        answer = resolve(self, found)
        self._exchange.cursor = cursor
        return answer

    return patch.object(Master, "_resolve", keep_cursor)


@safety
def merge_in_order_of_arrival() -> AbstractContextManager[Any]:
    """A reducer that needs order is treated as one that does not."""
    return patch.object(Tally, "_insert", _insert_as_it_comes)


def _insert_as_it_comes(self: Tally, lo: int, hi: int, partial: Any) -> None:
    for other in list(self._partials):
        end, found = self._partials.pop(other)
        del self._ends[end]
        partial = self.reducer.merge(found, partial)
        lo, hi = min(lo, other), max(hi, end)
    self._partials[lo] = (hi, partial)
    self._ends[hi] = lo


@safety
def settle_too_early() -> AbstractContextManager[Any]:
    """A job is done when nothing is out, not when everything is counted."""
    return patch.object(Ledger, "settled", lambda self: self.tasks > 0 and not self.out)


@safety
def believe_anybody() -> AbstractContextManager[Any]:
    """A message's MAC is not looked at."""

    def open_anything(self: Codec, data: bytes) -> Any:
        try:
            return self._decode(data[2:] if data[:2] == b"\0\0" else data[18:])
        except msgspec.DecodeError as error:
            raise BadMessage(str(error)) from None

    return patch.object(Codec, "open", open_anything)


@safety
def take_any_jobs_answers() -> AbstractContextManager[Any]:
    """An answer counts for the job whose stream it is found in, whichever it was given to."""
    replies = Jobs.replies
    open_ = Codec.open

    def mistaken(self: Jobs, job: str, after: str, block_seconds: float) -> Any:
        def renamed(codec: Codec, data: bytes) -> Any:
            found = open_(codec, data)
            return msgspec.structs.replace(found, job=job) if isinstance(found, Reply) else found

        command = self.wire.call

        def call(*words: Any) -> Any:  # only what comes after the wait is done in our name
            with patch.object(Codec, "open", open_):
                return command(*words)

        with patch.object(Codec, "open", renamed), patch.object(self.wire, "call", call):
            return replies(self, job, after, block_seconds)

    return patch.object(Jobs, "replies", mistaken)


@safety
def forget_what_was_skipped() -> AbstractContextManager[Any]:
    """A skipped term is counted, and not stored as skipped."""
    checkpoint = Ledger.checkpoint

    def without(self: Ledger, now: float) -> Checkpoint:
        return msgspec.structs.replace(checkpoint(self, now), skipped=[])

    return patch.object(Ledger, "checkpoint", without)


@contextlib.contextmanager
def _both(*patches: AbstractContextManager[Any]) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for one in patches:
            stack.enter_context(one)
        yield
