"""The goal of a job with a tolerance: the number of terms after which it asks again whether the tolerance is met.

A goal depends only on the values at earlier goals. So where a job stops, and each bit of its result, does not depend on
the schedule.
"""

from __future__ import annotations

from mapreduce_rq.core.messages import Limits

LEAST_GROWTH, MOST_GROWTH = 1.5, 64.0
UNKNOWN_GROWTH = 4.0
"""The factor between two goals if no error is known, or no error is allowed."""


def allowed(limits: Limits, value: float | None) -> float | None:
    """The largest error with which this value is good enough; None if the limits give none."""
    found = [] if limits.abs_tol is None else [limits.abs_tol]
    if limits.rel_tol is not None and value is not None:
        found.append(limits.rel_tol * abs(value))
    return max(found, default=None)


def further(goal: int, total: int | None, error: float | None, most: float | None) -> int:
    """The next goal, in terms, when the error at this one is more than ``most``."""
    growth = UNKNOWN_GROWTH
    if error is not None and most:
        growth = 1.1 * (error / most) ** 2  # the error of a mean falls with the square root of the terms
    found = int(goal * max(LEAST_GROWTH, min(growth, MOST_GROWTH))) + 1
    return found if total is None else min(total, found)
