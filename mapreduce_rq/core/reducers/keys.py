"""Keys: a key is a plain value that a dictionary takes, or a tuple of such values.

Equal keys are one key, as in a dictionary: 1, 1.0 and True. A dictionary shows the key that came first, which depends
on the schedule. Here an integer is preferred to a bool, a bool to a float, and of other equal keys the one with the
smaller encoding. This rule is applied only if it can matter: if numbers of several types meet, or values such as
decimals, of which equal ones may differ. Most keys are texts, or integers, or tuples of these, and cost only a check of
their types, in C.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Sequence
from itertools import count, repeat
from operator import add, itemgetter, ne
from typing import Any

from mapreduce_rq.core.plain_values import Unfit, pack, pack_all, unpack_all

Key = Any

TAKES = "as keys plain values other than nan, and tuples of them"

SIMPLE: frozenset[type] = frozenset({type(None), bool, int, str, bytes})
"""Types that msgpack itself has, and of which equal values are identical."""

_alike: set[type] = set(SIMPLE)
"""Types of which equal values are identical. A type whose module need not be imported is added when a key has it."""

_ALIKE_NAMES = {
    *(("datetime", "date"), ("datetime", "timedelta")),
    *(("uuid", "UUID"), ("fractions", "Fraction")),
}
_NUMERIC_NAMES = {
    *(("builtins", "bool"), ("builtins", "int"), ("builtins", "float"), ("builtins", "complex")),
    *(("decimal", "Decimal"), ("fractions", "Fraction")),
}

Kinds = set[Any]
"""The types in some keys: the types of single keys, and ``(length, place, type)`` for the members of tuples."""


class BadKey(Exception):
    """A value cannot be a key. ``index``: its place among the values that were checked. ``why``: the reason."""

    def __init__(self, index: int, why: str) -> None:
        super().__init__(why)
        self.index = index


def checked(keys: Sequence[Key]) -> tuple[Sequence[Key], Kinds | None]:
    """The keys in their normal forms, and their kinds; the kinds are None if equal keys among them may differ.

    Raises BadKey for a value that cannot be a key.
    """
    kinds = _kinds_of(keys)
    if kinds is None and set(map(type, keys)) == {float} and not any(map(ne, keys, keys)):
        keys, kinds = list(map(add, keys, repeat(0.0))), {float}  # one zero
    elif kinds is None:
        keys = list(map(_normal_at, keys, count()))
        kinds = _kinds_of(keys, normal=True)
    return keys, None if kinds is None or may_mix(kinds) else kinds


def _kinds_of(keys: Collection[Key], *, normal: bool = False) -> Kinds | None:
    """The kinds of all these keys; None if each key must be checked by itself.

    ``normal``: the keys are in normal form, so equal floats are identical.
    """
    alike = _alike | {float} if normal else _alike
    kinds = set(map(type, keys))
    if _are(kinds, alike):
        return kinds
    if kinds != {tuple}:
        return None
    found: Kinds = set()
    for length in set(map(len, keys)):
        row = [key for key in keys if len(key) == length]
        for place in range(length):
            inner = set(map(type, map(itemgetter(place), row)))
            if not _are(inner, alike):
                return None
            found.update((length, place, kind) for kind in inner)
    return found


def _are(kinds: set[type], alike: set[type]) -> bool:
    """Whether ``kinds`` is a subset of ``alike``. A standard type that was imported meanwhile is added to ``alike``."""
    for kind in kinds - alike:
        module, name = kind.__module__, kind.__qualname__
        if (module, name) not in _ALIKE_NAMES or getattr(sys.modules.get(module), name, None) is not kind:
            return False
        _alike.add(kind)
    return True


def may_mix(kinds: Kinds) -> bool:
    """Whether keys of these kinds may be equal and yet differ: if numbers of several types are in one place."""
    seen = set()
    for kind in kinds:
        length, place, its = kind if isinstance(kind, tuple) else (-1, 0, kind)
        if (its.__module__, its.__qualname__) in _NUMERIC_NAMES:
            if (length, place) in seen:
                return True
            seen.add((length, place))
    return False


def _normal_at(key: Key, index: int) -> Key:
    try:
        return _normal(key)
    except RecursionError:
        raise BadKey(index, "it is nested too deeply, or within itself") from None
    except Exception as error:  # the key's own hash and comparison may raise anything
        raise BadKey(index, str(error)) from None


def _normal(key: Key) -> Key:
    """The key in its normal form: floats have one zero, numpy's scalars are Python's. Raises some exception for a value
    that cannot be a key.
    """
    kind = type(key)
    if kind in SIMPLE:
        return key
    if kind is float:
        _refuse_nan(key)
        return key + 0.0
    if kind is tuple:
        return tuple(map(_normal, key))
    if kind.__module__ == "numpy" and getattr(key, "shape", None) == ():
        plain = key.item()
        if type(plain) is kind or (type(plain) in {int, type(None)} and key.dtype.kind in "mM"):
            raise TypeError(f"a {key.dtype} is no plain value: make it a date of Python's, or a text")
        return _normal(plain)
    hash(key)  # a list has no hash, and raises
    if kind is frozenset:
        raise TypeError("a frozenset is none: make it a sorted tuple")  # equal ones may hold different values
    pack(key)
    _refuse_nan(key)
    return key


def _refuse_nan(key: Key) -> None:
    if key != key:  # noqa: PLR0124  only nan differs from itself
        raise ValueError("it is nan, which equals no key, not even itself")


def preferred(one: Key, other: Key) -> Key:
    """The one of two equal keys that is shown."""
    if one is other or (type(one) is type(other) and type(one) in SIMPLE):
        return one
    return one if _preference(one) <= _preference(other) else other


def _preference(key: Key) -> Any:
    if type(key) is tuple:
        return 0, list(map(_preference, key))
    return _PREFERENCES.get(type(key), len(_PREFERENCES)), pack(key)


_PREFERENCES: dict[type, int] = {int: 0, bool: 1, float: 2}


# -- their order ---------------------------------------------------------------------------------------------------


def in_order(keys: Iterable[Key]) -> list[Key]:
    """The keys in order: None, numbers, texts, bytes, then other types one by one; tuples are compared by place."""
    row = list(keys)
    kinds = set(map(type, row))
    if len(kinds) == 1 and (kinds <= _COMPARABLE or (kinds == {tuple} and _comparable(row))):
        return sorted(row)
    return sorted(row, key=_rank)


_COMPARABLE = {bool, int, float, str, bytes}


def _comparable(keys: list[tuple[Key, ...]]) -> bool:
    """Whether Python's comparison of these tuples gives the order of ``in_order``."""
    lengths = set(map(len, keys))
    if len(lengths) > 1:
        return False
    for place in range(lengths.pop()):
        kinds = set(map(type, map(itemgetter(place), keys)))
        if len(kinds) > 1 or not kinds <= _COMPARABLE:
            return False
    return True


