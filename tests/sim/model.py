"""A Redis in plain Python: the commands and the three scripts that the broker uses, with its whole history.

Values are immutable, and a step that changes something makes a new table of keys; so every state that ever was is
kept at the cost of its differences, and the server can go back to any of them, as a failover does.

It answers what a raw RESP2 connection reads. ``tests/broker/test_model.py`` holds it against real servers. It does not
block: a blocking command that finds nothing answers None, and who waits for how long is up to the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil
from typing import Any, NamedTuple, TypeGuard

from mapreduce_rq.broker.wire import Argument, Command

Id = tuple[int, int]
Key = bytes


class Stream(NamedTuple):
    """Entries in order, and the last id that was ever given out."""

    entries: tuple[tuple[Id, tuple[bytes, ...]], ...]
    last: Id


List = tuple[bytes, ...]
Hash = dict[bytes, bytes]


class SortedSet(dict[bytes, float]):
    """Members with scores; a type of its own, since a hash is a dict too."""


Value = List | Hash | SortedSet | Stream
Keys = dict[Key, Value]


class Refusal(Exception):
    """An error answer; the text begins with Redis' own error code."""


OOM = "OOM command not allowed when used memory > 'maxmemory'."
WRONG_TYPE = "WRONGTYPE Operation against a key holding the wrong kind of value"
DENY_OOM = {"LPUSH", "RPUSH", "LMOVE", "BLMOVE", "HSET", "XADD", "ZADD"}
"""Commands that Redis refuses at its memory limit (flag ``denyoom`` of COMMAND INFO)."""


def encoded(argument: Argument) -> bytes:
    """An argument as it goes over the wire."""
    if isinstance(argument, bytes):
        return argument
    return str(argument).encode()


def kind(value: Value) -> bytes:
    """What TYPE says."""
    if isinstance(value, Stream):
        return b"stream"
    if isinstance(value, tuple):
        return b"list"
    return b"zset" if isinstance(value, SortedSet) else b"hash"


def is_hash(value: Value | None) -> TypeGuard[Hash]:
    """Whether it is a hash."""
    return isinstance(value, dict) and not isinstance(value, SortedSet)


class Snapshot(NamedTuple):
    """One state. Nobody changes either table."""

    keys: Keys
    expires: dict[Key, int]  # unix milliseconds


EMPTY = Snapshot({}, {})


class Database:
    """What a step works on: a copy of the tables, made when it first writes."""

    def __init__(self, before: Snapshot, now_ms: int) -> None:
        self.keys = before.keys
        self.expires = before.expires
        self.now_ms = now_ms
        self.dirty = False

    def _own(self) -> None:
        if not self.dirty:
            self.dirty = True
            self.keys = dict(self.keys)

    def put(self, key: Key, value: Value) -> None:
        """Set a key; an empty value of any type but a stream is no key."""
        self._own()
        if value or isinstance(value, Stream):
            self.keys[key] = value
        else:
            self.delete(key)

    def delete(self, key: Key) -> bool:
        """Remove a key, and say whether it was there."""
        if key not in self.keys:
            return False
        self._own()
        del self.keys[key]
        if key in self.expires:
            self.expires = {name: at for name, at in self.expires.items() if name != key}
        return True

    def expire(self, key: Key, at: int) -> None:
        """Have a key go away at this time."""
        self._own()
        self.expires = {**self.expires, key: at}

    def list(self, key: Key) -> List:
        """The list there."""
        found = self.keys.get(key, ())
        if not isinstance(found, tuple) or isinstance(found, Stream):
            raise Refusal(WRONG_TYPE)
        return found

    def hash(self, key: Key) -> Hash:
        """The hash there; not to be changed."""
        found = self.keys.get(key)
        if found is None:
            return {}
        if not is_hash(found):
            raise Refusal(WRONG_TYPE)
        return found

    def sorted_set(self, key: Key) -> SortedSet:
        """The sorted set there; not to be changed."""
        found = self.keys.get(key)
        if found is None:
            return SortedSet()
        if not isinstance(found, SortedSet):
            raise Refusal(WRONG_TYPE)
        return found

    def stream(self, key: Key) -> Stream | None:
        """The stream there, if any."""
        found = self.keys.get(key)
        if found is not None and not isinstance(found, Stream):
            raise Refusal(WRONG_TYPE)
        return found


# -- commands ------------------------------------------------------------------------------------------------------
# Each takes the database and its arguments without the name, and gives the answer.

Arguments = Sequence[bytes]


