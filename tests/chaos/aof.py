"""A server's append-only file as what it is: the complete history of its data, in the steps in which it changed.

Reads the directory that Redis 7 and Valkey write (a manifest, a base, increments), or one plain file. A step is what
became visible at once: a command, or everything between MULTI and EXEC, which is also how a script's effects are
written. A last step that was cut off, as after a crash, is not there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

Command = list[bytes]
Step = list[Command]


class BadHistory(Exception):
    """The file cannot be read, or what happened in it must not happen."""


def files_of(path: Path) -> list[Path]:
    """The files of the append-only directory ``path`` in order, or ``path`` itself."""
    if path.is_file():
        return [path]
    manifest = next(iter(path.glob("*.manifest")), None)
    if manifest is None:
        raise BadHistory(f"{path} is no append-only directory: there is no manifest")
    found = []
    for line in manifest.read_text().splitlines():
        words = line.split()
        entry = dict(zip(words[::2], words[1::2], strict=True))
        if entry["type"] in {"b", "i"}:
            found.append(path / entry["file"])
    return found


def commands_of(data: bytes) -> Iterator[Command]:
    """The whole commands in the bytes of a file; annotations are passed over."""
    if data.startswith(b"REDIS"):
        raise BadHistory("the base is a snapshot: start the server with aof-use-rdb-preamble no")
    at = 0
    try:
        while at < len(data):
            end = data.index(b"\r\n", at)
            kind, number = data[at : at + 1], data[at + 1 : end]
            at = end + 2
            if kind == b"#":
                continue
            if kind != b"*":
                raise BadHistory(f"not a command at byte {at}: {data[at - 20 : at + 20]!r}")
            command = []
            for _ in range(int(number)):
                end = data.index(b"\r\n", at)
                size = int(data[at + 1 : end])
                at = end + 2
                if len(data) < at + size + 2:
                    return  # cut off
                command.append(data[at : at + size])
                at += size + 2
            yield command
    except ValueError:
        return  # cut off within a length


def boundaries_of(data: bytes) -> list[int]:
    """Where the steps of a file begin and end, for files without annotations."""
    found, at, inside = [0], 0, False
    for command in commands_of(data):
        at += len(b"*%d\r\n" % len(command)) + sum(len(b"$%d\r\n\r\n" % len(word)) + len(word) for word in command)
        inside = command[0].upper() == b"MULTI" or (inside and command[0].upper() != b"EXEC")
        if not inside:
            found.append(at)
    return found


def steps_of(path: Path) -> Iterator[Step]:
    """The history, step by step."""
    for file in files_of(path):
        open_: Step | None = None
        for command in commands_of(file.read_bytes()):
            word = command[0].upper()
            if word == b"MULTI":
                open_ = []
            elif word == b"EXEC":
                if open_:
                    yield open_
                open_ = None
            elif word != b"SELECT":
                if open_ is None:
                    yield [command]
                else:
                    open_.append(command)


class Store:
    """The data as they are after the steps so far: keys of the types that we use."""

    def __init__(self) -> None:
        self.keys: dict[bytes, Any] = {}

    def apply(self, command: Command) -> list[tuple[bytes, dict[bytes, bytes]]]:
        """Do a command; the stream entries that it removed."""
        word, *rest = command
        verb = getattr(self, f"_{word.lower().decode()}", None)
        if verb is None:
            raise BadHistory(f"{word.decode()} is not a command of ours")
        removed: list[tuple[bytes, dict[bytes, bytes]]] = verb(*rest) or []
        return removed

    def row(self, key: bytes) -> list[bytes]:
        """A list, leftmost first; empty if there is none."""
        found: list[bytes] = self.keys.get(key, [])
        return found

    def _tidy(self, key: bytes) -> None:
        if not self.keys[key]:
            del self.keys[key]

    # -- hashes, sets ----------------------------------------------------------------------------------------------

    def _hset(self, key: bytes, *pairs: bytes) -> None:
        self.keys.setdefault(key, {}).update(zip(pairs[::2], pairs[1::2], strict=True))

    def _hdel(self, key: bytes, *fields: bytes) -> None:
        for field in fields:
            self.keys.get(key, {}).pop(field, None)
        if key in self.keys:
            self._tidy(key)

    def _zadd(self, key: bytes, score: bytes, member: bytes) -> None:
        self.keys.setdefault(key, {})[member] = score

    def _zrem(self, key: bytes, *members: bytes) -> None:
        self._hdel(key, *members)

    # -- lists -----------------------------------------------------------------------------------------------------

    def _lpush(self, key: bytes, *values: bytes) -> None:
        row = self.keys.setdefault(key, [])
        row[:0] = values[::-1]

    def _rpush(self, key: bytes, *values: bytes) -> None:
        self.keys.setdefault(key, []).extend(values)

    def _rpop(self, key: bytes, count: bytes = b"1") -> None:
        row = self.keys[key]
        del row[len(row) - int(count) :]
        self._tidy(key)

    def _lpop(self, key: bytes, count: bytes = b"1") -> None:
        del self.keys[key][: int(count)]
        self._tidy(key)

    def _lmove(self, source: bytes, target: bytes, where_from: bytes, where_to: bytes) -> None:
        row = self.keys[source]
        value = row.pop(0 if where_from.upper() == b"LEFT" else -1)
        self._tidy(source)
        aim = self.keys.setdefault(target, [])
        aim.insert(0 if where_to.upper() == b"LEFT" else len(aim), value)

    def _lrem(self, key: bytes, count: bytes, value: bytes) -> None:
        row = self.keys[key]
        if int(count) < 0:
            row.reverse()
        for _ in range(abs(int(count)) or row.count(value)):
            if value not in row:
                break
            row.remove(value)
        if int(count) < 0:
            row.reverse()
        self._tidy(key)

    def _ltrim(self, key: bytes, first: bytes, last: bytes) -> None:
        row = self.keys.get(key, [])
        stop = int(last) + 1
        row[:] = row[int(first) : stop or None]
        if key in self.keys:
            self._tidy(key)

    # -- streams ---------------------------------------------------------------------------------------------------

    def _xadd(self, key: bytes, *words: bytes) -> list[tuple[bytes, dict[bytes, bytes]]]:
        row = list(words)
        most = None
        while row[0] in {b"NOMKSTREAM", b"MAXLEN"}:
            if row.pop(0) == b"MAXLEN":
                if row[0] in {b"=", b"~"}:
                    row.pop(0)
                most = int(row.pop(0))
        entry, *fields = row
        stream = self.keys.setdefault(key, Stream())
        stream.add(entry, dict(zip(fields[::2], fields[1::2], strict=True)))
        return stream.keep(most) if most is not None else []

    def _xtrim(self, key: bytes, strategy: bytes, *words: bytes) -> list[tuple[bytes, dict[bytes, bytes]]]:
        stream: Stream = self.keys[key]
        bound = words[1] if words[0] in {b"=", b"~"} else words[0]
        if strategy.upper() == b"MAXLEN":
            return stream.keep(int(bound))
        least = _order(bound)
        return stream.remove([entry for entry in stream if _order(entry) < least])

    # -- any key ---------------------------------------------------------------------------------------------------

    def _del(self, *keys: bytes) -> list[tuple[bytes, dict[bytes, bytes]]]:
        removed: list[tuple[bytes, dict[bytes, bytes]]] = []
        for key in keys:
            gone = self.keys.pop(key, None)
            if isinstance(gone, Stream):
                removed += gone.items()
        return removed

    _unlink = _del

    def _pexpireat(self, key: bytes, *_: bytes) -> None:
        """The key goes when its time comes, with a DEL of its own."""

    def _set(self, key: bytes, value: bytes, *_: bytes) -> None:
        self.keys[key] = value

    def _flushall(self, *_: bytes) -> None:
        self.keys.clear()

    _flushdb = _flushall


class Stream(dict[bytes, dict[bytes, bytes]]):
    """Entries by id. An empty one is still there."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0
        """Of all values."""

    def __bool__(self) -> bool:
        return True

    def add(self, entry: bytes, fields: dict[bytes, bytes]) -> None:
        """One more."""
        self[entry] = fields
        self.bytes += sum(map(len, fields.values()))

    def keep(self, most: int) -> list[tuple[bytes, dict[bytes, bytes]]]:
        """Remove all but the newest; what was removed."""
        return self.remove(list(self)[: max(0, len(self) - most)])

    def remove(self, entries: list[bytes]) -> list[tuple[bytes, dict[bytes, bytes]]]:
        """Remove these; what was removed."""
        removed = [(entry, self.pop(entry)) for entry in entries]
        self.bytes -= sum(len(value) for _, fields in removed for value in fields.values())
        return removed


def _order(entry: bytes) -> tuple[int, int]:
    milliseconds, _, sequence = entry.partition(b"-")
    return int(milliseconds), int(sequence or b"0")
