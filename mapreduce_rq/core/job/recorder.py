"""Counts what a job's workers do, for its timeline, while the job runs. No clock, no I/O.

The master makes a few additions for each reply, and none for an answer or a term. Time is cut into
bins of one width; when the bins or the cells are used up, the width doubles and neighbours are added up.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapify, heappush, heapreplace

from mapreduce_rq.core.job.timeline import (
    BUCKETS,
    FIRST_PAUSE,
    FIRST_WIDTH,
    LONGEST_PAUSE,
    MAX_BINS,
    MAX_CELLS,
    MAX_LONGEST,
    MAX_MARK,
    MAX_MARKS,
    MAX_NAME,
    MAX_POINTS,
    MAX_ROWS,
    MOST,
    OTHERS,
    PAUSE_SHARE,
    Long,
    Mark,
    Point,
    Row,
    Since,
    Timeline,
    cells_of,
    cut,
    gap_of,
    is_entry,
    is_sound,
)

MOST_SLICES = 32
"""Of the time since a timeline was kept: what a worker answered in it is laid into each of them in equal parts."""


class Recorder:
    """Counts while the job runs. ``now`` is any steady clock, in seconds. ``read``: whether any process can read the
    timeline; if not, answers are not counted here.
    """

    def __init__(self, now: float, *, read: bool = True) -> None:
        self._read = read
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
        self._kept_at: float | None = now  # None: what is kept is not known, or not all of it
        self._kept = 0.0  # ``seconds`` of what is kept; 0: nothing is yet
        self._since: dict[str, list[int]] = {}  # by worker, what it answered since: tasks, terms, nanoseconds

    def go_on(self, kept: Timeline, *, now: float, wall: float) -> float | None:
        """Continue the timeline that an earlier master stored; ``wall`` is unix seconds. Returns the seconds since it
        was stored.

        None, and nothing is continued, if it cannot be right: without a key, any client may have written it.
        """
        if not is_sound(kept):
            return None
        gap = gap_of(kept, wall)
        shift = kept.seconds + gap  # from its beginning to now
        behind = now - self._began
        self._began, self._kept_at = now - shift, None
        early, self._marks = self._marks, list(kept.marks[:MAX_MARKS])
        self._more_marks = kept.more_marks
        for mark in early:
            self._mark(Mark(round(shift - behind + mark.at, 4), mark.text))
        self._points = list(kept.points[:MAX_POINTS])
        self._between = kept.seconds / MAX_POINTS if len(self._points) >= MAX_POINTS // 2 else 0.0
        self._buckets = _buckets(kept.buckets)
        self._longest = list(kept.longest[:MAX_LONGEST])
        heapify(self._longest)
        full = len(self._longest) == MAX_LONGEST
        self._least = int(min(1e18, max(0.0, self._longest[0].seconds * 1e9))) if full else 0
        self.width = kept.width
        for row in kept.rows[: MAX_ROWS + 1]:
            cells = {
                index: [tasks, terms, 1000 * spent]
                for index, tasks, terms, spent in cells_of(row)
                if 0 <= index < MAX_BINS and min(tasks, terms, spent) >= 0 and max(tasks, terms, spent) < MOST
            }
            if cells:
                self._rows[row.wid] = cells
        self._cells = sum(map(len, self._rows.values()))
        return gap

    def add(self, since: Since) -> None:
        """Add what happened since the timeline was stored that this recorder continues."""
        long = since.seconds - since.after
        slices = max(1, min(MOST_SLICES, int(long / self.width)))
        for wid, *sums in since.rows[: MAX_ROWS + 1]:
            if min(sums) < 0 or max(sums) >= MOST:
                continue
            for number in range(slices):
                tasks, terms, spent = (one * (number + 1) // slices - one * number // slices for one in sums)
                self._lay(wid, tasks, terms, 1000 * spent, since.after + long * (number + 1) / slices)
        self._buckets = _buckets(since.buckets)
        tasks_there, marks_there = list(self._longest), list(self._marks)  # those of the last moment are in both
        for task in since.longest[:MAX_LONGEST]:
            if self._least < task.seconds * 1e9 < 1e18 and task not in tasks_there:
                self._keep_long(task)
        for mark in since.marks[:MAX_MARKS]:
            if mark not in marks_there:
                self._mark(mark)

    def due(self, now: float) -> bool:
        """Whether it is time to store the running job's timeline again."""
        if self._kept_at is None:
            return True
        pause = min(LONGEST_PAUSE, max(FIRST_PAUSE, PAUSE_SHARE * (now - self._began)))
        return now - self._kept_at >= pause

    def answered(
        self, wid: str, tasks: int, terms: int, nanoseconds: int, *, now: float, first: tuple[int, int]
    ) -> None:
        """Add one reply: the number of its tasks and terms, and the work on them. ``first``: the span of the first
        task.

        Tasks that were answered together count in the histogram with their mean.
        """
        if not self._read:
            return
        at = max(0.0, now - self._began)
        self._lay(wid, tasks, terms, nanoseconds, at)
        since = self._since.get(wid)
        if since is None:
            since = self._since.setdefault(wid if wid in self._rows else OTHERS, [0, 0, 0])
        since[0] += tasks
        since[1] += terms
        since[2] += nanoseconds
        self._buckets[min(BUCKETS - 1, (nanoseconds // tasks).bit_length())] += tasks
        if tasks == 1 and nanoseconds > self._least:
            self._keep_long(Long(nanoseconds / 1e9, at, cut(wid, MAX_NAME), *first))

    def _lay(self, wid: str, tasks: int, terms: int, nanoseconds: int, at: float) -> None:
        """What one worker has answered by now, in its row."""
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

    def mark(self, text: str, now: float) -> None:
        """Add an event that a person should read."""
        self._mark(Mark(round(max(0.0, now - self._began), 4), cut(text, MAX_MARK)))

    def has_mark(self, text: str) -> bool:
        """Whether there is an event of this text."""
        return cut(text, MAX_MARK) in {mark.text for mark in self._marks}

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
        self._points.append(Point(at, counted, out, workers, cut(value, 40) if value is not None else None, error))
        if len(self._points) >= MAX_POINTS:
            self._between = 2 * at / MAX_POINTS
            self._points = self._points[::2]

    def timeline(
        self, job: str, *, version: str, master: str, began: float, before: float, now: float, upto: str = ""
    ) -> Timeline:
        """The timeline so far, to be stored. ``upto``: the last entry of the stream of replies that is in it."""
        return Timeline(
            job=job,
            version=version,
            master=cut(master, MAX_NAME),
            began=began,
            before=round(before, 4),
            seconds=round(max(0.0, now - self._began), 6),
            width=self.width,
            rows=[Row(cut(wid, MAX_NAME), _flat(row)) for wid, row in self._rows.items()],
            buckets=self._buckets,
            longest=sorted(self._longest, reverse=True),
            marks=self._marks,
            more_marks=self._more_marks,
            points=self._points,
            upto=upto,
        )

    def kept(self, timeline: Timeline, now: float) -> None:
        """The timeline, as of now, is in Redis."""
        self._kept_at, self._kept = now, timeline.seconds
        self._since = {}

    def unsure(self) -> None:
        """What is in Redis is not known any more."""
        self._kept_at = None

    def since(self, job: str, *, began: float, now: float, upto: str) -> Since:
        """What goes with a checkpoint, unless the timeline itself is ``due``."""
        after = self._kept
        return Since(
            job,
            began,
            after,
            round(max(0.0, now - self._began), 6),
            upto,
            [(cut(wid, MAX_NAME), tasks, terms, spent // 1000) for wid, (tasks, terms, spent) in self._since.items()],
            self._buckets,
            [task for task in self._longest if task.end >= after],
            [mark for mark in self._marks if mark.at >= after - 0.001],  # it is rounded
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


def _buckets(kept: Sequence[int]) -> list[int]:
    buckets = [min(MOST, max(0, tasks)) for tasks in kept[:BUCKETS]]
    return buckets + [0] * (BUCKETS - len(buckets))


def _flat(row: dict[int, list[int]]) -> list[int]:
    found = []
    for index in sorted(row):
        tasks, terms, nanoseconds = row[index]
        found += [index, tasks, terms, nanoseconds // 1000]
    return found


def brought_up(kept: Timeline | None, since: Since | None) -> Timeline | None:
    """The timeline with what happened since, if that goes on from it. A worker's answers lie evenly in that time."""
    if since is None or not _goes_on(kept, since):
        return kept
    recorder = Recorder(0.0)
    if kept is not None:
        recorder.go_on(kept, now=kept.seconds, wall=0.0)
    recorder.add(since)
    return recorder.timeline(
        since.job,
        version=kept.version if kept is not None else "",
        master=kept.master if kept is not None else "",
        began=kept.began if kept is not None else since.began,
        before=kept.before if kept is not None else 0.0,
        now=since.seconds,
        upto=since.upto,
    )


def _goes_on(kept: Timeline | None, since: Since) -> bool:
    if kept is not None and (not is_sound(kept) or kept.job != since.job):
        return False
    times = (since.began, since.seconds - since.after)
    follows = since.after == (kept.seconds if kept is not None else 0.0)
    return follows and all(0 <= time < 1e12 for time in times) and is_entry(since.upto)
