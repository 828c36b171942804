"""Reading ahead: the values of answers become objects while their master waits for further answers.

A caller of `map_reduce` gets a list. If all of it were read when the last answer is there, the workers, and all cores
but one, would be idle meanwhile. So a master that waits reads one body after the other, as long as no answer comes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from mapreduce_rq.core.bodies import Buffer

ROOM_BYTES = 32 << 20
"""Bytes of the bodies that are read ahead. A tally keeps each body to the end, so these values are in memory twice."""
LEAST_BYTES = 4096
"""Bytes of a body from which on it is read ahead; smaller ones are joined to others."""
MOST_BYTES = 8 << 20
"""Bytes of a body up to which it is read ahead: a master that reads does not listen."""


class Ahead:
    """The bodies of one job that may be read ahead, and the values of those that were. ``decode`` reads one."""

    def __init__(self, decode: Callable[[Buffer], list[Any]]) -> None:
        self._decode = decode
        self._room = ROOM_BYTES
        self._waiting: deque[Buffer] = deque()
        self._read: dict[int, tuple[Buffer, list[Any]]] = {}  # by the id of the body, which is kept with its values

    def __bool__(self) -> bool:
        """Whether there is something to read."""
        return bool(self._waiting)

    def offer(self, body: Buffer) -> None:
        """Note a body, unless it is too small or too large or there are too many."""
        if LEAST_BYTES <= len(body) <= min(self._room, MOST_BYTES):
            self._room -= len(body)
            self._waiting.append(body)

    def step(self) -> None:
        """Read one of the bodies. What raises here will raise again when the caller takes the value."""
        body = self._waiting.popleft()
        with suppress(Exception):
            self._read[id(body)] = body, self._decode(body)

    def take(self, body: Buffer) -> list[Any]:
        """The values of a body, whether it was read ahead or not; they are the caller's alone."""
        found = self._read.pop(id(body), None)
        return self._decode(body) if found is None else found[1]
