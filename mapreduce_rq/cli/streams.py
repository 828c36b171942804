"""Standard error for people, standard output for the result, and what each of them can show."""

from __future__ import annotations

import io
import os
import signal
import sys
from typing import TextIO

from mapreduce_rq.cli.interrupts import Signalled


def say(text: str) -> None:
    """One line for people, on standard error."""
    sys.stderr.write(f"mrq: {text}\n")
    sys.stderr.flush()


def write(text: str) -> None:
    """The result, on standard output, with its newline.

    Raises Signalled, as SIGPIPE would, if nobody reads it.
    """
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the last flush would complain
        raise Signalled(signal.SIGPIPE) from None


def forgive() -> None:
    """Have both streams replace characters that they cannot show, instead of failing on them."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def interactive(stream: TextIO) -> bool:
    """Whether a person watches it on a terminal that can move its cursor."""
    if os.environ.get("TERM") in {"dumb", "unknown"} or os.environ.get("TTY_INTERACTIVE") == "0":
        return False
    return stream.isatty()


def shows_unicode(encoding: str) -> bool:
    """Whether boxes and blocks can be written in this encoding."""
    return encoding.lower().startswith("utf")
