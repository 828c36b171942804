"""The shuffle: the groups of many keys are cut into parts by a hash of the key, and each part is merged on its own.

    a worker    folds a task by key. It cuts a large fold into parts and lays them aside; the answer is a reference
    the master  counts references, in the order of the terms if that matters
    a worker    merges one part of all the tasks (a request of ``finish``), and lays the part's result aside
    the master  hands the parts to its caller, one after the other; no key has passed through it

With a private server, the parts that are laid aside are files (runtime/server/shelf.py). With a shared server, they are
in a hash of the job (broker/pieces.py), and a part's result comes to the master in the answer.

A small fold is sent as it is, and the master cuts it. So a job of few keys costs no more than without a shuffle. If
there is no room to lay pieces aside, the job is only slower. Value and digest do not depend on the number of parts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple

import msgspec

from mapreduce_rq.core.bodies import Buffer, Pieces, ValueCodec
from mapreduce_rq.core.outcome import Ask, Deferred, Outcome
from mapreduce_rq.core.reducers.base import Reducer
from mapreduce_rq.core.reducers.by_key import ByKey, Groups
from mapreduce_rq.core.reducers.key_hash import BUCKETS, buckets_of
from mapreduce_rq.core.reducers.keys import Key
from mapreduce_rq.core.reducers.part_files import of_one_schema, written_part
from mapreduce_rq.core.text import in_lines, plural
from mapreduce_rq.core.written import written

LEAST_BYTES = 64 * 1024
"""A worker does not cut a fold of fewer bytes than this: it sends the fold as it is."""
MANY_KEYS = 8192
"""A fold of at least this number of keys is cut, without counting its bytes."""
FEW_KEYS = 50_000
"""Up to this number of keys, if none is laid aside, the master merges all itself: a request takes it a millisecond."""


class Laid(NamedTuple):
    """A reference to the parts of a fold, which a worker has laid aside."""

    reference: bytes


class Packed(NamedTuple):
    """Groups as they travel. They are read only when they are needed: perhaps no process needs them."""

    body: bytes


Entry = Groups | Laid | Packed


class Part(NamedTuple):
    """One part of the result: the number of its keys, whether all its results are exact, and its body."""

    keys: int
    exact: bool
    digests: list[bytes]
    body: Buffer


class Parts:
    """The result of a shuffle: pairs ``(key, result)``, part by part, in each part in the order of its keys.

    It can be iterated over again and again, with one part in memory at a time. ``len`` is the number of keys.
    """

    def __init__(self, reducer: ByKey, form: str, parts: Sequence[Part]) -> None:
        self._reducer = reducer
        self._form = form
        self._parts = parts

    def __len__(self) -> int:
        return sum(part.keys for part in self._parts)

    def __iter__(self) -> Iterator[tuple[Key, Any]]:
        for number in range(len(self._parts)):
            yield from self.part(number)

    @property
    def parts(self) -> int:
        """The number of parts."""
        return len(self._parts)

    @property
    def bodies(self) -> list[Buffer]:
        """The body of each part, as it came."""
        return [part.body for part in self._parts]

    @property
    def columns(self) -> list[str]:
        """The names of the columns; empty if there is only one column, without a name."""
        return self._reducer.columns

    def part(self, number: int) -> list[tuple[Key, Any]]:
        """The pairs of one part. Raises ValueError if the parts were written as files."""
        if self._form:
            raise ValueError(f"these parts are written as {self._form}: read the files")
        return self._reducer.rows(self._reducer.decode(bytes(self._parts[number].body)))

    def files(self) -> Iterator[tuple[int, Buffer]]:
        """For each part the number of its keys and the content of its file."""
        if self._form == "parquet":
            contents = of_one_schema([part.body for part in self._parts])
            yield from zip((part.keys for part in self._parts), contents, strict=True)
            return
        for number, part in enumerate(self._parts):
            yield part.keys, part.body if self._form else written_part(self.part(number), self.columns, "jsonl")

    @property
    def form(self) -> str:
        """The form of the files: jsonl or parquet; '' if the parts are not files."""
        return self._form

    def digested(self) -> bytes:
        """The bytes that the digest is made of: the hash of each bucket of keys, in their order."""
        ordered: list[bytes] = [b""] * BUCKETS
        for number, part in enumerate(self._parts):
            ordered[number :: len(self._parts)] = part.digests
        return b"".join(ordered)

    def __repr__(self) -> str:
        return f"<Parts: {plural(len(self), 'key')} in {self.parts}>"


class Shuffle(Reducer[list[Entry]]):
    """Folds as ``inner`` does, in ``parts`` parts (a power of two), each written in ``form`` ('': not as files)."""

    name: ClassVar[str] = "shuffle"
    wide: ClassVar[bool] = True
    refers: ClassVar[bool] = True

    def __init__(self, inner: ByKey, parts: int, form: str = "") -> None:
        if not 1 <= parts <= BUCKETS or BUCKETS % parts:
            raise ValueError(f"parts is {parts}, and must be a power of two, at most {BUCKETS}")
        self.inner, self.parts, self.form = inner, parts, form
        self.law, self.joins = inner.law, inner.joins  # type: ignore[misc]  # of this one
        self.pieces: Pieces | None = None

    def travel_by(self, codec: ValueCodec) -> None:
        self.inner.travel_by(codec)

    def lay_in(self, pieces: Pieces | None) -> None:
        self.pieces = pieces

    def breadth(self, partial: list[Entry]) -> int:
        return self.inner.breadth(partial[0]) if len(partial) == 1 and isinstance(partial[0], Groups) else 0

    # -- partials --------------------------------------------------------------------------------------------------

    def zero(self) -> list[Entry]:
        return []

    def merge(self, left: list[Entry], right: list[Entry]) -> list[Entry]:
        found = list(left)
        for entry in right:
            if isinstance(entry, Laid):
                found.append(entry)
                continue
            groups = self._read(entry)
            if found and isinstance(found[-1], Groups):
                found[-1] = self.inner.merge(found[-1], groups)
            else:
                found.append(self.inner.merge(self.inner.zero(), groups))
        return found

    def fold(self, lo: int, values: Iterable[Any]) -> list[Entry]:
        return [self.inner.fold(lo, values)]

    def fold_into(self, partial: list[Entry], lo: int, values: Iterable[Any]) -> list[Entry]:
        """As the base class. The partial must have been folded in this process, so that it has groups."""
        if not partial:
            return self.fold(lo, values)
        (groups,) = partial
        assert isinstance(groups, Groups)
        return [self.inner.fold_into(groups, lo, values)]

    def fold_at(self, terms: Sequence[int], values: Sequence[Any], partial: list[Entry] | None = None) -> list[Entry]:
        groups = partial[0] if partial else None
        assert groups is None or isinstance(groups, Groups)
        return [self.inner.fold_at(terms, values, groups)]

    def encode(self, partial: list[Entry]) -> bytes:
        return _ENCODER.encode([self._sent(entry) for entry in partial])

    def _sent(self, entry: Entry) -> tuple[bytes, bytes]:
        """A reference to the groups and b"", or b"" and the groups themselves."""
        if isinstance(entry, Laid):
            return entry.reference, b""
        if isinstance(entry, Packed):
            return b"", entry.body
        many = len(self.inner.keys(entry)) >= MANY_KEYS
        body = b"" if many and self.pieces is not None else self.inner.encode(entry)
        if self.pieces is not None and (many or len(body) >= LEAST_BYTES):
            reference = self.pieces.lay(self.cut(entry))
            if reference is not None:
                return reference, b""
        return b"", body or self.inner.encode(entry)

    def decode(self, data: bytes) -> list[Entry]:
        try:
            rows = _ENTRIES.decode(data)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise ValueError(f"not what was laid aside: {error}") from None
        return [Laid(reference) if reference else self.inner.decode(body) for reference, body in rows]

    def _read(self, entry: Groups | Packed) -> Groups:
        return self.inner.decode(entry.body) if isinstance(entry, Packed) else entry

    def cut(self, groups: Groups) -> list[bytes]:
        """The groups of each part, encoded."""
        inner = self.inner
        return [inner.encode(inner.only(groups, keys)) for keys in dealt(list(inner.keys(groups)), self.parts)]

    # -- the end ---------------------------------------------------------------------------------------------------

    def finish(self, partial: list[Entry]) -> Outcome | Ask:
        """Have workers merge the parts, or merge them here if they are small."""
        rows: list[list[tuple[bytes, bytes]]] = [[] for _ in range(self.parts)]
        for entry in partial:
            if isinstance(entry, Laid):
                for row in rows:
                    row.append((entry.reference, b""))
            else:
                for row, piece in zip(rows, self.cut(self._read(entry)), strict=True):
                    row.append((b"", piece))
        bodies = [_ENCODER.encode((number, row)) for number, row in enumerate(rows)]
        few = not any(isinstance(entry, Laid) for entry in partial)
        if few and sum(len(self.inner.keys(entry)) for entry in partial if isinstance(entry, Groups)) <= FEW_KEYS:
            return self.outcome([self._merged(number, row) for number, row in enumerate(rows)])
        return Ask(bodies, self._then)

    def work(self, body: bytes) -> bytes:
        """Merge one part and lay its result aside. Raises ValueError if a piece is lost."""
        number, row = _REQUEST.decode(body)
        part = self._merged(number, row)
        reference = None
        if self.pieces is not None and self.pieces.outlives and len(part.body) >= LEAST_BYTES:
            reference = self.pieces.lay([bytes(part.body)])
        return _ENCODER.encode(
            (number, part.keys, part.exact, part.digests, reference or b"", b"" if reference else part.body)
        )

    def _merged(self, number: int, row: list[tuple[bytes, bytes]]) -> Part:
        inner, groups = self.inner, self.inner.zero()
        fetched = self._fetched([reference for reference, _ in row if reference], number)
        for reference, body in row:
            piece = bytes(next(fetched)) if reference else body
            groups = inner.merge_into(groups, inner.decode(piece))
        keys = list(inner.keys(groups))
        digests = [
            hashlib.blake2b(inner.canonical(inner.only(groups, each)), digest_size=16).digest() if each else b""
            for each in dealt(keys, BUCKETS)[number :: self.parts]
        ]
        content = written_part(inner.rows(groups), inner.columns, self.form) if self.form else inner.encode(groups)
        return Part(len(keys), inner.exact(groups), digests, content)

    def _fetched(self, references: Sequence[bytes], number: int) -> Iterator[Buffer]:
        if not references:
            return iter(())
        if self.pieces is None:
            raise ValueError("a piece of the shuffle lies where this process cannot read it")
        return self.pieces.row(references, number)

    def _then(self, answers: Sequence[bytes]) -> Outcome:
        parts = []
        for expected, answer in enumerate(answers):
            try:
                number, keys, exact, digests, reference, body = _ANSWER.decode(answer)
            except (msgspec.MsgspecError, RecursionError) as error:
                raise ValueError(f"no part of a shuffle: {error}") from None
            if number != expected or len(digests) != BUCKETS // self.parts:
                raise ValueError("a part of another shuffle")
            content = next(self._fetched([reference], 0)) if reference else body
            parts.append(Part(keys, exact, digests, content))
        return self.outcome(parts)

    def outcome(self, parts: Sequence[Part]) -> Outcome:
        """The outcome of all parts in their order."""
        found = Parts(self.inner, self.form, parts)
        exact = all(part.exact for part in parts)
        vague = self.inner.vague
        columns = {"columns": self.inner.columns} if self.inner.columns else {}
        return Outcome(
            value="",
            text=Deferred(_text, found),
            native=found,
            total=Deferred(Parts.digested, found),
            bound="0" if exact else None,
            bound_kind="exact" if exact else "none",
            details={"keys": len(found), "parts": found.parts} | columns,
            notes=(f"approximate: {', '.join(vague)}",) if vague else (),
        )

    def refers_to(self, body: bytes) -> list[bytes]:
        try:
            return [reference for reference, _ in _ENTRIES.decode(body) if reference]
        except (msgspec.MsgspecError, RecursionError):
            return []

    def lasting(self, outcome: Outcome) -> list[Entry] | None:
        """The parts as they came; None if they are files, which only the caller has."""
        found = outcome.native
        assert isinstance(found, Parts)
        return None if self.form else [Packed(bytes(body)) for body in found.bodies]

    def describe(self, partial: list[Entry]) -> Outcome:
        found = self.finish(partial)
        return self._then(list(map(self.work, found.bodies))) if isinstance(found, Ask) else found


def dealt(keys: Sequence[Key], number: int) -> list[list[Key]]:
    """The keys of each part, by their buckets. Within a part they keep their order."""
    if not keys:
        return [[] for _ in range(number)]
    import numpy as np  # as in key_hash.py

    places = buckets_of(keys) % number
    order = list(map(keys.__getitem__, np.argsort(places, kind="stable").tolist()))
    cuts = [0, *np.cumsum(np.bincount(places, minlength=number)).tolist()]
    return [order[lo:hi] for lo, hi in pairwise(cuts)]


def _text(parts: Parts) -> Iterator[str]:
    """The text: a line for each key, as without a shuffle. The keys of each part are in order."""
    if parts.form:
        return iter([repr(parts)])
    rows = ((key, *(result.values() if parts.columns else (result,))) for key, result in parts)
    return in_lines("\t".join(map(written, row)) for row in rows)


_ENCODER = msgspec.msgpack.Encoder()
_ENTRIES = msgspec.msgpack.Decoder(list[tuple[bytes, bytes]])
_REQUEST = msgspec.msgpack.Decoder(tuple[int, list[tuple[bytes, bytes]]])
_ANSWER = msgspec.msgpack.Decoder(tuple[int, int, bool, list[bytes], bytes, bytes])
