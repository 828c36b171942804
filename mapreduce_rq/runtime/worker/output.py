"""Captures what functions print and log in a worker, for the client of a job that asks for it (``Limits.logs``).

    print, sys.stderr, logging ──> Streams ──> Capture ── bounded, by term ──> Output, in the reply with the answers

Without such a job nothing is changed: no stream is replaced, and a task takes the same time. Output of a function's own
processes and of C libraries goes to the worker's streams, as without a capture.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any, TextIO

from mapreduce_rq.core.computation import Computation
from mapreduce_rq.core.foreign_errors import message_of
from mapreduce_rq.core.messages import OUTPUT_BYTES, OUTPUT_PIECES, Output, Piece, StreamName

TASK_BYTES = 8 * 1024
"""The bytes of output that are kept for one task: the last ones."""
OURS = "mapreduce_rq"


class _Part:
    """Text of one stream and one place, as it grows."""

    __slots__ = ("data", "hi", "lo", "stream")

    def __init__(self, lo: int, hi: int, stream: StreamName) -> None:
        self.lo, self.hi, self.stream = lo, hi, stream
        self.data = bytearray()


class _Tail:
    """The last bytes of output, in parts. ``cut``: the number of bytes before them."""

    def __init__(self, most: int) -> None:
        self.parts: deque[_Part] = deque()
        self.cut = 0
        self._most = most
        self._size = 0

    def part(self, lo: int, hi: int, stream: StreamName, data: bytes | bytearray) -> None:
        last = self.parts[-1] if self.parts else None
        if last is None or (last.lo, last.hi, last.stream) != (lo, hi, stream):
            last = _Part(lo, hi, stream)
            self.parts.append(last)
        last.data += data
        self._size += len(data)
        while self._size > self._most or len(self.parts) > OUTPUT_PIECES:
            first = self.parts[0]
            over = len(first.data) if len(self.parts) > OUTPUT_PIECES else self._size - self._most
            gone = min(over, len(first.data))
            del first.data[:gone]
            self.cut += gone
            self._size -= gone
            if not first.data:
                self.parts.popleft()


class Capture:
    """The output of one job's tasks in one batch. Threads of a function may print, too."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a function's signal handler may print while this thread prints
        self._all = _Tail(OUTPUT_BYTES)
        self._task = _Tail(TASK_BYTES)
        self._computation: Computation[Any] | None = None
        self._lo = self._hi = 0

    def begin(self, computation: Computation[Any], lo: int, hi: int) -> None:
        """Begin a task: the next output belongs to it."""
        with self._lock:
            self._end_task()
            self._computation, self._lo, self._hi = computation, lo, hi

    def add(self, stream: StreamName, data: bytes) -> None:
        """Add printed bytes."""
        with self._lock:
            lo, hi = self._place()
            self._task.part(lo, hi, stream, data)

    def _place(self) -> tuple[int, int]:
        """The term in hand, with the number that people know; the whole task if the term is not known."""
        lo, hi, computation = self._lo, self._hi, self._computation
        if computation is None:
            return lo, hi
        try:
            term = lo if hi - lo == 1 else computation.term_in_hand()
        except LookupError:  # after the last term: the code that folds the values may print, too
            term = None
        if term is None or not lo <= term < hi:
            return lo, hi
        place = computation.place(term)
        return place, place + 1

    def _end_task(self) -> None:
        if self._task.parts:
            for part in self._task.parts:
                self._all.part(part.lo, part.hi, part.stream, part.data)
            self._all.cut += self._task.cut
            self._task = _Tail(TASK_BYTES)

    def take(self, serial: int) -> Output | None:
        """All output of the batch; None if nothing was printed."""
        with self._lock:
            self._end_task()
            found, self._all = self._all, _Tail(OUTPUT_BYTES)
            self._computation = None
        if not found.parts:
            return None
        pieces = [Piece(one.lo, one.hi, one.stream, one.data.decode(errors="replace")) for one in found.parts]
        return Output(serial, pieces, found.cut)


