"""The terminal's keys as they are pressed, not shown, and everything restored afterwards."""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from mapreduce_rq.cli.screen.keys import Decoder


class TerminalGone(Exception):
    """The terminal was closed: there is no viewer any more."""


class Keyboard:
    """Pressed keys, and what else ends a wait: a new size of the terminal, a signal."""

    def __init__(self, stdin: int | None, waker: socket.socket) -> None:
        self._stdin = stdin
        self._waker = waker
        self._decoder = Decoder()

    @property
    def listens(self) -> bool:
        """Whether keys can be pressed."""
        return self._stdin is not None

    def wait(self, timeout: float) -> list[str]:
        """The keys pressed within this time, by name. It returns early for a key, a signal or a new size.

        Raises TerminalGone.
        """
        sources: list[int] = [self._waker.fileno()] + ([self._stdin] if self._stdin is not None else [])
        ready, _, _ = select.select(sources, [], [], max(0.0, timeout))
        if self._waker.fileno() in ready:
            self._waker.recv(4096)
        if self._stdin is None or self._stdin not in ready:
            return []
        try:
            pressed = os.read(self._stdin, 1024)
        except OSError:
            pressed = b""
        if not pressed:
            raise TerminalGone
        return self._decoder.keys(pressed.decode(errors="ignore"))


@contextmanager
def keyboard() -> Iterator[Keyboard]:
    """Keys, where standard input is a terminal."""
    woken, waker = socket.socketpair()
    woken.setblocking(False)
    waker.setblocking(False)
    before_resize = signal.signal(signal.SIGWINCH, lambda *_: None)
    before_wakeup = signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
    stdin = sys.stdin.fileno() if sys.stdin is not None and sys.stdin.isatty() else None
    try:
        if stdin is None:
            yield Keyboard(None, woken)
            return
        import termios  # only where there is a terminal
        import tty

        attributes = termios.tcgetattr(stdin)
        try:
            tty.setcbreak(stdin)
            yield Keyboard(stdin, woken)
        finally:
            with suppress(termios.error):  # it may be closed
                termios.tcsetattr(stdin, termios.TCSADRAIN, attributes)
    finally:
        signal.set_wakeup_fd(before_wakeup)
        signal.signal(signal.SIGWINCH, before_resize)
        woken.close()
        waker.close()
