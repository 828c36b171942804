"""Who looks at a fleet for a long time: a dashboard on a terminal, or the page of `mrq web` in a browser."""

from __future__ import annotations

import itertools
import re
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol, Self

from tests.support.browser import Browser
from tests.support.commands import Running
from tests.support.terminal import Terminal

INTERVAL = 0.2
"""Seconds between two looks of the dashboard: five times as many as a person would have."""
KEYS = ("1", "\r", "j", "j", "\x1b", "\t", "s", "\r", "k", "\x1b", "3", "j", "/", "w", "\x1b", "?", "?", "1", "G", "g")
"""Panes, pages, sorting, the filter, help. None of them cancels or quits."""
HOME = "\x1b[H"
"""Each picture begins so."""

COUNTED = """
(() => {
  globalThis.pictures = 0;
  const plain = show;
  show = (news) => {
    plain(news);
    pictures += 1;
  };
})()
"""
"""Have the page count its pictures."""
SHOWN = """
(() => {
  const walker = document.createTreeWalker(document, NodeFilter.SHOW_ALL);
  let number = 1;
  while (walker.nextNode()) number += 1;
  return number;
})()
"""
"""The nodes of the document. The page has more of them in the course of a day: its lists grow up to a bound."""
DRAWING = {"ScriptDuration", "RecalcStyleDuration", "LayoutDuration"}
"""What a browser counts of drawing, in its own names. Not the painting: of that a busy machine leaves out some."""
FIRST = "document.querySelector('#{list} a.row')?.getAttribute('href') ?? '#'"
MOVES = (
    f"location.hash = {FIRST.format(list='jobs')}",
    "location.hash = ''",
    f"location.hash = {FIRST.format(list='workers')}",
    "location.hash = ''",
    "sought.value = 'w'; sift()",
    "sought.value = ''; sift()",
)


class Viewer(Protocol):
    """``pid``: the process whose memory and time are looked at. ``errors``: what it complained of."""

    pid: int
    errors: list[str]
    seconds_apart: float  # of two pictures, if nothing is slow

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def watch(self, seconds: float) -> int:
        """Look on for these seconds. Returns the number of pictures that came."""

    def act(self) -> None:
        """Do one more thing that a person does."""

    def facts(self) -> tuple[int, int, float]:
        """Of a page: its heap in kB, the nodes that it keeps and does not show, its milliseconds of processor time.

        Zeros on a terminal.
        """

    def leave(self) -> int:
        """End it, and return its exit code."""


class OnATerminal:
    """`mrq dashboard` on a terminal of its own."""

    seconds_apart = INTERVAL

    def __init__(self, env: Mapping[str, str]) -> None:
        self._terminal = Terminal("dashboard", "-i", str(INTERVAL), env=dict(env), rows=40, columns=120)
        self._keys = itertools.cycle(KEYS)
        self.pid = self._terminal.pid
        self.errors: list[str] = []

    def __enter__(self) -> Self:
        self._terminal.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._terminal.__exit__(*_)

    def watch(self, seconds: float) -> int:
        """The pictures that were drawn."""
        return self._terminal.read_for(seconds).count(HOME)

    def act(self) -> None:
        """Press the next key."""
        self._terminal.press(next(self._keys))

    def facts(self) -> tuple[int, int, float]:
        """It is no page."""
        return 0, 0, 0.0

    def leave(self) -> int:
        """Press q."""
        self._terminal.press("\x1bq")
        self._terminal.read_all()
        return self._terminal.wait()


class InABrowser:
    """The page of `mrq web`, in a browser without a window. The process that is looked at is the server."""

    seconds_apart = 1.0

    def __init__(self, env: Mapping[str, str]) -> None:
        self._stack = ExitStack()
        self._web = Running("web", "--port", "127.0.0.1:0", env=env)
        self._moves = itertools.cycle(MOVES)
        self._pictures = 0
        self._looking_ms = 0.0  # of the page's processor time, what went into our own looks
        self.pid = self._web.pid

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self._web)
            found = re.search(r"at (http://\S+)", self._web.hear("at http://"))
            assert found is not None
            folder = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
            self._page = stack.enter_context(Browser(Path(folder)))
            self.errors = self._page.errors
            self._page.open(found[1])
            self._page.until("document.readyState === 'complete' && typeof show === 'function'")
            self._page.value(COUNTED)
            # Processor time, as of the server: by the clock, a busy machine's pictures take many times as long.
            self._page.call("Performance.enable", timeDomain="threadTicks")
            self._page.until("pictures > 0")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def watch(self, seconds: float) -> int:
        """The pictures that the page drew."""
        time.sleep(seconds)
        before, self._pictures = self._pictures, int(self._page.value("pictures"))
        self._page.requests.clear()
        return self._pictures - before

    def act(self) -> None:
        """Open a page, go back, use the filter."""
        self._page.value(f"void ({next(self._moves).replace('; ', ', ')})")

    def facts(self) -> tuple[int, int, float]:
        """After a collection of what nobody needs. The look itself does not count as time of the page."""
        before_ms = self._spent_ms()
        drawn_ms = before_ms - self._looking_ms
        self._page.call("HeapProfiler.collectGarbage")
        used = self._page.call("Runtime.getHeapUsage")["usedSize"]
        nodes = self._page.call("Memory.getDOMCounters")["nodes"]
        hidden = int(nodes) - int(self._page.value(SHOWN))
        self._looking_ms += self._spent_ms() - before_ms
        return round(used / 1024), hidden, drawn_ms

    def _spent_ms(self) -> float:
        """The processor time that the page's thread has had for its scripts, and for style and layout."""
        metrics = self._page.call("Performance.getMetrics")["metrics"]
        return 1000 * sum(float(one["value"]) for one in metrics if one["name"] in DRAWING)

    def leave(self) -> int:
        """Tell the server to end."""
        self._web.signal(15)
        return 0 if self._web.wait() == 143 else 1
