"""The timeline: what each worker of a job did at which time, in a bounded size, kept with the job's record. No clock,
no I/O.

Time is cut into bins of one width. A cell holds what one worker answered in one bin. When the bins or the cells are
used up, the width doubles and neighbours are added up: a job of a second is kept by milliseconds, one of a day by
minutes.

The master writes the timeline into the job's hash from time to time while the job runs, more rarely the longer the job
lasts. Each checkpoint between these times has with it what each worker answered since then, as one sum (``Since``); a
process that reads the hash puts the two together. So a timeline always has the answers that the checkpoint beside it
has. If the master dies, the next one continues the timeline (recorder.py) on the same axis, and marks the takeover. A
process that cancels the job ends it (``ended``). ``upto`` names the last reply in a timeline: replies that are read
again do not count twice.

A reply counts in the bin in which the master read it. Its work is drawn before that moment, with the time it took.
"""

from __future__ import annotations

import math
import re
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
MOST = 1 << 62


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
    upto: str = ""  # the last entry of the stream of replies that is in it


class Since(msgspec.Struct, array_like=True, frozen=True):
    """What happened since the timeline was last kept: with it, that is what was known at the last checkpoint."""

    job: str
    began: float  # as of the timeline
    after: float  # ``seconds`` of the timeline that it goes on from; 0: none is kept yet
    seconds: float
    upto: str
    rows: list[tuple[str, int, int, int]]  # worker, tasks, terms, microseconds of work
    buckets: list[int]  # of the whole time
    longest: list[Long]
    marks: list[Mark]


def cut(text: str, most: int) -> str:
    """The text, cut to at most this number of bytes."""
    if text.isascii() and len(text) <= most:
        return text
    return text.encode(errors="replace")[:most].decode(errors="ignore")


def is_sound(kept: Timeline) -> bool:
    """Whether its numbers can be right: without a key, any client may have written it."""
    doublings = math.log2(kept.width / FIRST_WIDTH) if 0 < kept.width < math.inf else -1.0
    times = (kept.seconds, kept.began, kept.before)
    right = all(0 <= time < 1e12 for time in times) and doublings.is_integer() and 0 <= doublings < 64
    return right and is_entry(kept.upto)


def is_entry(upto: str) -> bool:
    """Whether it names an entry of a stream, or none."""
    return not upto or re.fullmatch("[0-9]{1,20}-[0-9]{1,20}", upto) is not None


def gap_of(kept: Timeline, wall: float) -> float:
    """Seconds from a timeline's end to a moment; the two times come from the clocks of two hosts."""
    return min(LONGEST_GAP, max(0.0, wall - kept.began - kept.seconds))


def ended(kept: Timeline | None, job: str, *, began: float, wall: float, text: str, version: str) -> Timeline:
    """The timeline of a job that another process than its master ended, at ``wall`` (unix seconds).

    ``text``: the text of the mark at the end. ``began``: the time when the job was made, if no timeline is stored.
    """
    if kept is None or not is_sound(kept):
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
    gap = gap_of(kept, wall)
    seconds = round(kept.seconds + gap, 6)
    if kept.rows and gap >= FIRST_PAUSE:
        text += f"; what was answered in the {gap:.0f} s before is not known here"
    mark = Mark(round(seconds, 4), cut(text, MAX_MARK))
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
