"""The fold of each key's values, as the caller describes it. The reducer itself is in ``by_key.py``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from mapreduce_rq.core.given import MOST, check, shown
from mapreduce_rq.core.reducers.base import Law
from mapreduce_rq.errors import BadParameter

MOST_PARTS = 256
"""The most parts of a result. Each part is a file that its owner has open."""
DEFAULT_PARTS = 64
"""The number of parts of a result that is written to files, unless the caller gives one: with ten million keys, a part
has some megabytes."""


class Fold(NamedTuple):
    """The fold of a key's values; the fields are arguments of ``Client.map_reduce``."""

    reduce: Any
    zero: Any = ...
    law: Law | str = Law.ORDERED
    options: Mapping[str, Any] | None = None


class Keyed(NamedTuple):
    """The value of ``by_key``: how to fold each key's values, with a fold for each column."""

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
    """Fold the values of each key; give this as ``reduce``, for a function that returns pairs.

    The function returns a pair ``(key, value)`` as a tuple, a dictionary, or an iterable of pairs. Keys are plain
    values and tuples of them; equal keys are one key, as in a dictionary. ``reduce``, ``zero``, ``law`` and
    ``options``: the fold of a key's values, as for ``Client.map_reduce``. If the values are mappings with columns,
    ``reduce`` may be a dictionary with a fold for each column: ``{"price": "mean", "id": ("distinct", {"k": 64}),
    "best": (max, 0)}``. Write a name with its options, and a function with its zero, as a tuple.

    The result is a dictionary from keys to results (with columns: to a dictionary), in the order of the keys; with
    ``sorted`` it is a list of pairs. ``top``: keep only this number of keys, those with the largest results (of the
    first column; of equal results the first keys), as a list of pairs.

    ``parts`` is for many keys. A hash divides the keys into this number of parts (a power of two, at most 256). Workers
    merge each part by itself. The result is an iterable of pairs, part by part, with a ``len``; at most one part is in
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
    """The same with a shuffle of ``parts`` parts (None: no shuffle), written in this form. Raises BadParameter."""
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
