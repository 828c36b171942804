"""The number of cores that this process may use: the scheduler and the container may allow fewer than there are."""

from __future__ import annotations

import math
import os


def usable_cores() -> int:
    """Cores that this process may use, at least 1."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota()
    return count if quota is None else max(1, min(count, math.ceil(quota)))


def _quota(path: str = "/sys/fs/cgroup/cpu.max") -> float | None:
    """Cores that the control group may use (cgroup v2's cpu.max); None: there is no limit, or it is not known."""
    try:
        with open(path, encoding="ascii") as file:
            limit, period = file.read().split()
        return None if limit == "max" else int(limit) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None
