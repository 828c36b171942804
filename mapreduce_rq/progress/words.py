"""What is said of a job's progress beside its bar."""

from __future__ import annotations

from mapreduce_rq.core.job.record import Report
from mapreduce_rq.core.text import plural, short

MOST = 40
"""Characters of a running value, at most."""


def so_far(report: Report) -> str:
    """The running value and its error; "" if there is none yet."""
    if report.value is None:
        return ""
    error = f" ± {report.error:.3g}" if report.error is not None else ""
    return f"{short(report.value, MOST)}{error}"


def hands(report: Report) -> str:
    """How many workers there are, and how many tasks are out; "" if neither is known."""
    if not report.workers and not report.out:
        return ""
    return f"{plural(report.workers, 'worker')}, {plural(report.out, 'task')} out"
