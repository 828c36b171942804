"""`mrq compute NAME`: each computation is a command of its own, whose options are the computation's parameters."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
import typer
from typer.core import TyperCommand

from mapreduce_rq.cli.groups import LazyGroup, Listed, command, escape
from mapreduce_rq.cli.options import (
    HOW,
    OUTPUT,
    RQ_QUEUE,
    WHERE,
    AnyUrl,
    Collect,
    Json,
    KeyFile,
    Local,
    OnRq,
    Out,
    Output,
    PerTerm,
    Queue,
    Quiet,
    RqQueue,
    local_workers,
    over_pipes,
    required,
    rq_workers,
)
from mapreduce_rq.cli.out_file import OutFile
from mapreduce_rq.cli.screen.output import FORMATS
from mapreduce_rq.cli.session import Plan, Session, Show, Where
from mapreduce_rq.cli.streams import aside
from mapreduce_rq.cli.values import choice, integer, seconds, tolerance
from mapreduce_rq.client.environment import DEFAULT_QUEUE
from mapreduce_rq.computations import CATALOGUE, load
from mapreduce_rq.core.computation import MAX_TERMS, Computation
from mapreduce_rq.core.messages import Limits
from mapreduce_rq.core.plugins import COMPUTATIONS, offered
from mapreduce_rq.errors import UsageError

PARAMETERS = "Parameters"


class ComputeGroup(LazyGroup):
    """The computations."""

    what = "computation"

    def listed(self) -> Mapping[str, Listed]:
        """The computations of the catalogue, and those of other distributions, which are known by name only."""
        found = {name: Listed(summary, "Computations") for name, (_, summary) in CATALOGUE.items()}
        for name, package in offered(COMPUTATIONS).items():
            found.setdefault(name, Listed(f"from the package {package}", "Computations"))
        return found

    def load(self, name: str) -> TyperCommand:
        """The command of a computation. Raises UnknownComputation with the nearest name."""
        return command_of(name)


def group() -> TyperCommand | ComputeGroup:
    """`mrq compute`."""
    app = typer.Typer(
        name="compute",
        cls=ComputeGroup,
        no_args_is_help=True,
        add_completion=False,
        subcommand_metavar="NAME [OPTIONS]...",
    )

    @app.callback()
    def compute() -> None:
        """Run a computation and print its result.

        Without a URL it runs on a private server with local workers; with a URL, on the workers that run there.
        """

    made = typer.main.get_command(app)
    assert isinstance(made, ComputeGroup)
    return made


def lead(
    label: str,
    plan: Plan,
    allow: tuple[str, ...] = (),
    total: int | None = None,
    folder: Any = None,
    *,
    act: Callable[[Session, Limits], int] | None = None,
    retries: int = 0,
    backoff: float = 1.0,
    url: AnyUrl = None,
    local: Local = None,
    collect: Collect = None,
    per_term: PerTerm = False,
    on_rq: OnRq = None,
    rq_queue: RqQueue = RQ_QUEUE,
    queue: Queue = DEFAULT_QUEUE,
    key_file: KeyFile = None,
    wait_workers: Annotated[
        str | None,
        typer.Option(
            "--wait-workers",
            envvar="MRQ_WAIT_WORKERS",
            metavar="SEC",
            help="Give up (exit code 75) if no worker comes within this time. Default: wait.",
            rich_help_panel=WHERE,
        ),
    ] = None,
    chunk: Annotated[
        str,
        typer.Option(
            "--chunk",
            envvar="MRQ_CHUNK",
            metavar="N|auto",
            help="Terms per task. auto: chosen from the measured speed, large first and small at the end.",
            rich_help_panel=HOW,
        ),
    ] = "auto",
    deadline: Annotated[
        str | None,
        typer.Option(
            "--deadline",
            envvar="MRQ_DEADLINE",
            metavar="SEC",
            help="End after this time with what is counted (exit code 124).",
            rich_help_panel=HOW,
        ),
    ] = None,
    on_error: Annotated[
        str,
        typer.Option(
            "--on-error",
            envvar="MRQ_ON_ERROR",
            metavar="fail|skip",
            help="A term that fails ends the job (fail), or is left out and listed (skip, exit code 3).",
            rich_help_panel=HOW,
        ),
    ] = "fail",
    task_timeout: Annotated[
        str | None,
        typer.Option(
            "--task-timeout",
            envvar="MRQ_TASK_TIMEOUT",
            metavar="SEC",
            help="Kill a worker that takes longer for one task. Default: no limit.",
            rich_help_panel=HOW,
        ),
    ] = None,
    rel_tol: Annotated[
        str | None,
        typer.Option(
            "--rel-tol",
            envvar="MRQ_REL_TOL",
            metavar="TOL",
            help="Stop when the error is at most this share of the value. For computations that know their error.",
            rich_help_panel=HOW,
        ),
    ] = None,
    abs_tol: Annotated[
        str | None,
        typer.Option(
            "--abs-tol",
            envvar="MRQ_ABS_TOL",
            metavar="TOL",
            help="Stop when the error is at most this number. For computations that know their error.",
            rich_help_panel=HOW,
        ),
    ] = None,
    allow_mixed: Annotated[
        bool,
        typer.Option(
            "--allow-mixed",
            envvar="MRQ_ALLOW_MIXED",
            help="Accept workers whose exp, log and similar functions differ in the last bit.",
            rich_help_panel=HOW,
        ),
    ] = False,
    urgent: Annotated[
        bool,
        typer.Option(
            "--urgent",
            envvar="MRQ_URGENT",
            help="Have its tasks go before those of other jobs. Workers first finish the tasks that they have.",
            rich_help_panel=HOW,
        ),
    ] = False,
    keep: Annotated[
        str,
        typer.Option(
            "--keep",
            envvar="MRQ_KEEP",
            metavar="SEC",
            help="How long Redis keeps the result.",
            rich_help_panel=HOW,
        ),
    ] = "1d",
    logs: Annotated[
        bool,
        typer.Option(
            "--logs",
            envvar="MRQ_LOGS",
            help="Show on standard error what functions print and log: each line with its worker and term.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    detach: Annotated[
        bool,
        typer.Option(
            "--detach",
            help="Queue it for an `mrq master` to lead, print its id, and return. See `mrq result --wait`.",
            rich_help_panel=HOW,
        ),
    ] = False,
    output: Output = "text",
    json: Json = False,
    out: Out = None,
    quiet: Quiet = False,
) -> int:
    """Lead a job with the options that all such commands share, and return the exit code.

    ``folder``: a PartFolder for a value in parts, instead of the file ``out``. ``act``: leads the job in place of
    ``Session.lead``.
    """
    where_to, one_each = over_pipes(url, collect, total, per_term=per_term)
    where = Where(
        url=where_to,
        queue=queue,
        local=local_workers(local, url) if one_each is None else one_each,
        on_rq=rq_workers(on_rq, url),
        rq_queue=rq_queue,
        key_file=key_file,
        wait_workers=None if wait_workers is None else seconds("--wait-workers", wait_workers, zero=True),
        allow=allow,
    )
    limits = Limits(
        retries=retries,
        backoff=backoff,
        chunk=1 if per_term else None if chunk == "auto" else integer("--chunk", chunk, 1, MAX_TERMS, word="auto"),
        deadline=None if deadline is None else seconds("--deadline", deadline),
        on_error=choice("--on-error", on_error, ("fail", "skip")),  # type: ignore[arg-type]  # one of the two
        task_timeout=None if task_timeout is None else seconds("--task-timeout", task_timeout),
        rel_tol=None if rel_tol is None else tolerance("--rel-tol", rel_tol),
        abs_tol=None if abs_tol is None else tolerance("--abs-tol", abs_tol),
        allow_mixed=allow_mixed,
        urgent=urgent,
        keep=max(1, round(seconds("--keep", keep))),
        logs=logs,
    )
    target = folder if folder is not None else None if out is None else OutFile(out)
    show = Show("json" if json else choice("--output", output, FORMATS), quiet, target)
    if detach:
        required(url, "... --detach")
        for option, given in (
            ("--out", out or folder),
            ("--local", local),
            ("--on-rq", on_rq),
            ("--wait-workers", wait_workers),
            ("--logs", logs or None),
        ):
            if given is not None:
                raise UsageError(f"--detach returns at once: {option} needs a command that stays")
        return Session(where, show).detach(plan, limits)
    session = Session(where, show)
    return session.lead(label, plan, limits) if act is None else act(session, limits)


def command_of(name: str) -> TyperCommand:
    """The command of one computation. Raises UnknownComputation."""
    with aside():  # it may come from another distribution, whose module prints
        kind = load(name)
    fields = {field.name: field for field in msgspec.structs.fields(kind.Params)}

    def compute(**given: Any) -> int:
        params = {field: _value(field, fields[field].type, given.pop(field, None)) for field in fields}
        params = {field: value for field, value in params.items() if value is not None}
        made = kind.create(params)  # a mistake in the parameters is reported before anything is started
        total = made.total
        return lead(
            name, lambda client, limits: (*client.planner.computation(name, params, limits), None), (), total, **given
        )

    own = [option_of(field, positional=field.name == kind.positional) for field in fields.values() if shown(field)]
    needed = [field.name for field in fields.values() if field.required]
    lone = needed[0] if len(needed) == 1 and not kind.positional else ""
    return command(with_common(compute, own), name=name, help_text=help_of(kind), lone=lone)


def with_common(function: Callable[..., int], own: Sequence[inspect.Parameter]) -> Callable[..., int]:
    """The function with a signature for Typer to read: its own options, then those of every job."""
    common = list(inspect.signature(lead, eval_str=True).parameters.values())[8:]
    function.__signature__ = inspect.Signature([*own, *common])  # type: ignore[attr-defined]
    function.__annotations__ = {}
    return function


def help_of(kind: type[Computation[Any]]) -> str:
    """The help of a computation: the docstring of its class."""
    return escape((kind.__doc__ or kind.summary).replace("``", "`"))


class Shape(typing.NamedTuple):
    """A parameter's type without ``Annotated`` and ``| None``, and what those said."""

    base: Any  # int, float, str, bool, or a Literal
    description: str
    least: Any
    most: Any


