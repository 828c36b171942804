"""`mrq dashboard`: a loop that reads Redis, draws and listens to keys, on the terminal's alternate screen.

It reads Redis once a second in two round trips, for any number of jobs and workers, and draws what it found. The
picture and its columns are made in cli/screen/picture.py. When the loop ends, for any reason, the terminal is restored.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live

from mapreduce_rq.broker.snapshot import Snapshot
from mapreduce_rq.cli.commands.status import look
from mapreduce_rq.cli.connect import Place, connect
from mapreduce_rq.cli.interrupts import Interrupts
from mapreduce_rq.cli.options import OUTPUT, KeyFile, PlainJson, Queue, Url, required
from mapreduce_rq.cli.screen.changes import Changes
from mapreduce_rq.cli.screen.output import as_json
from mapreduce_rq.cli.screen.picture import Frame, draw
from mapreduce_rq.cli.screen.views import Seen, snapshot_data
from mapreduce_rq.cli.streams import interactive, shows_unicode, write
from mapreduce_rq.cli.values import seconds
from mapreduce_rq.client.environment import DEFAULT_QUEUE
from mapreduce_rq.core.text import duration
from mapreduce_rq.errors import BrokerDown

SHORTEST_INTERVAL, LONGEST_INTERVAL = 0.1, 60.0


def dashboard(
    *,
    url: Url = None,
    queue: Queue = DEFAULT_QUEUE,
    key_file: KeyFile = None,
    interval: Annotated[
        str,
        typer.Option(
            "-i",
            "--interval",
            envvar="MRQ_INTERVAL",
            metavar="SEC",
            help="Time between two pictures.",
            rich_help_panel=OUTPUT,
        ),
    ] = "1",
    once: Annotated[
        bool,
        typer.Option("--once", help="Print one picture and end. Without a terminal: always.", rich_help_panel=OUTPUT),
    ] = False,
    json: PlainJson = False,
) -> None:
    """Watch jobs and workers, live.

    Keys: q quits, p pauses, + and - change the interval. Jobs are not affected.
    """
    pause = min(LONGEST_INTERVAL, max(SHORTEST_INTERVAL, seconds("--interval", interval)))
    place = connect(required(url, "dashboard"), queue, key_file)
    redacted = str(place.wire.endpoint)
    if json:
        took, snapshot, seen = look(place)
        write(as_json(snapshot_data(snapshot, seen, redacted, took)))
    elif once or not interactive(sys.stdout):
        took, snapshot, seen = look(place)
        console = Console()
        frame = Frame(redacted, took, width=console.width, unicode=shows_unicode(console.encoding))
        console.print(draw(snapshot, seen, frame))
    else:
        with Interrupts(), terminal() as keys:
            Dashboard(place, pause, keys).run()


class Keys:
    """Pressed keys, and what else ends a wait: a new size of the terminal, a signal."""

    def __init__(self, stdin: int | None, waker: socket.socket) -> None:
        self._stdin = stdin
        self._waker = waker

    @property
    def listens(self) -> bool:
        """Whether keys can be pressed."""
        return self._stdin is not None

    def wait(self, timeout: float) -> str:
        """The keys pressed within this time. It returns early for a key, a signal or a new size."""
        sources: list[int] = [self._waker.fileno()] + ([self._stdin] if self._stdin is not None else [])
        ready, _, _ = select.select(sources, [], [], max(0.0, timeout))
        if self._waker.fileno() in ready:
            self._waker.recv(4096)
        if self._stdin is None or self._stdin not in ready:
            return ""
        pressed = os.read(self._stdin, 64)
        if not pressed:  # the end of standard input: no key will be pressed any more
            self._stdin = None
        return pressed.decode(errors="ignore")


@contextmanager
def terminal() -> Iterator[Keys]:
    """Keys as they are pressed, not shown, where standard input is a terminal. Everything is restored afterwards."""
    woken, waker = socket.socketpair()
    woken.setblocking(False)
    waker.setblocking(False)
    before_resize = signal.signal(signal.SIGWINCH, lambda *_: None)
    before_wakeup = signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
    stdin = sys.stdin.fileno() if sys.stdin is not None and sys.stdin.isatty() else None
    try:
        if stdin is None:
            yield Keys(None, woken)
            return
        import termios  # only where there is a terminal
        import tty

        attributes = termios.tcgetattr(stdin)
        try:
            tty.setcbreak(stdin)
            yield Keys(stdin, woken)
        finally:
            termios.tcsetattr(stdin, termios.TCSADRAIN, attributes)
    finally:
        signal.set_wakeup_fd(before_wakeup)
        signal.signal(signal.SIGWINCH, before_resize)
        woken.close()
        waker.close()


class Dashboard:
    """The loop."""

    def __init__(self, place: Place, interval: float, keys: Keys, console: Console | None = None) -> None:
        self._place = place
        self._interval = interval
        self._keys = keys
        self._console = console or Console()
        self._changes = Changes()
        self._paused = False
        self._down_since: float | None = None
        self._took = 0.0
        self._snapshot: Snapshot | None = None
        self._seen = Seen(0.0)

    def run(self) -> None:
        """Draw until q is pressed. Raises Signalled."""
        due = 0.0
        with Live(console=self._console, screen=True, auto_refresh=False, vertical_overflow="crop") as live:
            while True:
                if time.monotonic() >= due and not self._paused:
                    self._look()
                    due = time.monotonic() + self._interval
                if self._snapshot is not None:
                    live.update(draw(self._snapshot, self._seen, self._frame()), refresh=True)
                for key in self._keys.wait(due - time.monotonic() if not self._paused else self._interval):
                    if key in "qQ":
                        return
                    if key in "pP ":
                        self._paused = not self._paused
                    elif key in "+-":
                        factor = 0.5 if key == "+" else 2.0
                        self._interval = min(LONGEST_INTERVAL, max(SHORTEST_INTERVAL, self._interval * factor))
                        due = min(due, time.monotonic() + self._interval)

    def _look(self) -> None:
        now = time.monotonic()
        try:
            if self._down_since is not None:
                self._place.wire.connect()
            self._took = self._place.round_trip()
            self._snapshot = self._place.snapshot(self._snapshot)
            self._seen = Seen(time.time(), self._changes.look(self._snapshot, now))
            self._down_since = None
        except BrokerDown:
            if self._snapshot is None:
                raise
            self._down_since = self._down_since or now

    def _frame(self) -> Frame:
        trouble = ""
        if self._down_since is not None:
            since = duration(time.monotonic() - self._down_since)
            trouble = f"no answer from Redis for {since}: this is its last answer; trying again"
        keys = "q quit   p pause   + - interval" if self._keys.listens else "Ctrl-C ends"
        state = "paused" if self._paused else f"every {duration(self._interval)}"
        return Frame(
            str(self._place.wire.endpoint),
            self._took,
            width=self._console.width,
            height=self._console.height,
            unicode=shows_unicode(self._console.encoding),
            trouble=trouble,
            keys=f"{keys}   ({state})",
        )
