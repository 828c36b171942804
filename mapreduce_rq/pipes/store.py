"""The data that would be in Redis, in this process, with the commands that the verbs use, and the three scripts.

Answers are those of a server. A queue or a hand is a deque with the same left and right as the list in Redis; a stream
numbers its entries without gaps, so an entry is found by its number.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any

from mapreduce_rq.broker.wire import Argument, Command

OLDEST_FIRST = ("RIGHT", "LEFT")
"""The one way in which the verbs move a task: the next one of the queue, to the newest side of a hand."""


class Stream:
    """A stream of replies, in order."""

    __slots__ = ("entries", "first")

    def __init__(self, first: int) -> None:
        self.entries: list[bytes] = []
        self.first = first  # number of the first entry

    def after(self, number: int) -> int:
        """The index of the first entry after this number."""
        return max(0, number + 1 - self.first)


class Store:
    """The data. Each method in :attr:`commands` or :attr:`scripts` is one step; no two of them run at the same time."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self.lists: dict[str, deque[bytes]] = {}
        self.hashes: dict[str, dict[bytes, bytes]] = {}
        self.streams: dict[str, Stream] = {}
        self.running: set[str] = set()  # the streams of jobs that run; others are kept values
        self.jobs: dict[str, dict[str, float]] = {}  # sorted sets
        self._clock = clock
        self._expiring: dict[str, float] = {}
        self._soonest = float("inf")  # nothing expires before this
        self._next = 1  # the number of the next stream's first entry: a stream that is opened again repeats no number
        self.commands: dict[str, Callable[..., Any]] = {
            "BLMOVE": self._blmove, "DEL": self._delete, "EXISTS": self._exists, "HDEL": self._hdel,
            "HGET": self._hget, "HGETALL": self._hgetall, "HLEN": self._hlen, "HMGET": self._hmget, "HSET": self._hset,
            "HSTRLEN": self._hstrlen, "LLEN": self._llen, "LMOVE": self._lmove, "LPUSH": self._lpush,
            "LRANGE": self._lrange, "LREM": self._lrem, "RPUSH": self._rpush, "TYPE": self._type,
            "UNLINK": self._delete, "XLEN": self._xlen, "XREAD": self._xread, "ZADD": self._zadd,
            "ZRANGE": self._zrange, "ZREM": self._zrem,
        }  # fmt: skip
        self.scripts: dict[str, Callable[..., Any]] = {
            "commit": self._commit, "settle": self._settle, "reap": self._reap,
        }  # fmt: skip

    def call(self, command: Command) -> Any:
        """One command's answer. A blocking one does not block here."""
        if self._expiring and self._clock() >= self._soonest:
            self._expire()
        return self.commands[str(command[0])](*command[1:])

    def script(self, name: str, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        """A script's answer."""
        if self._expiring and self._clock() >= self._soonest:
            self._expire()
        return self.scripts[name](keys, arguments)

    def has_after(self, key: str, entry: str) -> Callable[[], bool]:
        """A function that returns whether a stream has an entry after this one."""
        streams, number = self.streams, _number(entry)

        def has() -> bool:
            stream = streams.get(key)
            return stream is not None and stream.after(number) < len(stream.entries)

        return has

    def _expire(self) -> None:
        now = self._clock()
        for key in [key for key, at in self._expiring.items() if at <= now]:
            self._delete(key)
        self._soonest = min(self._expiring.values(), default=float("inf"))

    def _expire_in(self, key: str, seconds: Argument) -> None:
        at = self._clock() + int(seconds)
        self._expiring[key] = at
        self._soonest = min(self._soonest, at)

    # -- lists -----------------------------------------------------------------------------------------------------

    def _list(self, key: str) -> deque[bytes]:
        found = self.lists.get(key)
        if found is None:
            found = self.lists[key] = deque()
        return found

    def _tidy(self, key: str) -> None:
        """Remove a list without entries, as Redis does."""
        if not self.lists.get(key, True):
            del self.lists[key]

    def _lpush(self, key: str, *values: Argument) -> int:
        found = self._list(key)
        found.extendleft(_bytes(value) for value in values)
        return len(found)

    def _rpush(self, key: str, *values: Argument) -> int:
        found = self._list(key)
        found.extend(_bytes(value) for value in values)
        return len(found)

    def _llen(self, key: str) -> int:
        return len(self.lists.get(key, ()))

    def _lrange(self, key: str, start: Argument, stop: Argument) -> list[bytes]:
        return _cut(list(self.lists.get(key, ())), int(start), int(stop))

    def _lrem(self, key: str, count: Argument, value: Argument) -> int:
        found, wanted, limit = self.lists.get(key), _bytes(value), int(count)
        if found is None:
            return 0
        removed = 0
        if limit < 0:
            found.reverse()
        try:
            while not limit or removed < abs(limit):
                found.remove(wanted)
                removed += 1
        except ValueError:
            pass
        if limit < 0:
            found.reverse()
        self._tidy(key)
        return removed

    def _blmove(self, source: str, target: str, out: str, into: str, _: Argument) -> bytes | None:
        return self._lmove(source, target, out, into)

    def _lmove(self, source: str, target: str, out: str, into: str) -> bytes | None:
        if (out, into) != OLDEST_FIRST:
            raise ValueError(f"LMOVE {out} {into} is no verb's")
        found = self.lists.get(source)
        if not found:
            return None
        task = found.pop()
        self._tidy(source)
        self._list(target).appendleft(task)
        return task

    # -- hashes ----------------------------------------------------------------------------------------------------

    def _hset(self, key: str, *pairs: Argument) -> int:
        found = self.hashes.setdefault(key, {})
        before = len(found)
        words = [word if type(word) is bytes else str(word).encode() for word in pairs]
        found.update(zip(words[::2], words[1::2], strict=True))
        return len(found) - before

    def _hget(self, key: str, field: Argument) -> bytes | None:
        return self.hashes.get(key, {}).get(_bytes(field))

    def _hmget(self, key: str, *fields: Argument) -> list[bytes | None]:
        found = self.hashes.get(key, {})
        return [found.get(_bytes(field)) for field in fields]

    def _hgetall(self, key: str) -> list[bytes]:
        return [part for pair in self.hashes.get(key, {}).items() for part in pair]

    def _hlen(self, key: str) -> int:
        return len(self.hashes.get(key, ()))

    def _hstrlen(self, key: str, field: Argument) -> int:
        return len(self._hget(key, field) or b"")

    def _hdel(self, key: str, *fields: Argument) -> int:
        found = self.hashes.get(key)
        if found is None:
            return 0
        removed = sum(found.pop(_bytes(field), None) is not None for field in fields)
        if not found:
            del self.hashes[key]
        return removed

    # -- streams ---------------------------------------------------------------------------------------------------

    def _xlen(self, key: str) -> int:
        stream = self.streams.get(key)
        return len(stream.entries) if stream is not None else 0

    def _xread(self, *words: Argument) -> Any:
        count: int | None = None
        at = 0
        while words[at] != "STREAMS":
            if words[at] == "COUNT":
                count = int(words[at + 1])
            at += 2
        key, after = str(words[at + 1]), str(words[at + 2])
        stream = self.streams.get(key)
        if stream is None:
            return None
        begin = stream.after(_number(after))
        entries = stream.entries[begin : None if count is None else begin + count]
        if not entries:
            return None
        first = stream.first + begin
        return [[key.encode(), [[b"0-%d" % (first + i), [b"a", entry]] for i, entry in enumerate(entries)]]]

    def _append(self, key: str, entry: bytes) -> bool:
        """Append an entry. Returns False if there is no such stream: then its job is over."""
        stream = self.streams.get(key)
        if stream is None:
            return False
        stream.entries.append(entry)
        return True

    def _end_stream(self, key: str) -> None:
        stream = self.streams.pop(key, None)
        self.running.discard(key)
        if stream is not None:
            self._next = max(self._next, stream.first + len(stream.entries))

    # -- the listing -----------------------------------------------------------------------------------------------

    def _zadd(self, key: str, score: Argument, member: Argument) -> int:
        found = self.jobs.setdefault(key, {})
        fresh = str(member) not in found
        found[str(member)] = float(score)
        return int(fresh)

    def _zrange(self, key: str, start: Argument, stop: Argument) -> list[bytes]:
        rows = sorted(self.jobs.get(key, {}).items(), key=lambda row: (row[1], row[0]))
        return _cut([member.encode() for member, _ in rows], int(start), int(stop))

    def _zrem(self, key: str, *members: Argument) -> int:
        found = self.jobs.get(key, {})
        removed = 0
        for member in members:
            removed += found.pop(str(member), None) is not None
        if key in self.jobs and not found:
            del self.jobs[key]
        return removed

    # -- keys ------------------------------------------------------------------------------------------------------

    def _type(self, key: str) -> bytes:
        kinds = ((self.lists, b"list"), (self.hashes, b"hash"), (self.streams, b"stream"), (self.jobs, b"zset"))
        return next((kind for table, kind in kinds if key in table), b"none")

    def _exists(self, *keys: str) -> int:
        return sum(self._type(key) != b"none" for key in keys)

    def _delete(self, *keys: str) -> int:
        found = 0
        for key in keys:
            self._expiring.pop(key, None)
            found += key in self.streams
            self._end_stream(key)
            table: dict[str, Any]
            for table in (self.lists, self.hashes, self.jobs):
                found += table.pop(key, None) is not None
        return found

    # -- scripts ---------------------------------------------------------------------------------------------------

    def _commit(self, keys: Sequence[str], argv: Sequence[Argument]) -> list[Any]:
        """As commit.lua, line by line."""
        job, replies, queue, listing, values = keys[:5]  # no body is stored apart: large ones are files
        expect, token, what, number, name, count = argv[:6]
        row = self.hashes.get(job, {})
        found = row.get(b"tok", b"")
        if found != _bytes(expect):
            return [b"lost", found, row.get(b"state", b"")]
        over = what in ("over", "over, kept")
        if what == "over, kept" and replies in self.streams:
            self.streams[values] = self.streams.pop(replies)
            self.running.discard(replies)
            self._expire_in(values, number)
        elif over:
            self._end_stream(replies)
        elif what not in ("", "create", "keep", "ahead", "create, ahead"):
            stream = self.streams.get(replies)
            if stream is not None:
                behind = stream.after(_number(str(what)) - 1)
                del stream.entries[:behind]
                stream.first += behind
        if what in ("create", "create, ahead") or (not over and int(number)):
            self._zadd(listing, number, name)
        opened = 0
        if not over and what != "keep" and replies not in self.streams:
            self.streams[replies] = Stream(self._next)
            self.running.add(replies)
            opened = 1
        last = 8 + 2 * int(count)
        self._hset(job, "tok", token, *argv[8:last])
        if over:
            self._expire_in(job, number)
        if len(argv) > last:
            tasks: Any = argv[last:]  # sealed: they are bytes
            if what in ("ahead", "create, ahead"):
                self._list(queue).extend(reversed(tasks))
            else:
                self._list(queue).extendleft(tasks)
        return [b"ok", len(self.lists.get(queue, ())), opened]

    def _settle(self, keys: Sequence[str], argv: Sequence[Argument]) -> list[Any]:
        """As settle.lua, line by line."""
        mine, queue, workers = keys[:3]
        over = [
            at - 2
            for at, key in enumerate(keys)
            if at >= 3 and not self._append(key, argv[at])  # type: ignore[arg-type]
        ]
        hand = self._list(mine)
        length, settled, want, least = int(argv[0]), int(argv[1]), int(argv[2]), int(argv[-1] or 0)
        if len(hand) != length:
            self._tidy(mine)
            return [b"differs", over, list(hand)]
        for _ in range(min(settled, length)):
            hand.pop()
        waiting = self._list(queue)
        taken: list[bytes] = []
        if want > 0:
            among = max(1, len(self.hashes.get(workers, ())))
            share = len(waiting) // among if length > settled else -(-len(waiting) // among)
            taken = [waiting.pop() for _ in range(min(want, len(waiting), max(share, least)))]
            hand.extendleft(taken)
        else:
            for _ in range(min(-want, len(hand))):
                waiting.append(hand.popleft())
        self._tidy(mine)
        self._tidy(queue)
        return [b"ok", over, taken]

    def _reap(self, keys: Sequence[str], argv: Sequence[Argument]) -> int:
        """As reap.lua, line by line."""
        mine, queue, workers = keys
        wid, obituary = argv[:2]
        given = 0
        for at in range(2, len(argv), 2):
            if self._lrem(mine, -1, argv[at]):
                self._rpush(queue, argv[at + 1])
                given += 1
        if obituary == "X":
            if not self.lists.get(mine):
                self._hdel(workers, wid)
        elif obituary != "":
            self._hset(workers, wid, obituary)
        return given


def _bytes(argument: Argument) -> bytes:
    return argument if type(argument) is bytes else str(argument).encode()


def _number(entry: str) -> int:
    """The number in a stream id; all ids here begin with 0."""
    return int(entry.partition("-")[2])


def _cut(row: list[bytes], start: int, stop: int) -> list[bytes]:
    first = max(0, start + len(row) if start < 0 else start)
    last = stop + len(row) if stop < 0 else stop
    return row[first : last + 1] if last >= first else []
