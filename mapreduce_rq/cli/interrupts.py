"""Ctrl-C, TERM and a closed terminal while this process leads a job.

On a shared server the first signal lets go of the job: what is counted is checkpointed, and any host can go on with it.
A second Ctrl-C, within LINGER_SECONDS after that, cancels the job. A third ends the process at once.
On a private server the first signal ends everything. On any server it ends a job whose items come from this process,
because no other process could go on with it.
"""

from __future__ import annotations

import signal
import time
from types import FrameType, TracebackType
from typing import Protocol, Self, runtime_checkable

LINGER_SECONDS = 2.0


class Signalled(BaseException):
    """A signal that ends this process; ``exit_code`` is 128 and the signal's number, as in shells."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number


@runtime_checkable
class Interruptible(Protocol):
    """Something that leads a job and can be told to let go of it."""

    def interrupt(self) -> None:
        """Let go. It may raise in the caller's thread if that thread waits."""


class Interrupts:
    """While entered, signals go to ``leader`` if there is one, and are raised as Signalled if there is none."""

    def __init__(self) -> None:
        self.leader: Interruptible | None = None
        self.presses = 0
        self.number = 0
        self._before: dict[int, object] = {}

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup, or a shell's background
                self._before[number] = signal.signal(number, self._signalled)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal() gave it takes

    def follow(self, leads: object) -> None:
        """Note who leads the job now: a signal goes to a master in this process; if we only watch, it ends us."""
        self.leader = leads if isinstance(leads, Interruptible) else None

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        self.presses += 1
        self.number = number
        if self.leader is None or self.presses > 2:
            raise Signalled(number)
        self.leader.interrupt()

    def pressed_again(self) -> bool:
        """Whether a second Ctrl-C came. After a first one it waits LINGER_SECONDS for the second."""
        self.leader = None
        if self.presses == 1 and self.number == signal.SIGINT:
            try:
                time.sleep(LINGER_SECONDS)
            except Signalled as again:
                return again.exit_code == 128 + signal.SIGINT
        return self.presses > 1 and self.number == signal.SIGINT
