"""The records of files, some at a time: lines of text, rows of CSV and Parquet, values of JSON Lines.

Rows of CSV and Parquet are dictionaries by column. Each record has a term, and a place that messages show to people.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, BinaryIO, NamedTuple

import msgspec

from mapreduce_rq.core.computation import TermError
from mapreduce_rq.core.text import plural
from mapreduce_rq.files import parquet
from mapreduce_rq.files.compression import compression_of, decompressed, is_damage
from mapreduce_rq.files.corpus import Corpus, Part, base_of, is_apart, is_cut
from mapreduce_rq.files.lines import LONGEST, TooLong, lines_between, pieces_of, starts
from mapreduce_rq.files.opening import changed, open_file

ROWS = 2048
"""Records at a time, if they do not come from a piece of text that was cut."""


class Records:
    """Some records. With them the span is done up to the term ``hi``.

    ``terms`` gives the term of each record, ``where`` the place that messages show. ``together``: all records are of
    one term, and no span is cut within a term; ``begins``: they are the first of that term.
    """

    def __init__(
        self,
        items: list[Any],
        hi: int,
        terms: Callable[[], Sequence[int]],
        where: Callable[[int], str],
        *,
        together: bool = False,
        begins: bool = True,
    ) -> None:
        self.items, self.hi = items, hi
        self.terms, self.where = terms, where
        self.together, self.begins = together, begins


class Malformed(Exception):
    """A record cannot be read: its index in the piece, and why."""

    def __init__(self, index: int, why: str) -> None:
        super().__init__(why)
        self.index = index


# -- a piece of whole lines ----------------------------------------------------------------------------------------


class Reader:
    """Reads records out of pieces of whole lines, in one format."""

    def __init__(self, corpus: Corpus, columns: list[str] | None = None) -> None:
        self._corpus = corpus
        self._encoding = base_of(corpus.encoding)
        self.columns = columns if columns is not None else corpus.columns

    def records(self, piece: bytes) -> tuple[list[Any], list[int] | None]:
        """The records; if not each line is a record, also the line of each. Raises Malformed, with a line's index."""
        if self._corpus.format == "jsonl":
            return self._json(piece)
        lines = self.lines(piece)
        return self._csv(lines) if self._corpus.format == "csv" else (lines, None)

    def lines(self, piece: bytes) -> list[str]:
        """The lines as text, without their ends. Raises Malformed."""
        try:
            text = piece.decode(self._encoding, self._corpus.errors)
        except UnicodeDecodeError as error:
            line = piece.count(b"\n", 0, error.start)
            within = error.start - (piece.rfind(b"\n", 0, error.start) + 1)
            raise Malformed(
                line,
                f"its byte {within} is not text in {self._corpus.encoding} ({error.reason}): say which encoding it has "
                "(encoding), or what to do with such bytes (errors)",
            ) from None
        lines = text.removesuffix("\n").split("\n") if text else []  # of a file that is nothing but its mark
        return [line.rstrip("\r") for line in lines] if "\r" in text else lines

    def _csv(self, lines: list[str]) -> tuple[list[Any], list[int] | None]:
        rows: list[Any] = []
        numbers: list[int] = []
        reader = rows_of(lines, self._corpus)
        line = 0
        try:
            for row in reader:
                if reader.line_num != line + 1:
                    raise Malformed(line, "a field goes on after the line's end: such files must not be cut (whole)")
                if row:
                    rows.append(self.row(row, line))
                    numbers.append(line)
                line += 1
        except csv.Error as error:
            open_field = "a field is not closed by the line's end: if it goes on, such files must not be cut (whole)"
            raise Malformed(line, open_field if "unexpected end" in str(error) else f"it is not CSV: {error}") from None
        return rows, numbers if len(numbers) < len(lines) else None

    def row(self, fields: list[str], line: int) -> dict[str, str]:
        """The fields by column. Raises Malformed if there are more or fewer fields than columns."""
        columns = self.columns or []
        if len(fields) != len(columns):
            raise Malformed(line, f"it has {plural(len(fields), 'field')} for {plural(len(columns), 'column')}")
        return dict(zip(columns, fields, strict=True))

    def _json(self, piece: bytes) -> tuple[list[Any], list[int] | None]:
        if codecs.lookup(self._encoding).name != "utf-8" or self._corpus.errors != "strict":
            piece = "\n".join(self.lines(piece)).encode()
        lines = piece.removesuffix(b"\n").split(b"\n")
        try:
            return list(map(_JSON.decode, lines)), None
        except _NOT_JSON:  # or a line is blank
            numbers = [number for number, line in enumerate(lines) if line.strip()]
        return [_value(lines[number], number) for number in numbers], numbers


_JSON = msgspec.json.Decoder()
_NOT_JSON = (msgspec.MsgspecError, ValueError, RecursionError)


