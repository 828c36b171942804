"""`mrq run --stream`: the values of a function as lines of JSON, in order, each as soon as it is there.

Made for pipelines: a line comes in, and its value goes out before the next line is read. A reader that ends (`| head`)
ends the job, and that is no failure. So does a term that fails, unless such terms are to be left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from mapreduce_rq.cli.interrupts import Interrupts, Signalled
from mapreduce_rq.cli.screen.output import as_json
from mapreduce_rq.cli.session import PARTIAL, Session, ended_with_us
from mapreduce_rq.cli.streams import aside, reader_left, say, write
from mapreduce_rq.core.computation import TermError
from mapreduce_rq.core.foreign_errors import RemoteError, notes_of, told
from mapreduce_rq.core.job.printed import Printed
from mapreduce_rq.core.job.record import Report
from mapreduce_rq.core.reducers.handed import Raised
from mapreduce_rq.core.written import built_in
from mapreduce_rq.errors import JobFailed
from mapreduce_rq.progress.printed import write_printed

if TYPE_CHECKING:
    from mapreduce_rq.client.client import Client
    from mapreduce_rq.client.streams import Values
    from mapreduce_rq.core.messages import Limits


class Notices:
    """An observer that prints what the master notices, and draws nothing: lines of values go to the same terminal."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet

    def progressed(self, report: Callable[[], Report]) -> None:
        """Show nothing: the lines are for programs."""

    def noticed(self, text: str) -> None:
        """Print a notice."""
        if not self._quiet:
            say(text)

    def printed(self, printed: Printed) -> None:
        """Print what a function has printed: it was asked for."""
        write_printed(printed)


def write_values(
    session: Session, function: str, items: Callable[[Client], Iterable[Any]], limits: Limits, setup: str | None
) -> int:
    """Run a function over items, print each value, and return the exit code. Raises MrqError, Signalled."""
    quiet = session.show.quiet
    with aside(), Interrupts(), session.client() as client:
        notices = Notices(quiet=quiet)
        session.warn(client, notices)
        values: Values[Any] = client.imap(
            function,
            _readable(function, items(client)),
            limits=limits,
            setup=setup,
            observer=notices,
            wait_workers=session.where.wait_workers,
        )
        try:
            with values:
                return _write(values, function, skip=limits.on_error == "skip", quiet=quiet)
        except Signalled:
            say(ended_with_us(values.job, client, cancelled=True))
            raise


def _readable(function: str, items: Iterable[Any]) -> Iterator[Any]:
    """The items; one that cannot be read raises JobFailed."""
    try:
        yield from items
    except TermError as error:
        raise JobFailed(f"{function} failed at term {error.term}: {error}") from None


def _write(values: Values[Any], function: str, *, skip: bool, quiet: bool) -> int:
    code = 0
    while (found := values.stretch()) is not None:
        lines: list[str] = []
        failure: tuple[str, str] | None = None
        for term, value in enumerate(found[1], found[0]):
            text, why, traceback = _line(value)
            if text is not None:
                lines.append(text)
                continue
            failure = f"{function} failed at term {term}: {why}", traceback
            if not skip:
                break
            code = PARTIAL
            if not quiet:
                say(f"left out: {failure[0]}")
        if lines:
            write("\n".join(lines))
        if failure is not None and not skip:
            if failure[1] and not quiet:
                say("the worker's traceback:", below=failure[1].removeprefix("The traceback in the worker:\n"))
            raise JobFailed(failure[0])
        if reader_left():
            break
    return code


def _line(value: Any) -> tuple[str | None, str, str]:
    """A value as JSON; or None, why there is none, and a traceback."""
    if isinstance(value, Raised):
        error = value.error
        return None, str(error) if isinstance(error, RemoteError) else told(error), notes_of(error)
    try:
        return as_json(value, _plain), "", ""
    except Exception as error:  # of the value's own methods, too
        return None, f"its value cannot be JSON: {told(error)}", ""


def _plain(value: Any) -> Any:
    """Numbers and arrays of NumPy as lists and plain numbers. Raises TypeError for anything else."""
    if hasattr(value, "tolist"):
        return built_in(value)
    raise TypeError(f"a {type(value).__name__} has no form in JSON")
