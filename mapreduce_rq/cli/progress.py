"""Shows a job's progress on the command line: a bar on a terminal, elsewhere a plain line from time to time, or
nothing.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from mapreduce_rq.cli.screen.output import progress_line
from mapreduce_rq.cli.streams import interactive, say
from mapreduce_rq.core.job.printed import Printed
from mapreduce_rq.progress.few_events import FewEvents
from mapreduce_rq.progress.printed import write_printed

if TYPE_CHECKING:
    from mapreduce_rq.core.job.record import Report
    from mapreduce_rq.progress.bar import Bar

BAR_AFTER_SECONDS = 0.3
"""Seconds before the bar appears: a job that ends earlier needs no bar, and so no import of Rich."""
DRAW_SECONDS = 0.1
LINE_SECONDS = 10.0
LINE_SHARE = 0.05
LINE_PAUSE_SECONDS = 1.0
"""The least seconds between two plain lines. One comes after ten seconds or five percent."""


class Watcher:
    """An observer of a master or a standby. Close it before anything else is printed."""

    def __init__(self, label: str, *, quiet: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._label = label
        self._quiet = quiet
        self._clock = clock
        self._bar: Bar | None = None
        self._draws = interactive(sys.stderr)
        self._began = clock()
        self._drawn = self._began  # or printed
        self._share = 0.0  # at the last line
        self._events = FewEvents(clock)

    def progressed(self, report: Callable[[], Report]) -> None:
        """Draw the bar or print a line, if it is time."""
        if self._quiet:
            return
        now = self._clock()
        if self._draws:
            if now - self._began >= BAR_AFTER_SECONDS and now - self._drawn >= DRAW_SECONDS:
                self._drawn = now
                self._draw(report())
        elif now - self._drawn >= LINE_PAUSE_SECONDS:
            self._line(report(), now)

    def noticed(self, text: str) -> None:
        """Print a notice, above the bar if there is one."""
        if self._quiet:
            return
        if self._bar is not None:
            self._bar.say(text)
        else:
            say(text)

    def happened(self, what: str, text: str) -> None:
        """Print an event above the bar. Without a terminal print nothing: a log has the notices."""
        if self._draws and not self._quiet:
            self._events.add(f"{what}: {text}" if text else what)

    def printed(self, printed: Printed) -> None:
        """Show output of a function above the bar, also with --quiet, because the user has asked for it."""
        write_printed(printed)

    def close(self) -> None:
        """Remove the bar. A second call does nothing."""
        self._quiet = True
        bar, self._bar = self._bar, None
        if bar is not None:
            self._show_events(bar)
            bar.stop()

    def _draw(self, report: Report) -> None:
        if self._bar is None:
            from mapreduce_rq.progress.bar import Bar  # Rich takes 50 ms: only for jobs that last

            self._bar = Bar(self._label)
        self._bar.draw(report)
        self._show_events(self._bar)

    def _show_events(self, bar: Bar) -> None:
        for line in self._events.take():
            bar.say(line)

    def _line(self, report: Report, now: float) -> None:
        share = report.counted / report.total if report.total else 0.0
        if now - self._drawn < LINE_SECONDS and share - self._share < LINE_SHARE:
            return
        self._drawn, self._share = now, share
        say(progress_line(report))
