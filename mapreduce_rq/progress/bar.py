"""The progress bar of one job on a terminal: Rich's own columns, on standard error."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

from mapreduce_rq.core.job.record import Report
from mapreduce_rq.core.text import count, plural, rate
from mapreduce_rq.core.visible import visible
from mapreduce_rq.progress.words import MARK, hands, so_far


class Bar:
    """A bar that is drawn only when ``draw`` is called: it has no thread.

    ``transient``: ``stop`` takes it off the screen.
    """

    def __init__(self, label: str, console: Console | None = None, *, transient: bool = True) -> None:
        self._label = visible(label)
        self._rows = _Rows(
            TextColumn("{task.description}", style="bold", markup=False),
            BarColumn(None),
            TaskProgressColumn(style="bold"),
            _column("terms"),
            _column("rate", "cyan"),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=console or Console(stderr=True),
            auto_refresh=False,
            transient=transient,
            redirect_stdout=False,
            expand=True,
        )
        self._task: TaskID | None = None
        screen = self._rows.console
        self._mark = MARK if screen.no_color or screen.color_system is None else ""

    def draw(self, report: Report) -> None:
        """Show how far the job is, if the terminal can."""
        if not self._rows.console.is_interactive:
            return
        total, counted = report.total, report.counted
        if self._task is None:
            self._task = self._rows.add_task(self._label, total=total, completed=counted, **self._fields(report))
            self._rows.start()
        self._rows.update(self._task, total=total, completed=counted, **self._fields(report))
        self._rows.refresh()

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self._rows.console.print(visible(f"mrq: {text}"), markup=False, highlight=False)

    def stop(self) -> None:
        """Draw it no more."""
        if self._task is not None:
            self._rows.stop()

    def _fields(self, report: Report) -> dict[str, Any]:
        counted, total, value = report.counted, report.total, so_far(report)
        return {
            "terms": f"{count(counted)}/{count(total)}" if total else plural(counted, "term", shown=count(counted)),
            "rate": rate(report.rate),
            "certain": value.certain,
            "moving": f"{self._mark}{value.moving}" if value.moving else "",
            "value": visible(value.beside),
            "hands": hands(report),
        }


def _column(field: str, style: str = "none") -> TextColumn:
    return TextColumn(f"{{task.fields[{field}]}}", style=style, markup=False)


class _Rows(Progress):
    """Below the bar stands a second line: the value so far, its certain digits apart from the others, and who works."""

    columns_of_value = (_column("certain", "bold green"), _column("moving", "dim"), _column("value", "green"))
    hands, nothing = _column("hands", "dim"), TextColumn("", markup=False)

    def get_renderables(self) -> Iterable[Any]:
        yield self.make_tasks_table(self.tasks)
        for task in self.tasks:
            line = self.nothing.render(task)
            for column in self.columns_of_value:
                line.append_text(column.render(task))
            line.append("   " if line else "").append_text(self.hands.render(task))
            line.no_wrap, line.overflow = True, "ellipsis"
            yield line
