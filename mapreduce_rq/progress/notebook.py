"""The progress bar of one job in a notebook: a piece of HTML below its cell, changed from any thread."""

from __future__ import annotations

from html import escape
from importlib import import_module
from typing import Any

import msgspec

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

    def end(self) -> None:
        """It stays as it is; without a total it would look as if it went on."""
        if self._latest.total is None:
            self.draw(msgspec.structs.replace(self._latest, total=self._latest.counted))

    def _drawn(self) -> dict[str, str]:
        report = self._latest
        counted, total = report.counted, report.total
        words = [f"{count(counted)}/{count(total)}" if total else f"{count(counted)} terms"]
        if total:
            words.append(f"{100 * counted / total:.0f} %")
        if report.rate:
            words.append(rate(report.rate))
        if total and counted < total and report.rate:
            words.append(f"{duration((total - counted) / report.rate)} left")
        elif report.elapsed_s:
            words.append(duration(report.elapsed_s))
        more = " · ".join(filter(None, (so_far(report), hands(report))))
        full = f' max="{max(1, total)}" value="{counted}"' if total is not None else ""
        return {
            "text/plain": " ".join([self._label, *words]),
            "text/html": f"<div><b>{escape(self._label)}</b> <progress{full}></progress> {' '.join(words)}"
            f'<br><span style="opacity:0.7">{escape(more)}</span></div>',
        }
