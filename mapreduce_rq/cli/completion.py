"""What the shell offers after TAB: job ids of the queue, reducers. Errors are not shown: the user is still typing.

``--show-completion`` and ``--install-completion`` of Typer take no shell, and look for one among the processes above
this one. In a container, under systemd or in an editor there may be none, so here a shell can be named.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import typer

from mapreduce_rq.cli.streams import say, write
from mapreduce_rq.client.environment import DEFAULT_QUEUE
from mapreduce_rq.errors import CannotWrite, MrqError, UsageError

SHOW = "--show-completion"
SHELLS = ("bash", "zsh", "fish", "powershell", "pwsh")

PLAIN = re.compile(r"[A-Za-z0-9_.-]+")
"""What a shell takes as one word: a text in Redis must not become a command on the user's command line."""
MAX_IDS = 200


def job_ids(context: typer.Context, incomplete: str) -> list[str]:
    """The newest jobs of the queue that the options before, or the environment, name."""
    from mapreduce_rq.broker.connection import parse_url  # redis takes 0.1 s, that only this completion needs
    from mapreduce_rq.broker.keys import Keys  # with it
    from mapreduce_rq.broker.redis_wire import RedisWire  # with it

    try:
        queue = context.params.get("queue") or DEFAULT_QUEUE
        wire = RedisWire(parse_url(context.params.get("url") or "").at(queue))
        wire.connect()
        found = wire.call("ZREVRANGE", Keys(queue).jobs, 0, MAX_IDS - 1)
        wire.close()
    except MrqError:
        return []
    ids = [raw.decode(errors="replace") for raw in found]
    return [job for job in ids if job.startswith(incomplete) and PLAIN.fullmatch(job)]


def reducers(incomplete: str) -> list[tuple[str, str]]:
    """The reducers for values of a user's function, with one line about each."""
    from mapreduce_rq.core.reducers.catalogue import REDUCERS  # 20 ms, that only this completion needs

    return [
        (name, summary) for name, (_, summary) in REDUCERS.items() if name != "series" and name.startswith(incomplete)
    ]


def set_up(words: Sequence[str]) -> int:
    """Show or install the completion for the shell that the words name, or for the one that runs here.

    Returns the exit code. Raises UsageError, CannotWrite.
    """
    typers = import_module("typer.completion")  # 10 ms, once in a user's life
    option, _, named = words[0].partition("=")
    shell, *more = [*([named] if named else []), *words[1:]] or [_shell_here(option)]
    if more or shell not in SHELLS:
        raise UsageError(f"{option}: {' '.join([shell, *more])!r} is none of {', '.join(SHELLS)}")
    if option == SHOW:
        write(typers.get_completion_script(prog_name="mrq", complete_var="_MRQ_COMPLETE", shell=shell))
        return 0
    try:
        _, path = typers.install(shell=shell, prog_name="mrq")
    except OSError as error:
        raise CannotWrite(f"{option}: cannot write {error.filename}: {error.strerror}") from None
    say(f"the completion for {shell} is in {path}; new shells have it")
    return 0


def _shell_here(option: str) -> str:
    shellingham = import_module("shellingham")  # Typer's own way to find it
    try:
        found: str = shellingham.detect_shell()[0]
    except shellingham.ShellDetectionFailure:
        found = Path(os.environ.get("SHELL", "")).name
    if found not in SHELLS:
        raise UsageError(f"{option}: no shell is to be seen that mrq knows: name yours, as in `mrq {option} bash`")
    return found
