"""The mechanisms by which the hub can wait for many lines at once, as in the C program before this one; each has a
name.

Each has the few methods of the standard library's selectors that the hub calls. No other code knows which one it is.
"""

from __future__ import annotations

import contextlib
import select
import selectors
from collections.abc import Callable
from typing import Any, Protocol

from mapreduce_rq.errors import UsageError

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
SLICE_SECONDS = 0.0005
"""Seconds that sequential reads wait for one line before they go to the next."""
MOST_FOR_SELECT = 1024
"""Descriptors must be below this: the set that select takes is an array of this many bits (FD_SETSIZE)."""

Ready = list[tuple[Any, int]]
"""Pairs: the data registered with a descriptor that is ready, and the events for which it is ready."""


class Collector(Protocol):
    """A mechanism that waits for descriptors."""

    def register(self, descriptor: int, events: int, data: Any) -> None:
        """Wait for this descriptor, too, from now on. Raises UsageError if there is no room for it.

        A descriptor that is registered already, by a call that Ctrl-C has interrupted, is registered anew.
        """

    def modify(self, descriptor: int, events: int, data: Any) -> None:
        """Wait for other events on it."""

    def unregister(self, descriptor: int) -> None:
        """Stop waiting for this descriptor."""

    def wait(self, seconds: float) -> Ready:
        """Wait at most ``seconds``, and return the lines that are ready."""

    def close(self) -> None:
        """Close its own descriptor, if it has one."""


class ByEpoll:
    """The kernel keeps the list of descriptors, and tells only of those that are ready: Linux."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._data: dict[int, Any] = {}

    def register(self, descriptor: int, events: int, data: Any) -> None:
        """See Collector."""
        try:
            self._epoll.register(descriptor, _epoll_mask(events))
        except FileExistsError:
            self._epoll.modify(descriptor, _epoll_mask(events))
        self._data[descriptor] = data

    def modify(self, descriptor: int, events: int, data: Any) -> None:
        """See Collector."""
        self._epoll.modify(descriptor, _epoll_mask(events))
        self._data[descriptor] = data

    def unregister(self, descriptor: int) -> None:
        """See Collector."""
        if self._data.pop(descriptor, None) is not None:
            with contextlib.suppress(FileNotFoundError):  # the descriptor was closed, and epoll has forgotten it
                self._epoll.unregister(descriptor)

    def wait(self, seconds: float) -> Ready:
        """See Collector."""
        data = self._data
        out = select.EPOLLOUT
        return [
            (found, READ if events & ~out == events else WRITE | (READ if events & ~out else 0))
            for one, events in self._epoll.poll(seconds)
            if (found := data.get(one)) is not None  # else another thread has just unregistered it
        ]

    def close(self) -> None:
        """See Collector."""
        self._epoll.close()


def _epoll_mask(events: int) -> int:
    return (select.EPOLLIN if events & READ else 0) | (select.EPOLLOUT if events & WRITE else 0)


class BySelector:
    """A selector of the standard library: select, poll, or kqueue."""

    def __init__(self, selector: selectors.BaseSelector, most: int | None = None) -> None:
        self._selector = selector
        self._most = most

    def register(self, descriptor: int, events: int, data: Any) -> None:
        """See Collector."""
        if self._most is not None and descriptor >= self._most:
            raise UsageError(
                f"select waits for descriptors below {self._most}, and there are more workers than that: "
                "use collect=poll or collect=epoll, or fewer workers"
            )
        register = self._selector.modify if descriptor in self._selector.get_map() else self._selector.register
        register(descriptor, events, data)

    def modify(self, descriptor: int, events: int, data: Any) -> None:
        """See Collector."""
        self._selector.modify(descriptor, events, data)

    def unregister(self, descriptor: int) -> None:
        """See Collector."""
        if descriptor in self._selector.get_map():
            self._selector.unregister(descriptor)

    def wait(self, seconds: float) -> Ready:
        """See Collector."""
        return [(key.data, events) for key, events in self._selector.select(seconds)]

    def close(self) -> None:
        """See Collector."""
        self._selector.close()


class Sequential:
    """One line after another, as in the first version of the C program: wait for each alone, for a moment.

    The C program read the first pipe to its end before it went to the second, so a slow worker delayed all workers
    after it. Here a worker may be idle for hours, so we wait for each line only for a moment.
    """

    def __init__(self) -> None:
        self._lines: dict[int, tuple[int, Any]] = {}
        self._turn = 0

    def register(self, descriptor: int, events: int, data: Any) -> None:
        """See Collector."""
        self._lines[descriptor] = (events, data)

    modify = register

    def unregister(self, descriptor: int) -> None:
        """See Collector."""
        self._lines.pop(descriptor, None)

    def wait(self, seconds: float) -> Ready:
        """See Collector."""
        left = seconds
        pause = 0.0
        while True:
            lines = list(self._lines.items())
            for step in range(len(lines)):
                at = (self._turn + step) % len(lines)
                descriptor, (events, data) = lines[at]
                found = _one(descriptor, events, pause)
                if found:
                    self._turn = at + 1
                    return [(data, found)]
                left -= pause
                if pause and left <= 0:
                    return []
            if left <= 0 or not lines:
                return []
            pause = min(SLICE_SECONDS, left)

    def close(self) -> None:
        """See Collector."""
        self._lines.clear()


def _one(descriptor: int, events: int, seconds: float) -> int:
    poll = select.poll()
    poll.register(descriptor, (select.POLLIN if events & READ else 0) | (select.POLLOUT if events & WRITE else 0))
    for _, found in poll.poll(seconds * 1000):
        return READ if found & ~select.POLLOUT == found else WRITE | (READ if found & ~select.POLLOUT else 0)
    return 0


COLLECTORS: dict[str, Callable[[], Collector]] = {
    "sequential": Sequential,
    "select": lambda: BySelector(selectors.SelectSelector(), MOST_FOR_SELECT),
}
if hasattr(selectors, "PollSelector"):
    COLLECTORS["poll"] = lambda: BySelector(selectors.PollSelector())
if hasattr(select, "epoll"):
    COLLECTORS["epoll"] = ByEpoll
if hasattr(selectors, "KqueueSelector"):
    COLLECTORS["kqueue"] = lambda: BySelector(getattr(selectors, "KqueueSelector")())  # noqa: B009  not on Linux

BEST = next(name for name in ("epoll", "kqueue", "poll", "select") if name in COLLECTORS)
