"""How `mrq run` folds values: ``--reduce``, ``--by-key`` and ``--top`` as the arguments of a plan."""

from __future__ import annotations

from typing import Any

from mapreduce_rq.cli.values import integer
from mapreduce_rq.core.reducers.keyed import by_key as keyed
from mapreduce_rq.errors import BadParameter, UsageError


def folding_of(reduce: str | None, by_key: list[str] | None, top: str | None) -> dict[str, Any]:
    """How the values are folded, as ``Planner.function`` takes it. Raises BadParameter."""
    if not by_key:
        if top is not None:
            raise UsageError("--top goes with --by-key")
        name, options = reducer_of(reduce or "sum")
        return {"reduce": name, "options": options}
    if reduce is not None:
        raise UsageError("--reduce and --by-key both say how values are folded: give one of them")
    most = None if top is None else integer("--top", top, 1)
    columns = {}
    for text in by_key:
        column, equals, name = text.partition("=") if "=" in text.partition(":")[0] else ("", "", text)
        if column in columns or (equals and not column):
            raise BadParameter(f"--by-key: {text!r} is not COLUMN=NAME, or names a column twice")
        columns[column] = reducer_of(name, "--by-key")
    if list(columns) == [""]:
        name, options = columns[""]
        return {"reduce": keyed(name, options=options, top=most)}
    if "" in columns:
        raise BadParameter("--by-key: of several columns each needs its name, as in price=mean")
    return {"reduce": keyed(columns, top=most)}


def reducer_of(text: str, option: str = "--reduce") -> tuple[str, dict[str, Any]]:
    """``topk:k=5`` as a name and its options; lists are written ``0.1/0.5/0.9``. Raises BadParameter."""
    name, _, rest = text.partition(":")
    options = {}
    for part in filter(None, rest.split(",")):
        given, equals, value = part.partition("=")
        if not equals:
            raise BadParameter(f"{option}: {part!r} is not OPTION=VALUE")
        numbers = [_number(piece, option) for piece in value.split("/")]
        options[given.strip()] = numbers if "/" in value else numbers[0]
    return name, options


def _number(text: str, option: str) -> int | float:
    try:
        number = float(text)
        return int(text) if text.strip().lstrip("+-").isdigit() else int(number) if number.is_integer() else number
    except ValueError:
        raise BadParameter(f"{option}: {text!r} is not a number") from None
