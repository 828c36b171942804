"""Files as terms: which files there are, how their records are read, and where in them a term is.

A file that may be cut has a term for each byte, and a record has the number of its first byte. So a span is a range of
bytes, and a record that fails can be left out alone. A compressed file is one term. So is a file whose line ends cannot
be found by bytes alone: in UTF-16, or CSV with line ends inside its fields. A Parquet file has a term for each row
group.
"""

from __future__ import annotations

import codecs
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import BinaryIO, Literal, NamedTuple

from mapreduce_rq.core.parameters import Params
from mapreduce_rq.core.text import is_utf8, not_utf8
from mapreduce_rq.core.visible import visible
from mapreduce_rq.errors import BadParameter
from mapreduce_rq.files import parquet
from mapreduce_rq.files.compression import compression_of
from mapreduce_rq.files.opening import open_file

Format = Literal["text", "csv", "jsonl", "parquet"]
FORMATS: tuple[Format, ...] = ("text", "csv", "jsonl", "parquet")

ERRORS = ("strict", "replace", "ignore", "backslashreplace")
"""What may be done with bytes that are not text in the file's encoding."""

_ENDINGS: dict[str, Format] = {"csv": "csv", "tsv": "csv", "jsonl": "jsonl", "ndjson": "jsonl", "parquet": "parquet"}
_COMPRESSED = {"gz", "bz2", "xz", "lzma", "zst", "zstd"}


class Corpus(Params, frozen=True, kw_only=True):
    """Files, with their sizes when they were measured and the terms that each has, and how their records are read."""

    paths: list[str]
    sizes: list[int]
    terms: list[int]
    format: Format = "text"
    encoding: str = "utf-8"
    errors: str = "strict"
    delimiter: str = ","
    columns: list[str] | None = None  # of CSV that is sent through Redis; else each file begins with its columns
    shipped: bool = False  # whether it is sent through Redis, as blocks of lines


class Part(NamedTuple):
    """The part of a span that lies in one file: the terms ``[lo, hi)``; the file's first term is ``first``."""

    file: int
    first: int
    lo: int
    hi: int


def parts_of(ends: Sequence[int], lo: int, hi: int) -> Iterator[Part]:
    """The parts of a span, one for each file. ``ends``: where the terms of each file end."""
    while lo < hi:
        file = bisect_right(ends, lo)
        stop = min(hi, ends[file])
        yield Part(file, ends[file - 1] if file else 0, lo, stop)
        lo = stop


def ends_of(corpus: Corpus) -> list[int]:
    """How many terms there are up to the end of each file. Raises BadParameter if the corpus contradicts itself."""
    if not len(corpus.paths) == len(corpus.sizes) == len(corpus.terms) or min(corpus.terms, default=0) < 0:
        raise BadParameter("files: there must be one size and one number of terms for each path")
    return list(accumulate(corpus.terms))


def is_apart(corpus: Corpus, file: int) -> bool:
    """Whether each record of a file has a term of its own, the number of its first byte."""
    return corpus.terms[file] == corpus.sizes[file]


def measured(
    paths: Iterable[str],
    *,
    format: str | None = None,  # noqa: A002  as the option
    encoding: str = "utf-8",
    errors: str = "strict",
    delimiter: str | None = None,
    whole: bool = False,
) -> Corpus:
    """The corpus of these files, as they are now. Raises BadParameter."""
    names = list(paths)
    form, separator = checked(names, format, encoding, errors, delimiter)
    sizes, terms = [], []
    for name in names:
        try:
            with open_file(name, None) as file:
                size = file.seek(0, _END)
                sizes.append(size)
                terms.append(_terms(file, size, form, whole=whole or not is_cut(encoding)))
        except OSError as error:
            raise BadParameter(f"files: {visible(name)}: {error.strerror or error}") from None
    return Corpus(
        paths=names, sizes=sizes, terms=terms, format=form, encoding=encoding, errors=errors, delimiter=separator
    )


def checked(
    names: Sequence[str],
    format: str | None,  # noqa: A002  as the option
    encoding: str,
    errors: str,
    delimiter: str | None,
) -> tuple[Format, str]:
    """The format and the delimiter of files. Raises BadParameter if these are wrong or contradict each other."""
    if not names:
        raise BadParameter("files: no file is given: name one at least")
    for name in names:
        if not is_utf8(name):
            raise BadParameter(f"files: the name {not_utf8(name)}: rename the file, or link to it")
    found = {_by_name(name) for name in names} if format is None else {format}
    if len(found) > 1:
        raise BadParameter(f"files: they look like {' and '.join(sorted(found))}: say which format they have")
    (form,) = found
    if form not in FORMATS:
        raise BadParameter(f"files: {form!r} is not a format: there are {', '.join(FORMATS)}")
    try:
        if codecs.lookup(encoding).name in _OF_NAMES:
            raise LookupError
        "".encode(encoding)
    except (LookupError, ValueError):
        raise BadParameter(f"files: {encoding!r} is not a text encoding that Python knows") from None
    if errors not in ERRORS:
        raise BadParameter(f"files: errors is {errors!r}, and must be one of {', '.join(ERRORS)}")
    if delimiter is not None and (len(delimiter) != 1 or delimiter in '"\r\n'):
        raise BadParameter(f"files: the delimiter is {delimiter!r}, and must be one character")
    tabs = all(".tsv" in name for name in names)
    return form, delimiter or ("\t" if tabs else ",")


def _by_name(name: str) -> Format:
    """The format that a file's name ends in; text if it ends in none."""
    endings = name.lower().rpartition("/")[2].split(".")[1:]
    while endings and endings[-1] in _COMPRESSED:
        endings.pop()
    return _ENDINGS.get(endings[-1], "text") if endings else "text"


def is_cut(encoding: str) -> bool:
    """Whether text can be cut at the bytes of line ends: none of them is in another character, and what comes before
    a line does not say what its bytes mean.
    """
    name = codecs.lookup(encoding).name
    return "\n".encode(base_of(encoding)) == b"\n" and not (name.startswith("iso2022") or name in _WITH_STATES)


_WITH_STATES = {"hz", "utf-7", "raw-unicode-escape"}
"""Encodings, beside those of ISO 2022, in which the characters of a line depend on bytes before it, or in which other
bytes write a line's end, too."""
_OF_NAMES = {"idna", "punycode"}
"""Encodings of the names of hosts. A file has no such text."""


def base_of(encoding: str) -> str:
    """The encoding of the text after a byte-order mark; the same encoding if it has no such mark."""
    return "utf-8" if codecs.lookup(encoding).name == "utf-8-sig" else encoding


def _terms(file: BinaryIO, size: int, form: Format, *, whole: bool) -> int:
    if form == "parquet":
        return parquet.opened(file).num_row_groups  # type: ignore[no-any-return]
    if not size:
        return 0
    return 1 if whole or compression_of(file) is not None else size


_END = 2  # seek's name for the end of a file
