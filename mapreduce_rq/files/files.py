"""Files as the items of a job, as the caller names them."""

from __future__ import annotations

import glob
import io
import os
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, NamedTuple

from mapreduce_rq.core.computation import TermError
from mapreduce_rq.core.given import check
from mapreduce_rq.core.visible import visible
from mapreduce_rq.errors import BadParameter
from mapreduce_rq.files.compression import compression_of, decompressed, is_damage
from mapreduce_rq.files.corpus import Corpus, checked, ends_of, is_cut, measured, parts_of
from mapreduce_rq.files.lines import PIECE, TooLong, pieces_of
from mapreduce_rq.files.opening import changed, open_file, size_of
from mapreduce_rq.files.records import Malformed, Reader, header_of, records_of, without_mark
from mapreduce_rq.files.watched import Watched


class Files:
    """The records of files, as the items of a job: ``mrq.map_reduce(f, Files("logs/*.gz"))``.

    ``paths``: files, or patterns such as ``logs/**/*.csv``. ``format``: ``text`` (an item is a line, without its end),
    ``csv`` (a dictionary of texts by the columns in the first line), ``jsonl`` (a JSON value on each line, as
    ``json.loads`` reads it) or ``parquet`` (a dictionary, read by pyarrow); None: the names tell it. Files may be
    compressed by gzip, bz2 or xz, or by zstd if a library for it is installed. ``encoding`` and ``errors`` are those of
    ``open``. ``delimiter``: what separates the fields of CSV. ``whole``: files are not cut, for CSV with line ends in
    its fields.

    Workers read the files, which must not change meanwhile: in ranges of bytes, a compressed file as a whole, Parquet
    in row groups. ``ship``: this process reads the files once and sends blocks of lines through Redis, for workers that
    cannot see the files; of Parquet, and of what is not cut, the records. Iterating over this object gives the
    records, read by this process.
    """

    def __init__(
        self,
        *paths: str | os.PathLike[str],
        format: str | None = None,  # noqa: A002  the word for it
        encoding: str = "utf-8",
        errors: str = "strict",
        delimiter: str | None = None,
        whole: bool = False,
        ship: bool = False,
    ) -> None:
        check(format=format, encoding=encoding, errors=errors, delimiter=delimiter, whole=whole, ship=ship)
        for path in paths:
            check(path=path)
            if not os.fspath(path):
                raise BadParameter("files: the name of a file is empty")
        self.paths = [name for path in paths for name in _expanded(os.fspath(path))]
        self.format, self.delimiter = checked(self.paths, format, encoding, errors, delimiter)
        if delimiter is not None and self.format != "csv":
            raise BadParameter(f"files: a delimiter is between the fields of CSV, and the format is {self.format}")
        if self.format == "parquet" and (encoding, errors) != ("utf-8", "strict"):
            raise BadParameter("files: Parquet says itself how its text is written: leave out encoding and errors")
        if self.format == "parquet" and whole:
            raise BadParameter("files: Parquet is read in row groups: leave out whole")
        self.encoding, self.errors = encoding, errors
        self.whole, self.ship = whole, ship

    def __iter__(self) -> Iterator[Any]:
        corpus = self.corpus()
        ends = ends_of(corpus)
        for part in parts_of(ends, 0, ends[-1]):
            for records in records_of(corpus, part, None):
                yield from records.items

    def corpus(self) -> Corpus:
        """The files as they are now, for workers to read. Raises BadParameter."""
        return measured(
            self.paths,
            format=self.format,
            encoding=self.encoding,
            errors=self.errors,
            delimiter=self.delimiter,
            whole=self.whole,
        )

    @property
    def in_lines(self) -> bool:
        """Whether lines of these files can be shipped as they are; if not, their records are."""
        return self.format != "parquet" and not self.whole

    def records(self) -> Iterator[Any]:
        """The records, read by this process. Raises BadParameter, naming file and byte."""
        try:
            yield from self
        except TermError as error:
            raise BadParameter(f"files: {error}") from None

    def shipment(self) -> tuple[Corpus, Iterator[Sent]]:
        """The lines to be sent through Redis, in pieces, and how they are to be read. Raises BadParameter."""
        return shipment(
            (self._opened(path) for path in self.paths),
            format=self.format,
            encoding=self.encoding,
            errors=self.errors,
            delimiter=self.delimiter,
        )

    def _opened(self, path: str) -> tuple[str, BinaryIO]:
        try:
            return path, open_file(path, None)
        except OSError as error:
            raise BadParameter(f"files: {visible(path)}: {error.strerror or error}") from None


class Sent(NamedTuple):
    """Some whole lines of a file, with its name for people and the number of the first line, from 1."""

    path: str
    line: int
    lines: bytes


