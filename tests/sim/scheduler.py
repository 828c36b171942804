"""Virtual time and who runs next: a heap of events, and actors that are greenlets running the real code.

Everything that happens is an event at a time; events at the same time go in the order they were made. Nothing here
or above depends on a real clock, on hashes or on memory, so a seed decides the whole run.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from random import Random
from typing import Any

from greenlet import GreenletExit, getcurrent, greenlet

from mapreduce_rq.core.computation import Interruption


class Killed(Interruption, GreenletExit):  # type: ignore[misc]  # the latter has no types
    """No line of this actor runs any more but the unwinding."""


class Actor:
    """One process, or the main thread of one. It runs until it waits; to wake it, one needs the ticket of that wait."""

    def __init__(self, scheduler: Scheduler, name: str, body: Callable[[], None]) -> None:
        self.scheduler = scheduler
        self.name = name
        self.dead = False
        self.error: BaseException | None = None  # what ended it, if not its own end or a kill
        self.on_end: Callable[[Actor], None] | None = None
        self._body = body
        self._ticket = 0
        self._paused = False
        self._late: list[tuple[int, Any, BaseException | None]] = []  # wake-ups that came while it was paused
        self._greenlet = greenlet(self._run, scheduler.hub)
        scheduler.at(0, self.wake, 0)

    def _run(self, _: object = None) -> None:
        try:
            self._body()
        except Killed:
            pass
        except BaseException as error:
            self.error = error
        killed = self.dead
        self.dead = True
        if self.on_end is not None and not killed:
            self.on_end(self)

    @property
    def runs(self) -> bool:
        """Whether it is this actor that asks."""
        return getcurrent() is self._greenlet

    # -- from the inside -------------------------------------------------------------------------------------------

    def ticket(self) -> int:
        """The ticket of the wait that comes next."""
        return self._ticket

    def wait(self) -> Any:
        """Let others run until one wakes this actor. Returns its value, or raises its error."""
        if self.dead:
            raise Killed
        return self.scheduler.hub.switch()

    def sleep(self, seconds: float) -> None:
        """Wait for virtual time."""
        self.scheduler.at(max(0.0, seconds), self.wake, self._ticket)
        self.wait()

    # -- from the outside ------------------------------------------------------------------------------------------

    def wake(self, ticket: int, value: Any = None, error: BaseException | None = None) -> None:
        """Go on with a value or an error, if this is still the wait that the ticket is for. From an event only."""
        if ticket != self._ticket or self.dead:
            return
        if self._paused:
            self._late.append((ticket, value, error))
            return
        self._ticket += 1
        self.scheduler.current = self
        if error is None:
            self._greenlet.switch(value)
        else:
            self._greenlet.throw(error)

    def interrupt(self, error: BaseException) -> None:
        """Raise an error into its wait, as a signal handler does."""
        if not self._paused:
            self.wake(self._ticket, None, error)

    def pause(self) -> None:
        """Stop it where it stands."""
        self._paused = True

    def resume(self) -> None:
        """Let it go on with what came first meanwhile."""
        if not self._paused:
            return
        self._paused = False
        late, self._late = self._late, []
        for item in late:
            self.scheduler.at(0, self.wake, *item)

    @property
    def paused(self) -> bool:
        """Whether it is stopped."""
        return self._paused

    def kill(self) -> None:
        """End it at once. Of its code only the unwinding still runs, which no other actor can notice."""
        if not self.dead:
            self.dead = True
            self.scheduler.at(0, self._unwind)

    def _unwind(self) -> None:
        self.scheduler.current = self
        self._greenlet.throw(Killed)


class Scheduler:
    """The heap of events. With ``listen``, ``trace`` holds a line for everything that was said."""

    def __init__(self, seed: int, *, listen: bool = False) -> None:
        self.now = 0.0
        self.rng = Random(seed)
        self.hub = getcurrent()
        self.current: Actor | None = None
        self.listen = listen
        self.trace: list[str] = []
        self.events = 0
        self._heap: list[tuple[float, int, Callable[..., object], tuple[Any, ...]]] = []

    def at(self, delay: float, action: Callable[..., object], *arguments: Any) -> None:
        """Do something after a delay in virtual seconds."""
        self.events += 1
        heapq.heappush(self._heap, (self.now + delay, self.events, action, arguments))

    def actor(self) -> Actor:
        """Who runs now."""
        assert self.current is not None
        return self.current

    def run(self, until: float, over: Callable[[], bool]) -> None:
        """Let things happen until a time, or until they are over."""
        heap = self._heap
        while heap and heap[0][0] <= until and not over():
            self.now, _, action, arguments = heapq.heappop(heap)
            action(*arguments)
        if not over():
            self.now = max(self.now, until)

    def drain(self) -> None:
        """Unwind who was killed; nothing else happens any more."""
        for _, _, action, arguments in self._heap:
            if getattr(action, "__func__", None) is Actor._unwind:
                action(*arguments)
        self._heap.clear()

    def say(self, text: str) -> None:
        """A line of the trace."""
        self.trace.append(f"{self.now:12.6f} {text}")
