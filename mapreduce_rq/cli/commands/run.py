"""`mrq run package.module:function`: a function of your own over a range, or over the lines of a file."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from mapreduce_rq.cli.commands.compute import PARAMETERS, lead, with_common
from mapreduce_rq.cli.completion import reducers
from mapreduce_rq.cli.groups import command
from mapreduce_rq.cli.values import integer
from mapreduce_rq.core.computation import MAX_TERMS
from mapreduce_rq.errors import BadParameter, UsageError

if TYPE_CHECKING:
    from mapreduce_rq.client.client import Client
    from mapreduce_rq.core.messages import Limits

Function = Annotated[
    str,
    typer.Argument(
        metavar="MODULE:FUNCTION", help="Searched from the current folder, here and on the workers.", show_default=False
    ),
]
Terms = Annotated[
    str | None,
    typer.Option("--terms", metavar="N", help="Call the function with 0, 1, ... N-1.", rich_help_panel=PARAMETERS),
]
Lines = Annotated[
    str | None,
    typer.Option(
        "--lines",
        metavar="FILE|-",
        help="Call the function with each line of a UTF-8 file or of standard input (-), without its line break.",
        rich_help_panel=PARAMETERS,
    ),
]
Reduce = Annotated[
    str,
    typer.Option(
        "--reduce",
        metavar="NAME[:OPTION=VALUE,...]",
        help="How the values are folded: sum, int_sum, product, count, min, max, argmin, argmax, mean, variance, "
        "stats, histogram, counter, topk, list, concat, prefix_sums, distinct, quantiles; as in topk:k=5.",
        autocompletion=reducers,
        rich_help_panel=PARAMETERS,
    ),
]


def group() -> TyperCommand:
    """`mrq run`."""
    own = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, default, annotation in (
            ("function", inspect.Parameter.empty, Function),
            ("terms", None, Terms),
            ("lines", None, Lines),
            ("reduce", "sum", Reduce),
        )
    ]
    return command(with_common(run, own), name="run", help_text=run.__doc__)


def run(*, function: str, terms: str | None, lines: str | None, reduce: str, **common: Any) -> int:
    """Run a function of your own over a range, or over the lines of a file, and print the folded result.

    The result is the same to the last bit for any number of workers. On a queue whose messages are not signed, workers
    run only the functions that they were started for: `mrq worker --allow MODULE`.
    """
    if (terms is None) == (lines is None):
        raise UsageError("say what to call the function with: either --terms N or --lines FILE")
    items: Iterable[Any]
    items = range(integer("--terms", terms, 0, MAX_TERMS)) if terms is not None else lines_of(lines or "-")
    name, options = reducer_of(reduce)

    def plan(client: Client, limits: Limits) -> Any:
        return client.plan_function(function, items, reduce=name, options=options, limits=limits)

    return lead(function.rpartition(":")[2], plan, (function,), **common)


def reducer_of(text: str) -> tuple[str, dict[str, Any]]:
    """``topk:k=5`` as a name and its options; lists are written ``0.1/0.5/0.9``. Raises BadParameter."""
    name, _, rest = text.partition(":")
    options = {}
    for part in filter(None, rest.split(",")):
        option, equals, value = part.partition("=")
        if not equals:
            raise BadParameter(f"--reduce: {part!r} is not OPTION=VALUE")
        numbers = [_number(piece) for piece in value.split("/")]
        options[option.strip()] = numbers if "/" in value else numbers[0]
    return name, options


def _number(text: str) -> int | float:
    try:
        number = float(text)
        return int(text) if text.strip().lstrip("+-").isdigit() else int(number) if number.is_integer() else number
    except ValueError:
        raise BadParameter(f"--reduce: {text!r} is not a number") from None


def lines_of(path: str) -> Iterator[str]:
    """The lines of a file or of standard input, read as they are needed. Raises UsageError."""
    try:
        # Standard input is opened here, too: sys.stdin would turn bytes that are no text into text.
        file = open(0 if path == "-" else path, encoding="utf-8-sig", newline="\n", closefd=path != "-")  # noqa: SIM115
    except OSError as error:
        raise UsageError(f"--lines: cannot read {path}: {error.strerror}") from None
    return _lines(file, path)


def _lines(file: Any, path: str) -> Iterator[str]:
    try:
        for line in file:
            yield line.rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise UsageError(f"--lines: {path} is not UTF-8 text: {error.reason}") from None
    finally:
        file.close()
