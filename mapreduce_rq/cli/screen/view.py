"""What the dashboard shows (a view), and how each key changes that. No terminal, no Redis, no clock.

A view is a value: ``pressed`` returns the next one, and what the program is to do besides (see Act). The picture is
drawn from a view and a snapshot; only the drawing knows how many lines there are, so a view knows what is selected by
its id, and not by its place. A job that ends or a worker that dies moves in its list, and stays selected.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from mapreduce_rq.core.text import job_label

Pane = Literal["jobs", "workers", "events"]
PANES: tuple[Pane, ...] = ("jobs", "workers", "events")
SORTS: dict[Pane, tuple[str, ...]] = {
    "jobs": ("newest", "name", "state", "rate", "left"),
    "workers": ("state", "name", "tasks/s", "memory", "for"),
    "events": ("newest",),
}
"""What each list can be sorted by; the first is the order at the start."""
SHORTEST_INTERVAL, LONGEST_INTERVAL = 0.1, 60.0
LONGEST_FILTER = 60
PAGE = 10
"""Lines that Page Up and Page Down move by."""


@dataclass(frozen=True)
class Act:
    """What the program is to do: ``quit``, or ``cancel`` a job."""

    what: Literal["quit", "cancel"]
    job: str = ""


@dataclass(frozen=True)
class View:
    """``page``: what fills the screen instead of the panes. ``typing``: the filter is being typed."""

    pane: Pane = "jobs"
    page: Literal["", "help", "job", "worker"] = ""
    selected: dict[Pane, str] = field(default_factory=dict)  # id
    sort: dict[Pane, int] = field(default_factory=dict)
    filter: str = ""
    typing: bool = False
    asked: str = ""  # the job that C would cancel
    scroll: int = 0  # lines of a page that are above the screen
    paused: bool = False
    interval: float = 1.0

    def order(self, pane: Pane) -> str:
        """What a list is sorted by."""
        return SORTS[pane][self.sort.get(pane, 0) % len(SORTS[pane])]

    def place(self, pane: Pane, ids: Sequence[str]) -> int:
        """The place of what is selected in its list; 0 where it is gone, or nothing is."""
        chosen = self.selected.get(pane, "")
        return ids.index(chosen) if chosen in ids else 0

    def chosen(self, pane: Pane, ids: Sequence[str]) -> str:
        """The id of what is selected; '' in an empty list."""
        return ids[self.place(pane, ids)] if ids else ""


def pressed(view: View, key: str, ids: dict[Pane, Sequence[str]], running: frozenset[str]) -> tuple[View, Act | None]:
    """The view after a key, and what is to be done.

    ``ids``: what each pane lists, in its order, as it was drawn. ``running``: the jobs that can be cancelled.
    """
    if view.typing:
        return _typed(view, key), None
    if view.asked:
        act = Act("cancel", view.asked) if key in {"y", "Y"} else None
        return replace(view, asked=""), act
    if key in {"q", "Q"}:
        return view, Act("quit")
    if key in {"p", "P", " "}:
        return replace(view, paused=not view.paused), None
    if key in {"+", "-", "="}:
        factor = 2.0 if key == "-" else 0.5
        return replace(view, interval=min(LONGEST_INTERVAL, max(SHORTEST_INTERVAL, view.interval * factor))), None
    if key in {"?", "h"}:
        return replace(view, page="" if view.page == "help" else "help", scroll=0), None
    if key == "C":
        job = ""
        if view.page == "job":  # the one on the page, which the list may have lost: to the filter, or for good
            job = view.selected.get("jobs", "")
        elif not view.page and view.pane == "jobs":
            job = view.chosen("jobs", ids["jobs"])
        return (replace(view, asked=job) if job in running else view), None
    return (_on_page(view, key) if view.page else _on_panes(view, key, ids)), None


def _typed(view: View, key: str) -> View:
    if key == "enter":
        return replace(view, typing=False)
    if key == "escape":
        return replace(view, typing=False, filter="")
    if key == "backspace":
        return replace(view, filter=view.filter[:-1])
    return replace(view, filter=(view.filter + key)[:LONGEST_FILTER]) if len(key) == 1 else view


_STEPS = {"up": -1, "k": -1, "down": 1, "j": 1, "page-up": -PAGE, "page-down": PAGE}
_ENDS = {"home": 0, "g": 0, "end": -1, "G": -1}
FAR = 1_000_000
"""More lines than any page has: the picture stops at the last one."""


def _on_page(view: View, key: str) -> View:
    if key in {"escape", "backspace", "left", "enter"}:
        return replace(view, page="", scroll=0)
    if key in _STEPS:
        return replace(view, scroll=max(0, view.scroll + _STEPS[key]))
    if key in _ENDS:
        return replace(view, scroll=_ENDS[key] and FAR)
    return view


def _on_panes(view: View, key: str, ids: dict[Pane, Sequence[str]]) -> View:
    here, listed = view.pane, ids[view.pane]
    if key in {"tab", "right", "back-tab", "left"}:
        step = 1 if key in {"tab", "right"} else -1
        return replace(view, pane=PANES[(PANES.index(here) + step) % len(PANES)])
    if key in {"1", "2", "3"}:
        return replace(view, pane=PANES[int(key) - 1])
    if key in _STEPS or key in _ENDS:
        if not listed:
            return view
        place = view.place(here, listed) + _STEPS[key] if key in _STEPS else _ENDS[key] % len(listed)
        return replace(view, selected={**view.selected, here: listed[min(len(listed) - 1, max(0, place))]})
    if key == "enter" and listed:
        return _opened(view, view.chosen(here, listed), ids)
    if key == "s":
        return replace(view, sort={**view.sort, here: view.sort.get(here, 0) + 1})
    if key == "/":
        return replace(view, typing=True)
    if key == "escape":
        return replace(view, filter="")
    return view


def _opened(view: View, chosen: str, ids: dict[Pane, Sequence[str]]) -> View:
    selected = {**view.selected, view.pane: chosen}
    if view.pane == "jobs":
        return replace(view, page="job", scroll=0, selected=selected)
    if view.pane == "workers":
        return replace(view, page="worker", scroll=0, selected=selected)
    job = chosen.partition(" ")[2]  # an event opens its job
    return (
        replace(view, pane="jobs", page="job", scroll=0, selected={**selected, "jobs": job})
        if job in ids["jobs"]
        else view
    )


def fits(view: View, *texts: str) -> bool:
    """Whether a row with these texts is listed under the filter."""
    wanted = view.filter.lower()
    return not wanted or any(wanted in text.lower() for text in texts)


def key_line(view: View, width: int) -> str:
    """The last line: what can be pressed now, the most needed first, as far as it fits."""
    if view.typing:
        return f"/{view.filter}_   Enter keeps it, Esc takes it away"
    if view.asked:
        return f"cancel {job_label(view.asked)}? y cancels it, any other key does not"
    if view.page:
        parts = ["q quit", "Esc back", "j/k scroll", *(["C cancel"] if view.page == "job" else []), "p pause", "? help"]
    else:
        parts = [
            "q quit",
            "? help",
            "Tab pane",
            "j/k move",
            "Enter open",
            "s sort",
            "/ filter",
            "p pause",
            "+ - interval",
        ]
        parts += ["C cancel"] if view.pane == "jobs" else []
    line = ""
    for part in parts:
        longer = f"{line}   {part}" if line else part
        if len(longer) > width:
            break
        line = longer
    return line


HELP = (
    ("q", "quit; jobs are not affected"),
    ("Tab, 1 2 3", "the next pane: jobs, workers, events"),
    ("j k, arrows", "move; Page Up and Down, g and G for the ends"),
    ("Enter", "a page of the job or worker; Esc goes back"),
    ("s", "sort the list by something else"),
    ("/", "list only what has this text in it; Esc lists all"),
    ("C", "cancel the job, after you have said y"),
    ("p", "pause: look at one moment for longer"),
    ("+ -", "read Redis more or less often"),
    ("?", "this page"),
)
