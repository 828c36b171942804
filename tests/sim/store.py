"""The data of the model server: immutable values by key, and a working copy for one step."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple, TypeGuard

from mapreduce_rq.broker.wire import Argument

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


def encoded(argument: Argument) -> bytes:
    """An argument as it goes over the wire."""
    if isinstance(argument, bytes):
        return argument
    return encoded_word(argument) if isinstance(argument, str) else b"%d" % argument


@lru_cache(4096)
def encoded_word(word: str) -> bytes:
    """The names of commands, keys and fields come again and again."""
    return word.encode()


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
    """One state of the server. Its tables are never changed."""

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


def id_text(name: Id) -> bytes:
    """A stream id as Redis writes it."""
    return b"%d-%d" % name
