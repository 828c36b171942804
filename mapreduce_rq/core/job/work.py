"""The work for a task that has more than a span."""

from __future__ import annotations

from typing import Any

from mapreduce_rq.core.computation import Computation
from mapreduce_rq.core.job.merges import compute_merge
from mapreduce_rq.core.messages import MERGE, REQUEST, Task


def compute_body(computation: Computation[Any], task: Task) -> bytes:
    """The answer to a task that carries items, a request, or two partials to merge (the left one's length first)."""
    if task.op == REQUEST:
        return computation.work(task.body)
    if task.op == MERGE:
        return compute_merge(computation, task.body)
    return computation.reducer.encode(computation.map_body(task.lo, task.hi, task.body))
