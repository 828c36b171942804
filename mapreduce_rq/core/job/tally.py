"""The tally: which terms are counted, and the fold of exactly those terms.

A span is folded only if it is disjoint from all spans folded before. "Counted exactly once" rests on this one rule:
retries, backup copies, late answers of workers that were taken for dead, and tasks that another master cut anew all
come here, and the first answer counts.

- Commutative law: one accumulator, into which each partial is folded when it arrives.
- Ordered law: segments, each with a partial. Neighbours are merged when they are of similar size, as in a binary
  counter. To merge each arrival into one long run would multiply a huge number by a small one again and again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from mapreduce_rq.core.reducers.base import Law, Reducer
from mapreduce_rq.core.span import Runs

HEAVY_BYTES = 256 * 1024
"""A partial of at least this number of bytes is not merged on arrival. Such a merge becomes a wish: the ledger decides
when and where it is done."""

Part = tuple[int, int, bytes]
"""(lo, hi, encoded partial); lo = hi = 0 marks the one accumulator of a commutative law."""


class Tally:
    """Counted terms and their fold under one reducer."""

    def __init__(self, reducer: Reducer[Any]) -> None:
        self.reducer = reducer
        self.runs = Runs()
        self.malformed = 0  # answers dropped because their partial could not be decoded
        self._ordered = reducer.law is Law.ORDERED
        self._accumulator = reducer.zero()
        self.wishes: list[tuple[int, int, int]] = []  # (lo, middle, hi): segments too heavy to merge on arrival
        self._locked: set[int] = set()  # segments (by lo) of such a pair
        self._partials: dict[int, tuple[int, Any]] = {}  # segment's lo -> (hi, partial)
        self._ends: dict[int, int] = {}  # segment's hi -> lo
        self.watch: Callable[[Any], None] = _unwatched  # called with each new partial, under the ordered law

    def count(self, batch: Iterable[tuple[int, int, bytes]]) -> list[tuple[int, int]]:
        """Fold those of a batch of ``(lo, hi, encoded partial)`` that are new. Returns the spans counted.

        Answers of one worker are mostly neighbours: a row of them is looked up in the runs as one span, and is returned
        as one. A body that cannot be decoded is not counted, only noted in ``malformed``.
        """
        counted: list[tuple[int, int]] = []
        row: list[tuple[int, int, bytes]] = []
        at = None
        for item in batch:
            if item[0] != at and row:
                self._count_row(row, counted)
                row = []
            row.append(item)
            at = item[1]
        if row:
            self._count_row(row, counted)
        return counted

    def count_joint(self, spans: list[tuple[int, int]], body: bytes) -> list[tuple[int, int]]:
        """Fold one encoded partial that has the terms of several spans: all of them, or none. Returns those counted.

        A partial cannot be taken apart. So if a single term of it is counted already, none of it may be folded.
        """
        covered = Runs()
        if self._ordered or any(self.runs.touches(lo, hi) or not covered.add(lo, hi) for lo, hi in spans):
            return []
        try:
            self._accumulator = self.reducer.merge_encoded(self._accumulator, self._read([body]))
        except ValueError:
            self.malformed += 1
            return []
        for lo, hi in spans:
            self.runs.add(lo, hi)
        return spans

    def _count_row(self, row: list[tuple[int, int, bytes]], counted: list[tuple[int, int]]) -> None:
        lo, hi = row[0][0], row[-1][1]
        if not self.runs.touches(lo, hi):
            try:
                self._fold(row)
            except ValueError:
                if len(row) == 1:
                    self.malformed += 1
                    return
            else:
                self.runs.add(lo, hi)
                counted.append((lo, hi))
                return
        elif len(row) == 1:
            return
        for item in row:  # a part of the row is counted already or malformed: look at each answer
            self._count_row([item], counted)

    def _fold(self, row: list[tuple[int, int, bytes]]) -> None:
        """Fold a row of neighbours. Raises ValueError, with nothing changed, if one cannot be decoded."""
        if not self._ordered:
            self._accumulator = self.reducer.merge_encoded(self._accumulator, self._read([item[2] for item in row]))
            return
        partials = [self.reducer.decode(body) for body in self._read([item[2] for item in row])]
        if self.watch is not _unwatched:
            for partial in partials:
                self.watch(partial)
        if sum(len(body) for _, _, body in row) < HEAVY_BYTES:  # none of them is heavy: merge them at once
            self._insert(row[0][0], row[-1][1], self._joined(partials))
            return
        for (lo, hi, _), partial in zip(row, partials, strict=True):
            self._insert(lo, hi, partial)

    def _read(self, bodies: list[bytes]) -> list[bytes]:
        """Bodies as their reducer takes them: one that keeps bodies takes mapped memory, too, all others bytes.

        No function is called for each, for there may be one of each term.
        """
        return bodies if self.reducer.keeps else list(map(bytes, bodies))

    def _joined(self, row: list[Any]) -> Any:
        """Neighbours, at least one, merged in pairs, so that both sides of a merge have similar sizes."""
        merge = self.reducer.merge
        while len(row) > 1:
            row = [merge(row[i], row[i + 1]) if i + 1 < len(row) else row[i] for i in range(0, len(row), 2)]
        return row[0]

    def skip(self, lo: int, hi: int) -> None:
        """Count a span without a value, if the user asked to leave out terms that fail."""
        if self.runs.add(lo, hi) and self._ordered:
            self._insert(lo, hi, self.reducer.gap(lo, hi))

    def _insert(self, lo: int, hi: int, partial: Any) -> None:
        partials, ends, merge = self._partials, self._ends, self.reducer.merge
        while True:
            left = ends.get(lo)
            if left is not None and lo - left < 2 * (hi - lo) and left not in self._locked:
                if self._heavy(partials[left][1], partial):
                    self._wish(left, lo, hi)
                    break
                del ends[lo]
                partial = merge(partials.pop(left)[1], partial)
                lo = left
                continue
            right = partials.get(hi)
            if right is not None and right[0] - hi < 2 * (hi - lo) and hi not in self._locked:
                if self._heavy(partial, right[1]):
                    self._wish(lo, hi, right[0])
                    break
                del partials[hi], ends[right[0]]
                partial = merge(partial, right[1])
                hi = right[0]
                continue
            break
        partials[lo] = (hi, partial)
        ends[hi] = lo

    def _heavy(self, left: Any, right: Any) -> bool:
        weight = self.reducer.weight
        return min(weight(left), weight(right)) >= HEAVY_BYTES

    def weight(self, lo: int) -> int:
        """About how many bytes the segment has that begins at ``lo``."""
        return self.reducer.weight(self._partials[lo][1])

    def _wish(self, lo: int, middle: int, hi: int) -> None:
        self._locked |= {lo, middle}
        self.wishes.append((lo, middle, hi))

    def pair(self, lo: int, middle: int) -> bytes:
        """The body of a merge task for two neighbouring segments: the length of the left one, then both encoded."""
        left = self.reducer.encode(self._partials[lo][1])
        right = self.reducer.encode(self._partials[middle][1])
        return len(left).to_bytes(8, "big") + left + right

    def join(self, lo: int, middle: int, hi: int, merged: bytes | None) -> None:
        """Replace a wished pair by its merge; None: merge them here. If it raises ValueError, nothing was changed."""
        left, right = self._partials[lo][1], self._partials[middle][1]
        partial = self.reducer.merge(left, right) if merged is None else self.reducer.decode(merged)
        for segment in (lo, middle):
            self._locked.discard(segment)
            del self._ends[self._partials.pop(segment)[0]]
        self._insert(lo, hi, partial)

    def prefix(self) -> tuple[int, Any]:
        """``(n, partial)`` of the terms ``[0, n)`` that are counted without a gap.

        Under the commutative law: of all counted terms. The partial is the tally's own: do not change it.
        """
        if not self._ordered:
            return self.runs.count, self._accumulator
        run = next(iter(self.runs), None)
        if run is None or run.lo:
            return 0, self.reducer.zero()
        row, segments = [], []
        at = 0
        while at < run.hi:
            segments.append(at)
            at, partial = self._partials[at]
            row.append(partial)
        whole = self._joined(row)
        if len(segments) > 1 and self._locked.isdisjoint(segments):  # keep the merge: the last merges cost most
            for segment in segments:
                del self._ends[self._partials.pop(segment)[0]]
            self._partials[0], self._ends[run.hi] = (run.hi, whole), 0
        return run.hi, whole

    def first(self) -> tuple[int, Any]:
        """As :meth:`prefix`, but of the segment at 0 alone and without a merge. It is cheap, for a running value."""
        if not self._ordered:
            return self.runs.count, self._accumulator
        return self._partials.get(0) or (0, self.reducer.zero())

    def segments(self) -> list[Any]:
        """The partials as they are, each of a segment; under the ordered law only."""
        return [partial for _, (_, partial) in sorted(self._partials.items())]

    def parts(self) -> list[Part]:
        """The encoded partials, for a checkpoint."""
        encode = self.reducer.encode
        if not self._ordered:
            return [(0, 0, encode(self._accumulator))]
        return [(lo, hi, encode(partial)) for lo, (hi, partial) in sorted(self._partials.items())]

    def concluded(self, terms: int, partial: Any) -> Tally:
        """A tally of what ``prefix`` has counted, with another partial in its place."""
        found = Tally(self.reducer)
        found.runs = Runs([(0, terms)]) if self._ordered else self.runs
        if self._ordered:
            found._insert(0, terms, partial)
        else:
            found._accumulator = partial
        return found

    @classmethod
    def restore(cls, reducer: Reducer[Any], runs: Iterable[tuple[int, int]], parts: Iterable[Part]) -> Tally:
        """The tally of a checkpoint. Raises ValueError for runs or parts that do not fit each other."""
        tally = cls(reducer)
        tally.runs = Runs(runs)
        if not tally._ordered:
            for _, _, body in parts:
                tally._accumulator = reducer.merge(tally._accumulator, reducer.decode(body))
            return tally
        covered = Runs()
        for lo, hi, body in parts:
            if not covered.add(lo, hi):
                raise ValueError(f"parts overlap at [{lo}, {hi})")
            tally._partials[lo] = (hi, reducer.decode(body))
            tally._ends[hi] = lo
        if covered != tally.runs:
            raise ValueError("parts and runs differ")
        return tally


def _unwatched(_: Any) -> None:
    """Do nothing: new partials are not watched."""