def _value(line: bytes, number: int) -> Any:
    """The value of a line of JSON. Raises Malformed."""
    try:
        return _JSON.decode(line)
    except _NOT_JSON as error:
        try:  # what Python's json writes beyond JSON: nan, infinities, halves of characters
            return json.loads(line.decode())
        except _NOT_JSON:
            raise Malformed(number, f"it is not JSON: {error}") from None


def rows_of(lines: Iterable[str], corpus: Corpus) -> Any:
    """A reader of rows of CSV. Python's limit for a field, 128 kB, is raised to ours for a line."""
    if csv.field_size_limit() < LONGEST:
        csv.field_size_limit(LONGEST)
    return csv.reader(lines, delimiter=corpus.delimiter, strict=True)


def header_of(corpus: Corpus, piece: bytes) -> list[str]:
    """The columns that a line of CSV names. Raises Malformed."""
    line = "".join(Reader(corpus).lines(piece))
    try:
        columns: list[str] = next(rows_of([line], corpus), [])
    except csv.Error as error:
        raise Malformed(0, f"it names no columns: {error}") from None
    if not columns or len(set(columns)) != len(columns):
        raise Malformed(0, f"it names no columns, or one of them twice: {', '.join(columns)!r}")
    return columns


# -- files ---------------------------------------------------------------------------------------------------------


def records_of(corpus: Corpus, part: Part, folder: str | None) -> Iterator[Records]:
    """The records of a part of a span. Raises TermError, naming file and byte."""
    with _opened(corpus, part, folder) as file:
        if corpus.format == "parquet":
            yield from _row_groups(file, corpus.paths[part.file], part)
        elif is_apart(corpus, part.file):
            yield from _cut(corpus, file, part)
        else:
            yield from _of_one_term(_whole(corpus, file, corpus.paths[part.file], part.lo), part.lo)


def text_of(corpus: Corpus, part: Part, folder: str | None) -> Iterator[bytes]:
    """The lines of a part of a span as bytes, many at a time. Raises TermError, naming file and byte."""
    with _opened(corpus, part, folder) as file:
        if is_apart(corpus, part.file):
            pieces = lines_between(file, part.lo - part.first, part.hi - part.first, corpus.sizes[part.file])
            yield from (without_mark(corpus, piece, at) for at, piece in pieces)
            return
        with _read_through(file, corpus.paths[part.file], part.lo) as stream:
            yield from (without_mark(corpus, piece, at) for at, piece in pieces_of(stream))


@contextmanager
def _opened(corpus: Corpus, part: Part, folder: str | None) -> Iterator[BinaryIO]:
    """The file of a part. Raises TermError unless it has the measured size, both before it is read and afterwards."""
    path, size = corpus.paths[part.file], corpus.sizes[part.file]
    try:
        with open_file(path, folder) as file:
            _check(file, path, size, part.lo)
            yield file
            _check(file, path, size, part.lo)
    except OSError as error:
        raise TermError(part.lo, f"{path}: {error.strerror or error}") from None
    except TooLong as error:
        raise TermError(part.first + error.at if is_apart(corpus, part.file) else part.lo, f"{path}: {error}") from None


def _check(file: BinaryIO, path: str, size: int, term: int) -> None:
    now = os.fstat(file.fileno()).st_size
    if now != size:
        raise TermError(term, changed(path, now, size))


@contextmanager
def _read_through(file: BinaryIO, path: str, term: int) -> Iterator[BinaryIO]:
    """The content of a file that may be compressed. Raises TermError, naming the byte where it is damaged or ends."""
    how = compression_of(file)
    try:
        yield file if how is None else decompressed(file, how)
    except (TermError, TooLong, UnicodeError):
        raise
    except Exception as error:
        if how is None or not is_damage(error):
            raise
        raise TermError(term, f"{path}: near byte {file.tell()} it is truncated or damaged ({how}): {error}") from None


def _cut(corpus: Corpus, file: BinaryIO, part: Part) -> Iterator[Records]:
    """The records that begin in a range of bytes."""
    path, size = corpus.paths[part.file], corpus.sizes[part.file]
    start, end = part.lo - part.first, part.hi - part.first
    reader = Reader(corpus)
    if corpus.format == "csv":
        head = file.readline()
        try:
            reader.columns = header_of(corpus, without_mark(corpus, head, 0))
        except Malformed as error:
            raise TermError(part.lo, f"{path}: its first line: {error}") from None
        start = max(start, len(head))
    cut = _Cut(corpus, reader, path, part)
    for at, piece in lines_between(file, start, end, size):
        yield _of_piece(cut, at, piece)


class _Cut(NamedTuple):
    """The file and the part of it that records are cut out of."""

    corpus: Corpus
    reader: Reader
    path: str
    part: Part


