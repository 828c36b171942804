"""The log of workers and their supervisors, on standard error: one line each, in which nothing commands a terminal."""

from __future__ import annotations

import logging
import sys
from typing import Any

from mapreduce_rq.core.visible import visible, visible_lines


class VisibleFormatter(logging.Formatter):
    """Names of jobs and workers, and errors, are others' text: they are made visible. A traceback keeps its lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  logging's name
        """The line."""
        return visible(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802  logging's name
        """The lines below it."""
        return visible_lines(super().formatException(ei))


def start_log(form: str, level: int = logging.WARNING) -> None:
    """Log to standard error, unless this process logs somewhere already. The time of day is ``asctime``."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(VisibleFormatter(form, datefmt="%H:%M:%S"))
    logging.basicConfig(level=level, handlers=[handler])
