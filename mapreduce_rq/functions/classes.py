"""How a class travels with its code: how another process makes it again, and the attributes that it then gets.

No code of the script runs when the class is made: not an ``__init_subclass__``, and not the ``__new__`` or ``__init__``
of a metaclass. They ran in the script, with keywords that are not recorded anywhere. What they set is in the
attributes of the class, and these travel.

The members of an enum are made with it, empty, and then get their attributes. If they were made from their values, as
when an enum is defined, everything that a script's own ``__new__`` and ``__init__`` set would be lost. And a value may
not lead to its member (NaN does not). So a member travels by its name.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any

MAPS = ("_member_map_", "_value2member_map_")
"""An enum's attributes that hold its members."""

Members = list[tuple[str, str | tuple[Any, ...]]]
"""Pairs of a name, and the value of the new member's immutable part or the name that it is an alias of."""


def how_to_make(kind: type, begun: dict[str, Any]) -> tuple[Any, ...]:
    """The arguments of `made`. ``begun``: the names that its namespace has from the beginning."""
    origin = vars(kind).get("__orig_bases__")
    members = _members(kind) if is_enum(kind) else None
    return type(kind), kind.__name__, kind.__bases__, origin, {"__qualname__": kind.__qualname__, **begun}, members


def made(  # noqa: PLR0917  a pickle gives them by their places
    metaclass: type,
    name: str,
    bases: tuple[type, ...],
    origin: tuple[Any, ...] | None,
    begun: dict[str, Any],
    members: Members | None,
    ours: Callable[[type], bool],
) -> type:
    """The class, still empty. ``ours``: whether a class came with its code."""
    with _quiet(bases, ours):
        maker: Any = type if members is not None else next(each for each in metaclass.__mro__ if not ours(each))
        if maker is metaclass and maker is not type:  # a library's: it may look at the bases as they were written
            written = bases if origin is None else origin
            return types.new_class(name, written, {"metaclass": metaclass}, lambda names: names.update(begun))
        names = begun if origin is None else {**begun, "__orig_bases__": origin}
        kind: type = maker.__new__(metaclass, name, bases, dict(names))
    if members is not None:
        found: dict[str, Any] = {}
        new = _builtin(kind).__new__
        for each, parts in members:
            found[each] = found[parts] if isinstance(parts, str) else new(kind, *parts)
        type.__setattr__(kind, "_member_map_", found)
    return kind


@contextmanager
def _quiet(bases: Iterable[type], ours: Callable[[type], bool]) -> Iterator[None]:
    """Prevent ``__init_subclass__`` of classes that came with their code from running."""
    told = {each for base in bases for each in base.__mro__ if "__init_subclass__" in vars(each) and ours(each)}
    kept = {each: vars(each)["__init_subclass__"] for each in told}
    for each in kept:
        type.__delattr__(each, "__init_subclass__")
    try:
        yield
    finally:
        for each, method in kept.items():
            type.__setattr__(each, "__init_subclass__", method)


def is_enum(kind: type) -> bool:
    """Whether a class is an enum."""
    return issubclass(kind, Enum) and "_member_map_" in vars(kind)


def by_name(thing: Any) -> str | None:
    """The name of a member of an enum; None for all else, and for a combination of flags that has no name."""
    name = getattr(thing, "_name_", None)
    return name if is_enum(type(thing)) and type(thing)._member_map_.get(name) is thing else None


def member(kind: Any, name: str) -> Any:
    """In a pickle: a member of an enum."""
    return kind._member_map_[name]


def _builtin(kind: type) -> Any:
    """The built-in type whose objects the members of an enum are."""
    return next(base for base in kind.__mro__ if isinstance(vars(base).get("__new__"), types.BuiltinFunctionType))


def _members(kind: Any) -> Members:
    base = _builtin(kind)
    if base in {list, dict, set, bytearray}:
        raise TypeError(f"the members of {kind.__qualname__} are changeable: put it into a module")
    found: Members = []
    for name, each in kind._member_map_.items():
        if each._name_ != name:
            found.append((name, each._name_))
        elif base is object:
            found.append((name, ()))
        else:
            found.append(
                (name, base.__getnewargs__(each) if hasattr(base, "__getnewargs__") else base.__reduce__(each)[1])
            )
    return found


def state_of(kind: Any, names: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    """The state that :func:`filled` sets. ``names``: the attributes of the class."""
    if not is_enum(kind):
        return names, None
    members = kind._member_map_
    rest = {name: value for name, value in names.items() if name not in MAPS and members.get(name, kind) is not value}
    plain = [name for name in members if name in names and name not in rest]
    inside = {name: object.__getstate__(each) for name, each in members.items() if each._name_ == name}
    # Python may have made others meanwhile, for combinations of flags.
    values = [(value, each._name_) for value, each in kind._value2member_map_.items() if by_name(each)]
    return rest, (plain, inside, values)


def filled(kind: Any, state: tuple[dict[str, Any], Any]) -> None:
    """Fill a class that `made` has made. No ``__setattr__`` of its metaclass sees it."""
    names, inside = state
    registered: Iterable[type] = ()
    for name, value in names.items():
        if name == "_abc_impl":
            registered = value
        else:
            type.__setattr__(kind, name, value)
    if "__firstlineno__" in names:  # some attributes reset it
        type.__setattr__(kind, "__firstlineno__", names["__firstlineno__"])
    for each in registered:
        kind.register(each)
    if inside is not None:
        plain, states, values = inside
        members = kind._member_map_
        for name, its in states.items():
            own, slots = its if isinstance(its, tuple) else (its, None)
            vars(members[name]).update(own or {})
            for slot, value in (slots or {}).items():
                object.__setattr__(members[name], slot, value)
        for name in plain:
            type.__setattr__(kind, name, members[name])
        type.__setattr__(kind, "_value2member_map_", {value: members[name] for value, name in values})
