"""The timeline: what each worker of a job did at which time, in a bounded size, kept with the job's record. No clock,
no I/O.

Time is cut into bins of one width. A cell holds what one worker answered in one bin. When the bins or the cells are
used up, the width doubles and neighbours are added up: a job of a second is kept by milliseconds, one of a day by
minutes. The master makes a few additions for each reply, and none for an answer or a term.

The master writes the timeline into the job's hash from time to time while the job runs, more rarely the longer the job
lasts. If the master dies, the next one continues it (``Recorder.go_on``) on the same axis, and marks the takeover. A
process that cancels the job ends it (``ended``). Answers since the timeline was last written are then missing.

A reply counts in the bin in which the master read it. Its work is drawn before that moment, with the time it took.
"""

from __future__ import annotations

import math
from heapq import heapify, heappush, heapreplace
from typing import Any

import msgspec

FIRST_WIDTH = 1 / 256  # seconds
MAX_BINS = 256
MAX_CELLS = 1_400
MAX_ROWS = 96
"""The number of workers that have a row of their own; the others share one."""
MAX_MARKS = 64
MAX_MARK = 120  # bytes
MAX_NAME = 80  # bytes of a worker's id
MAX_POINTS = 96
MAX_LONGEST = 24
BUCKETS = 64
"""The buckets of the histogram: a task of n nanoseconds is in bucket n.bit_length()."""
OTHERS = "other workers"
MAX_TIMELINE_BYTES = 64 * 1024
FIRST_PAUSE, LONGEST_PAUSE, PAUSE_SHARE = 2.0, 20.0, 0.02
"""Seconds between two writes of a running job's timeline, and the share of the job's time that they are at least."""
LONGEST_GAP = 30 * 86_400.0
"""The most seconds without a master that the axis shows: the clocks of two hosts may differ by any time."""
_MOST = 1 << 62


class Row(msgspec.Struct, array_like=True, frozen=True):
    """One worker. ``cells``: bin, tasks, terms, microseconds of work; flat, in order of bins."""

    wid: str
    cells: list[int]


class Mark(msgspec.Struct, array_like=True, frozen=True):
    """An event that a person should read; its time is in seconds since the timeline's beginning."""

    at: float
    text: str


class Point(msgspec.Struct, array_like=True, frozen=True):
    """The job's progress at one time."""

    at: float
    counted: int
    out: int  # tasks
    workers: int
    value: str | None
    error: float | None


class Long(msgspec.Struct, array_like=True, frozen=True, order=True):
    """One of the tasks that took longest."""

    seconds: float
    end: float
    wid: str
    lo: int
    hi: int


class Timeline(msgspec.Struct, frozen=True, kw_only=True):
    """A job's timeline, as it is stored. Times are seconds since ``began``."""

    job: str
    version: str  # of mrq, at the master
    master: str
    began: float  # unix seconds, by the master's clock
    before: float  # seconds of work under earlier masters, of which nothing else is known here
    seconds: float  # to the end
    width: float  # of a bin, in seconds
    rows: list[Row]
    buckets: list[int]  # tasks by the bits of their nanoseconds
    longest: list[Long]
    marks: list[Mark]
    more_marks: int  # that were left out
    points: list[Point]


