"""Ctrl-C, TERM and a closed terminal while this process leads a job.

On a shared server the first one lets go of the job: what is counted is checkpointed, and anybody can go on with it.
A second Ctrl-C, until LINGER_SECONDS after that, cancels it. A third ends the process as it is.
On a private server the first one ends everything. On any server it ends a job whose items come through this process:
nobody could go on with it.
"""

from __future__ import annotations

import signal
import time
from types import FrameType, TracebackType
from typing import Protocol, Self

LINGER_SECONDS = 2.0


class Signalled(BaseException):
    """A signal that ends this process; ``exit_code`` as shells have it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number


class Interruptible(Protocol):
    """Something that leads a job and can be told to let go of it."""

    def interrupt(self) -> None:
        """Let go; may raise into the caller's thread if that waits."""


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

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        self.presses += 1
        self.number = number
        if self.leader is None or self.presses > 2:
            raise Signalled(number)
        self.leader.interrupt()

    def pressed_again(self) -> bool:
        """Whether a second Ctrl-C came, waiting a while for it after a first."""
        self.leader = None
        if self.presses == 1 and self.number == signal.SIGINT:
            try:
                time.sleep(LINGER_SECONDS)
            except Signalled as again:
                return again.exit_code == 128 + signal.SIGINT
        return self.presses > 1 and self.number == signal.SIGINT
