"""`mrq dashboard`: a loop that reads Redis, draws and listens to keys, on the terminal's alternate screen.

What is read stands in cli/watching.py, what a key means in cli/screen/view.py, and what is drawn in
cli/screen/picture.py. When the loop ends, for any reason, the terminal is restored.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from io import StringIO
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live

from mapreduce_rq.broker.connection import LOOK_SECONDS
from mapreduce_rq.broker.snapshot import Snapshot
from mapreduce_rq.cli.commands.status import look
from mapreduce_rq.cli.connect import Place, connect
from mapreduce_rq.cli.interrupts import Interrupts
from mapreduce_rq.cli.keyboard import Keyboard, TerminalGone, keyboard
from mapreduce_rq.cli.options import OUTPUT, KeyFile, PlainJson, Queues, Url, chosen_queues, required
from mapreduce_rq.cli.out_file import OutFile
from mapreduce_rq.cli.screen.frame import Frame
from mapreduce_rq.cli.screen.output import as_json
from mapreduce_rq.cli.screen.picture import draw, listed
from mapreduce_rq.cli.screen.view import LONGEST_INTERVAL, SHORTEST_INTERVAL, View, key_line, pressed
from mapreduce_rq.cli.screen.views import Seen, snapshot_data
from mapreduce_rq.cli.streams import interactive, say, shows_unicode, write
from mapreduce_rq.cli.values import seconds
from mapreduce_rq.cli.watching import Watching, merged
from mapreduce_rq.core.job.record import State
from mapreduce_rq.core.text import duration, job_label
from mapreduce_rq.errors import CannotWrite, MrqError, UsageError
from mapreduce_rq.runtime.clock import Clock
from mapreduce_rq.runtime.master.cancel import cancel
from mapreduce_rq.runtime.server.lookout import found_servers

STILL_WIDTH = 100
SAID_SECONDS = 5.0
"""How long the answer to a key stays on the screen."""


def dashboard(
    *,
    url: Url = None,
    queue: Queues = None,
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
    svg: Annotated[
        str | None,
        typer.Option(
            "--svg",
            envvar="MRQ_SVG",
            metavar="FILE",
            help="Write one picture to this file, as SVG.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    html: Annotated[
        str | None,
        typer.Option(
            "--html",
            envvar="MRQ_HTML",
            metavar="FILE",
            help="Write one picture to this file, as HTML.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    json: PlainJson = False,
) -> None:
    """Watch jobs and workers, live.

    Keys: Tab and arrows move, Enter opens a job or worker, s sorts, / filters, C cancels a job, p pauses, ? lists all,
    q quits. Without a URL it shows the private servers of your own that run now. It only reads; jobs are not affected.
    """
    pause = min(LONGEST_INTERVAL, max(SHORTEST_INTERVAL, seconds("--interval", interval)))
    files = [(OutFile(path, option), option) for option, path in (("--svg", svg), ("--html", html)) if path is not None]
    if files and json:
        raise UsageError(f"{files[0][1]} writes a picture, and --json prints data: give one of them")
    live = not (files or json or once) and interactive(sys.stdout)
    places = list(_places(url, queue, key_file, LOOK_SECONDS if live else 0.0))
    if files:
        for file, option in files:
            _write(file, option, _still(places, svg=option == "--svg"))
    elif json:
        took, snapshots, seen = _look(places)
        write(as_json(snapshot_data(merged(snapshots), seen, _where(places), took)))
    elif not live:
        took, snapshots, seen = _look(places)
        console = Console()
        frame = Frame(_where(places), took, width=console.width, unicode=shows_unicode(console.encoding))
        console.print(draw(merged(snapshots), seen, frame))
    else:
        with Interrupts(), keyboard() as keys, suppress(TerminalGone):
            Dashboard(Watching(places), pause, keys).run()


def _places(url: str | None, queue: list[str] | None, key_file: str | None, within: float) -> Iterator[Place]:
    """The queues to look at. Without a URL: those of the private servers that this user runs now."""
    if url:
        for name in chosen_queues(queue):
            yield connect(required(url, "dashboard"), name, key_file, within=within)
        return
    found = 0
    for private in found_servers():
        with suppress(MrqError):  # it has ended since
            yield connect(private.url, private.queue, None, [private.key], within=within)
            found += 1
    if not found:
        raise UsageError(
            "no private server of yours runs now (`mrq compute` and `mrq run` start one): to look at a Redis give "
            "-u redis://host or set MRQ_URL"
        )


def _where(places: list[Place]) -> str:
    return ", ".join(dict.fromkeys(str(place.wire.endpoint) for place in places))


def _look(places: list[Place]) -> tuple[float, list[Snapshot], Seen]:
    looks = [look(place) for place in places]
    unchanged = {name: quiet for _, _, seen in looks for name, quiet in seen.unchanged.items()}
    return looks[0][0], [snapshot for _, snapshot, _ in looks], Seen(looks[-1][2].at, unchanged)


def _still(places: list[Place], *, svg: bool) -> str:
    """One picture as a page of its own."""
    watching = Watching(places)
    watching.look()
    assert watching.snapshot is not None
    console = Console(file=StringIO(), record=True, width=STILL_WIDTH, force_terminal=True, color_system="truecolor")
    frame = Frame(watching.url, watching.took, width=STILL_WIDTH)
    console.print(draw(watching.snapshot, watching.seen, frame, known=watching.known()))
    return console.export_svg(title="mrq dashboard") if svg else console.export_html()


def _write(file: OutFile, option: str, text: str) -> None:
    try:
        file.write([text.encode()])
    except OSError as error:
        raise CannotWrite(f"{option}: cannot write {file.path}: {error.strerror}") from None
    say(f"written to {file.path}")


class Dashboard:
    """The loop."""

    def __init__(self, watching: Watching, interval: float, keys: Keyboard, console: Console | None = None) -> None:
        self._watching = watching
        self._keys = keys
        self._console = console or Console()
        self._view = View(interval=interval)
        self._said = ""  # the answer to a key
        self._said_at = 0.0

    def run(self) -> None:
        """Draw until q is pressed. Raises Signalled, TerminalGone."""
        due = 0.0
        with Live(console=self._console, screen=True, auto_refresh=False, vertical_overflow="crop") as live:
            while True:
                if time.monotonic() >= due and not self._view.paused:
                    self._watching.look(*filter(None, [self._page_of_job()]))
                    due = time.monotonic() + self._view.interval
                self._draw(live)
                wait = due - time.monotonic() if not self._view.paused else self._view.interval
                for key in self._keys.wait(wait):
                    if not self._press(key):
                        return
                    due = min(due, time.monotonic() + self._view.interval)
                if (
                    self._page_of_job()
                    and self._watching.known(self._page_of_job()).detail is None
                    and not self._view.paused
                ):
                    due = 0.0  # a page was opened: what it shows is read now

    def _draw(self, live: Live) -> None:
        watching = self._watching
        if watching.snapshot is None:
            return
        known = watching.known(self._page_of_job())
        try:
            live.update(draw(watching.snapshot, watching.seen, self._frame(), self._view, known), refresh=True)
        except OSError:
            raise TerminalGone from None

    def _press(self, key: str) -> bool:
        """Do what a key says. Whether to go on."""
        snapshot = self._watching.snapshot
        assert snapshot is not None
        known = self._watching.known(self._page_of_job())
        running = frozenset(job.job for job in snapshot.jobs if job.state is State.RUNNING)
        self._view, act = pressed(self._view, key, listed(snapshot, self._watching.seen, self._view, known), running)
        if act is not None and act.what == "cancel":
            self._cancel(act.job)
        return act is None or act.what != "quit"

    def _cancel(self, job: str) -> None:
        place = self._watching.place_of(job)
        if place is None:
            return
        try:
            state = cancel(place.jobs, Clock(), job, journal=place.journal)
            self._say(f"{job_label(job)} is {state.word}")
        except MrqError as error:
            self._say(f"not cancelled: {error}")

    def _say(self, text: str) -> None:
        self._said, self._said_at = text, time.monotonic()

    def _page_of_job(self) -> str:
        return self._view.selected.get("jobs", "") if self._view.page == "job" else ""

    def _frame(self) -> Frame:
        trouble = ""
        if self._said and time.monotonic() - self._said_at < SAID_SECONDS:  # first: who pressed a key waits for it
            trouble = self._said
        elif self._watching.down_since is not None:
            since = duration(time.monotonic() - self._watching.down_since)
            trouble = f"no answer from Redis for {since}: this is its last answer; trying again"
        state = "paused" if self._view.paused else f"every {duration(self._view.interval)}"
        width = self._console.width
        keys = key_line(self._view, width - len(state) - 5) if self._keys.listens else "Ctrl-C ends"
        return Frame(
            self._watching.url,
            self._watching.took,
            width=width,
            height=self._console.height,
            unicode=shows_unicode(self._console.encoding),
            trouble=trouble,
            keys=f"{keys}   ({state})",
        )
