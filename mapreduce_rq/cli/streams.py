"""Standard error for people, standard output for the result, and the abilities of each.

All our text goes to a terminal through this module (or, if Rich draws it, through screen/ink.py). Names, errors and
values in it come from other programs: their control characters are made visible here, so they cannot control the
terminal.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

from mapreduce_rq.core.visible import visible, visible_lines
from mapreduce_rq.errors import CannotWrite


def say(text: str, *, below: str = "") -> None:
    """Print one line for people on standard error; then ``below``, a longer text such as a traceback, indented."""
    if sys.stderr is None:
        return  # our parent process has closed it, so no reader is there
    with contextlib.suppress(OSError):
        sys.stderr.write(f"mrq: {visible(text)}\n")
        if below:
            sys.stderr.write("".join(f"  {line}\n" for line in visible_lines(below).split("\n")))
        sys.stderr.flush()


def show(lines: Iterable[str]) -> None:
    """Print lines for people on standard output: each stays one line. Raises as :func:`write`."""
    _put("".join(f"{visible(line)}\n" for line in lines))


_output: TextIO | None = None
"""The real standard output, while ``sys.stdout`` leads to standard error (see :func:`aside`)."""


@contextlib.contextmanager
def aside() -> Iterator[None]:
    """Keep standard output for this module. Output of other modules meanwhile, at their import or in calls, and from C,
    too, goes to standard error. A second call inside of the first changes nothing.
    """
    global _output  # noqa: PLW0603  there is one standard output
    if _output is not None or sys.stdout is None:
        yield
        return
    try:
        number = sys.stdout.fileno()
    except (OSError, ValueError):  # it has no descriptor
        _output = sys.stdout
        try:
            with contextlib.redirect_stdout(sys.stderr):
                yield
        finally:
            _output = None
        return
    sys.stdout.flush()
    kept = os.dup(number)
    _output = ours = _text(kept, sys.stdout)
    try:
        _point(number, 2)
        yield
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()  # what others have printed and not flushed
        with contextlib.suppress(OSError, ValueError):
            ours.flush()  # what could not be written: else Python 3.13 complains when it finds the descriptor closed
        os.dup2(kept, number)
        _output = None
        os.close(kept)


def _let_go_of_output() -> None:
    """Close our output in a forked child: its reader must see its end when the parent ends."""
    global _output  # noqa: PLW0603  there is one standard output
    if isinstance(_output, io.TextIOWrapper):
        with contextlib.suppress(OSError):
            os.close(_output.fileno())
    _output = None


os.register_at_fork(after_in_child=_let_go_of_output)


def _point(number: int, at: int) -> None:
    """Make descriptor ``number`` a copy of ``at``, or, if ``at`` is closed, of the null device."""
    try:
        os.dup2(at, number)
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, number)
        os.close(nowhere)


def write(text: str) -> None:
    """Print a value, or text for programs, on standard output with a newline. It is changed only for a terminal.

    Raises CannotWrite. If the reader has ended, that is not an error (see :func:`forgive`).
    """
    _put((visible_lines(text) if interactive_output() else text) + "\n")


@contextlib.contextmanager
def or_else(what_is_left: str) -> Iterator[None]:
    """If standard output takes nothing, say what is left and how to get it. Raises CannotWrite."""
    try:
        yield
    except CannotWrite as error:
        raise CannotWrite(f"{error}; {what_is_left}") from None


def write_bytes(data: bytes) -> None:
    """Write a value that is bytes to standard output. Raises CannotWrite."""
    _put(data)


def interactive_output() -> bool:
    """Whether standard output is a terminal."""
    output = _output or sys.stdout
    return output is not None and output.isatty()


def _put(data: str | bytes) -> None:
    output = _output or sys.stdout
    if output is None:
        raise CannotWrite("cannot write to standard output: it is closed")
    if isinstance(data, bytes):
        output.buffer.write(data)
    else:
        output.write(data)
    finish_output()


def finish_output() -> None:
    """Write output that waits in a buffer. Raises CannotWrite."""
    output = _output or sys.stdout
    if output is None:
        return
    try:
        output.flush()
    except OSError as error:  # a stream that is not one of our own
        _point(output.fileno(), -1)  # otherwise Python's last flush would report it again
        raise CannotWrite(f"cannot write to standard output: {error.strerror}") from None


def reader_left() -> bool:
    """Whether the reader of standard output has ended, so that no output is read any more."""
    raw = getattr(getattr(_output or sys.stdout, "buffer", None), "raw", None)
    return isinstance(raw, _Pipe) and raw.left


class _Pipe(io.FileIO):
    """A descriptor whose reader may end at any time without an error (``mrq jobs | head``).

    All output goes through this, also Typer's help. So each command reports a full disk with the same one line.
    """

    left = False
    _failed = False

    def write(self, data: Any) -> int:
        """Write as a file does; without a reader the data is dropped. Raises CannotWrite, once: Python's last flush
        would say it again.
        """
        if self._failed:
            return len(data)
        try:
            return super().write(data)
        except BrokenPipeError:
            self.left = True
            return len(data)
        except BlockingIOError:
            raise
        except OSError as error:
            self._failed = True
            raise CannotWrite(f"cannot write to standard output: {error.strerror}") from None


def forgive() -> None:
    """Let both streams replace characters that they cannot show, and go on without a reader, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    if isinstance(sys.stdout, io.TextIOWrapper) and isinstance(sys.stdout.buffer, io.BufferedWriter | io.FileIO):
        sys.stdout.flush()
        sys.stdout = _text(sys.stdout.fileno(), sys.stdout)


def _text(descriptor: int, like: TextIO) -> io.TextIOWrapper:
    """A stream that goes on without a reader. It does not close the descriptor."""
    pipe = io.BufferedWriter(_Pipe(descriptor, "wb", closefd=False))
    return io.TextIOWrapper(pipe, encoding=like.encoding, errors="replace", line_buffering=bool(like.line_buffering))


def interactive(stream: TextIO | None) -> bool:
    """Whether the stream is a terminal that can move its cursor."""
    if os.environ.get("TERM") in {"dumb", "unknown"} or os.environ.get("TTY_INTERACTIVE") == "0":
        return False
    return stream is not None and stream.isatty()


def shows_unicode(encoding: str) -> bool:
    """Whether boxes and blocks can be written in this encoding."""
    return encoding.lower().startswith("utf")
