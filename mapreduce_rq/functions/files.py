"""A user's own function, mapped over the records of files: read by the workers, or sent to them as blocks of lines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, ClassVar, NamedTuple, Self

import msgspec

from mapreduce_rq.core.bodies import ASIDE, Aside, Buffer
from mapreduce_rq.core.computation import Interruption, TermError
from mapreduce_rq.core.foreign_errors import told
from mapreduce_rq.core.parameters import Params
from mapreduce_rq.core.reducers.base import BadValue, Law, TermFailed
from mapreduce_rq.errors import BadParameter
from mapreduce_rq.files.corpus import Corpus, ends_of, is_apart, parts_of
from mapreduce_rq.files.files import Sent
from mapreduce_rq.files.lines import PIECE
from mapreduce_rq.files.records import Malformed, Reader, Records, records_of
from mapreduce_rq.functions.blocks import BLOCK as MOST_HELD
from mapreduce_rq.functions.blocks import block_after
from mapreduce_rq.functions.computation import EARLY_BYTES, FIRST_KEPT, FunctionComputation
from mapreduce_rq.functions.items import TAKE_BYTES, TAKE_SECONDS
from mapreduce_rq.functions.params import FunctionParams
from mapreduce_rq.functions.trust import Trust

BLOCK = b"l"
"""How the body of a task begins that is lines of files. The size of their origins follows in 4 bytes, then these."""


class Origin(NamedTuple):
    """Lines that follow each other in a file: its name for people, the number of the first line, how many lines."""

    path: str
    line: int
    lines: int


class Block:
    """The body of a task: whole lines, and where they come from."""

    def __init__(self, origins: Sequence[Origin], lines: bytes) -> None:
        self.origins, self.lines = origins, lines

    @classmethod
    def read(cls, body: Buffer) -> Self:
        """The block of a body. Raises ValueError."""
        whole = memoryview(body)
        size = int.from_bytes(whole[1:5], "big")
        try:
            origins = _ORIGINS.decode(whole[5 : 5 + size])
        except msgspec.MsgspecError as error:
            raise ValueError(f"no lines of files: {error}") from None
        return cls(origins, bytes(whole[5 + size :]))

    @property
    def body(self) -> bytes:
        """The bytes that :meth:`read` takes."""
        origins = msgspec.msgpack.encode(self.origins)
        return b"".join([BLOCK, len(origins).to_bytes(4, "big"), origins, self.lines])

    def only(self, start: int, end: int) -> Block:
        """The block of these of its lines."""
        found, at = [], 0
        for path, line, count in self.origins:
            lo, hi = max(start, at), min(end, at + count)
            if lo < hi:
                found.append(Origin(path, line + lo - at, hi - lo))
            at += count
        return Block(found, b"\n".join(self.lines.split(b"\n")[start:end]) + b"\n")

    def place(self, row: int) -> str:
        """Where a line comes from, for people."""
        for path, line, count in self.origins:
            if row < count:
                return f"{path}, line {line + row}"
            row -= count
        return "a line behind the last one"


class FilesParams(FunctionParams, frozen=True, kw_only=True):
    """A function, and the files that it is mapped over."""

    corpus: Corpus


class FilesComputation(FunctionComputation):
    """Maps a user's function over records: see ``mapreduce_rq.files.corpus`` for what a term is.

    Of records that come through Redis each line is a term.
    """

    name: ClassVar[str] = "files"
    summary: ClassVar[str] = "a function of your own over files (see `mrq run`)"
    Params: ClassVar[type[Params]] = FilesParams
    seconds_per_term: ClassVar[float | None] = 1e-7

    def __init__(self, params: FilesParams) -> None:
        super().__init__(params)
        if self._kernel:
            raise BadParameter(f"{self.label} is a kernel of spans: it takes a range, not records of files")
        self.corpus = params.corpus
        # A term that is a whole file is of several folds, and no partial may have some of them.
        self.maps_onto = self.maps_onto and all(is_apart(self.corpus, file) for file in range(len(self.corpus.paths)))
        self.vectorised = True  # the last tasks are not of single bytes
        self._ends = ends_of(self.corpus)
        self._sent: tuple[int, Block] = 0, Block([], b"")  # of the task in hand, with its first term
        if not self.corpus.shipped:
            self.total = self._ends[-1] if self._ends else 0
            if max(self.corpus.terms, default=0) <= 1:
                self.seconds_per_term = None  # type: ignore[misc]  # of this one: its terms are whole files

    @classmethod
    def to_map(cls, raw: dict[str, Any], trust: Trust) -> Self:
        made = super().to_map(raw, trust)
        if not made.corpus.shipped:
            made.folder = trust.folder(cls.name)
        return made

    def map_encoded(self, lo: int, hi: int) -> bytes:
        found = self.map(lo, hi)
        try:
            return self.reducer.encode(found)
        except BadValue as error:  # of values that waited to be folded
            raise self._failed_at(error.term, error, self._place(error.term)) from error

    def map(self, lo: int, hi: int) -> Any:
        parts = parts_of(self._ends, lo, hi)
        return self._folded(lo, hi, (found for part in parts for found in records_of(self.corpus, part, self.folder)))

    def map_body(self, lo: int, hi: int, body: bytes) -> Any:
        block = Block.read(body)
        self._sent = lo, block
        reader = Reader(self.corpus)
        try:
            items, numbers = reader.records(block.lines)
        except Malformed as error:
            raise TermError(lo + error.index, f"{block.place(error.index)}: {error}") from None
        rows = range(len(items)) if numbers is None else numbers
        found = Records(items, hi, lambda: [lo + row for row in rows], lambda index: block.place(rows[index]))
        return self._folded(lo, hi, iter([found]))

    def cut_body(self, body: bytes, at: int, lo: int, hi: int) -> bytes:
        whole: Buffer = self.aside.get(body) if body[:1] == ASIDE and self.aside is not None else body
        return Block.read(whole).only(lo - at, hi - at).body

    def _folded(self, lo: int, hi: int, rows: Iterator[Records]) -> Any:
        reducer = self.reducer
        self._short, self.reached = False, 0
        total: Any = None
        at, pieces, count = lo, 0, 0
        if reducer.keeps:
            self._block = FIRST_KEPT
        for records in rows:
            if self._short and at > lo and records.begins:
                self.reached = at
                break
            terms, done = _Terms(records), 0
            while done < len(records.items) and not (self._short and done and not records.together):
                values = self._mapped(records, terms, done)
                if not values:  # it was cut short
                    break
                rows_of = _Terms(records, terms, done, done + len(values))
                first = partial(_term_from, terms, 0, done)
                try:
                    if reducer.keeps:  # its partials follow each other, in numbers of their own until all are there
                        part = reducer.spanning(reducer.fold_at(rows_of, values), pieces, pieces + 1)
                        total = part if total is None else reducer.merge(total, part)
                        pieces += 1
                    else:
                        total = self._with(total, values, partial(reducer.fold_at, rows_of, values), first)
                except (BadValue, TermFailed) as error:
                    place = records.where(done + error.row) if error.row is not None else ""
                    raise self._failed_at(error.term, error.__cause__ or error, place) from (error.__cause__ or error)
                done += len(values)
                count += len(values)
                if reducer.keeps:  # as of items
                    size = reducer.size(total)
                    self._short = self._short or size >= EARLY_BYTES
                    self._block = min(2 * self._block, MOST_HELD, 1 + count * EARLY_BYTES // max(1, size))
                else:
                    self._block = block_after(reducer, values[-1])
                del values  # they may be large
            if done < len(records.items):
                at = self.reached = terms[done]
                break
            at = records.hi
        self._row, self._underway = [], None  # they may be large
        end = self.reached or hi  # behind the last record no other may begin
        if total is None:
            return reducer.gap(lo, end) if reducer.law is Law.ORDERED else reducer.zero()
        return reducer.spanning(total, lo, end)

    def _mapped(self, records: Records, terms: Sequence[int], first: int) -> list[Any]:
        """The values of a block of records, from the one numbered ``first`` on; fewer if it was cut short. Raises
        TermError.
        """
        function, together = self.function, records.together
        row = list(records.items[first : first + self._block])
        items = list(row) if not together else row
        term_of = partial(_term_from, terms, first)
        values: list[Any] = []
        self._underway = None if together else (term_of, values)
        self._row = [] if together else row
        retrying = self._retrying
        if retrying is not None:
            retrying.begin(term_of)
        try:
            while len(values) < len(items):
                values.extend(map(function, row[len(values) :] if values else row))
                if len(values) == len(items) or (self._short and (values or first) and not together):
                    break
                # Cut short before its first record; or it raised StopIteration, which to a loop in C is its end.
                if retrying is not None:
                    retrying.resume(partial(_term_from, terms, first + len(values)))
                values.append(function(items[len(values)]))
        except Interruption:
            raise
        except BaseException as error:  # extend keeps what came before the failure: its length names the record
            row_of = first + len(values)
            raise self._failed_at(terms[row_of], error, records.where(row_of)) from error
        return values

    def _failed_at(self, term: int, error: BaseException, place: str) -> TermError:
        return TermError(term, f"{self.label} at term {term}: {told(error)}", place, self._tries_of(error))

    def _place(self, term: int) -> str:
        """Where a term is, for people."""
        if self.corpus.shipped:
            first, block = self._sent
            return block.place(term - first)
        (part,) = parts_of(self._ends, term, term + 1)
        path = self.corpus.paths[part.file]
        return f"{path}, the line at byte {term - part.first}" if is_apart(self.corpus, part.file) else path


def _term_from(terms: Sequence[int], first: int, index: int) -> int:
    return terms[first + index]


class _Terms(Sequence[int]):
    """The terms of some records: of all, or of those from ``first`` to ``end``, given the terms of all. They are found
    out when one is asked for.
    """

    def __init__(self, records: Records, whole: _Terms | None = None, first: int = 0, end: int | None = None) -> None:
        self._records, self._whole = records, whole
        self._first = first
        self._end = len(records.items) if end is None else end
        self._found: Sequence[int] | None = None

    def __len__(self) -> int:
        return self._end - self._first

    def __getitem__(self, row: Any) -> Any:
        return self._all()[row]

    def __iter__(self) -> Iterator[int]:
        return iter(self._all())

    def _all(self) -> Sequence[int]:
        if self._found is None:
            whole = self._records.terms() if self._whole is None else self._whole[:]
            self._found = whole if len(self) == len(whole) else whole[self._first : self._end]
        return self._found


def source_of_lines(
    pieces: Iterable[Sent], *, clock: Callable[[], float], aside: Aside | None = None
) -> Callable[[int], tuple[bytes, int, bool]]:
    """A ledger's source over pieces of whole lines: each line is a term. It raises what the pieces raise."""
    stream = iter(pieces)
    rest: Sent | None = None

    def take(count: int) -> tuple[bytes, int, bool]:
        nonlocal rest
        origins: list[Origin] = []
        found: list[bytes] = []
        got, size, over = 0, 0, False
        began = clock()
        while got < count and size < TAKE_BYTES and (not got or clock() - began < TAKE_SECONDS):
            sent = rest or next(stream, None)
            if sent is None:
                over = True
                break
            piece, left, lines = _first_lines(sent.lines, count - got)
            rest = Sent(sent.path, sent.line + lines, left) if left else None
            if origins and origins[-1][:2] == (sent.path, sent.line - origins[-1].lines):
                origins[-1] = origins[-1]._replace(lines=origins[-1].lines + lines)
            else:
                origins.append(Origin(sent.path, sent.line, lines))
            found.append(piece)
            got += lines
            size += len(piece)
            if rest is None and len(piece) < PIECE // 2:  # a pipe with no more for now: these may go out
                break
        if not got:
            return b"", 0, over
        body = Block(origins, b"".join(found)).body
        return (aside.put(body) if aside is not None else None) or body, got, over

    return take


def _first_lines(piece: bytes, count: int) -> tuple[bytes, bytes, int]:
    """The first lines of a piece, at most ``count``, the rest of it, and how many these lines are."""
    lines = piece.count(b"\n") + (not piece.endswith(b"\n"))
    if lines <= count:
        return piece, b"", lines
    rest = piece.split(b"\n", count)[-1]
    return piece[: len(piece) - len(rest)], rest, count


_ORIGINS = msgspec.msgpack.Decoder(list[Origin])
