"""How the values of each key are to be folded, as the caller says it; the reducer itself is in ``by_key.py``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from mapreduce_rq.core.given import MOST, check, shown
from mapreduce_rq.core.reducers.base import Law
from mapreduce_rq.errors import BadParameter

MOST_PARTS = 256
"""Each part of a result is a file that its owner has open."""
DEFAULT_PARTS = 64
"""The number of parts of a result that is written to files, if the caller gives none: with ten million keys a part has
some megabytes."""


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
    parts: int | None = None
    form: str = ""


def by_key(
    reduce: Any = "sum",
    *,
    zero: Any = ...,
    law: Law | str = Law.ORDERED,
    options: Mapping[str, Any] | None = None,
    top: int | None = None,
    sorted: bool = False,  # noqa: A002  as the built-in
    parts: int | None = None,
) -> Keyed:
    """To be given as ``reduce``: fold each key's values, of a function that gives pairs.

    The function gives a pair ``(key, value)`` as a tuple, a dictionary, or an iterable of pairs. Keys are plain values
    and tuples of them; equal ones are one key, as in a dictionary. ``reduce``: what folds the values of a key, with
    ``zero``, ``law`` and ``options``, as ``Client.map_reduce`` takes it. Or a dictionary from columns to such, where
    values are mappings with these columns: ``{"price": "mean", "id": ("distinct", {"k": 64}), "best": (max, 0)}``; a
    name with its options and a function with its zero are written as tuples.

    The result is a dictionary from keys to results (of columns a dictionary each), in the order of the keys; with
    ``sorted`` a list of pairs. ``top``: the number of keys to keep, those with the largest results (of the
    first column; of equal ones the first keys), as a list of pairs.

    ``parts``: for many keys. A hash deals them to this number of parts (a power of two, at most 256), workers merge
    each part apart, and the result is an iterable of pairs, part by part, with a ``len``; no more than a part is in
    this process's memory. Raises BadParameter.
    """
    check(law=law, options=options, sorted=sorted)
    if top is not None and (type(top) is not int or not 1 <= top <= MOST):
        raise BadParameter(f"top is {shown(top)}, and must be a whole number, at least 1")
    if not isinstance(reduce, Mapping):
        return in_parts(Keyed({"": Fold(reduce, zero, law, options)}, top, bool(sorted)), parts)
    if zero is not ... or options:
        raise BadParameter("by_key: each column says its own zero or options, in a tuple with what folds it")
    if not reduce or not all(isinstance(column, str) and column for column in reduce):
        raise BadParameter("by_key: a dictionary from the names of columns to what folds them")
    folds = {column: _fold_of(column, how, law) for column, how in reduce.items()}
    return in_parts(Keyed(folds, top, bool(sorted)), parts)


def in_parts(keyed: Keyed, parts: int | None, form: str = "") -> Keyed:
    """The same with a shuffle of ``parts`` parts (None: without one), written in this form. Raises BadParameter."""
    if parts is None:
        return keyed
    if type(parts) is not int or not 1 <= parts <= MOST_PARTS or parts & (parts - 1):
        raise BadParameter(f"parts is {shown(parts)}, and must be a power of two, at most {MOST_PARTS}")
    if keyed.top is not None or keyed.sorted:
        raise BadParameter("parts are of all keys, each part in the order of its own: leave out top and sorted")
    return keyed._replace(parts=parts, form=form)


def _fold_of(column: str, how: Any, law: Law | str) -> Fold:
    if not isinstance(how, tuple) or isinstance(how, Keyed):
        return Fold(how)
    if len(how) == 2 and isinstance(how[0], str) and isinstance(how[1], Mapping):
        return Fold(how[0], options=how[1])
    if len(how) == 2 and callable(how[0]):
        return Fold(how[0], zero=how[1], law=law)
    raise BadParameter(f"by_key: {column}: a name with its options, or a function with its zero, not {how!r}")
