"""The log of workers and their supervisors, on standard error. No line of it can control the terminal."""

from __future__ import annotations

import logging
import sys
from typing import Any

from mapreduce_rq.core.visible import visible, visible_lines


class VisibleFormatter(logging.Formatter):
    """Names of jobs and workers, and errors, are text from others, made visible. A traceback keeps its lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  logging's name
        """The line."""
        return visible(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802  logging's name
        """The lines of the traceback, made visible."""
        return visible_lines(super().formatException(ei))


def start_log(form: str, level: int = logging.WARNING) -> None:
    """Log to standard error, unless this process has a log already. ``asctime`` in ``form`` is the time of day."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(VisibleFormatter(form, datefmt="%H:%M:%S"))
    logging.basicConfig(level=level, handlers=[handler])
