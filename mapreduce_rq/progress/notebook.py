"""The progress bar of one job in a notebook: a piece of HTML below its cell, changed from any thread."""

from __future__ import annotations

from html import escape
from importlib import import_module
from typing import Any

from mapreduce_rq.core.job.record import Report
from mapreduce_rq.core.text import count, duration, plural, rate
from mapreduce_rq.core.visible import visible
from mapreduce_rq.progress.few_events import FewEvents
from mapreduce_rq.progress.words import hands, marked, so_far

MOST_LINES = 8
"""Events that stand above the bar, the newest ones."""


class NotebookBar:
    """A bar that is shown from the start, below the cell that runs then."""

    def __init__(self, label: str) -> None:
        ipython: Any = import_module("IPython.display")  # it is there in a notebook
        self._label = label
        self._latest = Report()
        self._events = FewEvents()
        self._lines: list[str] = []  # the newest events
        self._handle: Any = ipython.display(self._drawn(), raw=True, display_id=True)

    def draw(self, report: Report) -> None:
        """Show how far the job is."""
        self._latest = report
        self._handle.update(self._drawn(), raw=True)

    def say(self, text: str) -> None:
        """Show a notice among the events."""
        self.tell(text)

    def tell(self, text: str) -> None:
        """Show an event above the bar."""
        self._events.add(text)

    def end(self, *, well: bool) -> None:
        """Draw the bar as that of an ended job; it stays."""
        self._handle.update(self._drawn("" if well else "stopped", over=True), raw=True)

    def _drawn(self, more: str = "", *, over: bool = False) -> dict[str, str]:
        report = self._latest
        self._lines = [*self._lines, *map(visible, self._events.take())][-MOST_LINES:]
        counted, total = report.counted, report.total
        words = [f"{count(counted)}/{count(total)}" if total else plural(counted, "term", shown=count(counted))]
        if total:
            words.append(f"{100 * counted / total:.0f} %")
        if report.rate:
            words.append(rate(report.rate))
        if total and counted < total and report.rate and not over:
            words.append(f"{duration((total - counted) / report.rate)} left")
        elif report.elapsed_s:
            words.append(duration(report.elapsed_s))
        words += [more] if more else []
        full = "" if total is None else f' max="{max(1, total)}" value="{counted}"'
        if total is None and over:  # without a value it would go on to move
            full = f' max="1" value="{0 if more else 1}"'
        value, who = so_far(report), "" if over else hands(report)
        below = f"<b>{escape(value.certain)}</b>{escape(value.moving)}{escape(visible(value.beside))}"
        above = "".join(f'<div style="opacity:0.7">{escape(line)}</div>' for line in self._lines)
        return {
            "text/plain": " ".join(filter(None, [self._label, *words, visible(marked(value))])),
            "text/html": f"<div>{above}<b>{escape(self._label)}</b> <progress{full}></progress> {' '.join(words)}"
            f'<br><span style="opacity:0.7">{below}{" · " if any(value) and who else ""}{escape(who)}</span></div>',
        }
