"""The commands that the broker and its scripts use, on the model's data.

Each command takes the database and its arguments without the name, and gives what a raw RESP2 connection reads.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

from tests.sim.store import Database, List, Refusal, SortedSet, Stream, id_text, kind
from tests.sim.words import id_of, integer, is_left, pairs, real, seconds

Arguments = Sequence[bytes]

DENY_OOM = {"LPUSH", "RPUSH", "LMOVE", "BLMOVE", "HSET", "XADD", "ZADD"}
"""Commands that Redis refuses at its memory limit (flag ``denyoom`` of COMMAND INFO)."""


def _lpush(db: Database, args: Arguments) -> int:
    found = (*reversed(args[1:]), *db.list(args[0]))
    db.put(args[0], found)
    return len(found)


def _rpush(db: Database, args: Arguments) -> int:
    found = (*db.list(args[0]), *args[1:])
    db.put(args[0], found)
    return len(found)


def _rpop(db: Database, args: Arguments) -> Any:
    count = _count(args)
    found = db.list(args[0])
    if not found:
        return None
    rest, taken = found[: max(0, len(found) - count)], found[max(0, len(found) - count) :]
    if taken:
        db.put(args[0], rest)
    return list(reversed(taken)) if len(args) > 1 else taken[0]


def _lpop(db: Database, args: Arguments) -> Any:
    count = _count(args)
    found = db.list(args[0])
    if not found:
        return None
    taken = found[:count]
    if taken:
        db.put(args[0], found[count:])
    return list(taken) if len(args) > 1 else taken[0]


def _count(args: Arguments) -> int:
    if len(args) > 2:
        raise Refusal("ERR wrong number of arguments")
    return _positive(args[1]) if len(args) > 1 else 1


def _positive(text: bytes) -> int:
    count = integer(text)
    if count < 0:
        raise Refusal("ERR value is out of range, must be positive")
    return count


def _range(found: List, start: bytes, stop: bytes) -> List:
    first, last = integer(start), integer(stop)
    size = len(found)
    first = max(0, first + size if first < 0 else first)
    last = last + size if last < 0 else last
    return found[first : last + 1] if last >= first else ()


def _lrange(db: Database, args: Arguments) -> list[bytes]:
    return list(_range(db.list(args[0]), args[1], args[2]))


def _ltrim(db: Database, args: Arguments) -> bytes:
    kept = _range(found := db.list(args[0]), args[1], args[2])
    if found:
        db.put(args[0], kept)
    return b"OK"


def _llen(db: Database, args: Arguments) -> int:
    return len(db.list(args[0]))


def _lrem(db: Database, args: Arguments) -> int:
    count, found, element = integer(args[1]), db.list(args[0]), args[2]
    if count == -(2**63):
        raise Refusal("ERR value is out of range")
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
    source, target, left, to_left = args[0], args[1], is_left(args[2]), is_left(args[3])
    found = db.list(source)
    if not found:
        return None
    db.list(target)
    moved, rest = (found[0], found[1:]) if left else (found[-1], found[:-1])
    there = rest if source == target else db.list(target)
    if source != target:
        db.put(source, rest)
    db.put(target, (moved, *there) if to_left else (*there, moved))
    return moved


def _hset(db: Database, args: Arguments) -> int:
    found = db.hash(args[0])
    after = {**found, **dict(pairs(args[1:]))}
    db.put(args[0], after)
    return len(after) - len(found)


def _hget(db: Database, args: Arguments) -> bytes | None:
    return db.hash(args[0]).get(args[1])


def _hstrlen(db: Database, args: Arguments) -> int:
    return len(db.hash(args[0]).get(args[1], b""))


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
    for score, member in pairs(args[1:]):
        after[member] = real(score)
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


def _rename(db: Database, args: Arguments) -> bytes:
    if args[0] not in db.keys:
        raise Refusal("ERR no such key")
    value = db.keys[args[0]]
    db.delete(args[0])
    db.delete(args[1])
    db.put(args[1], value)
    return b"OK"


def _exists(db: Database, args: Arguments) -> int:
    return sum(key in db.keys for key in args)


def _type(db: Database, args: Arguments) -> bytes:
    found = db.keys.get(args[0])
    return b"none" if found is None else kind(found)


def _expire(db: Database, args: Arguments) -> int:
    left = integer(args[1])
    if abs(left) >= 2**63 // 1000 or db.now_ms + 1000 * left >= 2**63:
        raise Refusal("ERR invalid expire time in 'expire' command")
    if args[0] not in db.keys:
        return 0
    if left <= 0:
        db.delete(args[0])
    else:
        db.expire(args[0], db.now_ms + 1000 * left)
    return 1


def _ttl(db: Database, args: Arguments) -> int:
    if args[0] not in db.keys:
        return -2
    at = db.expires.get(args[0])
    return -1 if at is None else round((at - db.now_ms) / 1000)


def _xadd(db: Database, args: Arguments) -> bytes | None:
    key, rest = args[0], list(args[1:])
    made = rest[0] != b"NOMKSTREAM"
    if not made:
        del rest[0]
    most = None
    if rest[:2] == [b"MAXLEN", b"="]:  # read, like all options, before the key is looked at
        most = _positive(rest[2])
        del rest[:3]
    found = db.stream(key)
    if found is None and not made:
        return None
    entries, last = found or Stream((), (0, 0))
    kept = len(entries) + 1 if most is None else most
    pairs(rest[1:])
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
    least = id_of(args[3])
    found = db.stream(args[0])
    if found is None:
        return 0
    kept = found.entries[bisect_left(found.entries, least, key=itemgetter(0)) :]
    if len(kept) < len(found.entries):
        db.put(args[0], Stream(kept, found.last))
    return len(found.entries) - len(kept)


def _xread(db: Database, args: Arguments) -> Any:
    at, count = 0, None
    while args[at] != b"STREAMS":
        if args[at] == b"COUNT":
            count = integer(args[at + 1])
        elif not 0 <= integer(args[at + 1]) < 2**63 - db.now_ms:  # BLOCK
            raise Refusal("ERR timeout is negative")
        at += 2
    named = args[at + 1 :]
    answers = []
    for key, since in zip(named[: len(named) // 2], named[len(named) // 2 :], strict=True):
        found, after = db.stream(key), id_of(since)
        if found is None or not found.entries or found.entries[-1][0] <= after:
            continue
        first = bisect_right(found.entries, after, key=itemgetter(0))
        entries = found.entries[first:] if count is None else found.entries[first : first + count]
        answers.append([key, [[id_text(name), list(fields)] for name, fields in entries]])
    return answers or None


def _blmove(db: Database, args: Arguments) -> bytes | None:
    seconds(args[4])
    return _lmove(db, args[:4])


def _blmpop(db: Database, args: Arguments) -> Any:
    wait, number, key, side, *rest = args
    seconds(wait)
    if rest[1] == b"0":
        raise Refusal("ERR count should be greater than 0")
    if number != b"1" or side != b"RIGHT" or rest[:1] != [b"COUNT"]:
        raise Refusal("ERR the model pops some from the right end of one list only")
    taken = _rpop(db, [key, rest[1]])
    return [key, taken] if taken else None


def _flushall(db: Database, _: Arguments) -> bytes:
    for key in list(db.keys):
        db.delete(key)
    return b"OK"


COMMANDS: dict[str, Callable[[Database, Arguments], Any]] = {
    "LPUSH": _lpush,
    "RPUSH": _rpush,
    "RPOP": _rpop,
    "LPOP": _lpop,
    "LRANGE": _lrange,
    "LTRIM": _ltrim,
    "LLEN": _llen,
    "LREM": _lrem,
    "LMOVE": _lmove,
    "BLMOVE": _blmove,
    "BLMPOP": _blmpop,
    "HSET": _hset,
    "HGET": _hget,
    "HSTRLEN": _hstrlen,
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
    "RENAME": _rename,
    "UNLINK": _del,
    "TTL": _ttl,
    "XADD": _xadd,
    "XLEN": _xlen,
    "XTRIM": _xtrim,
    "XREAD": _xread,
    "FLUSHALL": _flushall,
}

ARITY = {
    "LPUSH": -3,
    "RPUSH": -3,
    "RPOP": -2,
    "LPOP": -2,
    "LRANGE": 4,
    "LTRIM": 4,
    "LLEN": 2,
    "LREM": 4,
    "LMOVE": 5,
    "BLMOVE": 6,
    "BLMPOP": -5,
    "HSET": -4,
    "HGET": 3,
    "HSTRLEN": 3,
    "HMGET": -3,
    "HGETALL": 2,
    "HDEL": -3,
    "HLEN": 2,
    "ZADD": -4,
    "ZRANGE": -4,
    "ZREM": -3,
    "DEL": -2,
    "UNLINK": -2,
    "RENAME": 3,
    "EXISTS": -2,
    "TYPE": 2,
    "EXPIRE": -3,
    "TTL": 2,
    "XADD": -5,
    "XLEN": 2,
    "XTRIM": -4,
    "XREAD": -4,
    "FLUSHALL": -1,
}
"""How many words a command has with its name; below zero, how many at least (as COMMAND INFO says)."""
