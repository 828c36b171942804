"""The words beside a job's progress bar."""

from __future__ import annotations

from mapreduce_rq.core.job.record import Report
from mapreduce_rq.core.numbers.certain import Parted, parted
from mapreduce_rq.core.text import plural, short

MOST = 40
"""Characters of a running value, at most."""
BOUNDS = {"proven", "statistical"}
"""The errors that say which digits are certain. (Of a statistical one it is as certain as the interval says.)"""
MARK = "~"
"""Stands before the digits that may still change, where no style can tell them."""


def so_far(report: Report) -> Parted:
    """The running value, parted into digits that are certain and others, with its error; empty if there is none."""
    if report.value is None:
        return Parted("", "", "")
    if report.error is None:
        return Parted("", "", short(report.value, MOST))
    error = f" ± {report.error:.3g}"
    if report.bound_kind not in BOUNDS:
        return Parted("", "", short(report.value, MOST) + error)
    certain, moving, beside = parted(report.value, report.error)
    room = MOST - len(certain) - len(moving)
    if room >= 0:
        return Parted(certain, moving, f"{short(beside, room)}{error} ({report.bound_kind})")
    if len(certain) > MOST - 4:  # no room to show that there are more
        certain, moving = short(certain, MOST), ""
    return Parted(certain, short(moving, MOST - len(certain)), f"{error} ({report.bound_kind})")


def marked(value: Parted) -> str:
    """The same as text without colour."""
    return f"{value.certain}{MARK if value.moving else ''}{value.moving}{value.beside}"


def hands(report: Report) -> str:
    """How many workers there are, and how many tasks are out; "" if neither is known."""
    if not report.workers and not report.out:
        return ""
    return f"{plural(report.workers, 'worker')}, {plural(report.out, 'task')} out"
