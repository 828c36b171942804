"""One worker's or supervisor's line as the hub has it: it never waits, neither for bytes nor for room."""

from __future__ import annotations

import os
import socket
from collections import deque
from typing import Any

from mapreduce_rq.pipes.lines import READ_BYTES, Frames

SPARE_DESCRIPTORS = 16
"""Descriptors that come with one message at most."""


class Peer:
    """A line. ``wid``: the worker at its other end. Its methods raise OSError where the line is gone."""

    __slots__ = ("_frames", "_outgoing", "descriptors", "end", "supervisor", "wid")

    def __init__(self, end: socket.socket, *, supervisor: bool, wid: str = "") -> None:
        end.setblocking(False)
        self.end = end
        self.supervisor = supervisor
        self.wid = wid
        self._frames = Frames()
        self._outgoing: deque[memoryview] = deque()  # bytes that the socket's buffer had no room for
        self.descriptors: deque[int] = deque()  # that have come and belong to a frame that has not

    def read(self) -> list[Any] | None:
        """The frames that are whole now; None where the line has ended."""
        if self.supervisor:
            data, descriptors, _, _ = socket.recv_fds(self.end, READ_BYTES, SPARE_DESCRIPTORS)
            for descriptor in descriptors:
                os.set_inheritable(descriptor, False)
            self.descriptors += descriptors
        else:
            data = self.end.recv(READ_BYTES)
        return self._frames.take(data) if data else None

    def send(self, data: bytes) -> bool:
        """Send as much as there is room for. Whether a rest has begun to wait: then :meth:`flush` is to be called."""
        if self._outgoing:
            self._outgoing.append(memoryview(data))
            return False
        try:
            sent = self.end.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:  # it is gone: its end will be read
            return False
        if sent == len(data):
            return False
        self._outgoing.append(memoryview(data)[sent:])
        return True

    def flush(self) -> bool:
        """Send what waits, as there is room. Whether nothing waits any more."""
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
