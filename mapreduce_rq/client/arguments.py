"""Arguments that several interfaces share: one or several iterables, rows, the number of items per task, progress."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from mapreduce_rq.core.given import check, plain
from mapreduce_rq.core.messages import DEFAULT_LIMITS, Limits, check_limits
from mapreduce_rq.errors import BadParameter
from mapreduce_rq.runtime.master.observer import Observer

if TYPE_CHECKING:  # most calls show nothing
    from mapreduce_rq.progress.count import Count
    from mapreduce_rq.progress.printed import Logs
    from mapreduce_rq.progress.shown import Progress, Shown


def rows(items: Iterable[Any], more: tuple[Iterable[Any], ...], *, star: bool) -> tuple[Iterable[Any], bool]:
    """The items, and whether each is a row of arguments. Several iterables are zipped to rows, as ``map`` does."""
    check(star=star)
    for one in (items, *more):
        check(items=one)
    if not more:
        return items, star
    if star:
        raise BadParameter("star: several iterables were given: with star, one iterable gives rows of arguments")
    return zip(items, *more, strict=False), True


def limited(limits: Limits | None, chunksize: int | None) -> Limits | None:
    """The limits with ``chunksize`` in them: so pools call what is ``chunk`` in ``Limits``."""
    if limits is not None:
        check_limits(limits)
    check(chunksize=chunksize)
    if chunksize is None:
        return limits
    if chunksize < 1:
        raise BadParameter(f"chunksize is {chunksize:,}, and must be at least 1")
    limits = limits or DEFAULT_LIMITS
    if limits.chunk not in {None, chunksize}:
        raise BadParameter(f"chunksize={chunksize} and Limits(chunk={limits.chunk}) differ: give only one of them")
    return replace(limits, chunk=plain(chunksize))


def seen_by(progress: Progress, label: str, beside: Observer | None = None) -> Shown | None:
    """The observer that shows a job's progress; None if no progress is wanted. Raises BadParameter."""
    if progress is None or progress is False:
        return None
    from mapreduce_rq.progress.shown import shown  # few programs use it

    return shown(progress, label, beside)


def heard_by(
    logs: Logs, limits: Limits | None, beside: Observer | None = None
) -> tuple[Limits | None, Observer | None]:
    """The limits that ask for the output of a job's functions, and the observer that gets it. Raises BadParameter."""
    if logs is False or logs is None:
        return limits, beside
    from mapreduce_rq.progress.printed import heard  # few programs use it

    limits = Limits() if limits is None else limits
    check_limits(limits)
    limits = replace(limits, logs=True)
    return limits, heard(logs, beside)


def counted(progress: Progress, function: Callable[..., Any], total: int | None = None) -> Count | None:
    """A count of a function's finished calls, which is shown; None if no progress is wanted. Raises BadParameter."""
    seen = seen_by(progress, getattr(function, "__qualname__", type(function).__name__))
    if seen is None:
        return None
    from mapreduce_rq.progress.count import Count  # few programs use it

    return Count(seen, total)
