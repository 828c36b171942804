"""The progress bar of one job in a notebook: a piece of HTML below its cell, changed from any thread."""

from __future__ import annotations

from html import escape
from importlib import import_module
from typing import Any

from mapreduce_rq.core.job.record import Report
from mapreduce_rq.core.text import count, duration, rate
from mapreduce_rq.progress.words import hands, so_far


class NotebookBar:
    """It is there from the start, below the cell that runs then."""

    def __init__(self, label: str) -> None:
        ipython: Any = import_module("IPython.display")  # it is there in a notebook
        self._label = label
        self._latest = Report()
        self._handle: Any = ipython.display(self._drawn(), raw=True, display_id=True)

    def draw(self, report: Report) -> None:
        """Show how far the job is."""
        self._latest = report
        self._handle.update(self._drawn(), raw=True)

    def say(self, text: str) -> None:
        """A notice: the log has it."""

    def end(self, *, well: bool) -> None:
        """It stays, as one of a job that is over."""
        self._handle.update(self._drawn("" if well else "stopped", over=True), raw=True)

    def _drawn(self, more: str = "", *, over: bool = False) -> dict[str, str]:
        report = self._latest
        counted, total = report.counted, report.total
        words = [f"{count(counted)}/{count(total)}" if total else f"{count(counted)} terms"]
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
        below = " · ".join(filter(None, (so_far(report), "" if over else hands(report))))
        return {
            "text/plain": " ".join([self._label, *words]),
            "text/html": f"<div><b>{escape(self._label)}</b> <progress{full}></progress> {' '.join(words)}"
            f'<br><span style="opacity:0.7">{escape(below)}</span></div>',
        }
