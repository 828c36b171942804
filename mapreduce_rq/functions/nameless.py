"""How objects travel that pickle by a name which leads nowhere in another process, or that do not pickle at all.

What ``functools.cache`` makes of a script's function, a ``NewType``, or a lone object whose ``__reduce__`` gives its
name pickle as ``__main__.name``. In a worker that name leads nowhere, or to what stood there when the worker began. So
they travel with what they are made of.
"""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Callable, Collection
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

NAMELESS = ("__main__", "__mp_main__")
"""Modules that are different in a worker; the second is the first one's name in children of multiprocessing."""

Parts = tuple[Callable[..., Any], tuple[Any, ...], tuple[Callable[[Any, Any], Any], Any]]
"""What makes an empty object, of what, and what fills it with what."""

Cached: Any = type(functools.cache(abs))


def parts_of(thing: Any, nameless: Collection[str], protocol: int) -> Parts | None:
    """What a thing is made of that only its name would pickle; None for one that pickles otherwise.

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
        return None  # made in C, of what nobody knows: its name is refused where it is read
    return _empty, (kind,), (_fill_all, object.__getstate__(thing))


def reduced(thing: Any) -> Any:
    """How some things of the standard library travel that do not pickle; NotImplemented for all else."""
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
