"""What ``progress=`` may be, and the observer of a job that it becomes.

    True                     a bar: on a terminal, or in a notebook; into a file or a pipe nothing is written
    a callable               is called with a Report
    a tqdm bar               has its ``total`` set, if it has none, and is moved on
    a rich.progress.Progress gets a task

Each is told ten times a second at most, and once at a good end.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

from mapreduce_rq.core.given import shown as shown_value
from mapreduce_rq.core.job.printed import Printed
from mapreduce_rq.core.job.record import Report
from mapreduce_rq.core.visible import visible
from mapreduce_rq.errors import BadParameter
from mapreduce_rq.progress.few_events import FewEvents
from mapreduce_rq.runtime.master.observer import Observer, pass_on, tell_onlooker

if TYPE_CHECKING:
    from mapreduce_rq.progress.bar import Bar

DRAW_SECONDS = 0.1
BAR_AFTER_SECONDS = 0.3
"""A job that ends sooner needs no bar on a terminal, and so no import of Rich."""


@runtime_checkable
class Tqdm(Protocol):
    """The part of a tqdm bar that we use."""

    total: Any

    def update(self, n: Any = 1) -> Any:
        """Move it on."""

    def refresh(self) -> Any:
        """Draw it."""


@runtime_checkable
class RichProgress(Protocol):
    """The part of a ``rich.progress.Progress`` that we use."""

    def add_task(self, description: str, start: bool = True, total: float | None = None) -> Any:
        """Add a row."""

    def update(self, task_id: Any, *, total: float | None = None, completed: float | None = None) -> None:
        """Move it on."""

    def stop_task(self, task_id: Any) -> None:
        """Stop the task's clock."""


Progress = bool | Callable[[Report], object] | Tqdm | RichProgress | None


class Picture(Protocol):
    """How far a job is, as a person sees it."""

    def draw(self, report: Report) -> None:
        """Show it."""

    def say(self, text: str) -> None:
        """Show a notice."""

    def tell(self, text: str) -> None:
        """Show an event: one of many, perhaps."""

    def end(self, *, well: bool) -> None:
        """Draw no more. ``well``: all was done."""


class Shown:
    """An observer that draws a picture. ``after``: not in the first seconds. ``beside``: one that is told, too."""

    def __init__(
        self,
        picture: Picture,
        beside: Observer | None = None,
        *,
        after: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._picture = picture
        self._beside = beside
        self._clock = clock
        self._due = clock() + after
        self._drawn = not after
        self._report: Callable[[], Report] | None = None

    def progressed(self, report: Callable[[], Report]) -> None:
        """Draw it, if it is time."""
        self._report = report
        if self._beside is not None:
            self._beside.progressed(report)
        now = self._clock()
        if now >= self._due:
            self._due, self._drawn = now + DRAW_SECONDS, True
            self._picture.draw(report())

    def noticed(self, text: str) -> None:
        """Show a notice."""
        if self._beside is not None:
            self._beside.noticed(text)
        self._picture.say(text)

    def happened(self, what: str, text: str) -> None:
        """Show an event."""
        tell_onlooker(self._beside, what, text)
        self._picture.tell(f"{what}: {text}" if text else what)

    def printed(self, printed: Printed) -> None:
        """Hand on what a function has printed."""
        pass_on(self._beside, printed)

    def close(self, *, well: bool) -> None:
        """Draw no more; at a good end (``well``) the last state before."""
        try:
            if well and self._report is not None and self._drawn:
                self._picture.draw(self._report())
        finally:
            self._picture.end(well=well)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close(well=error is None)


def shown(progress: Progress, label: str, beside: Observer | None = None) -> Shown | None:
    """The observer for an argument ``progress``; None if there is nothing to show. Raises BadParameter."""
    if progress is True:
        if in_notebook():
            from mapreduce_rq.progress.notebook import NotebookBar  # only there is IPython

            return Shown(NotebookBar(label), beside)
        if sys.stderr is None or not sys.stderr.isatty():
            return None
        return Shown(_OnTerminal(label), beside, after=BAR_AFTER_SECONDS)
    if isinstance(progress, type):
        raise BadParameter(f"progress: {progress.__name__} is a class: give an instance of it")
    if isinstance(progress, RichProgress):
        return Shown(_RichTask(progress, label), beside)
    if isinstance(progress, Tqdm):
        return Shown(_OnTqdm(progress), beside)
    if callable(progress):
        return Shown(_Called(progress), beside)
    raise BadParameter(
        f"progress is {shown_value(progress)}, and must be True, a callable, a tqdm bar or a Rich Progress"
    )


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    ipython: Any = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


class _OnTerminal:
    """A bar of ours, which stays on the screen. Rich is imported when it is drawn for the first time: 50 ms."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._bar: Bar | None = None
        self._events = FewEvents()

    def draw(self, report: Report) -> None:
        bar = self._made()
        bar.draw(report)
        for line in self._events.take():
            bar.say(line)

    def say(self, text: str) -> None:
        self._made().say(text)

    def tell(self, text: str) -> None:
        self._events.add(text)

    def _made(self) -> Bar:
        if self._bar is None:
            from mapreduce_rq.progress.bar import Bar  # imports Rich

            self._bar = Bar(self._label, transient=False)
        return self._bar

    def end(self, *, well: bool) -> None:
        if self._bar is not None:
            for line in self._events.take():
                self._bar.say(line)
            self._bar.stop()


class _Called:
    """Calls a user's function with each report. An exception from it ends the job."""

    def __init__(self, call: Callable[[Report], object]) -> None:
        self._call = call

    def draw(self, report: Report) -> None:
        self._call(report)

    def say(self, text: str) -> None:
        pass

    def tell(self, text: str) -> None:
        pass

    def end(self, *, well: bool) -> None:
        pass


class _OnTqdm:
    """Moves a bar that belongs to the caller: it is neither reset nor closed here."""

    def __init__(self, bar: Tqdm) -> None:
        self._bar = bar
        self._told = 0

    def draw(self, report: Report) -> None:
        if self._bar.total is None and report.total is not None:
            self._bar.total = report.total
        more, self._told = report.counted - self._told, report.counted
        self._bar.update(more)

    def say(self, text: str) -> None:
        pass

    def tell(self, text: str) -> None:
        pass

    def end(self, *, well: bool) -> None:
        self._bar.refresh()


class _RichTask:
    def __init__(self, progress: RichProgress, label: str) -> None:
        self._progress = progress
        self._task = progress.add_task(visible(label), total=None)

    def draw(self, report: Report) -> None:
        self._progress.update(self._task, total=report.total, completed=report.counted)

    def say(self, text: str) -> None:
        pass

    def tell(self, text: str) -> None:
        pass

    def end(self, *, well: bool) -> None:
        self._progress.stop_task(self._task)
