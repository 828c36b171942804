"""The dashboard as a picture: a snapshot and a view in, something that Rich can print out. No I/O, no clock.

From top to bottom: server and queue, jobs, workers, events, keys; or one page instead of the lists. Where there is not
room for all three lists, the one that the person is in stays longest. A list that is longer than its room shows the
part around what is selected, and says which part that is, so everything can be reached.

The rows of the lists are made in job_rows.py, worker_rows.py and event_rows.py, the pages in job_page.py and
worker_page.py.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from rich.console import Group, RenderableType

from mapreduce_rq.broker.detail import Detail
from mapreduce_rq.broker.snapshot import Snapshot
from mapreduce_rq.cli.screen.event_rows import event_lines, sorted_events
from mapreduce_rq.cli.screen.frame import Frame, apart, heading, labelled, panel, window
from mapreduce_rq.cli.screen.happenings import Happening
from mapreduce_rq.cli.screen.ink import Text
from mapreduce_rq.cli.screen.job_page import job_lines
from mapreduce_rq.cli.screen.job_rows import JOB_ORDER, height, job_items, label_width, sorted_jobs
from mapreduce_rq.cli.screen.view import HELP, PANES, Pane, View
from mapreduce_rq.cli.screen.views import WORKER_ORDER, Seen, memory_words, nothing, state_words, worker_state
from mapreduce_rq.cli.screen.worker_page import worker_page_lines
from mapreduce_rq.cli.screen.worker_rows import columns_for, sorted_workers, titles_of, worker_line
from mapreduce_rq.core.text import count, duration, plural

FRAME_LINES = 2  # of a panel: its upper and lower edge
FRAME_COLUMNS = 4
MOST_TROUBLE = 4
"""Lines of what went wrong: a message says at its end what to do."""
ROOM_FOR_ALL = 20
"""Lines of a terminal that shows three lists; one with fewer shows two, and one with fewer than this..."""
ROOM_FOR_TWO = 12
"""...only the list that the person is in."""


@dataclass(frozen=True)
class Known:
    """What is known besides a snapshot, from looks before this one."""

    events: Sequence[Happening] = ()
    detail: Detail | None = None  # of the job whose page is open
    errors: Sequence[float] = ()  # of its running value
    busy: dict[str, tuple[int, int]] = field(default_factory=dict)  # by worker: at how many looks, of how many


def listed(snapshot: Snapshot, seen: Seen, view: View, known: Known) -> dict[Pane, Sequence[str]]:
    """The ids in each list, in the order of the picture."""
    return {
        "jobs": [job.job for job in sorted_jobs(snapshot, seen, view)],
        "workers": [one.wid for one in sorted_workers(snapshot, seen, view)],
        "events": [one.id for one in sorted_events(known.events, view)],
    }


def draw(snapshot: Snapshot, seen: Seen, frame: Frame, view: View | None = None, known: Known | None = None) -> Group:
    """The whole picture. Without a view: all lists as they begin, and nothing is selected."""
    known = known or Known()
    chosen = view or View()
    inner = max(20, frame.width - FRAME_COLUMNS)
    head = list(_head(snapshot, seen, frame))
    foot = [Text(frame.keys, style="dim", no_wrap=True, overflow="crop")] if frame.keys else []
    room = sys.maxsize if frame.height is None else frame.height - len(head) - len(foot)
    if chosen.page:
        title, lines = _page(snapshot, seen, frame, chosen, known)
        return Group(*head, _scrolled(title, lines, chosen.scroll, room, frame), *foot)
    lists = {
        "jobs": _jobs(snapshot, seen, frame, chosen, inner),
        "workers": _workers(snapshot, seen, chosen, inner),
        "events": _events(known, chosen, inner),
    }
    focused = view.pane if view is not None else None
    panes = _panes(frame, chosen, bool(known.events) or view is not None)
    rooms = _rooms(
        [sum(lists[pane].heights) + len(lists[pane].titles) for pane in panes],
        panes.index(chosen.pane) if chosen.pane in panes else 0,
        room - FRAME_LINES * len(panes),
    )
    drawn = [
        _drawn(lists[pane], lines, _title(pane, snapshot, seen, frame), frame, focused=pane == focused)
        for pane, lines in zip(panes, rooms, strict=True)
    ]
    return Group(*head, *drawn, *foot)


# -- the head ----------------------------------------------------------------------------------------------------------


def _head(snapshot: Snapshot, seen: Seen, frame: Frame) -> Iterator[Text]:
    server = snapshot.server
    dot = f" {frame.glyphs.dot} "
    clock = time.strftime("%H:%M:%S", time.localtime(seen.at))
    name = Text.assemble(("mrq", "bold"), "  ", (snapshot.queue, "bold cyan"), "  ", (frame.url, "dim"))
    yield apart(name, Text(clock), frame.width)
    facts = [f"{server.product} {server.version}", f"{duration(frame.round_trip)} away", memory_words(server)]
    tasks = f"{plural(snapshot.waiting, 'task')} waiting, {count(snapshot.in_flight)} in hand"
    yield apart(
        Text(dot.join(filter(None, facts)), style="dim"),
        Text(tasks, style="bold" if snapshot.waiting else ""),
        frame.width,
    )
    if frame.trouble:
        yield from labelled("", frame.trouble, "bold red", frame.width, indent=0)[:MOST_TROUBLE]
    if server.warning:
        yield Text(f"warning: {server.warning}", style="yellow", no_wrap=True, overflow="crop")
    if snapshot.dropped:
        what = f"{plural(snapshot.dropped, 'entry', 'entries')} cannot be read: {snapshot.why_dropped}"
        yield Text(what, style="yellow", no_wrap=True, overflow="crop")


# -- the lists ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rows:
    """One list: how many lines each item has, which of them is selected, and what stands above.

    The lines themselves are made (``make``, of the items from one place to another) when it is known which of them
    there is room for: a queue remembers a thousand jobs, and a screen shows ten.
    """

    heights: Sequence[int]
    make: Callable[[int, int], list[list[Text]]]
    chosen: int = 0
    titles: list[Text] = field(default_factory=list)
    empty: bool = False  # the only item says that there is none
    below: str = ""


def _only(text: str, style: str) -> Rows:
    """An empty list, and why it is."""
    return Rows([1], lambda _first, _last: [[Text(text, style=style)]], empty=True)


def _jobs(snapshot: Snapshot, seen: Seen, frame: Frame, view: View, width: int) -> Rows:
    jobs = sorted_jobs(snapshot, seen, view)
    place = view.place("jobs", [job.job for job in jobs])
    if not jobs:
        why = "no job has this in it; Esc lists all" if snapshot.jobs else nothing("job", snapshot.unread_jobs)
        why += ": mrq compute exp --x 2 -u URL" if not snapshot.jobs and not snapshot.unread_jobs else ""
        return _only(why, "dim")

    def make(first: int, last: int) -> list[list[Text]]:
        return job_items(jobs[first:last], snapshot, seen, frame.glyphs, width, label=label)

    label = label_width(jobs)
    return Rows([height(job) for job in jobs], make, place, below=_below(view, "jobs"))


def _workers(snapshot: Snapshot, seen: Seen, view: View, width: int) -> Rows:
    workers = sorted_workers(snapshot, seen, view)
    if not workers:
        why = (
            "no worker has this in it; Esc lists all"
            if snapshot.workers
            else nothing("worker", snapshot.unread_workers)
        )
        why += ": mrq worker -u URL" if not snapshot.workers and not snapshot.unread_workers else ""
        return _only(why, "yellow" if snapshot.waiting else "dim")

    def make(first: int, last: int) -> list[list[Text]]:
        return [[worker_line(one, columns, snapshot, seen)] for one in workers[first:last]]

    columns = columns_for(workers, width)
    place = view.place("workers", [one.wid for one in workers])
    return Rows([1] * len(workers), make, place, [titles_of(columns)], below=_below(view, "workers"))


def _events(known: Known, view: View, width: int) -> Rows:
    events = sorted_events(known.events, view)
    if not events:
        return _only("no event has this in it; Esc lists all" if known.events else "nothing has happened yet", "dim")

    def make(first: int, last: int) -> list[list[Text]]:
        return [[line] for line in event_lines(events[first:last], width)]

    return Rows([1] * len(events), make, view.place("events", [one.id for one in events]))


def _below(view: View, pane: Pane) -> str:
    words = [f"by {view.order(pane)}"] if view.sort.get(pane) else []
    return ", ".join([*words, *([f"/{view.filter}"] if view.filter else [])])


def _panes(frame: Frame, view: View, events: bool) -> list[Pane]:
    """The lists for which there is room."""
    height = sys.maxsize if frame.height is None else frame.height
    if height < ROOM_FOR_TWO:
        return [view.pane]
    if height < ROOM_FOR_ALL or not events:
        return [view.pane] if view.pane == "events" and height < ROOM_FOR_ALL else ["jobs", "workers"]
    return list(PANES)


def _rooms(wanted: list[int], focused: int, room: int) -> list[int]:
    """The lines that each list gets: what it wants, or its share; what is left over goes to the last one."""
    if room >= sys.maxsize // 2:
        return wanted
    rooms = [0] * len(wanted)
    left = max(room, 2 * len(wanted))
    order = sorted(range(len(wanted)), key=lambda index: (wanted[index], index != focused))
    for rank, index in enumerate(order):
        rooms[index] = max(2, min(wanted[index], left // (len(order) - rank)))
        left -= rooms[index]
    rooms[-1] += max(0, left)
    return rooms


def _drawn(shown: Rows, room: int, title: Text, frame: Frame, *, focused: bool) -> RenderableType:
    titles = shown.titles if room > len(shown.titles) + 1 or room < 2 else []
    space = max(1, room - len(titles))
    first, last = window(shown.heights, shown.chosen, space)
    lines = list(titles)
    for index, item in enumerate(shown.make(first, last), first):
        lines += item
        if focused and index == shown.chosen and not shown.empty:
            item[0].stylize("reverse")
    lines = lines[:room]
    if frame.height is not None:
        lines += [Text()] * (room - len(lines))
    part = "" if (first, last) == (0, len(shown.heights)) else f"{first + 1} to {last} of {len(shown.heights)}"
    below = ", ".join(filter(None, (part, shown.below)))
    return panel(title, lines, frame, below=below, focused=focused)


def _title(pane: Pane, snapshot: Snapshot, seen: Seen, frame: Frame) -> Text:
    if pane == "jobs":
        return heading(pane, [state_words(job, snapshot, seen) for job in snapshot.jobs], JOB_ORDER, frame)
    if pane == "workers":
        return heading(pane, [worker_state(one, seen) for one in snapshot.workers], WORKER_ORDER, frame)
    return heading(pane, [], [], frame)


# -- the pages ---------------------------------------------------------------------------------------------------------


def _page(snapshot: Snapshot, seen: Seen, frame: Frame, view: View, known: Known) -> tuple[str, list[Text]]:
    width = max(20, frame.width - FRAME_COLUMNS)
    if view.page == "help":
        return "keys", [line for key, text in HELP for line in labelled(key, text, "", width)]
    if view.page == "job":
        name = view.selected.get("jobs", "")
        job = snapshot.job(name)
        if job is None:
            return "job", [Text(f"{name} is gone: its record has expired, or was purged", style="yellow")]
        detail = known.detail if known.detail is not None and known.detail.job == name else None
        return "job", job_lines(
            job, snapshot, seen, detail=detail, errors=known.errors, glyphs=frame.glyphs, width=width
        )
    wid = view.selected.get("workers", "")
    worker = next((one for one in snapshot.workers if one.wid == wid), None)
    if worker is None:
        return "worker", [Text(f"{wid.rpartition(':')[0]} has left", style="yellow")]
    return "worker", worker_page_lines(worker, snapshot, seen, known.busy.get(wid, (0, 0)), width)


def _scrolled(title: str, lines: list[Text], scroll: int, room: int, frame: Frame) -> RenderableType:
    """A page from the line ``scroll`` on; no further than to its last line."""
    space = max(1, room - FRAME_LINES) if frame.height is not None else len(lines)
    first = max(0, min(scroll, len(lines) - space))
    shown = lines[first : first + space]
    below = "" if len(shown) == len(lines) else f"lines {first + 1} to {first + len(shown)} of {len(lines)}"
    if frame.height is not None:
        shown = [*shown, *[Text()] * (space - len(shown))]
    return panel(Text.assemble(" ", (title, "bold"), " "), shown, frame, below=below, focused=True)
