"""Calls that each process makes once, before the first term of any job that names them so."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import FunctionType
from typing import Any, NamedTuple

from mapreduce_rq.core.computation import Interruption
from mapreduce_rq.core.foreign_errors import told
from mapreduce_rq.errors import BadFunction
from mapreduce_rq.functions.coding import Number
from mapreduce_rq.functions.nameless import NAMELESS
from mapreduce_rq.functions.params import FirstParams


class Begun(NamedTuple):
    """What a first call has set and returned."""

    value: Any
    set_now: dict[str, Any]  # globals of functions that came with their code
    things: dict[Number, Any]  # what came with their code: its value is made of them


_begun: dict[str, Begun] = {}
"""First calls that this process has made."""
_worn: dict[str, int] = {}
"""By first call, the terms that this process has computed, for jobs that limit the terms of one process."""


def things_of(first: FirstParams | None) -> dict[Number, Any]:
    """The objects that came with the code of a first call, if it was made here: a later job uses the same ones."""
    begun = _begun.get(first.id) if first is not None else None
    return {} if begun is None else begun.things


def begin(first: FirstParams, found: Callable[[], tuple[Callable[..., Any], dict[Number, Any]]]) -> Begun:
    """Make a first call, unless it was made here, and return the globals that it has set.

    A function that came with its code has globals of its own, so the script's other functions are given these.
    ``found`` returns the function, and what came with its code. Raises BadFunction.
    """
    if first.id in _begun:
        return _begun[first.id]
    function, things = found()
    inner = function.func if isinstance(function, partial) else function
    space = inner.__globals__ if isinstance(inner, FunctionType) and inner.__module__ in NAMELESS else {}
    before = dict(space)
    try:
        value = function()
    except Interruption:
        raise
    except BaseException as error:
        label = first.call.get("label", "it")
        raise BadFunction(f"{label}, which each process calls first, failed: {told(error)}") from error
    set_now = {name: value for name, value in space.items() if name not in before or before[name] is not value}
    _begun[first.id] = Begun(value, set_now, things)
    return _begun[first.id]


def worn(key: str, terms: int) -> int:
    """Count these terms, and return how many this process has computed after this first call."""
    _worn[key] = _worn.get(key, 0) + terms
    return _worn[key]
