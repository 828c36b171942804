"""How often each word occurs in files, cut into ranges of bytes without cutting a line.

A range counts the lines that begin in it, to their ends. Words stand between white space and are compared byte by byte,
as ``sort | uniq -c`` does. Bytes become text only at the very end, or to be written in lower case. A byte-order mark at
the beginning of a file is not part of the first word.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Annotated, Any, ClassVar

import msgspec

from mapreduce_rq.core.computation import Computation, Grow
from mapreduce_rq.core.outcome import Outcome, Progress
from mapreduce_rq.core.parameters import Params
from mapreduce_rq.core.reducers.counter import CounterReducer, Counts, ranked
from mapreduce_rq.core.text import plural
from mapreduce_rq.errors import BadParameter
from mapreduce_rq.files.corpus import Corpus, ends_of, measured, parts_of
from mapreduce_rq.files.records import text_of

Size = Annotated[int, msgspec.Meta(ge=0)]


class WordCountParams(Params, frozen=True, kw_only=True):
    """Which files."""

    files: Annotated[list[str], msgspec.Meta(description="paths; every worker reads them", min_length=1)]
    lower: Annotated[bool, msgspec.Meta(description="count The and the as one word")] = False
    top: Annotated[int, msgspec.Meta(description="show only the most frequent words, this many", ge=1)] | None = None
    sizes: Annotated[list[Size], msgspec.Meta(description="bytes of each file; absent: measured now")] | None = None
    units: Annotated[list[Size], msgspec.Meta(description="terms of each file: bytes, or 1 if compressed")] | None = (
        None
    )


class WordCount(Computation[Counts]):
    """How often each word occurs in files that all workers can read. White space separates words.

    A term is a byte, and costs about 50 ns; a compressed file is one term. The counts are exact, so there is no bound.
    Bytes that are not UTF-8 are shown in hexadecimal.
    """

    name: ClassVar[str] = "wordcount"
    summary: ClassVar[str] = "how often each word occurs in files"
    Params = WordCountParams
    positional: ClassVar[str] = "files"
    seconds_per_term: ClassVar[float | None] = 5e-8
    reads_files: ClassVar[bool] = True

    def __init__(self, params: WordCountParams) -> None:
        super().__init__(params)
        self.reducer = CounterReducer()
        if params.sizes is None or params.units is None:
            self.corpus = measured(params.files, format="text")
        else:
            self.corpus = Corpus(paths=params.files, sizes=params.sizes, terms=params.units)
        self.maps_onto = not params.lower
        self._ends = ends_of(self.corpus)
        self.total: int | None = self._ends[-1] if self._ends else 0

    @classmethod
    def create(cls, raw: dict[str, Any]) -> Computation[Any]:
        """As :meth:`Computation.create`; without ``sizes`` the files are measured now. Raises BadParameter."""
        made = super().create(raw)
        assert isinstance(made, WordCount)
        made.params = msgspec.structs.replace(made.params, sizes=made.corpus.sizes, units=made.corpus.terms)
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
        for text in self._texts(lo, hi):
            found.update((text.lower() if self.params.lower else text).split())
        if self.params.lower:
            found = _lowered(found)
        return {"b": found} if found else {}

    def map_onto(self, grow: Grow, lo: int, hi: int, body: bytes) -> tuple[Counts | None, int]:
        for text in self._texts(lo, hi):
            words = text.split()  # read and split before: nobody must wait for a slow file to have the partial
            if words and not grow(partial(_with, words)):
                return self.map(lo, hi), lo
        return None, lo

    def _texts(self, lo: int, hi: int) -> Iterator[bytes]:
        for part in parts_of(self._ends, lo, hi):
            yield from text_of(self.corpus, part, self.folder)

    def finish(self, partial: Counts, terms: int) -> Outcome:
        rows = [(_text(word), count) for word, count in ranked(partial)]
        shown = rows[: self.params.top]
        notes: tuple[str, ...] = ()
        assert self.total is not None
        if terms < self.total:
            notes = (f"ended early: the words of {terms} of {plural(self.total, 'byte')}",)
        return Outcome(
            value="\n".join(f"{count}\t{word}" for word, count in shown),
            bound="0",
            bound_kind="exact",
            native=Counter(dict(rows)),
            details={"words": sum(count for _, count in rows), "distinct": len(rows), "files": len(self.corpus.paths)},
            notes=notes,
        )

    def peek(self, partial: Counts, terms: int) -> Progress | None:
        counts = partial.get("b")
        if not counts:
            return None
        word, count = max(counts.items(), key=lambda row: row[1])
        return Progress(
            value=f"{plural(len(counts), 'different word')}, {_text(word)} {plural(count, 'time')}",
            number=float(len(counts)),
        )


def _check_measured(raw: dict[str, Any]) -> None:
    """Raise BadParameter for a job without the sizes of its files: only the submitter of a job measures them."""
    if not raw.get("sizes") or not raw.get("units"):
        raise BadParameter(
            "wordcount: the job does not say how large its files are: submit it with this version of mrq"
        )


def _with(words: list[bytes], counts: Counts) -> Counts:
    """These counts, with some words added to them."""
    counts.setdefault("b", Counter()).update(words)
    return counts


def _lowered(counts: Counter[bytes]) -> Counter[bytes]:
    """The counts of words in lower case; ASCII is in lower case already. Bytes that are not text stay as they are."""
    found: Counter[bytes] = Counter()
    for word, count in counts.items():
        if not word.isascii():
            word = word.decode("utf-8", "surrogateescape").lower().encode("utf-8", "surrogateescape")  # noqa: PLW2901
        found[word] += count
    return found


def _text(word: bytes) -> str:
    return word.decode("utf-8", "backslashreplace")
