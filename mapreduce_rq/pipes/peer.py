"""The hub's end of one worker's or supervisor's line. It never waits, neither for bytes nor for room."""

from __future__ import annotations

import os
import socket
from collections import deque
from typing import Any

from mapreduce_rq.pipes.lines import READ_BYTES, Frames

SPARE_DESCRIPTORS = 16
"""The most descriptors that come with one message."""


class Peer:
    """A line. ``wid``: the worker at its other end. The methods raise OSError if the line is gone."""

    __slots__ = ("_frames", "_outgoing", "descriptors", "end", "supervisor", "wid")

    def __init__(self, end: socket.socket, *, supervisor: bool, wid: str = "") -> None:
        end.setblocking(False)
        self.end = end
        self.supervisor = supervisor
        self.wid = wid
        self._frames = Frames()
        self._outgoing: deque[memoryview] = deque()  # bytes for which the socket's buffer had no room
        self.descriptors: deque[int] = deque()  # descriptors that have come before their frame

    def read(self, buffer: memoryview) -> list[Any] | None:
        """The frames that are complete now; None if the line has ended. ``buffer`` is for this call alone."""
        if self.supervisor:
            data, descriptors, _, _ = socket.recv_fds(self.end, READ_BYTES, SPARE_DESCRIPTORS)
            for descriptor in descriptors:
                os.set_inheritable(descriptor, False)
            self.descriptors += descriptors
            return self._frames.take(memoryview(data)) if data else None
        size = self.end.recv_into(buffer)
        return self._frames.take(buffer[:size]) if size else None

    def send(self, data: bytes) -> bool:
        """Send as much as there is room for. Returns whether a rest begins to wait: then call :meth:`flush`."""
        if self._outgoing:
            self._outgoing.append(memoryview(data))
            return False
        try:
            sent = self.end.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:  # the other side is gone: ``read`` will find the end
            return False
        if sent == len(data):
            return False
        self._outgoing.append(memoryview(data)[sent:])
        return True

    def flush(self) -> bool:
        """Send waiting bytes, as far as there is room. Returns whether none wait any more."""
        while self._outgoing:
            try:
                sent = self.end.send(self._outgoing[0])
            except BlockingIOError:
                return False
            if sent < len(self._outgoing[0]):
                self._outgoing[0] = self._outgoing[0][sent:]
                return False
            self._outgoing.popleft()
        return True
