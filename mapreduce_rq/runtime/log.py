"""The log of workers and their supervisors, on standard error. No line of it can control the terminal."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

from mapreduce_rq.core.visible import visible, visible_lines


class VisibleFormatter(logging.Formatter):
    """Makes names and errors visible, which are text from other programs. A traceback keeps its lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  logging's name
        """The line."""
        return visible(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802  logging's name
        """The lines of the traceback, made visible."""
        return visible_lines(super().formatException(ei))


class JsonFormatter(logging.Formatter):
    """One JSON object a line: at (UTC), level, host, worker (its name, or ''), pid, message; error, if there is one."""

    def __init__(self, host: str, worker: str) -> None:
        super().__init__()
        self._who = {"host": host, "worker": worker}

    def format(self, record: logging.LogRecord) -> str:
        """The line; json escapes characters that could control a terminal."""
        at = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z"
        found = {"at": at, "level": record.levelname.lower(), **self._who, "pid": record.process}
        found["message"] = record.getMessage()
        if record.exc_info:
            found["error"] = self.formatException(record.exc_info)
        return json.dumps(found)


def start_log(form: str, level: int = logging.WARNING, formatter: logging.Formatter | None = None) -> None:
    """Log to standard error, unless this process has a log already. ``asctime`` in ``form`` is the date and time."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter or VisibleFormatter(form, datefmt="%Y-%m-%d %H:%M:%S"))
    logging.basicConfig(level=level, handlers=[handler])
