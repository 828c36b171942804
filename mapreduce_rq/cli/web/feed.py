"""One reader for all viewers: it reads Redis once a second while there are viewers, and otherwise not at all.

The main thread reads, because only it is interrupted by signals; the thread of the event loop serves. A read goes there
as a Frame. Each viewer gets the changes since the last frame that it got. A slow viewer misses frames: no frames are
queued for it.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mapreduce_rq.cli.screen.output import as_json
from mapreduce_rq.cli.watching import Watching
from mapreduce_rq.cli.web import shown
from mapreduce_rq.cli.web.shown import Row, plainly
from mapreduce_rq.core.text import duration
from mapreduce_rq.errors import BadMessage, BrokerDown, BrokerError, MrqError, NoSuchJob

SECONDS = 1.0
"""Seconds between two looks."""
MOST_VIEWERS = 100
MOST_ASKED = 16
"""The most reports that wait to be read; requests for more are refused."""
REST_SECONDS = 3.0
"""After this number of seconds without a look, a change in a look is not shown as an event: it may be old."""

Page = tuple[str, str]
"""The page that a viewer has open: ("job", id), ("worker", id), or ("", "") for the lists."""


class Busy(Exception):
    """There are too many viewers, or too many questions at once."""


class Changing:
    """One list: its rows by id, and for each row the frame in which it last changed."""

    def __init__(self) -> None:
        self._rows: dict[str, tuple[Row, int]] = {}
        self._ordered = 0

    def update(self, rows: dict[str, Row], frame: int) -> None:
        """Take the list of this frame."""
        if list(rows) != list(self._rows):
            self._ordered = frame
        before = self._rows
        self._rows = {
            name: before[name] if name in before and before[name][0] == row else (row, frame)
            for name, row in rows.items()
        }

    def since(self, frame: int) -> dict[str, Any]:
        """The changes since a frame."""
        changed: dict[str, Any] = {}
        if self._ordered > frame:
            changed["order"] = list(self._rows)
        if rows := {name: row for name, (row, at) in self._rows.items() if at > frame}:
            changed["rows"] = rows
        return changed


@dataclass(frozen=True)
class Frame:
    """One look, in the form in which the browser shows it."""

    at: float  # unix seconds
    trouble: str
    head: Row
    lists: dict[str, dict[str, Row]]
    pages: dict[Page, Row]


@dataclass(eq=False)
class Viewer:
    """A viewer. ``seen``: the last frame that was sent."""

    page: Page
    seen: int = 0
    news: asyncio.Event = field(default_factory=asyncio.Event)


class Feed:
    """Serves the viewers. It belongs to the thread of the event loop, except ``run``, in which the main thread is."""

    def __init__(self, watching: Watching) -> None:
        self.closed = False
        self._watching = watching
        self._loop: asyncio.AbstractEventLoop | None = None
        self._viewers: set[Viewer] = set()
        self._pages: tuple[Page, ...] = ()
        self._number = 0
        self._frame: Frame | None = None
        self._published = 0.0  # by the loop's clock
        self._lists = {name: Changing() for name in ("jobs", "workers", "events")}
        self._messages: dict[tuple[int, Page], str] = {}  # of this frame
        self._asked: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._waiting = 0
        self._watched = threading.Event()

    # -- the event loop's side ----------------------------------------------------------------------------------------

    def open(self) -> None:
        """Take the running loop as the one that serves."""
        self._loop = asyncio.get_running_loop()

    def join(self, page: Page) -> Viewer:
        """Add a viewer. Raises Busy."""
        if len(self._viewers) >= MOST_VIEWERS:
            raise Busy(f"{MOST_VIEWERS} viewers are connected already: close one of them")
        viewer = Viewer(page)
        self._viewers.add(viewer)
        self._note()
        return viewer

    def leave(self, viewer: Viewer) -> None:
        """Remove a viewer."""
        self._viewers.discard(viewer)
        self._note()

    def _note(self) -> None:
        self._pages = tuple(dict.fromkeys(one.page for one in self._viewers if one.page[0]))
        if self._viewers:
            self._watched.set()
            self._asked.put(_nothing)  # the reader may wait for a question
        else:
            self._watched.clear()

    async def message(self, viewer: Viewer) -> str | None:
        """Wait for the next message for a viewer and return it; None at the end."""
        while not self.closed:
            viewer.news.clear()
            if viewer.seen < self._number and self._has(viewer.page):
                text = self._message(viewer.seen, viewer.page)
                viewer.seen = self._number
                return text
            await viewer.news.wait()
        return None

    def _has(self, page: Page) -> bool:
        """Whether the frame is a new one, and shows this page."""
        frame = self._frame
        if frame is None or asyncio.get_running_loop().time() - self._published > REST_SECONDS:
            return False
        return not page[0] or page in frame.pages or bool(frame.trouble)

    def _message(self, since: int, page: Page) -> str:
        frame = self._frame
        assert frame is not None
        key = since, page
        if key not in self._messages:
            data = {
                "whole": not since,
                "at": frame.at,
                "trouble": frame.trouble,
                "head": frame.head,
                **{name: one.since(since) for name, one in self._lists.items()},
                "page": frame.pages.get(page),
            }
            self._messages[key] = as_json(data)
        return self._messages[key]

    async def ask(self, question: Callable[[Watching], str]) -> str:
        """The answer of a function that reads Redis, in the reader's thread. Raises Busy, MrqError."""
        if self._waiting >= MOST_ASKED:
            raise Busy("too many reports are asked for at once: try again")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[str] = loop.create_future()

        def work() -> None:
            try:
                found = question(self._watching)
            except MrqError as error:
                loop.call_soon_threadsafe(_settle, answer, None, error)
            else:
                loop.call_soon_threadsafe(_settle, answer, found, None)

        self._waiting += 1
        self._asked.put(work)
        try:
            return await answer
        finally:
            self._waiting -= 1

    def _publish(self, frame: Frame) -> None:
        self._number += 1
        self._frame = frame
        self._published = asyncio.get_running_loop().time()
        self._messages.clear()
        for name, rows in frame.lists.items():
            self._lists[name].update(rows, self._number)
        for viewer in self._viewers:
            viewer.news.set()

    def close(self) -> None:
        """End all streams."""
        self.closed = True
        for viewer in self._viewers:
            viewer.news.set()

    # -- the reader's side --------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Read for the viewers, until a signal raises here."""
        due = 0.0
        while True:
            now = time.monotonic()
            if self._watched.is_set() and now >= due:
                if now - due > REST_SECONDS:
                    self._watching.rest()
                self._look()
                due = max(now + SECONDS, time.monotonic() + SECONDS / 2)
            wait = max(0.0, due - time.monotonic()) if self._watched.is_set() else None
            try:
                self._asked.get(timeout=wait)()
            except queue.Empty:
                continue

    def _look(self) -> None:
        watching, pages = self._watching, self._pages
        trouble = ""
        try:
            watching.look(*(name for kind, name in pages if kind == "job"))
        except BrokerError as error:
            trouble = " ".join(str(error).split())
        if watching.down_since is not None:
            since = duration(time.monotonic() - watching.down_since)
            trouble = f"no answer from Redis for {since}: this is its last answer; trying again"
        snapshot, seen = watching.snapshot, watching.seen
        assert snapshot is not None
        made: dict[Page, Row] = {}
        for kind, name in pages:
            if kind == "job":
                made[kind, name] = shown.job_page(name, snapshot, seen, watching.known(name))
            else:
                made[kind, name] = shown.worker_page(name, snapshot, seen, watching.known())
        lists = {
            "jobs": shown.job_rows(snapshot, seen),
            "workers": shown.worker_rows(snapshot, seen),
            "events": shown.event_rows(watching.known().events),
        }
        frame = Frame(
            seen.at,
            plainly(trouble),
            plainly(shown.head(snapshot, seen, watching.url, watching.took)),
            {name: {row: plainly(cells) for row, cells in rows.items()} for name, rows in lists.items()},
            {page: plainly(row) for page, row in made.items()},
        )
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._publish, frame)


def _nothing() -> None:
    """Do nothing: the call only wakes the reader."""


def _settle(answer: asyncio.Future[str], found: str | None, error: MrqError | None) -> None:
    if answer.done():  # who asked has gone
        return
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(found or "")


def report(job: str) -> Callable[[Watching], str]:
    """The question for the page of a job that has ended."""
    from mapreduce_rq.cli.screen.page import page_of  # who looks at lists alone needs no pictures

    def read(watching: Watching) -> str:
        places = [known] if (known := watching.place_of(job)) is not None else watching.places
        missing: MrqError | None = None
        for place in places:
            try:
                try:
                    record, timeline = place.ended(job)
                except BrokerDown:  # it may have been away while there was no viewer
                    place.wire.connect()
                    record, timeline = place.ended(job)
            except (NoSuchJob, BadMessage) as error:
                missing = error
            else:
                return page_of(record.data, timeline)
        assert missing is not None
        raise missing

    return read
