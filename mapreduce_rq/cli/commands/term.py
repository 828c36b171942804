"""`mrq term NAME --k K`: one term of a series on its own, exactly, as the ancestor's worker printed it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
import typer
from typer.core import TyperCommand

from mapreduce_rq.cli.commands.compute import PARAMETERS, option_of
from mapreduce_rq.cli.groups import LazyGroup, Listed, command
from mapreduce_rq.cli.streams import write
from mapreduce_rq.cli.values import integer
from mapreduce_rq.computations import CATALOGUE, load
from mapreduce_rq.core.numbers.integers import digits

SERIES = ("exp", "sum")
"""The computations whose terms are fractions."""
MOST = 100_000
"""Its digits are those of k!, about half a million."""


class TermGroup(LazyGroup):
    """The series."""

    what = "series"

    def listed(self) -> Mapping[str, Listed]:
        """Those of SERIES."""
        return {name: Listed(CATALOGUE[name][1], "Series") for name in SERIES}

    def load(self, name: str) -> TyperCommand:
        """The command of a series. Raises UsageError with the nearest name."""
        if name not in SERIES:
            raise self.unknown(name)
        return command_of(name)


def group() -> TyperCommand | TermGroup:
    """`mrq term`."""
    app = typer.Typer(
        name="term", cls=TermGroup, no_args_is_help=True, add_completion=False, subcommand_metavar="NAME --k K"
    )

    @app.callback()
    def term() -> None:
        """Print one term of a series, exactly.

        It is computed here, in this process: what a worker does for one term, to be looked at or used in a pipe.
        """

    made = typer.main.get_command(app)
    assert isinstance(made, TermGroup)
    return made


def command_of(name: str) -> TyperCommand:
    """The command of one series."""
    kind = load(name)
    fields = {field.name: field for field in msgspec.structs.fields(kind.Params) if field.name in kind.term_params}

    def term(*, k: str, **given: Any) -> None:
        number = integer("--k", k, 0, MOST)
        num, den = kind.create(given).term(number)
        sign = "-" * (num < 0)
        write(f"{sign}{digits(abs(num))}" + (f"/{digits(den)}" if den != 1 else ""))

    own = [option_of(field, positional=field.name == kind.positional) for field in fields.values()]
    k = typer.Option("--k", metavar="K", help="Which term, from 0 on.", rich_help_panel=PARAMETERS)
    own.append(inspect.Parameter("k", inspect.Parameter.KEYWORD_ONLY, annotation=Annotated[str, k]))
    term.__signature__ = inspect.Signature(own)  # type: ignore[attr-defined]
    term.__annotations__ = {}
    return command(term, name=name, help_text=f"Print one term of {name}, exactly, as a fraction.")
