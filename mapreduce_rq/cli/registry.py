"""The list of commands, each with the function behind it, and how one is called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Annotated, NamedTuple

import typer
from typer.core import TyperCommand

from mapreduce_rq.cli.groups import LazyGroup, Listed, command
from mapreduce_rq.cli.interrupts import Signalled
from mapreduce_rq.cli.streams import finish_output, forgive, say, write
from mapreduce_rq.errors import MrqError, UsageError, brief
from mapreduce_rq.version import __version__

CTRL_C = 130
ABOUT_COMPLETION = {"--show-completion", "--install-completion"}


class Behind(NamedTuple):
    """A command: its module, and the function in it. A module with a ``group`` makes its command itself."""

    module: str
    summary: str
    panel: str
    function: str = ""


COMPUTE, WATCH, STEER, SET_UP = "Compute", "Watch", "Steer", "Set up"

COMMANDS = {
    "compute": Behind("commands.compute", "Run a computation and print its result.", COMPUTE),
    "run": Behind(
        "commands.run",
        "Run a function of your own over a range, or over the records of files, and print the folded result.",
        COMPUTE,
    ),
    "term": Behind("commands.term", "Print one term of a series, exactly.", COMPUTE),
    "worker": Behind("commands.worker", "Run workers until told to stop.", COMPUTE),
    "master": Behind(
        "commands.control",
        "Lead jobs until told to stop: those submitted with --detach, and each whose master dies or lets go.",
        COMPUTE,
    ),
    "dashboard": Behind("commands.dashboard", "Watch jobs and workers, live.", WATCH),
    "web": Behind("commands.web", "Serve a web page of jobs and workers, live, until told to stop.", WATCH),
    "status": Behind("commands.status", "Show the state of the queue, or of one job.", WATCH),
    "jobs": Behind("commands.status", "List the jobs: what each is, who submitted it and who leads it.", WATCH),
    "workers": Behind("commands.status", "List the workers.", WATCH),
    "queues": Behind(
        "commands.status",
        "List the queues on the server: what waits there, what workers have in hand, and how many jobs run.",
        WATCH,
    ),
    "metrics": Behind("commands.metrics", "Serve the queue's metrics for Prometheus, until told to stop.", WATCH),
    "events": Behind("commands.events", "Print what happened to jobs, as one JSON object on each line.", WATCH),
    "report": Behind(
        "commands.report",
        "Write a page about a job that has ended: its result, and what each worker did at which time.",
        WATCH,
    ),
    "trace": Behind(
        "commands.report", "Write what each worker of an ended job did at which time, for Perfetto.", WATCH
    ),
    "result": Behind("commands.status", "Print the result of a job that has ended, as `mrq compute` prints it.", WATCH),
    "attach": Behind("commands.control", "Watch a job to its end and print its result.", STEER),
    "resume": Behind(
        "commands.control", "Continue a job whose master is gone, from what is counted, and print its result.", STEER
    ),
    "cancel": Behind("commands.control", "Cancel a job, whether or not it has a master.", STEER),
    "retry": Behind(
        "commands.control", "Queue a failed or cancelled job anew, from what it has counted, and print its id.", STEER
    ),
    "purge": Behind("commands.control", "Delete the records of jobs that have ended.", STEER),
    "doctor": Behind("commands.doctor", "Find out what is wrong, and say what helps.", SET_UP),
    "key": Behind("commands.key", "Print a new signing key.", SET_UP),
    "acl": Behind("commands.acl", "Print a file with users of the server, for masters, workers and viewers.", SET_UP),
}


ELSEWHERE = {
    "submit": "--detach submits a job and returns: mrq compute NAME … --detach | mrq run MODULE:FUNCTION … --detach",
    "standby": "`mrq master` leads every job that has no master",
}
"""Names that people may try, and the command that does it here."""


class Main(LazyGroup):
    """All commands."""

    def listed(self) -> Mapping[str, Listed]:
        """The commands of COMMANDS."""
        return {name: Listed(behind.summary, behind.panel) for name, behind in COMMANDS.items()}

    def load(self, name: str) -> TyperCommand:
        """The command, imported now."""
        if name in ELSEWHERE:
            raise UsageError(f"no such command: {name!r}; {ELSEWHERE[name]}")
        if name not in COMMANDS:
            raise self.unknown(name)
        behind = COMMANDS[name]
        module = import_module(f"mapreduce_rq.cli.{behind.module}")
        if hasattr(module, "group"):
            made: TyperCommand = module.group()
            return made
        return command(getattr(module, behind.function or name), name=name)


def main_group() -> Main:
    """`mrq` itself."""
    app = typer.Typer(cls=Main, no_args_is_help=True, context_settings={"help_option_names": ["-h", "--help"]})

    @app.callback()
    def mrq(
        version: Annotated[
            bool, typer.Option("-V", "--version", help="Print the version.", is_eager=True, callback=_print_version)
        ] = False,
    ) -> None:
        """Map-reduce for people who already have Redis: many processes compute, and one exact result comes back."""

    made = typer.main.get_command(app)
    assert isinstance(made, Main)
    return made


def _print_version(value: bool) -> None:
    if value:
        write(f"mrq {__version__}")
        raise typer.Exit


def invoke(arguments: Sequence[str]) -> int:
    """Call a command and return the exit code. An error is one line on standard error."""
    forgive()
    try:
        if arguments and arguments[0].partition("=")[0] in ABOUT_COMPLETION:
            from mapreduce_rq.cli.completion import set_up  # with Typer's scripts for shells

            return set_up(arguments)
        code = main_group().main(args=list(arguments), prog_name="mrq", standalone_mode=False)
        finish_output()  # help is printed, and not flushed
    except Signalled as signalled:
        return signalled.exit_code
    except typer.TyperException as error:
        if text := " ".join(error.format_message().split()):
            context = getattr(error, "ctx", None)
            hint = f" (see `{context.command_path} --help`)" if context is not None else ""
            if "extra argument" in text and "-q" in arguments:
                hint = f": -q is --quiet, and --queue NAME names a queue{hint}"
            say(brief(f"{text[0].lower()}{text[1:]}{hint}"))
        return error.exit_code
    except MrqError as error:
        say(" ".join(str(error).split()))
        return error.exit_code
    except typer.Abort:
        return CTRL_C
    return code if isinstance(code, int) else 0