class Streams:
    """The standard streams and the log of this process, while a capture gets them."""

    def __init__(self) -> None:
        self.to: Capture | None = None
        self._kept: tuple[TextIO, TextIO] | None = None
        self._made: tuple[TextIO, TextIO] | None = None
        self._handler: _Handler | None = None
        self.handlers: list[logging.Handler] = []  # the root logger's handlers before

    def lead_to(self, capture: Capture) -> None:
        """Send all that is printed and logged to this capture from now on."""
        self.to = capture
        if self._kept is not None:
            return
        if self._made is None or self._handler is None:
            self._made = _text("stdout", self, sys.stdout), _text("stderr", self, sys.stderr)
            self._handler = _Handler(self)
            _watch_forks(self)
        self._kept = sys.stdout, sys.stderr
        sys.stdout, sys.stderr = self._made
        root = logging.getLogger()
        self.handlers, root.handlers = root.handlers, [self._handler]

    def lead_back(self) -> None:
        """Restore the streams. A stream that a function has put in the place of ours stays."""
        self.to = None
        kept, self._kept = self._kept, None
        if kept is None or self._made is None or self._handler is None:
            return
        root = logging.getLogger()
        root.handlers = [*self.handlers, *(one for one in root.handlers if one is not self._handler)]
        if sys.stdout is self._made[0]:
            sys.stdout = kept[0]
        if sys.stderr is self._made[1]:
            sys.stderr = kept[1]


class _Sink(io.RawIOBase):
    """The bytes of one stream. Without a capture, they go on to the stream that this one has replaced."""

    def __init__(self, name: StreamName, streams: Streams, real: TextIO | None) -> None:
        self._name, self._streams, self._real = name, streams, real

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        if self._real is None:
            raise io.UnsupportedOperation("fileno")
        return self._real.fileno()

    def write(self, data: Any) -> int:
        found = bytes(data)
        capture = self._streams.to
        if capture is not None:
            capture.add(self._name, found)
        elif self._real is not None:
            self._real.write(found.decode(errors="replace"))
        return len(found)


def _text(name: StreamName, streams: Streams, real: TextIO | None) -> TextIO:
    sink: Any = _Sink(name, streams, real)
    return io.TextIOWrapper(sink, encoding="utf-8", errors="backslashreplace", newline="", write_through=True)


class _Handler(logging.Handler):
    """Takes log records of a function's modules. Our own records go to our own log."""

    def __init__(self, streams: Streams) -> None:
        super().__init__()
        self._streams = streams
        self.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        capture = self._streams.to
        if capture is None or record.name.partition(".")[0] == OURS:
            for handler in self._streams.handlers:
                if record.levelno >= handler.level:
                    handler.handle(record)
            return
        try:
            text = self.format(record)
        except Exception as error:  # raised by methods of its arguments
            text = f"a log record of {record.name} cannot be shown: {message_of(error)}"
        capture.add("log", f"{text}\n".encode(errors="backslashreplace"))


_all: weakref.WeakSet[Streams] = weakref.WeakSet()
_watched = False


def _watch_forks(streams: Streams) -> None:
    """Have a process that a function forks print to the worker's own streams, because it sends no reply."""
    global _watched  # noqa: PLW0603  once
    _all.add(streams)
    if not _watched:
        _watched = True
        os.register_at_fork(after_in_child=_lead_all_back)


def _lead_all_back() -> None:
    for streams in list(_all):
        with contextlib.suppress(Exception):
            streams.lead_back()


class Outputs:
    """The captures of one worker, by job, in one batch."""

    def __init__(self, streams: Streams | None = None) -> None:
        self.streams = streams or Streams()
        self._captures: dict[str, Capture] = {}
        self._serial = 0

    def of(self, job: str, *, wanted: bool) -> Callable[[Computation[Any], int, int], None] | None:
        """Begin tasks of this job. If its output is ``wanted``, returns a function to call before each of them."""
        if not wanted:
            if self._captures:
                self.streams.lead_back()
            return None
        capture = self._captures.setdefault(job, Capture())
        self.streams.lead_to(capture)
        return capture.begin

    def take(self) -> dict[str, Output]:
        """The output of this batch, by job. This also restores the streams."""
        if not self._captures:
            return {}
        self.streams.lead_back()
        captures, self._captures = self._captures, {}
        found: dict[str, Output] = {}
        for job, capture in captures.items():
            self._serial += 1
            if (output := capture.take(self._serial)) is not None:
                found[job] = output
        return found
