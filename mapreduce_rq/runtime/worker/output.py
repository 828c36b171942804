"""What functions print and log while a worker computes, for the client of a job that asks for it (``Limits.logs``).

    print, sys.stderr, logging ──> Streams ──> Capture ── bounded, by term ──> Output, in the reply with the answers

Without such a job nothing is changed: no stream is replaced, and a task costs what it did. What a function's own
processes and C libraries write goes where it always went, to the worker's streams.
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
"""Bytes that are kept of one task: the last ones."""
OURS = "mapreduce_rq"


class _Part:
    """Text of one stream and one place, as it grows."""

    __slots__ = ("data", "hi", "lo", "stream")

    def __init__(self, lo: int, hi: int, stream: StreamName) -> None:
        self.lo, self.hi, self.stream = lo, hi, stream
        self.data = bytearray()


class _Tail:
    """The last bytes, in parts. ``cut``: how many came before them."""

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
    """What the tasks of one job print in one batch. Threads of a function may print, too."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a function's handler of a signal may print while this thread does
        self._all = _Tail(OUTPUT_BYTES)
        self._task = _Tail(TASK_BYTES)
        self._computation: Computation[Any] | None = None
        self._lo = self._hi = 0

    def begin(self, computation: Computation[Any], lo: int, hi: int) -> None:
        """What comes next is of this task."""
        with self._lock:
            self._end_task()
            self._computation, self._lo, self._hi = computation, lo, hi

    def add(self, stream: StreamName, data: bytes) -> None:
        """These bytes were printed."""
        with self._lock:
            lo, hi = self._place()
            self._task.part(lo, hi, stream, data)

    def _place(self) -> tuple[int, int]:
        """The term in hand, as people number it; the whole task, where it is not known."""
        lo, hi, computation = self._lo, self._hi, self._computation
        if computation is None:
            return lo, hi
        try:
            term = lo if hi - lo == 1 else computation.term_in_hand()
        except LookupError:  # behind the last term: what folds the values prints, too
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
        """All of it; None if nothing was printed."""
        with self._lock:
            self._end_task()
            found, self._all = self._all, _Tail(OUTPUT_BYTES)
            self._computation = None
        if not found.parts:
            return None
        pieces = [Piece(one.lo, one.hi, one.stream, one.data.decode(errors="replace")) for one in found.parts]
        return Output(serial, pieces, found.cut)


class Streams:
    """The standard streams and the log of this process, while they lead to a capture."""

    def __init__(self) -> None:
        self.to: Capture | None = None
        self._kept: tuple[TextIO, TextIO] | None = None
        self._made: tuple[TextIO, TextIO] | None = None
        self._handler: _Handler | None = None
        self.handlers: list[logging.Handler] = []  # of the root logger, before

    def lead_to(self, capture: Capture) -> None:
        """From now on what is printed and logged goes there."""
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
        """As it was. A stream that a function has put in the place of ours stays."""
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
    """The bytes of one stream. Where no capture is at work, they go on to the stream whose place this one has."""

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
    """Records of a function's modules. Our own go where they always do."""

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
        except Exception as error:  # of its arguments' own methods
            text = f"a log record of {record.name} cannot be shown: {message_of(error)}"
        capture.add("log", f"{text}\n".encode(errors="backslashreplace"))


_all: weakref.WeakSet[Streams] = weakref.WeakSet()
_watched = False


def _watch_forks(streams: Streams) -> None:
    """A process that a function forks has no reply to send: what it prints goes to the worker's own streams."""
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
        """The next tasks are of this job. If its output is ``wanted``, call what this returns before each of them."""
        if not wanted:
            if self._captures:
                self.streams.lead_back()
            return None
        capture = self._captures.setdefault(job, Capture())
        self.streams.lead_to(capture)
        return capture.begin

    def take(self) -> dict[str, Output]:
        """What was printed in this batch, by job; the streams are as they were."""
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
