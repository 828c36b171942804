"""How to pickle objects whose own pickle is a name that another process cannot find, or that have no pickle at all.

Some objects of a script pickle as ``__main__.name``: a function under ``functools.cache``, a ``NewType``, an object
whose ``__reduce__`` returns its name. In a worker nothing has that name, or an older object has it. So their parts
travel.
"""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Callable, Collection
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

NAMELESS = ("__main__", "__mp_main__")
"""Modules that are others in a worker; the second is the name of the first in children of multiprocessing."""

Parts = tuple[Callable[..., Any], tuple[Any, ...], tuple[Callable[[Any, Any], Any], Any]]
"""The function that makes an empty object and its arguments, the function that fills the object and its state."""

Cached: Any = type(functools.cache(abs))


def parts_of(thing: Any, nameless: Collection[str], protocol: int) -> Parts | None:
    """The parts of an object whose pickle would be only its name; None for an object with another pickle.

    ``nameless``: modules whose names lead nowhere in another process.
    """
    kind: Any = type(thing)
    if kind is Cached:
        if _is_found(thing, nameless):
            return None
        how = thing.cache_parameters()
        own = {name: value for name, value in vars(thing).items() if name not in {"__wrapped__", "cache_parameters"}}
        return _cached, (thing.__wrapped__, how["maxsize"], how["typed"]), (_fill_names, own)
    if kind.__reduce__ is object.__reduce__ and kind.__reduce_ex__ is object.__reduce_ex__:
        return None
    if getattr(thing, "__module__", None) not in nameless or not isinstance(thing.__reduce_ex__(protocol), str):
        return None
    if kind.__new__ is not object.__new__ and isinstance(kind.__new__, types.BuiltinFunctionType):
        return None  # made in C, with parts that Python does not show: the process that reads its name refuses it
    return _empty, (kind,), (_fill_all, object.__getstate__(thing))


def reduced(thing: Any) -> Any:
    """The pickle of some objects of the standard library that have none; NotImplemented for all others."""
    kind = type(thing)
    if kind is functools.cached_property:
        state = {name: value for name, value in vars(thing).items() if name != "lock"}  # of Python 3.11
        return kind, (thing.func,), state
    if kind is WeakKeyDictionary or kind is WeakValueDictionary:
        return kind, (dict(thing),)
    if (kind.__module__, kind.__qualname__) == ("random", "SystemRandom"):  # it has no state
        return kind, ()
    return NotImplemented


def _is_found(thing: Any, nameless: Collection[str]) -> bool:
    module = getattr(thing, "__module__", None)
    if module in nameless:
        return False
    found: Any = sys.modules.get(str(module))
    for part in str(getattr(thing, "__qualname__", "")).split("."):
        found = getattr(found, part, None)
    return found is thing


def _cached(function: types.FunctionType, maxsize: int | None, typed: bool) -> Any:
    return functools.lru_cache(maxsize, typed)(function)


def _empty(kind: type) -> Any:
    return object.__new__(kind)


def _fill_names(thing: Any, names: dict[str, Any]) -> None:
    vars(thing).update(names)


def _fill_all(thing: Any, state: Any) -> None:
    names, slots = state if isinstance(state, tuple) else (state, None)
    for name, value in {**(names or {}), **(slots or {})}.items():
        object.__setattr__(thing, name, value)
