"""Items on their way to an open job: a thread puts them in, and the job's master takes them.

    iterable ── Feeder ── put ──> OpenSource ── take ──> master

The room for items that are put in and not sent yet is limited: when it is full, the thread that puts items in waits.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from mapreduce_rq.core.bodies import ValueCodec, join
from mapreduce_rq.core.plain_values import Unfit
from mapreduce_rq.functions.items import TAKE_BYTES, refused

ROOM_BYTES = 64 << 20
"""The room for items that are put in and not sent yet, in bytes, about."""

MOST_AT_ONCE = 64
"""Items that are encoded together."""
PIECE_BYTES = 65_536
"""Bytes of items that are encoded together, about."""


class Feed(Protocol):
    """A source of items that come at any time: see Source."""

    ring: Callable[[], None]

    def __call__(self, count: int) -> tuple[bytes, int, bool]:
        """The next items, at most ``count``, as a ledger's source gives them."""

    def ready(self) -> int:
        """The number of items that wait."""

    def news(self) -> bool:
        """Whether there is something for the master to take: items, or the end."""

    def end(self) -> None:
        """Say that no more items will come."""

    def disown(self, why: str) -> None:
        """In a forked child: from now on ``put`` raises an error that says why. Threads that held locks are gone."""


class OpenSource:
    """Items on their way to the master. One thread puts items in; one master takes them.

    Several items are encoded together, which costs less than one by one. No item waits for a later one: the master also
    takes items that are not encoded yet. If an item cannot be encoded, ``failed`` is called with the error; the items
    before it are in, and none follows.
    """

    def __init__(self, codec: ValueCodec, chunk: int | None, failed: Callable[[BaseException], None]) -> None:
        self._codec = codec
        self._chunk = chunk
        self._failed = failed
        self._put_in = 0
        self._plain: deque[Any] = deque()  # not encoded yet
        self._entries: deque[tuple[bytes, int]] = deque()  # bodies, and how many items each holds
        self._lock = threading.Lock()  # guards the following fields, and the codec
        self._count = 0  # items in the entries
        self._bytes = 0
        self._term = 0  # of the next item that is encoded
        self._over = False
        self._refused = False  # the error of an item that cannot be encoded; all later items are refused
        self._piece = 1  # items that the master encodes together
        self.at_once = 1 if chunk is None else min(MOST_AT_ONCE, chunk)
        """The number of items to encode together. If an item takes a long time, it is 1, so that another worker may
        take the next one.
        """
        self.ring: Callable[[], None] = lambda: None
        self.disowned: Callable[[], None] = lambda: None
        """It is called in a forked child."""

    def ready(self) -> int:
        """How many items wait."""
        return self._count + len(self._plain)

    def news(self) -> bool:
        """Whether there is something to take: items, or the end."""
        return bool(self._count) or bool(self._plain) or self._over

    @property
    def put_in(self) -> int:
        """How many items have been put in."""
        return self._put_in

    @property
    def full(self) -> bool:
        """Whether the room is full: more items would only take memory."""
        return self._bytes > ROOM_BYTES

    @property
    def over(self) -> bool:
        """Whether no more items are taken."""
        return self._over

    def put(self, items: Sequence[Any]) -> None:
        """Put items in. They are encoded when there are enough of them, or when the master has none."""
        self._put_in += len(items)
        self._plain.extend(items)
        if len(self._plain) >= self.at_once or not self._count:
            with self._lock:
                self._encode(len(self._plain))
            self.ring()

    def lay(self, items: Sequence[Any]) -> None:
        """Put items in for the master to encode. If this thread encoded them, it and the master would wait for each
        other's turn with the interpreter's lock, 5 ms each time.
        """
        self._put_in += len(items)
        self._plain.extend(items)
        self.ring()

    def _encode(self, most: int) -> None:
        items = [self._plain.popleft() for _ in range(min(most, len(self._plain)))]
        if not items or self._refused:
            return
        refusal = None
        try:
            body = self._codec.encode(items)
        except Unfit as unfit:
            refusal = refused(self._term + unfit.index, items[unfit.index], unfit, self._codec)
            refusal.__cause__ = unfit.__cause__
            items = items[: unfit.index]
            body = self._codec.encode(items) if items else b""
        self._term += len(items)
        self._entries.append((body, len(items)))
        self._bytes += len(body)
        self._count += len(items)
        if refusal is not None:
            self._refused = self._over = True
            self._failed(refusal)

    def disown(self, why: str) -> None:
        """In a forked child: the threads that held the lock do not exist here."""
        self._lock = threading.Lock()
        self.ring = lambda: None
        self.disowned()

    def end(self) -> None:
        """No more items will come."""
        self._over = True
        self.ring()

    def __call__(self, count: int) -> tuple[bytes, int, bool]:
        """The next items, as a ledger's source gives them: none if none waits."""
        if self._chunk is None:
            self.at_once = max(1, min(MOST_AT_ONCE, count // 4))
        bodies: list[bytes] = []
        got = size = 0
        with self._lock:
            while got < count and size < TAKE_BYTES:
                if not self._entries:
                    self._encode(min(count - got, self._piece))
                    self._piece = min(MOST_AT_ONCE, 2 * self._piece) if self._bytes < PIECE_BYTES else 1
                    if not self._entries:
                        break
                body, items = self._entries.popleft()
                bodies.append(body)
                got += items
                size += len(body)
                self._count -= items
                self._bytes -= len(body)
            over = self._over and not self._entries and (self._refused or not self._plain)
        return join(bodies) if bodies else b"", got, over
