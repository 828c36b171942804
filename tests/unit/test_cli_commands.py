"""Every command and option has help, stands in docs/commands.md, and says the same wherever it is said."""

from __future__ import annotations

import inspect
import itertools
import typing
from typing import Any

import msgspec
import pytest
from typer.core import TyperCommand, TyperOption

from mapreduce_rq.cli.app import main
from mapreduce_rq.cli.commands import compute
from mapreduce_rq.cli.registry import COMMANDS, Main, main_group
from mapreduce_rq.computations import CATALOGUE, load
from tests.support.servers import ROOT

PAGE = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")


def every_command() -> list[tuple[str, Any]]:
    main = main_group()
    found: list[tuple[str, Any]] = [("mrq", main)]
    for name in COMMANDS:
        made = main.load(name)
        found.append((f"mrq {name}", made))
        if isinstance(made, compute.ComputeGroup):
            found += [(f"mrq {name} {one}", made.load(one)) for one in CATALOGUE]
    return found


EVERY_COMMAND = every_command()


@pytest.mark.parametrize(("path", "command"), EVERY_COMMAND, ids=[path for path, _ in EVERY_COMMAND])
def test_every_command_and_option_has_help(path: str, command: TyperCommand) -> None:
    assert command.help
    assert command.help.strip()
    for param in command.params:
        assert getattr(param, "help", None), f"{path} {param.opts}"


@pytest.mark.parametrize("path", [path for path, _ in EVERY_COMMAND])
def test_on_80_columns_a_help_is_whole_and_its_lines_are_full(
    path: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main([*path.split()[1:], "--help"]) == 0
    shown = capsys.readouterr().out
    assert "…" not in shown
    prose = [line.strip() for line in shown.partition("╭")[0].splitlines()]
    for line, after in itertools.pairwise(prose):
        assert not (line and after) or len(f" {line} {after.split()[0]}") > 79, line


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_stands_in_the_docs(name: str) -> None:
    assert f"mrq {name}" in PAGE


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_computation_stands_in_the_docs(name: str) -> None:
    assert f"mrq compute {name}" in PAGE or f"`{name}`" in PAGE


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_the_command_says(name: str) -> None:
    command = main_group().load(name)
    assert command.help
    first, *_ = command.help.replace("\n", " ").split(". ")
    assert COMMANDS[name].summary == first.strip().rstrip(".").partition(".  ")[0] + "."


@pytest.mark.parametrize("name", CATALOGUE)
def test_the_list_of_computations_says_what_the_computation_says(name: str) -> None:
    assert CATALOGUE[name][1] == load(name).summary


@pytest.mark.parametrize("name", CATALOGUE)
def test_a_computations_parameters_are_its_options_and_its_argument(name: str) -> None:
    kind = load(name)
    params = compute.command_of(name).params
    own = {
        param.name: param
        for param in params
        if not isinstance(param, TyperOption) or param.rich_help_panel == compute.PARAMETERS
    }
    arguments = [param.name for param in params if not isinstance(param, TyperOption)]
    assert arguments == ([kind.positional] if kind.positional else [])
    fields = {field.name: field for field in msgspec.structs.fields(kind.Params) if compute.shown(field)}
    assert list(own) == list(fields)
    for field in fields.values():
        assert own[field.name].required == field.required
    common = {param for param in inspect.signature(compute.lead).parameters if param not in {"label", "plan"}}
    assert not common & own.keys(), "these would hide an option that all computations have"


class Every(msgspec.Struct, kw_only=True):
    """One parameter of each kind."""

    count: typing.Annotated[int, msgspec.Meta(ge=1, le=9, description="how many")]
    which: typing.Annotated[typing.Literal["a", "b"], msgspec.Meta(description="one of two")] = "a"
    exact: typing.Annotated[bool, msgspec.Meta(description="or not")] = False
    width: typing.Annotated[float, msgspec.Meta(description="how wide [metres]")] | None = None


def test_the_types_and_ranges_of_parameters() -> None:
    shapes = {field.name: compute.shape_of(field.type) for field in msgspec.structs.fields(Every)}
    assert shapes["count"] == (int, "how many", 1, 9)
    assert shapes["exact"] == (bool, "or not", None, None)
    assert shapes["width"] == (float, "how wide [metres]", None, None)
    assert typing.get_args(shapes["which"].base) == ("a", "b")


def test_no_two_options_of_a_command_share_a_flag_or_a_variable() -> None:
    for path, command in EVERY_COMMAND:
        flags = [flag for param in command.params for flag in (*param.opts, *param.secondary_opts)]
        assert len(flags) == len(set(flags)), path
        variables = [param.envvar for param in command.params if isinstance(param.envvar, str)]
        assert len(variables) == len(set(variables)), path


def test_a_flag_means_the_same_everywhere() -> None:
    meanings: dict[str, dict[str, set[str]]] = {}
    for path, command in EVERY_COMMAND:
        for param in command.params:
            if isinstance(param, TyperOption) and param.rich_help_panel != compute.PARAMETERS:
                for flag in param.opts:
                    meanings.setdefault(flag, {}).setdefault(param.opts[-1], set()).add(path)
    several = {flag: names for flag, names in meanings.items() if len(names) > 1}
    # A page or a trace is only ever a file, as in `cc -o`: these two have no forms of a result to choose from.
    assert several.keys() == {"-o"}
    assert several["-o"].keys() == {"--out", "--output"}
    assert several["-o"]["--out"] == {"mrq report", "mrq trace"}


def test_every_option_with_a_value_can_come_from_the_environment() -> None:
    for path, command in EVERY_COMMAND:
        for param in command.params:
            if not isinstance(param, TyperOption) or param.rich_help_panel == compute.PARAMETERS or param.is_flag:
                continue
            variables = [param.envvar] if isinstance(param.envvar, str) else list(param.envvar or ())
            assert variables, f"{path} {param.opts}"
            assert variables[0] == "MRQ_" + param.opts[-1][2:].upper().replace("-", "_"), f"{path} {param.opts}"


def test_the_main_group_lists_what_it_loads() -> None:
    main = main_group()
    assert isinstance(main, Main)
    assert main.list_commands(None) == list(COMMANDS)
