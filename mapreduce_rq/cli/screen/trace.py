"""A timeline as a trace in the Chrome trace event format, which Perfetto and chrome://tracing open. Pure."""

from __future__ import annotations

from typing import Any

from mapreduce_rq.core.job.timeline import Timeline, cells_of
from mapreduce_rq.core.visible import visible

WORKERS, LONGEST, JOB = 1, 2, 3  # as processes of the trace


def trace_of(timeline: Timeline) -> dict[str, Any]:
    """The whole trace; times in microseconds since the job's beginning.

    A slice is what one worker did in one bin, as long as its work there. The longest tasks have tracks of their own.
    """
    events: list[dict[str, Any]] = [
        _name(JOB, None, f"job {timeline.job}"),
        _name(WORKERS, None, "workers"),
        _name(LONGEST, None, "longest tasks"),
    ]
    width = timeline.width * 1e6
    tasks, terms = [0] * _bins(timeline), [0] * _bins(timeline)
    busy = [0] * _bins(timeline)
    for number, row in enumerate(timeline.rows, 1):
        events.append(_name(WORKERS, number, visible(row.wid)))
        for index, one, size, spent in cells_of(row):
            if index >= len(tasks):
                continue
            tasks[index] += one
            terms[index] += size
            busy[index] += spent
            if spent:
                facts = {"tasks": one, "terms": size, "busy_us": spent}
                what = f"{one} answered" if one else "at work"
                events.append(_slice(WORKERS, number, what, (index * width, min(spent, width)), facts))
    for number, task in enumerate(timeline.longest, 1):
        events.append(_name(LONGEST, number, f"terms {task.lo}..{task.hi}"))
        begun = max(0.0, task.end - task.seconds) * 1e6
        who: dict[str, Any] = {"worker": visible(task.wid), "lo": task.lo, "hi": task.hi}
        events.append(_slice(LONGEST, number, f"terms {task.lo}..{task.hi}", (begun, task.seconds * 1e6), who))
    for index, size in enumerate(terms):
        counters = {"terms/s": size / timeline.width, "busy workers": busy[index] / width}
        for name, value in counters.items():
            events.append({"ph": "C", "pid": JOB, "name": name, "ts": index * width, "args": {"value": value}})
    events += [
        {"ph": "i", "pid": JOB, "tid": 1, "s": "g", "name": visible(mark.text), "ts": mark.at * 1e6}
        for mark in timeline.marks
    ]
    return {"traceEvents": events, "displayTimeUnit": "ms", "otherData": {"job": timeline.job, "mrq": timeline.version}}


def _bins(timeline: Timeline) -> int:
    return max((cells_of(row)[-1][0] + 1 for row in timeline.rows if row.cells), default=0)


def _name(process: int, thread: int | None, name: str) -> dict[str, Any]:
    kind = "process_name" if thread is None else "thread_name"
    return {"ph": "M", "pid": process, "tid": thread or 0, "name": kind, "args": {"name": name}}


def _slice(process: int, thread: int, name: str, span: tuple[float, float], facts: dict[str, Any]) -> dict[str, Any]:
    return {"ph": "X", "pid": process, "tid": thread, "name": name, "ts": span[0], "dur": span[1], "args": facts}
