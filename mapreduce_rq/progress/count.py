"""Progress of calls that are answered one by one, and are no job of their own.

No thread is there that could raise what a user's callable raises: it is logged, and then nothing more is shown.
"""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import Future
from functools import partial
from typing import Any

from mapreduce_rq.core.job.record import Report
from mapreduce_rq.progress.shown import Shown

log = logging.getLogger("mapreduce_rq.client")


class Count:
    """Counts answered calls for an observer. ``total``: how many there are; None: ``all_are_made`` says it."""

    def __init__(self, shown: Shown, total: int | None = None) -> None:
        self._shown = shown
        self._lock = threading.Lock()  # held to count and to draw: futures are answered in any thread
        self._total = total
        self._made = self._counted = 0
        self._began = time.monotonic()
        self._over = False
        if total == 0:
            self._look()

    def watch(self, future: Future[Any], calls: int = 1) -> Future[Any]:
        """Count this number of calls when the future is done."""
        self._made += calls
        future.add_done_callback(partial(self._add, calls))
        return future

    def all_are_made(self) -> None:
        """No more futures will be watched."""
        with self._lock:
            self._total = self._made
            self._look()

    def _add(self, calls: int, _: Future[Any]) -> None:
        with self._lock:
            self._counted += calls
            self._look()

    def _look(self) -> None:
        if self._over:
            return
        try:
            self._shown.progressed(self._report)
            if self._counted == self._total:
                self._over = True
                self._shown.close(well=True)
        except Exception:
            self._over = True
            log.exception("progress is not shown any more")

    def close(self) -> None:
        """Show no more, for its caller has left early; where all are answered, nothing changes."""
        with self._lock:
            over, self._over = self._over, True
            if not over:
                self._shown.close(well=False)

    def _report(self) -> Report:
        took = time.monotonic() - self._began
        return Report(
            counted=self._counted, total=self._total, rate=self._counted / took if took else 0.0, elapsed_s=took
        )
