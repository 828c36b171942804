"""`mrq run package.module:function`: a function of your own over a range, or over the records of files."""

from __future__ import annotations

import inspect
import os
import stat
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from mapreduce_rq.cli.commands.compute import PARAMETERS, lead, with_common
from mapreduce_rq.cli.completion import reducers
from mapreduce_rq.cli.folding import folding_of
from mapreduce_rq.cli.groups import command
from mapreduce_rq.cli.options import HOW, OUTPUT
from mapreduce_rq.cli.values import integer, seconds
from mapreduce_rq.core.computation import MAX_TERMS
from mapreduce_rq.core.messages import BACKOFF, RETRIES
from mapreduce_rq.core.reducers.keyed import DEFAULT_PARTS, in_parts
from mapreduce_rq.errors import BadParameter, UsageError

if TYPE_CHECKING:
    from mapreduce_rq.cli.session import Session
    from mapreduce_rq.client.client import Client
    from mapreduce_rq.core.messages import Limits

Function = Annotated[
    str,
    typer.Argument(
        metavar="MODULE:FUNCTION",
        help="The module is looked for in the current folder first, here and on the workers.",
        show_default=False,
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
        help="Call the function with each line of a file or of standard input (-), without its line break.",
        rich_help_panel=PARAMETERS,
    ),
]
FilesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--files",
        metavar="PATTERN",
        help="Call the function with each record of files that workers see: 'logs/*.gz'; several times if needed.",
        rich_help_panel=PARAMETERS,
    ),
]
Form = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="text|csv|jsonl|parquet",
        help="What a record is: a line, a dictionary by column, a JSON value. Default: by the files' names.",
        rich_help_panel=PARAMETERS,
    ),
]
Encoding = Annotated[
    str, typer.Option("--encoding", metavar="NAME", help="The encoding of text in files.", rich_help_panel=PARAMETERS)
]
Errors = Annotated[
    str,
    typer.Option(
        "--errors",
        metavar="HOW",
        help="What is done with bytes that are not text in this encoding: strict (it fails), replace, ignore or "
        "backslashreplace.",
        rich_help_panel=PARAMETERS,
    ),
]
Delimiter = Annotated[
    str | None,
    typer.Option(
        "--delimiter", metavar="CHARACTER", help="The character between the fields of CSV.", rich_help_panel=PARAMETERS
    ),
]
Whole = Annotated[
    bool,
    typer.Option(
        "--whole",
        help="Have each file read whole by one worker: for CSV with line ends in its fields.",
        rich_help_panel=PARAMETERS,
    ),
]
Ship = Annotated[
    bool,
    typer.Option(
        "--ship",
        help="Read the files here and send their lines to the workers, which do not see the files.",
        rich_help_panel=PARAMETERS,
    ),
]
Reduce = Annotated[
    str | None,
    typer.Option(
        "--reduce",
        metavar="NAME[:OPTION=VALUE,...]",
        help="How the values are folded: sum, int_sum, product, count, min, max, argmin, argmax, mean, variance, "
        "stats, histogram, counter, topk, list, concat, prefix_sums, distinct, quantiles; as in topk:k=5. "
        "Default: sum.",
        autocompletion=reducers,
        rich_help_panel=PARAMETERS,
    ),
]
ByKey = Annotated[
    list[str] | None,
    typer.Option(
        "--by-key",
        metavar="[COLUMN=]NAME[:...]",
        help="For a function that returns pairs: how the values of each key are folded, or each of their columns, "
        "as in --by-key price=mean --by-key id=distinct.",
        rich_help_panel=PARAMETERS,
    ),
]
Stream = Annotated[
    bool,
    typer.Option(
        "--stream",
        help="Fold nothing: print each value as a line of JSON, in order, as soon as it is there. The input may be "
        "endless.",
        rich_help_panel=OUTPUT,
    ),
]
Retries = Annotated[
    str,
    typer.Option(
        "--retries",
        envvar="MRQ_RETRIES",
        metavar="N",
        help="If the function raises, call it up to N times more for that term before the term counts as failed.",
        rich_help_panel=HOW,
    ),
]
Setup = Annotated[
    str | None,
    typer.Option(
        "--setup",
        metavar="MODULE:FUNCTION",
        help="A function that each worker process calls once; its value is the first argument of each call.",
        rich_help_panel=PARAMETERS,
    ),
]
Backoff = Annotated[
    str | None,
    typer.Option(
        "--backoff",
        envvar="MRQ_BACKOFF",
        metavar="SEC",
        help="With --retries: wait this long first, and twice as long each next time, an hour at most. Default: 1s.",
        rich_help_panel=HOW,
    ),
]
Top = Annotated[
    str | None,
    typer.Option(
        "--top",
        metavar="N",
        help="With --by-key: print only the N keys with the largest results.",
        rich_help_panel=PARAMETERS,
    ),
]
Parts = Annotated[
    str | None,
    typer.Option(
        "--parts",
        metavar="N",
        help="With --by-key and --out FOLDER/: how many files to write, a power of two. Default: 64.",
        rich_help_panel=PARAMETERS,
    ),
]
PartForm = Annotated[
    str | None,
    typer.Option(
        "--parts-format",
        metavar="jsonl|parquet",
        help="What these files are: JSON Lines, or Parquet by pyarrow. Default: jsonl.",
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
            ("files", None, FilesOption),
            ("format", None, Form),
            ("encoding", "utf-8", Encoding),
            ("errors", "strict", Errors),
            ("delimiter", None, Delimiter),
            ("whole", False, Whole),
            ("ship", False, Ship),
            ("reduce", None, Reduce),
            ("by_key", None, ByKey),
            ("top", None, Top),
            ("parts", None, Parts),
            ("parts_format", None, PartForm),
            ("stream", False, Stream),
            ("setup", None, Setup),
            ("retries", "0", Retries),
            ("backoff", None, Backoff),
        )
    ]
    return command(with_common(run, own), name="run", help_text=run.__doc__)