def _lpush(db: Database, args: Arguments) -> int:
    found = (*reversed(args[1:]), *db.list(args[0]))
    db.put(args[0], found)
    return len(found)


def _rpush(db: Database, args: Arguments) -> int:
    found = (*db.list(args[0]), *args[1:])
    db.put(args[0], found)
    return len(found)


def _rpop(db: Database, args: Arguments) -> Any:
    found = db.list(args[0])
    if not found:
        return None
    if len(args) == 1:
        db.put(args[0], found[:-1])
        return found[-1]
    count = int(args[1])
    if count == 0:
        return []
    db.put(args[0], found[:-count])
    return list(found[: -count - 1 : -1])


def _range(found: List, start: bytes, stop: bytes) -> List:
    first, last = int(start), int(stop)
    size = len(found)
    first = max(0, first + size if first < 0 else first)
    last = last + size if last < 0 else last
    return found[first : last + 1] if last >= first else ()


def _lrange(db: Database, args: Arguments) -> list[bytes]:
    return list(_range(db.list(args[0]), args[1], args[2]))


def _ltrim(db: Database, args: Arguments) -> bytes:
    found = db.list(args[0])
    if found:
        db.put(args[0], _range(found, args[1], args[2]))
    return b"OK"


def _llen(db: Database, args: Arguments) -> int:
    return len(db.list(args[0]))


def _lrem(db: Database, args: Arguments) -> int:
    found, count, element = db.list(args[0]), int(args[1]), args[2]
    if element not in found:
        return 0
    left = abs(count) or len(found)
    kept = []
    for item in reversed(found) if count < 0 else found:
        if item == element and left:
            left -= 1
        else:
            kept.append(item)
    if count < 0:
        kept.reverse()
    db.put(args[0], tuple(kept))
    return len(found) - len(kept)


def _lmove(db: Database, args: Arguments) -> bytes | None:
    source, target = args[0], args[1]
    found = db.list(source)
    db.list(target)
    if not found:
        return None
    moved, rest = (found[0], found[1:]) if args[2] == b"LEFT" else (found[-1], found[:-1])
    db.put(source, rest)
    there = db.list(target)
    db.put(target, (moved, *there) if args[3] == b"LEFT" else (*there, moved))
    return moved


def _hset(db: Database, args: Arguments) -> int:
    found = db.hash(args[0])
    fresh = dict(zip(args[1::2], args[2::2], strict=True))
    after = {**found, **fresh}
    db.put(args[0], after)
    return len(after) - len(found)


def _hget(db: Database, args: Arguments) -> bytes | None:
    return db.hash(args[0]).get(args[1])


def _hmget(db: Database, args: Arguments) -> list[bytes | None]:
    found = db.hash(args[0])
    return [found.get(name) for name in args[1:]]


def _hgetall(db: Database, args: Arguments) -> list[bytes]:
    return [item for pair in db.hash(args[0]).items() for item in pair]


def _hdel(db: Database, args: Arguments) -> int:
    found = db.hash(args[0])
    kept = {name: value for name, value in found.items() if name not in args[1:]}
    if len(kept) < len(found):
        db.put(args[0], kept)
    return len(found) - len(kept)


def _hlen(db: Database, args: Arguments) -> int:
    return len(db.hash(args[0]))


def _zadd(db: Database, args: Arguments) -> int:
    found = db.sorted_set(args[0])
    after = SortedSet(found)
    for score, member in zip(args[1::2], args[2::2], strict=True):
        after[member] = float(score)
    db.put(args[0], after)
    return len(after) - len(found)


def _zrange(db: Database, args: Arguments) -> list[bytes]:
    members = sorted(db.sorted_set(args[0]).items(), key=lambda item: (item[1], item[0]))
    return list(_range(tuple(member for member, _ in members), args[1], args[2]))


def _zrem(db: Database, args: Arguments) -> int:
    found = db.sorted_set(args[0])
    kept = SortedSet({member: score for member, score in found.items() if member not in args[1:]})
    if len(kept) < len(found):
        db.put(args[0], kept)
    return len(found) - len(kept)


def _del(db: Database, args: Arguments) -> int:
    return sum(db.delete(key) for key in args)


def _exists(db: Database, args: Arguments) -> int:
    return sum(key in db.keys for key in args)


def _type(db: Database, args: Arguments) -> bytes:
    found = db.keys.get(args[0])
    return b"none" if found is None else kind(found)


