"""Options that say nothing beside others, or contradict them: each is refused in one line, and none is ignored.

Only the words of the command line count here. A variable such as MRQ_RQ_QUEUE is a default for many commands, and need
not have a meaning in each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple

from mapreduce_rq.client.environment import chosen_keys
from mapreduce_rq.errors import UsageError
from mapreduce_rq.pipes.url import is_pipes

Given = Mapping[str, Any]
"""The values of a command's options, by the names of its parameters."""


class Idle(NamedTuple):
    """A rule: the option ``name`` may not be given if ``beside`` is true of all values. ``why``: the error."""

    name: str
    beside: Callable[[Given], bool]
    why: str
    only: str = ""  # for commands that have this parameter, too
    against: str = ""  # and only if this option was given as well


def _is_private(values: Given) -> bool:
    return not values["url"] or is_pipes(values["url"])


def _signs_itself(values: Given) -> bool:
    chosen_keys(values["key_file"])  # a file that cannot be read is the first mistake to tell
    return _is_private(values)


RULES = (
    Idle(
        "output",
        lambda values: values["output"] != "json",
        "--json is -o json, and another -o was given: give one of them",
        against="json",
    ),
    Idle(
        "output",
        lambda values: values["stream"] and values["output"] != "json",
        "--stream prints each value as a line of JSON: leave out -o",
        only="stream",
    ),
    Idle(
        "rq_queue",
        lambda values: values["on_rq"] is None,
        "--rq-queue says where --on-rq places its jobs: give --on-rq, too",
        only="on_rq",
    ),
    Idle(
        "chunk",
        lambda values: values["per_term"],
        "--per-term makes a task of each term: leave out --chunk",
        only="per_term",
    ),
    Idle(
        "local",
        lambda values: values["per_term"],
        "--per-term has a process for each term: leave out --local",
        only="per_term",
    ),
    Idle(
        "key_file",
        _signs_itself,
        "--key-file is for a server that others reach, and a private one has a key of its own: give -u redis://host",
        only="per_term",
    ),
    Idle(
        "key_file",
        _signs_itself,
        "--key-file is for a server that you name, and without one your private servers are shown: give -u redis://host",
        only="svg",
    ),
    Idle(
        "queue",
        _is_private,
        "--queue is for a server that you name, and without one your private servers are shown: give -u redis://host",
        only="svg",
    ),
    Idle(
        "interval",
        lambda values: bool(values["once"] or values["json"] or values["svg"] or values["html"]),
        "--interval is the time between two pictures, and this is one: leave it out",
        only="once",
    ),
    Idle(
        "verbose",
        lambda values: values["quiet"],
        "--quiet logs errors only, and --verbose logs each task: give one of them",
        against="quiet",
    ),
    *(
        Idle(
            name,
            lambda values: values["on_rq"] is not None,
            f"--on-rq: the workers are jobs of rq workers, which name them and keep their logs: leave out {option}",
            only="burst",
        )
        for name, option in (("name", "--name"), ("log_format", "--log-format"), ("verbose", "--verbose"))
    ),
)


def check_together(values: Given, given: AbstractSet[str]) -> None:
    """Raise UsageError if one of the options that were ``given`` as words means nothing beside the others."""
    for rule in RULES:
        applies = rule.name in given and (not rule.only or rule.only in values)
        if applies and (not rule.against or rule.against in given) and rule.beside(values):
            raise UsageError(rule.why)