def run(
    *,
    function: str,
    terms: str | None,
    lines: str | None,
    files: list[str] | None,
    reduce: str | None,
    by_key: list[str] | None,
    top: str | None,
    parts: str | None,
    parts_format: str | None,
    stream: bool,
    setup: str | None,
    retries: str,
    backoff: str | None,
    **rest: Any,
) -> int:
    """Run a function of your own over a range, or over the records of files, and print the folded result.

    The result is the same to the last bit for any number of workers. On a queue whose messages are not signed, workers
    run only the functions that they were started for: `mrq worker --allow MODULE`.
    """
    sources = {"--terms": terms, "--lines": lines, "--files": files or None}
    named = [name for name, value in sources.items() if value is not None]
    if not named:
        raise UsageError("say what to call the function with: --terms N, --lines FILE or --files PATTERN")
    if len(named) > 1:
        raise UsageError(
            f"{' and '.join(named)} were given, and the arguments come from one of them: leave out the others"
        )
    how = {name: rest.pop(name) for name in ("format", "encoding", "errors", "delimiter", "whole", "ship")}
    if terms is not None:
        _refuse(how, "--terms")
    if stream:
        given = {"reduce": reduce, "by_key": by_key, "top": top, "parts": parts, "parts_format": parts_format}
        _refuse_folding(given | {name: rest[name] for name in ("out", "rel_tol", "abs_tol", "deadline", "detach")})
        how["ship"] = how["ship"] or files is not None
    again = _again(retries, backoff)
    folding = folding_of(reduce, by_key, top)
    folder = None
    if by_key and (out := rest["out"]) is not None and (out.endswith("/") or os.path.isdir(out)):
        from mapreduce_rq.client.part_folder import PartFolder  # with the reducers, as below

        folder = PartFolder(rest.pop("out"))
        form, number = parts_format or "jsonl", DEFAULT_PARTS if parts is None else integer("--parts", parts, 1)
        folding["reduce"] = in_parts(folding["reduce"], number, form)
    elif parts is not None or parts_format is not None:
        raise UsageError("--parts and --parts-format go with --by-key and --out FOLDER/, which writes a file a part")
    items = _items(terms, lines, files, how)
    act = _streaming(function, items, setup) if stream else None

    def plan(client: Client, limits: Limits) -> Any:
        detached = bool(rest.get("detach"))
        if detached and lines == "-":
            raise UsageError("--detach: the lines of a stream come from this process: save them in a file, and name it")
        return client.planner.function(
            function, items(client), limits=limits, detached=detached, setup=setup, **folding
        )

    from mapreduce_rq.functions.trust import well_named  # with the client, as below

    total = None if terms is None else _number_of(terms)
    return lead(
        function.rpartition(":")[2],
        plan,
        tuple(well_named(name) for name in (function, setup) if name),
        total,
        folder,
        act=act,
        **again,
        **rest,
    )


