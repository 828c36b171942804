"""What a function is called with: one iterable or several, rows of arguments, arguments with names, items a task."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from msgspec.structs import replace

from mapreduce_rq.core.messages import Limits
from mapreduce_rq.errors import BadParameter


def rows(items: Iterable[Any], more: tuple[Iterable[Any], ...], *, star: bool) -> tuple[Iterable[Any], bool]:
    """The items, and whether each is a row of arguments: of several iterables it is, as ``map`` takes them."""
    for one in (items, *more):
        try:
            iter(one)
        except TypeError:
            raise BadParameter(f"items: a range or an iterable, not a {type(one).__name__}") from None
    if not more:
        return items, star
    if star:
        raise BadParameter("star: each item of one iterable is a row of arguments, and here are several iterables")
    return zip(items, *more, strict=False), True


def limited(limits: Limits | None, chunksize: int | None) -> Limits | None:
    """The limits with ``chunksize``, the name that pools give to ``chunk``."""
    if chunksize is None:
        return limits
    limits = limits or Limits()
    if limits.chunk not in {None, chunksize}:
        raise BadParameter(f"chunksize={chunksize} and Limits(chunk={limits.chunk}) say the same: give one of them")
    return replace(limits, chunk=chunksize)