class Stream(Files):
    """As Files, for one file that is open already and may be a pipe: its lines are shipped as they come."""

    def __init__(self, name: str, file: BinaryIO, **how: Any) -> None:
        super().__init__(name, **how, ship=True)
        if self.whole:
            raise BadParameter(
                "files: a stream is sent in lines, and is not read whole: save it in a file, and name it"
            )
        self._file = file

    def __iter__(self) -> Iterator[Any]:
        corpus, pieces = self.shipment()
        reader = Reader(corpus)
        sent = 0
        for path, first, piece in pieces:
            try:
                records = reader.records(piece)[0]
            except Malformed as error:
                rest = piece.split(b"\n", error.index)[-1]
                if error.index:
                    yield from reader.records(piece[: len(piece) - len(rest)])[0]
                raise TermError(sent + error.index, f"{path}, line {first + error.index}: {error}") from None
            yield from records
            sent += piece.count(b"\n")

    def _opened(self, path: str) -> tuple[str, BinaryIO]:
        return "standard input" if path == "-" else path, self._file


def _expanded(path: str) -> list[str]:
    if not glob.has_magic(path) or os.path.lexists(path):
        return [path]
    found = sorted(glob.glob(path, recursive=True))
    if not found:
        raise BadParameter(f"files: no file matches {visible(path)}")
    return [name for name in found if not os.path.isdir(name)]


def shipment(
    streams: Iterable[tuple[str, BinaryIO]],
    *,
    format: str = "text",  # noqa: A002  as of Files
    encoding: str = "utf-8",
    errors: str = "strict",
    delimiter: str = ",",
) -> tuple[Corpus, Iterator[Sent]]:
    """The lines of named streams, in pieces, and how they are to be read. Each stream is closed after its last line.

    Raises BadParameter; iterating over the pieces does, too.
    """
    form, separator = checked(["-"], format, encoding, errors, delimiter)
    turned = not is_cut(encoding)  # if so, the text is changed to an encoding that can be cut at the bytes of line ends
    corpus = Corpus(
        paths=[],
        sizes=[],
        terms=[],
        format=form,
        encoding="utf-8" if turned else encoding,
        errors="strict" if turned else errors,
        delimiter=separator,
        shipped=True,
    )
    pieces = _pieces(corpus, streams, (encoding, errors) if turned else None)
    if form != "csv":
        return corpus, (piece for _, piece in pieces)
    columns, first = next(pieces, ([], None))
    if first is None:
        return corpus, iter(())
    named = Corpus(**{name: getattr(corpus, name) for name in Corpus.__struct_fields__} | {"columns": columns})
    return named, _alike(columns, first, pieces)


def _alike(columns: list[str], first: Sent, pieces: Iterator[tuple[list[str], Sent]]) -> Iterator[Sent]:
    yield first
    for others, piece in pieces:
        if others != columns:
            raise BadParameter(
                f"files: one file has the columns {', '.join(others)}, and another has {', '.join(columns)}: "
                "submit them as two jobs"
            )
        yield piece


def _pieces(
    corpus: Corpus, streams: Iterable[tuple[str, BinaryIO]], turned: tuple[str, str] | None
) -> Iterator[tuple[list[str], Sent]]:
    """Pieces of whole lines, each with the columns of its file; the last line of a file has an end, too."""
    for path, file in streams:
        columns: list[str] = []
        at, read, line = 0, 0, 1
        size = size_of(file)
        try:
            with file:
                how = compression_of(file, file.tell()) if file.seekable() else None
                watched = Watched(file) if size and how is None else None
                stream: BinaryIO = io.BufferedReader(watched, PIECE) if watched is not None else file
                stream = stream if how is None else decompressed(file, how)
                lines = pieces_of(stream) if turned is None else _turned(stream, *turned)
                for at, piece in lines:
                    read = at + len(piece)
                    kept = without_mark(corpus, piece, at)
                    if corpus.format == "csv" and not columns:
                        end = kept.find(b"\n") + 1 or len(kept)
                        columns = header_of(corpus, kept[:end])
                        kept = kept[end:]
                        line += 1
                    if kept:
                        yield columns, Sent(path, line, kept if kept.endswith(b"\n") else kept + b"\n")
                        line += kept.count(b"\n")
                if size and file.tell() < size:  # what was cut off is missing; what was added is read, too
                    raise BadParameter(f"files: {changed(visible(path), size_of(file), size)}")
                if watched is not None and not watched.as_read():
                    raise BadParameter(
                        f"files: {visible(path)} was changed: a file must not change while a job reads it"
                    )
        except Malformed as error:
            raise BadParameter(f"files: {visible(path)}: its first line: {error}") from None
        except TooLong as error:
            raise BadParameter(f"files: {visible(path)}: {error}") from None
        except Exception as error:
            if not is_damage(error):
                raise
            why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise BadParameter(
                f"files: {visible(path)}: from line {line} on it cannot be read, after byte {read}: {why}"
            ) from None


def _turned(stream: BinaryIO, encoding: str, errors: str) -> Iterator[tuple[int, bytes]]:
    text = io.TextIOWrapper(stream, encoding, errors, newline="\n")
    at = 0
    try:
        while piece := text.read(PIECE):
            whole = (piece if piece.endswith("\n") else piece + text.readline()).encode()
            yield at, whole
            at += len(whole)
    finally:
        text.detach()  # the stream is the caller's to close
