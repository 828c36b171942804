"""Standard error for people, standard output for the result, and what each of them can show.

All text of ours goes to a terminal through here (and, where it is drawn, through screen/ink.py): what others wrote in
it, names, errors, values, is made visible on the way and commands nothing.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterable
from typing import Any, TextIO

from mapreduce_rq.core.visible import visible, visible_lines
from mapreduce_rq.errors import CannotWrite


def say(text: str, *, below: str = "") -> None:
    """One line for people, on standard error; ``below`` it, indented, lines of something longer: a traceback."""
    if sys.stderr is None:
        return  # closed by whoever started us: nobody wants to hear
    with contextlib.suppress(OSError):
        sys.stderr.write(f"mrq: {visible(text)}\n")
        if below:
            sys.stderr.write("".join(f"  {line}\n" for line in visible_lines(below).split("\n")))
        sys.stderr.flush()


def show(lines: Iterable[str]) -> None:
    """Lines for people, on standard output: each stays one line. Raises as :func:`write`."""
    _put("".join(f"{visible(line)}\n" for line in lines))


def write(text: str) -> None:
    """A value, or what programs read, on standard output, with its newline: as it is, but for a terminal.

    Raises CannotWrite. A reader that has ended has read what it wanted: that is no error (see :func:`forgive`).
    """
    watched = sys.stdout is not None and sys.stdout.isatty()
    _put((visible_lines(text) if watched else text) + "\n")


def _put(text: str) -> None:
    if sys.stdout is None:
        raise CannotWrite("cannot write the result: standard output is closed")
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the last flush would complain
        raise CannotWrite(f"cannot write the result: {error.strerror}") from None


class _Pipe(io.FileIO):
    """A descriptor to write to whose reader may end at any time: it has read what it wanted (``mrq jobs | head``)."""

    def write(self, data: Any) -> int:
        """As a file's."""
        try:
            return super().write(data)
        except BrokenPipeError:
            return len(data)


def forgive() -> None:
    """Have both streams replace characters that they cannot show, and do without a reader, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    if isinstance(sys.stdout, io.TextIOWrapper) and isinstance(sys.stdout.buffer, io.BufferedWriter | io.FileIO):
        sys.stdout.flush()
        sys.stdout = io.TextIOWrapper(
            io.BufferedWriter(_Pipe(sys.stdout.fileno(), "wb", closefd=False)),
            encoding=sys.stdout.encoding,
            errors="replace",
            line_buffering=sys.stdout.line_buffering,
        )


def interactive(stream: TextIO | None) -> bool:
    """Whether a person watches it on a terminal that can move its cursor."""
    if os.environ.get("TERM") in {"dumb", "unknown"} or os.environ.get("TTY_INTERACTIVE") == "0":
        return False
    return stream is not None and stream.isatty()


def shows_unicode(encoding: str) -> bool:
    """Whether boxes and blocks can be written in this encoding."""
    return encoding.lower().startswith("utf")
