"""What ``logs=`` may be, and how what functions print is shown: each line with its worker and its term.

True         lines on standard error
a callable   is called with a Printed
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

from mapreduce_rq.core.job.printed import Printed
from mapreduce_rq.core.job.record import Report
from mapreduce_rq.core.text import plural
from mapreduce_rq.core.visible import visible, visible_lines
from mapreduce_rq.errors import BadParameter
from mapreduce_rq.runtime.master.observer import Observer, Silent, tell_onlooker

Logs = bool | Callable[[Printed], object]


class Heard:
    """An observer that gives printed text to a callable; ``beside`` is told everything else."""

    def __init__(self, call: Callable[[Printed], object], beside: Observer | None) -> None:
        self._call = call
        self._beside = beside or Silent()

    def progressed(self, report: Callable[[], Report]) -> None:
        """Hand on the report."""
        self._beside.progressed(report)

    def noticed(self, text: str) -> None:
        """Hand on the notice."""
        self._beside.noticed(text)

    def happened(self, what: str, text: str) -> None:
        """Hand on an event."""
        tell_onlooker(self._beside, what, text)

    def printed(self, printed: Printed) -> None:
        """Give the callable what was printed."""
        self._call(printed)


def heard(logs: Logs, beside: Observer | None) -> Heard:
    """The observer for an argument ``logs`` that asks for something. Raises BadParameter."""
    if logs is True:
        return Heard(write_printed, beside)
    if not callable(logs):
        raise BadParameter(f"logs: a {type(logs).__name__} can show nothing: give True, or a callable")
    return Heard(logs, beside)


def lines_of(printed: Printed) -> Iterator[str]:
    """What is shown of it, harmless for a terminal."""
    lo, hi = printed.span
    what = f"term {lo}" if hi - lo == 1 else f"terms {lo}..{hi - 1}"
    stream = "" if printed.stream == "stdout" else f" {printed.stream}"
    head = visible(f"[{printed.where} {what}{stream}] ")
    if printed.cut:
        yield f"{head}({plural(printed.cut, 'byte')} before this left out)"
    for line in visible_lines(printed.text.removesuffix("\n")).split("\n"):
        yield f"{head}{line}"


def write_printed(printed: Printed) -> None:
    """Show it on standard error. Above a bar of ours it comes to stand by itself."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            sys.stderr.write("".join(f"{line}\n" for line in lines_of(printed)))
            sys.stderr.flush()
