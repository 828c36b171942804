"""How often each word occurs in files, cut into blocks of bytes without cutting a line.

A block counts the lines that begin in it, to their ends. Words are what stands between white space, compared byte by
byte, as ``sort | uniq -c`` does. Bytes become text only at the very end, or to be written in lower case. A byte-order
mark at the beginning of a file is none of its first word.
"""

from __future__ import annotations

from bisect import bisect_right
from codecs import BOM_UTF8
from collections import Counter
from itertools import accumulate
from typing import Annotated, Any, BinaryIO, ClassVar

import msgspec

from mapreduce_rq.computations.files import open_file
from mapreduce_rq.core.computation import Computation, TermError
from mapreduce_rq.core.outcome import Outcome, Progress
from mapreduce_rq.core.parameters import Params
from mapreduce_rq.core.reducers.counter import CounterReducer, Counts, ranked
from mapreduce_rq.errors import BadParameter

BLOCK = 1 << 16
"""Bytes of one term."""

PIECE = 1 << 22
"""Bytes read at a time: memory stays flat however long the span."""


class WordCountParams(Params, frozen=True, kw_only=True):
    """Which files."""

    files: Annotated[list[str], msgspec.Meta(description="paths; every worker reads them", min_length=1)]
    lower: Annotated[bool, msgspec.Meta(description="count The and the as one word")] = False
    top: Annotated[int, msgspec.Meta(description="show only so many of the most frequent words", ge=1)] | None = None
    sizes: (
        Annotated[
            list[Annotated[int, msgspec.Meta(ge=0)]],
            msgspec.Meta(description="of the files in bytes, measured when absent"),
        ]
        | None
    ) = None


class WordCount(Computation[Counts]):
    """How often each word occurs in files that all workers can read; words are what white space separates.

    A term is a block of 64 kB and costs about 3 ms. The counts are exact, there is no bound to speak of. In words
    that are not UTF-8 the odd bytes are shown in hexadecimal.
    """

    name: ClassVar[str] = "wordcount"
    summary: ClassVar[str] = "how often each word occurs in files"
    Params = WordCountParams
    positional: ClassVar[str] = "files"
    seconds_per_term: ClassVar[float | None] = 3e-3
    reads_files: ClassVar[bool] = True

    def __init__(self, params: WordCountParams) -> None:
        super().__init__(params)
        self.reducer = CounterReducer()
        self.paths = params.files
        sizes = params.sizes or _sizes(self.paths)
        if len(sizes) != len(self.paths):
            raise BadParameter(f"wordcount: files: {len(self.paths)} paths and {len(sizes)} sizes")
        self.sizes = sizes
        self.ends = list(accumulate(-(-size // BLOCK) for size in sizes))  # terms up to the end of each file
        self.total: int | None = self.ends[-1]

    @classmethod
    def create(cls, raw: dict[str, Any]) -> Computation[Any]:
        """As of any computation; without ``sizes`` the files are measured now. Raises BadParameter."""
        made = super().create(raw)
        assert isinstance(made, WordCount)
        if not made.params.sizes:
            made.params = msgspec.structs.replace(made.params, sizes=made.sizes)
        return made

    @classmethod
    def to_map(cls, raw: dict[str, Any], trust: Any) -> Computation[Any]:
        _check_measured(raw)
        return super().to_map(raw, trust)

    @classmethod
    def to_lead(cls, raw: dict[str, Any], trust: Any) -> Computation[Any]:
        _check_measured(raw)
        return super().to_lead(raw, trust)

    def map(self, lo: int, hi: int) -> Counts:
        found: Counter[bytes] = Counter()
        while lo < hi:
            file = bisect_right(self.ends, lo)
            first = self.ends[file - 1] if file else 0
            stop = min(hi, self.ends[file])
            try:
                with open_file(self.paths[file], self.folder) as opened:
                    size = opened.seek(0, _END)
                    if size != self.sizes[file]:
                        raise TermError(lo, f"{self.paths[file]} has {size} bytes, not {self.sizes[file]} as at first")
                    end = min((stop - first) * BLOCK, size)
                    _count(found, opened, (lo - first) * BLOCK, end, lower=self.params.lower)
            except OSError as error:
                raise TermError(lo, f"{self.paths[file]}: {error.strerror or error}") from None
            lo = stop
        if self.params.lower:
            found = _lowered(found)
        return {"b": found} if found else {}

    def finish(self, partial: Counts, terms: int) -> Outcome:
        rows = [(_text(word), count) for word, count in ranked(partial)]
        shown = rows[: self.params.top]
        notes: tuple[str, ...] = ()
        assert self.total is not None
        if terms < self.total:
            notes = (f"ended early: the words of {terms} of {self.total} blocks",)
        return Outcome(
            value="\n".join(f"{count}\t{word}" for word, count in shown),
            bound="0",
            bound_kind="exact",
            native=Counter(dict(rows)),
            details={"words": sum(count for _, count in rows), "distinct": len(rows), "files": len(self.paths)},
            notes=notes,
        )

    def peek(self, partial: Counts, terms: int) -> Progress | None:
        counts = partial.get("b")
        if not counts:
            return None
        word, count = max(counts.items(), key=lambda row: row[1])
        return Progress(value=f"{len(counts)} different words, {_text(word)} {count} times", number=float(len(counts)))


_END = 2  # what seek calls the end of a file


def _check_measured(raw: dict[str, Any]) -> None:
    """Raises BadParameter for a job without its files' sizes: whoever submits it measures, and nobody else does."""
    if not raw.get("sizes"):
        raise BadParameter(
            "wordcount: the job does not say how large its files are: submit it with this version of mrq"
        )


def _sizes(paths: list[str]) -> list[int]:
    sizes = []
    for path in paths:
        try:
            with open_file(path, None) as file:
                sizes.append(file.seek(0, _END))
        except OSError as error:
            raise BadParameter(f"wordcount: files: {path}: {error.strerror or error}") from None
    return sizes


def _count(found: Counter[bytes], file: BinaryIO, start: int, end: int, *, lower: bool) -> None:
    """Count the words of the lines that begin at ``start <= offset < end``."""
    file.seek(max(start - 1, 0))
    if start:
        _skip_line(file)  # up to the first line that begins in here: at start itself if a line ends just before
    at = file.tell()
    while at < end:
        at_start = at == 0
        piece = file.read(min(PIECE, end - at))
        if not piece:
            return
        if not piece.endswith(b"\n"):
            piece += file.readline()
        at = file.tell()
        if at_start:
            piece = piece.removeprefix(BOM_UTF8)
        found.update((piece.lower() if lower else piece).split())


def _lowered(counts: Counter[bytes]) -> Counter[bytes]:
    """The counts of words in lower case, where ASCII is so already; bytes that are no text stay as they are."""
    found: Counter[bytes] = Counter()
    for word, count in counts.items():
        if not word.isascii():
            word = word.decode("utf-8", "surrogateescape").lower().encode("utf-8", "surrogateescape")  # noqa: PLW2901
        found[word] += count
    return found


def _skip_line(file: BinaryIO) -> None:
    while (part := file.readline(PIECE)) and not part.endswith(b"\n"):
        pass


def _text(word: bytes) -> str:
    return word.decode("utf-8", "backslashreplace")
