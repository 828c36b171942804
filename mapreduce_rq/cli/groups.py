"""Commands that cost nothing until they are called: a group has one line of help for each, and imports one by name.

Typer reads the signatures of functions as usual. Two things differ, both for a quick start: a group imports only the
command that was called, and options arrive as texts (see :class:`PlainCommand`). Each command reads its values itself,
such as the integer 1e9 or the time 5m.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from mapreduce_rq.errors import BadParameter, UsageError

TRUE = {"1", "true", "yes", "on", "y", "t"}
FALSE = {"", "0", "false", "no", "off", "n", "f"}


class Listed(NamedTuple):
    """A command as the help lists it."""

    summary: str
    panel: str = "Commands"


class PlainCommand(TyperCommand):
    """A command whose options and arguments arrive as texts, and its flags as booleans.

    Typer would convert them with pydantic, whose import alone takes 60 ms, and which accepts fewer forms than we do.
    """

    lone = ""
    """The parameter that a single argument is for: ``mrq compute exp 2`` means ``--x 2``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words of the command line."""
        left = super().parse_args(ctx, self._with_lone(ctx, args) if self.lone else args)
        if not ctx.resilient_parsing:
            from mapreduce_rq.cli.together import check_together  # the help of `mrq` does not need it

            check_together(ctx.params, {name for name in ctx.params if _is_word(ctx.get_parameter_source(name))})
        return left

    def _with_lone(self, ctx: Any, args: list[str]) -> list[str]:
        given, rest, _ = self.make_parser(ctx).parse_args(args=list(args))
        if not rest or self.lone in given:
            return args
        others = list(args)
        others.remove(rest[0])  # an equal text may be an option's value and go instead: the rest is the same
        return [f"--{self.lone.replace('_', '-')}={rest[0]}", *others]

    def get_params(self, ctx: Any) -> list[Any]:
        """Its options and arguments, to be parsed and to be shown."""
        return plain(super().get_params(ctx))


def _is_word(source: Any) -> bool:
    return source is not None and source.name == "COMMANDLINE"


def plain(params: list[Any]) -> list[Any]:
    """The same options and arguments, with a plain way to read them."""
    for param in params:
        param.process_value = _reader_of(param)
        if getattr(param, "is_flag", False):
            param.metavar = ""  # the word <bool> behind a flag tells a reader nothing
    return params


def _reader_of(param: Any) -> Callable[[Any, Any], Any]:
    def read(context: Any, value: Any) -> Any:
        shown = param.opts[-1] if param.param_type_name == "option" else param.metavar or param.name.upper()
        if value is None and param.required and not context.resilient_parsing:
            raise BadParameter(f"{shown} is missing: see `{context.command_path} --help`")
        if getattr(param, "is_flag", False) and isinstance(value, str):  # from the environment
            if value.lower() not in TRUE | FALSE:
                raise BadParameter(f"{param.envvar or shown} is {value!r}: say 1 or 0")
            value = value.lower() in TRUE
        if param.callback is not None:
            value = param.callback(context, param, value)
        return value

    return read


def command(
    function: Callable[..., Any], *, name: str | None = None, help_text: str | None = None, lone: str = ""
) -> TyperCommand:
    """The command of a function: its parameters are the options, its docstring is the help.

    ``lone`` is explained at :class:`PlainCommand`.
    """
    app = typer.Typer(add_completion=False)
    app.command(name, cls=PlainCommand, help=_flowing(help_text or function.__doc__ or ""))(function)
    made = typer.main.get_command(app)
    assert isinstance(made, PlainCommand)
    made.lone = lone
    return made


def _flowing(text: str) -> str:
    """A docstring with each paragraph on one line, for the terminal to wrap: Typer keeps the breaks of most lines."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in inspect.cleandoc(text).split("\n\n"))


class LazyGroup(TyperGroup):
    """A group whose subclass lists the commands, and loads the one that was called."""

    what = "command"
    """The word for its commands in errors."""

    def listed(self) -> Mapping[str, Listed]:
        """Every command with its line of help. It must import nothing."""
        raise NotImplementedError

    def load(self, name: str) -> TyperCommand:
        """The command of this name, which is listed or not. Raises UsageError."""
        raise NotImplementedError

    def get_params(self, ctx: Any) -> list[Any]:
        """Its options, to be parsed and to be shown."""
        return plain(super().get_params(ctx))

    def list_commands(self, ctx: Any) -> list[str]:
        """The names, for the help and the completion."""
        return list(self.listed())

    def get_command(self, ctx: Any, cmd_name: str) -> TyperCommand | None:
        """An empty command with the line of help: the help and the completion ask for each command."""
        found = self.listed().get(cmd_name)
        if found is None:
            return None
        return TyperCommand(cmd_name, help=escape(found.summary), rich_help_panel=found.panel)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The command that was called."""
        name = args[0]
        if ctx.resilient_parsing and name not in self.listed():
            return None, None, args[1:]  # the shell asks what it can offer: an error would only disturb the user
        if name.startswith("-"):
            raise UsageError(f"no such option: {name} (see `{ctx.command_path} --help`)")
        return name, self.load(name), args[1:]

    def unknown(self, name: str) -> UsageError:
        """The error for a name that is not listed, with the nearest one."""
        known = list(self.listed())
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
        return UsageError(f"no such {self.what}: {name!r}; {hint}")


def escape(text: str) -> str:
    """Text as Rich's markup that shows the brackets in it."""
    return text.replace("[", "\\[")