class Recorder:
    """Counts while the job runs. ``now`` is any steady clock, in seconds."""

    def __init__(self, now: float) -> None:
        self._began = now
        self.width = FIRST_WIDTH
        self._cells = 0
        self._rows: dict[str, dict[int, list[int]]] = {}
        self._buckets = [0] * BUCKETS
        self._longest: list[Long] = []
        self._least = 0  # nanoseconds that a task must take to be among the longest
        self._marks: list[Mark] = []
        self._more_marks = 0
        self._points: list[Point] = []
        self._between = 0.0  # seconds between two points at least
        self._kept_at = now

    def go_on(self, kept: Timeline, *, now: float, wall: float) -> float | None:
        """Continue the timeline that an earlier master stored; ``wall`` is unix seconds. Returns the seconds since it
        was stored.

        None, and nothing is continued, if it cannot be right: without a key, any client may have written it.
        """
        if not _is_sound(kept):
            return None
        gap = _gap(kept, wall)
        shift = kept.seconds + gap  # from its beginning to now
        behind = now - self._began
        self._began, self._kept_at = now - shift, now
        early, self._marks = self._marks, list(kept.marks[:MAX_MARKS])
        self._more_marks = kept.more_marks
        for mark in early:
            self._mark(Mark(round(shift - behind + mark.at, 4), mark.text))
        self._points = list(kept.points[:MAX_POINTS])
        self._between = kept.seconds / MAX_POINTS if len(self._points) >= MAX_POINTS // 2 else 0.0
        buckets = [min(_MOST, max(0, tasks)) for tasks in kept.buckets[:BUCKETS]]
        self._buckets = buckets + [0] * (BUCKETS - len(buckets))
        self._longest = list(kept.longest[:MAX_LONGEST])
        heapify(self._longest)
        full = len(self._longest) == MAX_LONGEST
        self._least = int(min(1e18, max(0.0, self._longest[0].seconds * 1e9))) if full else 0
        self.width = kept.width
        for row in kept.rows[: MAX_ROWS + 1]:
            cells = {
                index: [tasks, terms, 1000 * spent]
                for index, tasks, terms, spent in cells_of(row)
                if 0 <= index < MAX_BINS and min(tasks, terms, spent) >= 0 and max(tasks, terms, spent) < _MOST
            }
            if cells:
                self._rows[row.wid] = cells
        self._cells = sum(map(len, self._rows.values()))
        return gap

    def due(self, now: float) -> bool:
        """Whether it is time to store the running job's timeline again."""
        pause = min(LONGEST_PAUSE, max(FIRST_PAUSE, PAUSE_SHARE * (now - self._began)))
        return now - self._kept_at >= pause

    def answered(
        self, wid: str, tasks: int, terms: int, nanoseconds: int, *, now: float, first: tuple[int, int]
    ) -> None:
        """Add one reply: the number of its tasks and terms, and the work on them. ``first``: the span of the first
        task.

        Tasks that were answered together count in the histogram with their mean.
        """
        at = max(0.0, now - self._began)
        index = int(at / self.width)
        if index >= MAX_BINS or self._cells >= MAX_CELLS:
            self._coarsen(at)
            index = int(at / self.width)
        row = self._rows.get(wid)
        if row is None:
            row = self._new_row(wid)
        cell = row.get(index)
        if cell is None:
            cell = row[index] = [0, 0, 0]
            self._cells += 1
        cell[0] += tasks
        cell[1] += terms
        inside = int((at - index * self.width) * 1e9)
        if nanoseconds <= inside:
            cell[2] += nanoseconds
        else:
            self._lay_back(row, index, nanoseconds, inside)
        self._buckets[min(BUCKETS - 1, (nanoseconds // tasks).bit_length())] += tasks
        if tasks == 1 and nanoseconds > self._least:
            self._keep_long(Long(nanoseconds / 1e9, at, _cut(wid, MAX_NAME), *first))

    def mark(self, text: str, now: float) -> None:
        """Add an event that a person should read."""
        self._mark(Mark(round(max(0.0, now - self._began), 4), _cut(text, MAX_MARK)))

    def _mark(self, mark: Mark) -> None:
        if len(self._marks) == MAX_MARKS:  # the first ones stay, and the newest
            del self._marks[MAX_MARKS // 2]
            self._more_marks += 1
        self._marks.append(mark)

    def point(
        self, counted: int, out: int, workers: int, *, value: str | None, error: float | None, now: float
    ) -> None:
        """Add the progress of the job now. Points that come quickly are left out, more of them the longer the job
        lasts.
        """
        at = round(max(0.0, now - self._began), 4)
        if self._points and at - self._points[-1].at < self._between:
            return
        self._points.append(Point(at, counted, out, workers, _cut(value, 40) if value is not None else None, error))
        if len(self._points) >= MAX_POINTS:
            self._between = 2 * at / MAX_POINTS
            self._points = self._points[::2]

    def timeline(self, job: str, *, version: str, master: str, began: float, before: float, now: float) -> Timeline:
        """The timeline so far, to be stored."""
        self._kept_at = now
        return Timeline(
            job=job,
            version=version,
            master=_cut(master, MAX_NAME),
            began=began,
            before=round(before, 4),
            seconds=round(max(0.0, now - self._began), 6),
            width=self.width,
            rows=[Row(_cut(wid, MAX_NAME), _flat(row)) for wid, row in self._rows.items()],
            buckets=self._buckets,
            longest=sorted(self._longest, reverse=True),
            marks=self._marks,
            more_marks=self._more_marks,
            points=self._points,
        )

    def _new_row(self, wid: str) -> dict[int, list[int]]:
        return self._rows.setdefault(wid if len(self._rows) < MAX_ROWS else OTHERS, {})

    def _lay_back(self, row: dict[int, list[int]], index: int, nanoseconds: int, inside: int) -> None:
        """Add work to this bin, up to the part of the bin that has passed, and the rest to the bins before."""
        whole = int(self.width * 1e9)
        room = inside
        while nanoseconds > 0 and index >= 0:
            cell = row.get(index)
            if cell is None:
                cell = row[index] = [0, 0, 0]
                self._cells += 1
            piece = min(nanoseconds, room)
            cell[2] += piece
            nanoseconds -= piece
            index, room = index - 1, whole

    def _coarsen(self, at: float) -> None:
        while at / self.width >= MAX_BINS or self._cells >= MAX_CELLS:
            self.width *= 2
            for wid, row in self._rows.items():
                merged: dict[int, list[int]] = {}
                for index, cell in row.items():
                    found = merged.setdefault(index // 2, [0, 0, 0])
                    for place in range(3):
                        found[place] += cell[place]
                self._rows[wid] = merged
            self._cells = sum(map(len, self._rows.values()))

    def _keep_long(self, task: Long) -> None:
        if len(self._longest) < MAX_LONGEST:
            heappush(self._longest, task)
        else:
            heapreplace(self._longest, task)
            self._least = int(self._longest[0].seconds * 1e9)


def _flat(row: dict[int, list[int]]) -> list[int]:
    found = []
    for index in sorted(row):
        tasks, terms, nanoseconds = row[index]
        found += [index, tasks, terms, nanoseconds // 1000]
    return found


def _cut(text: str, most: int) -> str:
    """The text, cut to at most this number of bytes."""
    if text.isascii() and len(text) <= most:
        return text
    return text.encode(errors="replace")[:most].decode(errors="ignore")


def _is_sound(kept: Timeline) -> bool:
    doublings = math.log2(kept.width / FIRST_WIDTH) if 0 < kept.width < math.inf else -1.0
    times = (kept.seconds, kept.began, kept.before)
    return all(0 <= time < 1e12 for time in times) and doublings.is_integer() and 0 <= doublings < 64


def _gap(kept: Timeline, wall: float) -> float:
    """Seconds from a timeline's end to a moment; the two times come from the clocks of two hosts."""
    return min(LONGEST_GAP, max(0.0, wall - kept.began - kept.seconds))


def ended(kept: Timeline | None, job: str, *, began: float, wall: float, text: str, version: str) -> Timeline:
    """The timeline of a job that another process than its master ended, at ``wall`` (unix seconds).

    ``text``: the text of the mark at the end. ``began``: the time when the job was made, if no timeline is stored.
    """
    if kept is None or not _is_sound(kept):
        kept = Timeline(
            job=job,
            version=version,
            master="",
            began=began,
            before=0.0,
            seconds=0.0,
            width=FIRST_WIDTH,
            rows=[],
            buckets=[],
            longest=[],
            marks=[],
            more_marks=0,
            points=[],
        )
    gap = _gap(kept, wall)
    seconds = round(kept.seconds + gap, 6)
    if kept.rows and gap >= FIRST_PAUSE:
        text += f"; what was answered in the {gap:.0f} s before is not known here"
    mark = Mark(round(seconds, 4), _cut(text, MAX_MARK))
    return msgspec.structs.replace(kept, seconds=seconds, marks=[*kept.marks[: 2 * MAX_MARKS], mark])


class Losses(msgspec.Struct, frozen=True):
    """What the workers' seconds were spent on, for all workers together, from the job's beginning to its end."""

    computing: float
    before: float  # a worker's first work
    between: float  # its tasks: waiting for more, or a pause of its process
    after: float  # its last answer


def losses(timeline: Timeline) -> Losses:
    """What the workers' time was spent on. The error is at most the width of a bin for each number."""
    computing = before = between = after = 0.0
    for row in timeline.rows:
        cells = cells_of(row)
        if not cells:
            continue
        busy = sum(cell[3] for cell in cells) / 1e6
        first = min(timeline.seconds, cells[0][0] * timeline.width)
        last = min(timeline.seconds, (cells[-1][0] + 1) * timeline.width)
        computing += busy
        before += first
        between += max(0.0, last - first - busy)
        after += timeline.seconds - last
    return Losses(computing, before, between, after)


def cells_of(row: Row) -> list[tuple[int, int, int, int]]:
    """A row's cells: bin, tasks, terms, microseconds."""
    found = row.cells
    return list(zip(found[::4], found[1::4], found[2::4], found[3::4], strict=False))


def timeline_data(timeline: Timeline) -> dict[str, Any]:
    """The timeline as plain data with stable names, for programs."""
    found: dict[str, Any] = msgspec.to_builtins(timeline)
    names = ("bin", "tasks", "terms", "us")
    found["rows"] = [
        {"worker": row.wid, "cells": [dict(zip(names, cell, strict=True)) for cell in cells_of(row)]}
        for row in timeline.rows
    ]
    found["marks"] = [msgspec.structs.asdict(one) for one in timeline.marks]
    found["points"] = [msgspec.structs.asdict(one) for one in timeline.points]
    found["longest"] = [msgspec.structs.asdict(one) for one in timeline.longest]
    found["losses"] = msgspec.structs.asdict(losses(timeline))
    found["buckets"] = [
        {"below_s": 2**bits / 1e9, "tasks": tasks} for bits, tasks in enumerate(timeline.buckets) if tasks
    ]
    return found