def shape_of(annotation: Any) -> Shape:
    """The type, the description and the range in an annotation such as ``Annotated[int, Meta(...)] | None``."""
    description, least, most = "", None, None
    while True:
        if typing.get_origin(annotation) is Annotated:
            annotation, *extras = typing.get_args(annotation)
            for meta in extras:
                if isinstance(meta, msgspec.Meta):
                    description = meta.description or description
                    least = meta.ge if least is None else least
                    most = meta.le if most is None else most
        elif typing.get_origin(annotation) in {typing.Union, types.UnionType}:
            (annotation,) = (one for one in typing.get_args(annotation) if one is not type(None))
        else:
            return Shape(annotation, description, least, most)


def shown(field: Any) -> bool:
    """Whether a parameter is an option for people. Lists are filled in by the plan, except the positional one."""
    return typing.get_origin(shape_of(field.type).base) is not list or field.required


def option_of(field: Any, *, positional: bool) -> inspect.Parameter:
    """The option or argument of one parameter. Typer shows its type and range; :func:`_value` reads it."""
    shape = shape_of(field.type)
    flag = "--" + field.name.replace("_", "-")
    metavar = None
    base: Any = shape.base
    if typing.get_origin(base) is Literal:
        base, metavar = str, "|".join(typing.get_args(base))
    default = inspect.Parameter.empty if field.required else field.default
    if positional:
        how: Any = typer.Argument(
            metavar=metavar or field.name.upper(),
            help=escape(shape.description),
            show_default=not field.required,
        )
        return inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[base, how]
        )
    how = typer.Option(
        f"{flag}/--no-{flag[2:]}" if base is bool else flag,
        min=shape.least,
        max=shape.most,
        metavar=metavar,
        help=escape(shape.description),
        show_default=field.default not in {msgspec.NODEFAULT, None},
        rich_help_panel=PARAMETERS,
    )
    return inspect.Parameter(
        field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[base, how]
    )


def _value(name: str, annotation: Any, given: Any) -> Any:
    """A parameter's value in the form that its computation takes."""
    shape = shape_of(annotation)
    if shape.base is int and isinstance(given, str):
        return integer("--" + name.replace("_", "-"), given, shape.least, shape.most)
    return given
