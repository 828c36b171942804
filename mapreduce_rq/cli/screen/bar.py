"""The progress bar of one job on a terminal, drawn with Rich on standard error."""

from __future__ import annotations

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from mapreduce_rq.cli.screen.ink import Text
from mapreduce_rq.core.job.record import Report
from mapreduce_rq.core.text import count, duration, plural, rate, short


class Bar:
    """A bar that is drawn only when ``draw`` is called: it has no thread. ``stop`` removes it from the screen."""

    def __init__(self, label: str, console: Console | None = None) -> None:
        self._label = label
        self._console = console or Console(stderr=True)
        self._live = Live(console=self._console, auto_refresh=False, transient=True, redirect_stdout=False)
        self._live.start()

    def draw(self, report: Report) -> None:
        """Show how far the job is."""
        self._live.update(drawing(self._label, report), refresh=True)

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self._console.print(Text(f"mrq: {text}"))

    def stop(self) -> None:
        """Take the bar off the screen."""
        self._live.stop()


def drawing(label: str, report: Report) -> Group:
    """Two lines: how far, how fast, how long; and the value so far."""
    counted, total, per_second = report.counted, report.total, report.rate
    first = Table.grid(padding=(0, 1), expand=True)
    for column in range(6):
        first.add_column(no_wrap=True, ratio=1 if column == 1 else None, justify="left" if column < 2 else "right")
    done = counted / total if total else None
    left = duration((total - counted) / per_second) if total and per_second else "?"
    first.add_row(
        Text(label, style="bold"),
        ProgressBar(total=total or None, completed=counted, pulse=total is None),
        Text(f"{100 * done:.0f} %" if done is not None else count(counted), style="bold"),
        Text(f"{count(counted)}/{count(total)}" if total else "terms"),
        Text(rate(per_second), style="cyan"),
        Text(f"{left} left" if total else duration(report.elapsed_s), style="yellow"),
    )
    second = Text(no_wrap=True, overflow="ellipsis")
    if report.value is not None:
        second.append(short(report.value, 40), style="green")
        if report.error is not None:
            second.append(f" ± {report.error:.3g}", style="dim")
        second.append("   ")
    second.append(plural(report.workers, "worker"), style="dim")
    second.append(f", {plural(report.out, 'task')} out", style="dim")
    return Group(first, second)