def _of_piece(cut: _Cut, at: int, piece: bytes) -> Records:
    corpus, reader, path, part = cut
    begins: list[int] = []

    def begin(line: int) -> int:
        if not begins:
            begins.extend(starts(piece, at))
        return begins[line]

    try:
        items, lines = reader.records(without_mark(corpus, piece, at))
    except Malformed as error:
        byte = begin(error.index)
        raise TermError(part.first + byte, f"{path}: the line at byte {byte}: {error}") from None
    return Records(
        items,
        min(part.first + at + len(piece), part.hi),
        lambda: [part.first + begin(line) for line in (range(len(items)) if lines is None else lines)],
        lambda index: f"{path}, the line at byte {begin(index if lines is None else lines[index])}",
    )


def without_mark(corpus: Corpus, piece: bytes, at: int) -> bytes:
    """The piece without the byte-order mark that a file may begin with."""
    if at == 0 and piece.startswith(codecs.BOM_UTF8) and codecs.lookup(base_of(corpus.encoding)).name == "utf-8":
        return piece[len(codecs.BOM_UTF8) :]
    return piece


_Some = tuple[list[Any], Callable[[int], str]]
"""Records, and a function that tells the place of each."""


def _of_one_term(rows: Iterator[_Some], term: int) -> Iterator[Records]:
    """Records of one term: the term is done only with the last of them."""
    before: _Some = [], str
    begins = True
    for number, found in enumerate(rows):
        if number:
            yield _of_term(before, term, term, begins=begins)
            begins = False
        before = found
    yield _of_term(before, term, term + 1, begins=begins)


def _of_term(found: _Some, term: int, hi: int, *, begins: bool) -> Records:
    items, where = found
    return Records(items, hi, lambda: [term] * len(items), where, together=True, begins=begins)


def _whole(corpus: Corpus, file: BinaryIO, path: str, term: int) -> Iterator[_Some]:
    """The records of a file that is read from its beginning to its end."""
    reader = Reader(corpus)
    line = 1
    by_bytes = is_cut(corpus.encoding) and corpus.format != "csv"
    try:
        with _read_through(file, path, term) as stream:
            for items, lines, more in (_by_bytes if by_bytes else _by_text)(reader, corpus, stream):
                yield items, _numbered(path, line, lines)
                line += more
    except Malformed as error:
        raise TermError(term, f"{path}: line {line + error.index}: {error}") from None
    except UnicodeError as error:
        why = getattr(error, "reason", error)  # of UTF-16 without its mark there is no more than the text
        raise TermError(
            term, f"{path}: after line {line - 1} are bytes that are not text in {corpus.encoding} ({why})"
        ) from None


def _numbered(path: str, first: int, lines: list[int] | None) -> Callable[[int], str]:
    return lambda index: f"{path}, line {first + (index if lines is None else lines[index])}"


Found = tuple[list[Any], list[int] | None, int]
"""Records; the line of each, if not each line is a record; and how many lines there are."""


def _by_bytes(reader: Reader, corpus: Corpus, stream: BinaryIO) -> Iterator[Found]:
    for at, piece in pieces_of(stream):
        yield *reader.records(without_mark(corpus, piece, at)), len(piece.removesuffix(b"\n").split(b"\n"))


def _by_text(reader: Reader, corpus: Corpus, stream: BinaryIO) -> Iterator[Found]:
    """The records of a file that cannot be cut at the byte of a line's end: a record may be several lines."""
    encoding = "utf-8-sig" if codecs.lookup(corpus.encoding).name == "utf-8" else corpus.encoding
    text = io.TextIOWrapper(stream, encoding, corpus.errors, newline="" if corpus.format == "csv" else "\n")
    try:
        if corpus.format != "csv":
            while lines := list(islice(text, ROWS)):
                joined = "".join(lines)
                utf8 = Reader(Corpus(paths=[], sizes=[], terms=[], format=corpus.format))
                yield *utf8.records(joined.encode()), len(lines)
            return
        rows = rows_of(text, corpus)
        before = 0
        try:
            head = next(rows, None)
            if head is None:
                return
            if not head or len(set(head)) != len(head):
                raise Malformed(0, f"it names no columns, or one of them twice: {', '.join(head)!r}")
            reader.columns = head
            while True:
                before = rows.line_num
                found, lines_of = [], []
                for fields in islice(rows, ROWS):
                    if fields:
                        found.append(reader.row(fields, rows.line_num - 1))
                        lines_of.append(rows.line_num - 1)
                if rows.line_num == before:
                    return
                yield found, lines_of, 0
        except csv.Error as error:
            raise Malformed(rows.line_num - 1, f"it is not CSV: {error}") from None
    finally:
        text.detach()


def _row_groups(file: BinaryIO, path: str, part: Part) -> Iterator[Records]:
    opened = parquet.opened(file)
    for term in range(part.lo, part.hi):
        group = term - part.first

        def found(group: int = group) -> Iterator[_Some]:
            row = 0
            for rows in parquet.rows(opened, group):
                yield rows, lambda index, row=row: f"{path}, row {row + index} of row group {group}"  # type: ignore[misc]
                row += len(rows)

        try:
            yield from _of_one_term(found(), term)
        except OSError as error:
            raise TermError(term, f"{path}, row group {group}: {error}") from None