def _streaming(function: str, items: Callable[[Client], Any], setup: str | None) -> Callable[[Session, Limits], int]:
    """What leads the job of `--stream`."""
    from mapreduce_rq.cli.json_lines import write_values  # not needed for a folded result

    return lambda session, limits: write_values(session, function, items, limits, setup)


def _refuse_folding(given: dict[str, Any]) -> None:
    """Raises UsageError for an option that is about one folded result, where values come one by one."""
    for name, value in given.items():
        if value:
            option = f"--{name.replace('_', '-')}"
            raise UsageError(f"{option} is about one result, and --stream prints each value: give one of them")


def _again(retries: str, backoff: str | None) -> dict[str, Any]:
    """How often, and after how long, a term is tried again. Raises UsageError."""
    number = integer("--retries", retries, int(RETRIES.ge or 0), int(RETRIES.le or 0))
    if backoff is None:
        return {"retries": number}
    if not number:
        raise UsageError("--backoff says how long to wait before a term is tried again: give --retries, too")
    wait = seconds("--backoff", backoff, zero=True)
    if wait > float(BACKOFF.le or 0):
        raise BadParameter(f"--backoff: {backoff!r} is too long: an hour at most")
    return {"retries": number, "backoff": wait}


_DEFAULTS = {"encoding": "utf-8", "errors": "strict"}


def _refuse(how: dict[str, Any], option: str) -> None:
    """Raises UsageError for an option that says how files are read, where there are none."""
    for name, value in how.items():
        if value not in {_DEFAULTS.get(name), None, False}:
            raise UsageError(f"--{name} says how files are read, and {option} needs none")


def _number_of(terms: str) -> int:
    return integer("--terms", terms, 0, MAX_TERMS)


def _items(
    terms: str | None, lines: str | None, files: list[str] | None, how: dict[str, Any]
) -> Callable[[Client], Any]:
    """What the function is called with, once it is known where the workers are. Raises UsageError."""
    if terms is not None:
        number = _number_of(terms)
        return lambda _: range(number)
    from mapreduce_rq.files.files import Files, Stream  # 10 ms, and only for them

    if files is not None:
        found = Files(*files, **how)
        return lambda _: found
    if not lines:
        raise UsageError("--lines: the name of the file is empty")
    try:
        file = open(0 if lines == "-" else lines, "rb", buffering=0, closefd=lines != "-")  # noqa: SIM115  the job's
        regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
    except OSError as error:
        raise UsageError(f"--lines: cannot read {lines}: {error.strerror}") from None
    except ValueError:  # zero bytes, or halves of characters that stand for no byte
        raise UsageError(f"--lines: {lines!a} cannot be the name of a file") from None
    how["format"] = how["format"] or "text"
    name = lines
    if lines == "-" or not regular or how.pop("ship"):
        how.pop("ship", None)
        stream = Stream(name, file, **how)
        return lambda _: stream
    with file:  # the workers of a private server see what this process sees
        return lambda client: Files(name, **how, ship=not client.embedded and not how["whole"])