def _expire(db: Database, args: Arguments) -> int:
    if args[0] not in db.keys:
        return 0
    if int(args[1]) <= 0:
        db.delete(args[0])
    else:
        db.expire(args[0], db.now_ms + 1000 * int(args[1]))
    return 1


def _ttl(db: Database, args: Arguments) -> int:
    if args[0] not in db.keys:
        return -2
    at = db.expires.get(args[0])
    return -1 if at is None else round((at - db.now_ms) / 1000)


def _xadd(db: Database, args: Arguments) -> bytes | None:
    key, rest = args[0], list(args[1:])
    found = db.stream(key)
    if rest[0] == b"NOMKSTREAM":
        if found is None:
            return None
        del rest[0]
    entries, last = found or Stream((), (0, 0))
    kept = len(entries) + 1
    if rest[:2] == [b"MAXLEN", b"="]:
        kept = int(rest[2])
        del rest[:3]
    if rest[0] != b"*":
        raise Refusal("ERR the model gives out ids itself")
    fresh = (db.now_ms, 0) if db.now_ms > last[0] else (last[0], last[1] + 1)
    entries = (*entries, (fresh, tuple(rest[1:])))
    db.put(key, Stream(entries[len(entries) - min(kept, len(entries)) :], fresh))
    return id_text(fresh)


def _xlen(db: Database, args: Arguments) -> int:
    found = db.stream(args[0])
    return len(found.entries) if found else 0


def _xtrim(db: Database, args: Arguments) -> int:
    if args[1:3] != [b"MINID", b"="]:
        raise Refusal("ERR the model trims by an exact smallest id only")
    found = db.stream(args[0])
    if found is None:
        return 0
    least = id_of(args[3])
    kept = tuple(entry for entry in found.entries if entry[0] >= least)
    if len(kept) < len(found.entries):
        db.put(args[0], Stream(kept, found.last))
    return len(found.entries) - len(kept)


def _xread(db: Database, args: Arguments) -> Any:
    at, count = 0, None
    while args[at] != b"STREAMS":
        if args[at] == b"COUNT":
            count = int(args[at + 1])
        at += 2
    key, after = args[at + 1], id_of(args[at + 2])
    found = db.stream(key)
    if found is None or not found.entries or found.entries[-1][0] <= after:
        return None
    entries = [[id_text(name), list(fields)] for name, fields in found.entries if name > after]
    return [[key, entries[:count]]]


def _flushall(db: Database, _: Arguments) -> bytes:
    for key in list(db.keys):
        db.delete(key)
    return b"OK"


COMMANDS: dict[str, Callable[[Database, Arguments], Any]] = {
    "LPUSH": _lpush,
    "RPUSH": _rpush,
    "RPOP": _rpop,
    "LRANGE": _lrange,
    "LTRIM": _ltrim,
    "LLEN": _llen,
    "LREM": _lrem,
    "LMOVE": _lmove,
    "BLMOVE": lambda db, args: _lmove(db, args[:4]),
    "HSET": _hset,
    "HGET": _hget,
    "HMGET": _hmget,
    "HGETALL": _hgetall,
    "HDEL": _hdel,
    "HLEN": _hlen,
    "ZADD": _zadd,
    "ZRANGE": _zrange,
    "ZREM": _zrem,
    "DEL": _del,
    "EXISTS": _exists,
    "TYPE": _type,
    "EXPIRE": _expire,
    "TTL": _ttl,
    "XADD": _xadd,
    "XLEN": _xlen,
    "XTRIM": _xtrim,
    "XREAD": _xread,
    "FLUSHALL": _flushall,
}


def id_text(name: Id) -> bytes:
    """A stream id as Redis writes it."""
    return b"%d-%d" % name


def id_of(text: bytes) -> Id:
    """A stream id as Redis reads it."""
    milliseconds, _, sequence = text.partition(b"-")
    return int(milliseconds), int(sequence or 0)


# -- the three scripts, line by line as in broker/lua --------------------------------------------------------------


def commit(db: Database, keys: Arguments, argv: Arguments) -> Any:
    """commit.lua."""
    job, replies, queue, jobs = keys
    found = _hget(db, [job, b"tok"]) or b""
    if found != argv[0]:
        return [b"lost", found, _hget(db, [job, b"state"]) or b""]
    what = argv[2]
    if what == b"over":
        _del(db, [replies])
    elif what == b"create":
        _zadd(db, [jobs, argv[3], argv[4]])
    elif what:
        _xtrim(db, [replies, b"MINID", b"=", what])
    opened = 0
    if what != b"over" and not _exists(db, [replies]):
        _xadd(db, [replies, b"MAXLEN", b"=", b"0", b"*", b"open", b""])
        opened = 1
    last = 6 + 2 * int(argv[5])
    _hset(db, [job, b"tok", argv[1], *argv[6:last]])
    if what == b"over":
        _expire(db, [job, argv[3]])
    if argv[last:]:
        _lpush(db, [queue, *argv[last:]])
    return [b"ok", _llen(db, [queue]), opened]


