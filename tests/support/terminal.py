"""A terminal of a test's own, with a command on it."""

from __future__ import annotations

import codecs
import errno
import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Sequence
from typing import Self

from tests.support.commands import MRQ
from tests.support.servers import ROOT


class Terminal:
    """A command on a terminal of its own, and all that it drew there."""

    def __init__(
        self,
        *arguments: str,
        env: dict[str, str],
        rows: int = 24,
        columns: int = 80,
        command: Sequence[str] = MRQ,
    ) -> None:
        self._master, slave = pty.openpty()
        self._slave: int | None = slave
        self.resize(rows, columns)
        self.before = self._after = termios.tcgetattr(slave)
        kept = {name: value for name, value in env.items() if name not in {"COLUMNS", "LINES"}}
        self._process = subprocess.Popen(
            [*command, *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=kept,
            cwd=ROOT,
            start_new_session=True,
        )
        self.drawn = ""
        self._closed = False
        self._at_its_end = False
        self._decode = codecs.getincrementaldecoder("utf-8")().decode  # a read may end within a character

    def resize(self, rows: int, columns: int) -> None:
        """As when a person drags the window's corner."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read_until(self, words: str, seconds: float = 15.0) -> str:
        """What is drawn up to and with these words, after what was read before."""
        deadline = time.monotonic() + seconds
        start = len(self.drawn)
        while words not in self.drawn[start:]:
            ready, _, _ = select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"{words!r} was not drawn: {self.drawn[start:]!r}"
            self.drawn += self._decode(os.read(self._master, 65_536))
        return self.drawn[start:]

    def read_all(self, seconds: float = 30.0) -> str:
        """Everything that is drawn until the command has ended, and all processes that it left on the terminal.

        That nothing is to be read, and that the command has ended, does not say that all was read: it may have drawn in
        between, and the kernel hands on what is drawn a little later. The terminal itself says that nothing more comes,
        once nobody has it open on that side.
        """
        deadline = time.monotonic() + seconds
        while self._slave is not None or not self._at_its_end:
            ready, _, _ = select.select([self._master], [], [], 0.02)
            if ready:
                self._read()
            if self._process.poll() is not None:
                self._let_go()
            assert time.monotonic() < deadline, f"it goes on: {self.drawn!r}"
        return self.drawn

    def _read(self) -> None:
        try:
            self.drawn += self._decode(os.read(self._master, 65_536))
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            self._at_its_end = True

    def _let_go(self) -> None:
        if self._slave is not None:
            self._after = termios.tcgetattr(self._slave)
            os.close(self._slave)
            self._slave = None

    def read_for(self, seconds: float) -> str:
        """What is drawn within this time; it is not kept."""
        deadline = time.monotonic() + seconds
        found = ""
        while (left := deadline - time.monotonic()) > 0:
            ready, _, _ = select.select([self._master], [], [], left)
            if ready:
                found += self._decode(os.read(self._master, 65_536))
        return found

    @property
    def pid(self) -> int:
        """The command's process."""
        return self._process.pid

    def press(self, keys: str) -> None:
        """Type."""
        os.write(self._master, keys.encode())

    def signal(self, number: int) -> None:
        """Send the command a signal."""
        self._process.send_signal(number)

    def wait(self) -> int:
        """Its exit code."""
        return self._process.wait(10)

    def close(self) -> None:
        """As when a person closes the window."""
        os.close(self._master)
        self._closed = True

    @property
    def as_before(self) -> bool:
        """Whether the terminal's settings are what they were."""
        now = self._after if self._slave is None else termios.tcgetattr(self._slave)
        return now == self.before

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        if not self._closed:
            os.close(self._master)
        if self._slave is not None:
            os.close(self._slave)
