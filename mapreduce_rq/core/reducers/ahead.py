"""Reading ahead: the values of answers become objects while their master waits for further answers.

A caller of `map_reduce` gets a list. If all of it were read when the last answer is there, the workers, and all cores
but one, would be idle meanwhile. So a master that waits reads one body after the other, as long as no answer comes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from mapreduce_rq.core.bodies import PLAIN, Buffer

ROOM_BYTES = 32 << 20
"""Bytes of the bodies that are read ahead. A tally keeps each body to the end, so these values are in memory twice."""
LEAST_BYTES = 4096
"""Bytes of a body from which on it is read ahead; smaller ones are joined to others."""
MOST_BYTES = 256 * 1024
"""Bytes of a plain body up to which it is read ahead: it is read at once, and a master that reads does not listen."""


class Ahead:
    """The bodies of one job that may be read ahead, and the values of those that were. ``parts`` reads a body, some
    values at a time.
    """

    def __init__(self, parts: Callable[[Buffer], Iterator[list[Any]]]) -> None:
        self._parts = parts
        self._room = ROOM_BYTES
        self._waiting: deque[Buffer] = deque()
        self._begun: tuple[Iterator[list[Any]], list[Any]] | None = None  # of the first one that waits
        self._read: dict[int, tuple[Buffer, list[Any]]] = {}  # by the id of the body, which is kept with its values

    def __bool__(self) -> bool:
        """Whether there is something to read."""
        return bool(self._waiting)

    def offer(self, body: Buffer) -> None:
        """Note a body, unless it is too small or too large or there are too many."""
        most = min(self._room, MOST_BYTES) if body[:1] == PLAIN else self._room
        if LEAST_BYTES <= len(body) <= most:
            self._room -= len(body)
            self._waiting.append(body)

    def step(self) -> None:
        """Read some values. What raises here will raise again when the caller takes the value."""
        body = self._waiting[0]
        parts, values = self._begun or (self._parts(body), [])
        self._begun = None  # if this raises, it is left to the caller
        self._waiting.popleft()
        with suppress(Exception):
            some = next(parts, None)
            if some is None:
                self._read[id(body)] = body, values
                return
            values += some
            self._begun = parts, values
            self._waiting.appendleft(body)

    def take(self, body: Buffer) -> list[Any]:
        """The values of a body, whether it was read ahead or not; they are the caller's alone."""
        found = self._read.pop(id(body), None)
        if found is not None:
            return found[1]
        begun = self._begun if self._waiting and self._waiting[0] is body else None
        if begun is not None:
            self._begun = None
            self._waiting.popleft()
        parts, values = begun or (self._parts(body), [])
        for some in parts:
            values += some
        return values
