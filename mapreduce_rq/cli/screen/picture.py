"""The dashboard as a picture: a snapshot in, something that Rich can print out. No I/O, no clock.

From top to bottom: server and queue, jobs, workers, keys. What does not fit is left out in this order: ended jobs,
workers at the end of the list, columns from the right. A last line says how many were left out.

A new column of the workers is a row in COLUMNS and an entry in `_cells`; the lines of a job are made in `_running`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from rich.console import Group, RenderableType
from rich.panel import Panel

from mapreduce_rq.broker.snapshot import JobView, Snapshot, WorkerView
from mapreduce_rq.cli.screen.ink import Text
from mapreduce_rq.cli.screen.views import (
    WORKER_ORDER,
    Seen,
    age_of,
    living_first,
    memory_words,
    params_words,
    progress_words,
    remedy_words,
    state_words,
    task_words,
    value_words,
    worker_name,
    worker_state,
    workers_on,
)
from mapreduce_rq.core.job.record import State
from mapreduce_rq.core.text import count, duration, job_label, plural, rate, short, size

STYLES = {
    "running": "cyan",
    "busy": "cyan",
    "done": "green",
    "idle": "green",
    "no master": "magenta",
    "no workers": "magenta",
    "stopped": "yellow",
    "cancelled": "yellow",
    "silent": "yellow",
    "failed": "red",
    "dead": "red",
}
JOB_ORDER = ("running", "no workers", "no master", "failed", "done", "cancelled")
FRAME_LINES = 2  # of a panel: its upper and lower edge
FRAME_COLUMNS = 4
LEAST_WORKER_LINES = 4
WIDE = 100
JUST_NOW_SECONDS = 1.5
CUT = "..."


class Glyphs(NamedTuple):
    """The characters to draw with. Each state also has a word or a number, for those who cannot see the character."""

    marks: dict[str, str]
    full: str
    half: str
    empty: str
    dot: str
    plus_minus: str


UNICODE = Glyphs(
    marks={"running": "●", "no master": "◌", "no workers": "○", "done": "✓", "failed": "✗", "cancelled": "■"},
    full="━",
    half="╸",
    empty="─",
    dot="·",
    plus_minus="±",
)
ASCII = Glyphs(
    marks={"running": ">", "no master": "?", "no workers": "0", "done": "+", "failed": "!", "cancelled": "-"},
    full="#",
    half="#",
    empty=".",
    dot="|",
    plus_minus="+-",
)


@dataclass(frozen=True)
class Frame:
    """What a picture needs beside the snapshot. With ``height`` None the picture is as high as it needs to be."""

    url: str  # redacted
    round_trip: float  # seconds
    width: int = 80
    height: int | None = None
    unicode: bool = True
    trouble: str = ""  # why there is no newer snapshot
    keys: str = ""  # the last line

    @property
    def glyphs(self) -> Glyphs:
        """The characters that can be shown."""
        return UNICODE if self.unicode else ASCII


def draw(snapshot: Snapshot, seen: Seen, frame: Frame) -> Group:
    """The whole picture."""
    inner = max(20, frame.width - FRAME_COLUMNS)
    head = list(_head(snapshot, seen, frame))
    foot = [Text(frame.keys, style="dim", no_wrap=True, overflow="crop")] if frame.keys else []
    jobs = _job_items(snapshot, seen, frame, inner)
    workers = [[line] for line in _worker_lines(snapshot, seen, inner)]
    room = sys.maxsize if frame.height is None else frame.height - len(head) - len(foot) - 2 * FRAME_LINES
    kept = min(len(workers), max(LEAST_WORKER_LINES, room // 2 if len(jobs) > 1 else room))
    job_lines = _fit(jobs, max(2, room - kept), "jobs")
    worker_lines = _fit(workers, max(2, room - len(job_lines)), "workers")
    fill = 0 if frame.height is None else room - len(job_lines) - len(worker_lines)
    filled = [*worker_lines, *[Text()] * fill]
    return Group(
        *head,
        _panel("jobs", [state_words(job, snapshot, seen) for job in snapshot.jobs], JOB_ORDER, job_lines, frame),
        _panel("workers", [worker_state(one, seen) for one in snapshot.workers], WORKER_ORDER, filled, frame),
        *foot,
    )


# -- the head ----------------------------------------------------------------------------------------------------------


def _head(snapshot: Snapshot, seen: Seen, frame: Frame) -> Iterator[Text]:
    server = snapshot.server
    dot = f" {frame.glyphs.dot} "
    clock = time.strftime("%H:%M:%S", time.localtime(seen.at))
    name = Text.assemble(("mrq", "bold"), "  ", (snapshot.queue, "bold cyan"), "  ", (frame.url, "dim"))
    yield _apart(name, Text(clock), frame.width)
    facts = [f"{server.product} {server.version}", f"{duration(frame.round_trip)} away", memory_words(server)]
    tasks = f"{plural(snapshot.waiting, 'task')} waiting, {count(snapshot.in_flight)} in hand"
    yield _apart(
        Text(dot.join(filter(None, facts)), style="dim"),
        Text(tasks, style="bold" if snapshot.waiting else ""),
        frame.width,
    )
    if frame.trouble:
        yield Text(frame.trouble, style="bold red", no_wrap=True, overflow="crop")
    if server.warning:
        yield Text(f"warning: {server.warning}", style="yellow", no_wrap=True, overflow="crop")
    if snapshot.dropped:
        what = f"{plural(snapshot.dropped, 'entry', 'entries')} cannot be read: {snapshot.why_dropped}"
        yield Text(what, style="yellow", no_wrap=True, overflow="crop")


# -- jobs --------------------------------------------------------------------------------------------------------------


def _job_items(snapshot: Snapshot, seen: Seen, frame: Frame, width: int) -> list[list[Text]]:
    """The lines of each job, those that run first."""
    label = max([len(job_label(job.job)) for job in snapshot.jobs], default=0)
    running = [
        _running(job, snapshot, seen, frame.glyphs, width=width, label=label) for job in snapshot.jobs if _runs(job)
    ]
    ended = [[_ended(job, frame.glyphs, width, label)] for job in snapshot.jobs if not _runs(job)]
    return [*running, *ended] or [[Text("no jobs: mrq compute exp --x 2 -u URL", style="dim")]]


def _runs(job: JobView) -> bool:
    return job.state is State.RUNNING


def _running(job: JobView, snapshot: Snapshot, seen: Seen, glyphs: Glyphs, *, width: int, label: int) -> list[Text]:
    report = job.report
    state = state_words(job, snapshot, seen)
    style = STYLES[state]
    counted = f"{count(report.counted)}/{count(report.total)}" if report.total is not None else "terms"
    left = duration(job.seconds_left) + " left" if job.seconds_left is not None else duration(report.elapsed_s)
    if state != "running":
        left = state
    facts = Text.assemble(
        (f"{progress_words(job):>6}", "bold"), f"{counted:>12}", (f"{rate(report.rate):>9}", "cyan"), f"{left:>11}"
    )
    start = Text.assemble((f"{glyphs.marks[state]} ", style), (f"{job_label(job.job):<{label}}", "bold"), "  ")
    room = width - start.cell_len - facts.cell_len
    first = Text.assemble(start, bar(job.share, max(4, room), glyphs, style), facts, no_wrap=True, overflow="crop")
    value = value_words(job).replace("±", glyphs.plus_minus)
    remedy = remedy_words(job, snapshot, seen)
    more = remedy or f"{plural(workers_on(job, snapshot, seen), 'worker')}, {plural(report.out, 'task')} out"
    second = Text(" " * start.cell_len)
    second.append(value or params_words(job), style="green" if value else "dim")
    return [first, _apart(second, Text(more, style="magenta" if remedy else "dim"), width)]


def _ended(job: JobView, glyphs: Glyphs, width: int, label: int) -> Text:
    value = value_words(job).replace("±", glyphs.plus_minus)
    start = Text.assemble((f"{glyphs.marks[job.state]} ", STYLES[job.state]), f"{job_label(job.job):<{label}}", "  ")
    start.append(value or params_words(job), style=STYLES[job.state] if job.state == "failed" else "")
    report = job.report
    terms = f"{count(report.counted):>8} terms" if width >= WIDE else ""
    end = Text(f"{job.state.word:>9}{terms}{duration(report.elapsed_s):>9}", style="dim")
    return _apart(start, end, width)


def bar(share: float | None, width: int, glyphs: Glyphs, style: str) -> Text:
    """A bar ``width`` columns long, of which ``share`` (0 to 1) is full; None: the total is not known."""
    if share is None:
        return Text(glyphs.empty * width, style="bright_black")
    halves = int(min(1.0, max(0.0, share)) * width * 2)
    drawn = glyphs.full * (halves // 2) + glyphs.half * (halves % 2)
    return Text.assemble((drawn, style), (glyphs.empty * (width - len(drawn)), "bright_black"))


# -- workers -----------------------------------------------------------------------------------------------------------


class Column(NamedTuple):
    """One column of the workers."""

    title: str
    width: int
    right: bool = True


COLUMNS = (  # in order of importance: a narrow terminal shows the first ones
    Column("state", 8, right=False),
    Column("job", 16, right=False),  # and whatever is left over
    Column("tasks/s", 8),
    Column("for", 7),
    Column("done", 7),
    Column("memory", 7),
    Column("held", 6),
    Column("seen", 7),
    Column("terms", 24),
)
NAME_WIDTH = (12, 40)  # at least, at most


def _cells(worker: WorkerView, snapshot: Snapshot, seen: Seen) -> dict[str, str]:
    """The text of a worker in each column."""
    cells = {"state": worker_state(worker, seen), "held": count(worker.held)}
    beat = worker.beat
    if beat is None:
        return cells | {"job": worker.obituary}
    cells |= {"tasks/s": count(beat.rate), "done": count(beat.done), "memory": size(beat.rss) if beat.rss else ""}
    age = age_of(worker, seen) or 0.0
    cells["seen"] = "now" if age < JUST_NOW_SECONDS else duration(age)
    if beat.state == "busy":
        cells |= {
            "job": task_words(worker, snapshot, shorten=True),
            "for": duration(beat.seconds),
            "terms": f"{beat.lo}..{beat.hi}",
        }
    return cells


def _worker_lines(snapshot: Snapshot, seen: Seen, width: int) -> list[Text]:
    if not snapshot.workers:
        return [Text("no workers: mrq worker -u URL", style="yellow" if snapshot.waiting else "dim")]
    name = min(max(NAME_WIDTH[0], *(len(worker_name(worker)) for worker in snapshot.workers)), NAME_WIDTH[1])
    columns: list[Column] = []
    used = name
    for column in COLUMNS:
        used += 2 + column.width
        if used > width:
            break
        columns.append(column)
    left = width - name - sum(2 + column.width for column in columns)
    columns = [one._replace(width=one.width + left) if one.title == "job" else one for one in columns]
    lines = [Text("  ".join([f"{'worker':<{name}}", *(_cell(one, one.title) for one in columns)]), style="dim")]
    for worker in living_first(snapshot, seen):
        cells = _cells(worker, snapshot, seen)
        line = Text(f"{short(worker_name(worker), name):<{name}}", no_wrap=True)
        for column in columns:
            text = cells.get(column.title, "")
            style = STYLES[text] if column.title == "state" else "red" if worker.beat is None else ""
            line.append("  ").append(_cell(column, text), style=style)
        lines.append(line)
    return lines


def _cell(column: Column, text: str) -> str:
    shown = short(text, column.width)
    return f"{shown:>{column.width}}" if column.right else f"{shown:<{column.width}}"


# -- fitting it in -----------------------------------------------------------------------------------------------------


def _fit(items: Sequence[list[Text]], room: int, what: str) -> list[Text]:
    """The lines of as many items as there is room for, and how many were left out."""
    if sum(map(len, items)) <= room:
        return [line for item in items for line in item]
    lines: list[Text] = []
    for index, item in enumerate(items):
        if len(lines) + len(item) + 1 > room:
            return [*lines, Text(f"and {len(items) - index} more {what}", style="dim")]
        lines += item
    return lines


def _apart(left: Text, right: Text, width: int) -> Text:
    """One line with a text at each end; the left text is cut where both do not fit."""
    room = max(0, width - right.cell_len - 2)
    if left.cell_len > room:
        left.truncate(max(0, room - len(CUT)), overflow="crop")
        left.append(CUT[:room])
    return Text.assemble(left, " " * max(0, width - left.cell_len - right.cell_len), right, no_wrap=True)


def _panel(title: str, states: list[str], order: Sequence[str], lines: list[Text], frame: Frame) -> RenderableType:
    heading = Text.assemble(" ", (title, "bold"), " ")
    for index, word in enumerate(word for word in order if word in states):
        heading.append(f" {frame.glyphs.dot} " if index else " ", style="dim")
        heading.append(f"{states.count(word)} {word}", style=STYLES[word])
    heading.append(" ")
    return Panel(Group(*lines), title=heading, title_align="left", border_style="bright_black", width=frame.width)
