"""How the values of each key are to be folded, as the caller says it; the reducer itself is in ``by_key.py``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from mapreduce_rq.core.reducers.base import Law
from mapreduce_rq.errors import BadParameter


class Fold(NamedTuple):
    """What folds the values of a key: as ``Client.map_reduce`` takes it."""

    reduce: Any
    zero: Any = ...
    law: Law | str = Law.ORDERED
    options: Mapping[str, Any] | None = None


class Keyed(NamedTuple):
    """What ``by_key`` makes: each key's values are to be folded, those of each column by a fold of its own."""

    folds: Mapping[str, Fold]
    top: int | None
    sorted: bool


def by_key(
    reduce: Any = "sum",
    *,
    zero: Any = ...,
    law: Law | str = Law.ORDERED,
    options: Mapping[str, Any] | None = None,
    top: int | None = None,
    sorted: bool = False,  # noqa: A002  as the built-in
) -> Keyed:
    """To be given as ``reduce``: fold each key's values, of a function that gives pairs.

    The function gives a pair ``(key, value)`` as a tuple, a dictionary, or an iterable of pairs. Keys are plain values
    and tuples of them; equal ones are one key, as in a dictionary. ``reduce``: what folds the values of a key, with
    ``zero``, ``law`` and ``options``, as ``Client.map_reduce`` takes it. Or a dictionary from columns to such, where
    values are mappings with these columns: ``{"price": "mean", "id": ("distinct", {"k": 64}), "best": (max, 0)}``; a
    name with its options and a function with its zero are written as tuples.

    The result is a dictionary from keys to results (of columns a dictionary each), in the order of the keys; with
    ``sorted`` a list of pairs. ``top``: only so many keys, those with the largest results (of the first column; of
    equal ones the first keys), as a list of pairs. Raises BadParameter.
    """
    if top is not None and (type(top) is not int or top < 1):
        raise BadParameter(f"top is {top!r}, and must be a whole number, at least 1")
    if not isinstance(reduce, Mapping):
        return Keyed({"": Fold(reduce, zero, law, options)}, top, bool(sorted))
    if zero is not ... or options:
        raise BadParameter("by_key: each column says its own zero or options, in a tuple with what folds it")
    if not reduce or not all(isinstance(column, str) and column for column in reduce):
        raise BadParameter("by_key: a dictionary from the names of columns to what folds them")
    return Keyed({column: _fold_of(column, how, law) for column, how in reduce.items()}, top, bool(sorted))


def _fold_of(column: str, how: Any, law: Law | str) -> Fold:
    if not isinstance(how, tuple) or isinstance(how, Keyed):
        return Fold(how)
    if len(how) == 2 and isinstance(how[0], str) and isinstance(how[1], Mapping):
        return Fold(how[0], options=how[1])
    if len(how) == 2 and callable(how[0]):
        return Fold(how[0], zero=how[1], law=law)
    raise BadParameter(f"by_key: {column}: a name with its options, or a function with its zero, not {how!r}")
