"""The workers in the dashboard's list, one a line. A new column is a row in COLUMNS, an entry in worker_cells. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from mapreduce_rq.broker.snapshot import Snapshot, WorkerView
from mapreduce_rq.cli.screen.frame import STYLES
from mapreduce_rq.cli.screen.ink import Text
from mapreduce_rq.cli.screen.view import View, fits
from mapreduce_rq.cli.screen.views import Seen, age_of, living_first, task_words, worker_name, worker_state
from mapreduce_rq.core.text import count, duration, short, size

JUST_NOW_SECONDS = 1.5


class Column(NamedTuple):
    """One column of the workers."""

    title: str
    width: int
    right: bool = True


COLUMNS = (  # in order of importance: a narrow terminal shows the first ones
    Column("state", 8, right=False),
    Column("job", 16, right=False),  # and all the room that is left over
    Column("tasks/s", 8),
    Column("for", 7),
    Column("done", 7),
    Column("memory", 7),
    Column("held", 6),
    Column("seen", 7),
    Column("cpu", 6),
    Column("terms", 24),
    Column("version", 9),
)
NAME_WIDTH = (12, 40)  # at least, at most


def sorted_workers(snapshot: Snapshot, seen: Seen, view: View) -> list[WorkerView]:
    """The workers that the filter lets pass, in the order of the view; the living come before the dead."""
    found = [
        one
        for one in living_first(snapshot, seen)
        if fits(view, worker_name(one), one.address, worker_state(one, seen), task_words(one, snapshot))
    ]
    order = view.order("workers")
    if order == "name":
        found.sort(key=worker_name)
    elif order != "state":
        what = {"tasks/s": "rate", "memory": "rss", "for": "seconds"}[order]
        found.sort(key=lambda one: -getattr(one.beat, what) if one.beat is not None else 0.0)
    return sorted(found, key=lambda one: one.beat is None)


def worker_cells(worker: WorkerView, snapshot: Snapshot, seen: Seen) -> dict[str, str]:
    """The text of a worker in each column."""
    cells = {"state": worker_state(worker, seen), "held": count(worker.held)}
    beat = worker.beat
    if beat is None:
        return cells | {"job": worker.obituary}
    cells |= {"tasks/s": count(beat.rate), "done": count(beat.done), "memory": size(beat.rss) if beat.rss else ""}
    cells |= {"cpu": f"{100 * beat.cpu:.0f} %" if beat.cpu >= 0 else "", "version": beat.version}
    age = age_of(worker, seen) or 0.0
    cells["seen"] = "now" if age < JUST_NOW_SECONDS else duration(age)
    cells["job"] = task_words(worker, snapshot, shorten=True)
    if beat.state == "busy":
        cells |= {
            "for": duration(beat.seconds),
            "terms": f"{beat.lo}..{beat.hi}",
        }
    return cells


def columns_for(workers: Sequence[WorkerView], width: int) -> list[Column]:
    """The columns for which there is room; the first one is of names, as wide as those of all workers want."""
    name = min(max(NAME_WIDTH[0], *(len(worker_name(worker)) for worker in workers)), NAME_WIDTH[1])
    columns: list[Column] = []
    used = name
    for column in COLUMNS:
        used += 2 + column.width
        if used > width:
            break
        columns.append(column)
    left = width - name - sum(2 + column.width for column in columns)
    columns = [one._replace(width=one.width + left) if one.title == "job" else one for one in columns]
    return [Column("worker", name, right=False), *columns]


def titles_of(columns: Sequence[Column]) -> Text:
    """The line above them."""
    return Text("  ".join(_cell(one, one.title) for one in columns), style="dim")


def worker_line(worker: WorkerView, columns: Sequence[Column], snapshot: Snapshot, seen: Seen) -> Text:
    """The line of one worker."""
    cells = worker_cells(worker, snapshot, seen)
    first, *others = columns
    line = Text(_cell(first, worker_name(worker)), no_wrap=True)
    for column in others:
        text = cells.get(column.title, "")
        style = STYLES[text] if column.title == "state" else _style(worker) if column.title == "job" else ""
        line.append("  ").append(_cell(column, text), style=style)
    return line


def _style(worker: WorkerView) -> str:
    """Of what a worker does: red if it is dead, yellow if it does nothing and says why."""
    if worker.beat is None:
        return "red"
    return "yellow" if worker.beat.state == "idle" else ""


def _cell(column: Column, text: str) -> str:
    shown = short(text, column.width)
    return f"{shown:>{column.width}}" if column.right else f"{shown:<{column.width}}"