def _rank(key: Key) -> Any:
    kind = type(key)
    if kind in _RANKS:
        return _RANKS[kind], key
    if key is None:
        return (0,)
    if kind is tuple:
        return 9, tuple(map(_rank, key))
    if (kind.__module__, kind.__qualname__) in _NUMERIC_NAMES and kind is not complex:
        return 4, kind.__qualname__, key
    if kind.__module__ == "datetime" and hasattr(key, "isoformat"):
        return 5, kind.__qualname__, key.isoformat()
    return 6, kind.__qualname__, pack(key)


_RANKS: dict[type, int] = {bool: 1, int: 1, float: 1, str: 2, bytes: 3}


# -- on the wire ---------------------------------------------------------------------------------------------------

_SCALARS, _TUPLES, _ANY = 0, 1, 2
_DIRECT = SIMPLE | {float}
_LEAST, _BEYOND = -(1 << 63), 1 << 64


def pack_keys(keys: list[Key]) -> tuple[int, Any]:
    """The number of one of three forms, and the keys in it, as data that msgpack has. Raises ValueError for a key that
    cannot be sent.
    """
    kinds = set(map(type, keys))
    if kinds <= _DIRECT and _fit(kinds, keys):
        return _SCALARS, keys
    if kinds == {tuple}:
        inner = [part for key in keys for part in key]
        kinds = set(map(type, inner))
        if kinds <= _DIRECT and _fit(kinds, inner):
            return _TUPLES, keys
    return pack_any(keys)


def pack_any(keys: list[Key]) -> tuple[int, Any]:
    """As :func:`pack_keys`, in the form that has all keys."""
    try:
        return _ANY, pack_all(keys)
    except Unfit as unfit:
        raise ValueError(f"the key {keys[unfit.index]!r} cannot travel: {unfit}") from None


def _fit(kinds: set[type], keys: list[Key]) -> bool:
    """Whether the integers among these fit msgpack."""
    numbers = keys if kinds == {int} else [key for key in keys if type(key) is int]
    return min(numbers, default=0) >= _LEAST and max(numbers, default=0) < _BEYOND


def unpack_keys(form: int, packed: Any, number: int) -> tuple[Sequence[Key], Kinds | None]:
    """The keys that were packed, and their kinds, as :func:`checked`. Raises ValueError for other data."""
    keys: list[Key]
    if form == _ANY and isinstance(packed, bytes):
        keys = unpack_all(number, packed)
    elif form == _TUPLES and isinstance(packed, list) and set(map(type, packed)) <= {list}:
        keys = list(map(tuple, packed))
    elif form == _SCALARS and isinstance(packed, list):
        keys = packed
    else:
        raise ValueError("keys that are packed in no known way")
    try:
        found, kinds = checked(keys)
        if len(keys) != number or len(set(found)) != number:
            raise ValueError(f"some of {number} keys are equal")
    except (BadKey, TypeError) as error:
        raise ValueError(f"no keys: {error}") from None
    return found, kinds
