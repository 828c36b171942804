"""The arguments of a function's calls: one iterable or several, rows of arguments; and how many items a task has."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec.structs import replace

from mapreduce_rq.core.messages import Limits
from mapreduce_rq.errors import BadParameter


def rows(items: Iterable[Any], more: tuple[Iterable[Any], ...], *, star: bool) -> tuple[Iterable[Any], bool]:
    """The items, and whether each is a row of arguments. Several iterables are zipped to rows, as ``map`` does it."""
    for one in (items, *more):
        try:
            iter(one)
        except TypeError:
            raise BadParameter(f"items: {type(one).__name__} is not iterable: give a range or an iterable") from None
    if not more:
        return items, star
    if star:
        raise BadParameter("star: several iterables were given: with star, one iterable gives rows of arguments")
    return zip(items, *more, strict=False), True


def limited(limits: Limits | None, chunksize: int | None) -> Limits | None:
    """The limits with ``chunksize`` in them, which is the usual name in pools for our ``chunk``."""
    if chunksize is None:
        return limits
    limits = limits or Limits()
    if limits.chunk not in {None, chunksize}:
        raise BadParameter(f"chunksize={chunksize} and Limits(chunk={limits.chunk}) differ: give only one of them")
    return replace(limits, chunk=chunksize)