def settle(db: Database, keys: Arguments, argv: Arguments) -> Any:
    """settle.lua."""
    hand, queue, workers = keys[:3]
    over = [
        index + 1
        for index, (stream, sealed) in enumerate(zip(keys[3:], argv[3:], strict=True))
        if _xadd(db, [stream, b"NOMKSTREAM", b"*", b"a", sealed]) is None
    ]
    if _llen(db, [hand]) != int(argv[0]):
        return [b"differs", over, _lrange(db, [hand, b"0", b"-1"])]
    settled, want = int(argv[1]), int(argv[2])
    if settled:
        _ltrim(db, [hand, b"0", b"%d" % (-1 - settled)])
    if want:
        want = min(want, ceil(_llen(db, [queue]) / max(1, _hlen(db, [workers]))))
    if not want:
        return [b"ok", over, []]
    taken = _rpop(db, [queue, b"%d" % want])
    _lpush(db, [hand, *taken])
    return [b"ok", over, taken]


def reap(db: Database, keys: Arguments, argv: Arguments) -> int:
    """reap.lua."""
    hand, queue, workers = keys
    given = 0
    for old, new in zip(argv[2::2], argv[3::2], strict=True):
        if _lrem(db, [hand, b"-1", old]):
            _rpush(db, [queue, new])
            given += 1
    if argv[1] == b"X":
        if not _llen(db, [hand]):
            _hdel(db, [workers, argv[0]])
    elif argv[1]:
        _hset(db, [workers, argv[0], argv[1]])
    return given


SCRIPTS: dict[str, Callable[[Database, Arguments, Arguments], Any]] = {"commit": commit, "settle": settle, "reap": reap}
ALLOW_OOM = {"commit"}


# -- the server ----------------------------------------------------------------------------------------------------


class Model:
    """The server's data. Each method is one atomic step; ``history`` holds the state after each that changed it."""

    def __init__(self) -> None:
        self.now = EMPTY
        self.history: list[Snapshot] = [EMPTY]
        self.full = False  # at its memory limit

    def call(self, command: Command, now_ms: int) -> Any:
        """One command. Raises Refusal."""
        name, args = _split(command)
        if self.full and name in DENY_OOM:
            raise Refusal(OOM)
        db = self._begin(now_ms)
        answer = COMMANDS[name](db, args)
        self._end(db)
        return answer

    def transaction(self, commands: Sequence[Command], now_ms: int) -> list[Any]:
        """MULTI, the commands, EXEC: all answers, refusals among them. Raises Refusal if one cannot be queued."""
        split = [_split(command) for command in commands]
        if self.full and any(name in DENY_OOM for name, _ in split):
            raise Refusal(OOM)
        db = self._begin(now_ms)
        answers: list[Any] = []
        for name, args in split:
            try:
                answers.append(COMMANDS[name](db, args))
            except Refusal as error:
                answers.append(error)
        self._end(db)
        return answers

    def script(self, name: str, keys: Sequence[Argument], arguments: Sequence[Argument], now_ms: int) -> Any:
        """A script. Raises Refusal; what it had done before stands, as in Redis."""
        if self.full and name not in ALLOW_OOM:
            raise Refusal(OOM)
        db = self._begin(now_ms)
        try:
            return SCRIPTS[name](db, [encoded(key) for key in keys], [encoded(item) for item in arguments])
        finally:
            self._end(db)

    def go_back(self, index: int) -> None:
        """Be as after the step of this index in the history, as a failover to a replica that lags behind."""
        self.now = self.history[index]
        self.history.append(self.now)

    def _begin(self, now_ms: int) -> Database:
        db = Database(self.now, now_ms)
        if db.expires:
            for key in [key for key, at in db.expires.items() if at <= now_ms]:
                db.delete(key)
        return db

    def _end(self, db: Database) -> None:
        if db.dirty:
            self.now = Snapshot(db.keys, db.expires)
            self.history.append(self.now)


def _split(command: Command) -> tuple[str, list[bytes]]:
    return str(command[0]), [encoded(item) for item in command[1:]]
