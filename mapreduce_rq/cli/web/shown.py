"""Makes the data that a browser shows of a queue: the dashboard's rows and facts, in the dashboard's words. Pure.

Each row is a dict of texts, numbers and the names of colours. The page inserts texts as texts, never as HTML.
Characters that control a terminal, or change the direction of writing, are made visible here: see ``plainly``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from mapreduce_rq.broker.detail import Detail
from mapreduce_rq.broker.snapshot import JobView, Snapshot, WorkerView
from mapreduce_rq.cli.screen.charts import ASCII, UNICODE
from mapreduce_rq.cli.screen.frame import STYLES
from mapreduce_rq.cli.screen.happenings import STYLES as EVENT_STYLES
from mapreduce_rq.cli.screen.happenings import Happening
from mapreduce_rq.cli.screen.job_page import MOST_SKIPPED, course_of, job_facts, left_out, terms_map
from mapreduce_rq.cli.screen.job_rows import runs, sorted_jobs
from mapreduce_rq.cli.screen.picture import Known
from mapreduce_rq.cli.screen.view import View
from mapreduce_rq.cli.screen.views import (
    Seen,
    memory_words,
    params_words,
    progress_words,
    remedy_words,
    state_words,
    task_words,
    value_words,
    worker_name,
    worker_state,
    workers_on,
)
from mapreduce_rq.cli.screen.worker_page import worker_facts
from mapreduce_rq.cli.screen.worker_rows import sorted_workers, worker_cells
from mapreduce_rq.core.job.record import Failed
from mapreduce_rq.core.text import count, duration, grouped, job_label, plural, rate, short
from mapreduce_rq.core.visible import visible_lines

MOST_WORKERS = 1000
MOST_EVENTS = 200
MOST_CELLS = 240
"""The number of places in the map of a job's terms."""
MOST_POINTS = 400
ROW_TEXT, PAGE_TEXT, LONG_TEXT = 200, 4000, 16_000
"""The most characters of a value or parameter in a list, of one on a page, and of a traceback."""

Row = dict[str, Any]


def plainly(data: Any) -> Any:
    """The same data, with control characters in texts made visible."""
    if isinstance(data, str):
        return visible_lines(data)
    if isinstance(data, dict):
        return {plainly(name): plainly(value) for name, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [plainly(value) for value in data]
    return data


def head(snapshot: Snapshot, seen: Seen, url: str, round_trip: float) -> Row:
    """The facts above the lists."""
    server = snapshot.server
    warnings = [f"warning: {server.warning}"] if server.warning else []
    if snapshot.dropped:
        what = plural(snapshot.dropped, "entry", "entries")
        warnings.append(f"{what} cannot be read: {snapshot.why_dropped}")
    facts = [f"{server.product} {server.version}", f"{duration(round_trip)} away", memory_words(server)]
    return {
        "queue": snapshot.queue,
        "url": url,
        "facts": [fact for fact in facts if fact],
        "tasks": f"{plural(snapshot.waiting, 'task')} waiting, {count(snapshot.in_flight)} in hand",
        "warnings": warnings,
        "jobs": _tally([state_words(job, snapshot, seen) for job in snapshot.jobs]),
        "workers": _tally([worker_state(one, seen) for one in snapshot.workers]),
        "more_workers": max(0, len(snapshot.workers) - MOST_WORKERS),
    }


def _tally(states: Sequence[str]) -> list[tuple[str, str]]:
    """``(how many in which state, its colour)``, in the order of the colours' table."""
    return [(f"{states.count(word)} {word}", style) for word, style in STYLES.items() if word in states]


def job_rows(snapshot: Snapshot, seen: Seen) -> dict[str, Row]:
    """The jobs by id: running jobs first, then the newest."""
    return {job.job: _job_row(job, snapshot, seen) for job in sorted_jobs(snapshot, seen, View())}


def _job_row(job: JobView, snapshot: Snapshot, seen: Seen) -> Row:
    state = state_words(job, snapshot, seen)
    report, running = job.report, runs(job)
    row: Row = {
        "name": job_label(job.job),
        "state": state,
        "style": STYLES[state],
        "mark": UNICODE.marks[state],
        "what": short(params_words(job), ROW_TEXT),
        "by": job.by,
        "value": short(value_words(job), ROW_TEXT),
        "time": duration(report.elapsed_s),
        "terms": count(report.counted) + (f"/{count(report.total)}" if running and report.total is not None else ""),
        "ended": not running,
        "bad": isinstance(job.record, Failed),
    }
    if running:
        row |= {
            "share": job.share,
            "progress": progress_words(job),
            "rate": rate(report.rate),
            "left": duration(job.seconds_left) + " left" if job.seconds_left is not None else "",
            "workers": plural(workers_on(job, snapshot, seen), "worker"),
            "remedy": remedy_words(job, snapshot, seen),
        }
    return row


def worker_rows(snapshot: Snapshot, seen: Seen) -> dict[str, Row]:
    """The workers by id, the living first."""
    found = sorted_workers(snapshot, seen, View())[:MOST_WORKERS]
    return {one.wid: _worker_row(one, snapshot, seen) for one in found}


def _worker_row(worker: WorkerView, snapshot: Snapshot, seen: Seen) -> Row:
    cells = worker_cells(worker, snapshot, seen)
    cells["job"] = short(cells.get("job", ""), ROW_TEXT)
    return {"name": worker_name(worker), "style": STYLES[cells["state"]], **cells}


def event_rows(events: Sequence[Happening]) -> dict[str, Row]:
    """The newest events by number, the newest first."""
    return {
        str(one.number): {
            "at": one.at,
            "what": one.what,
            "style": EVENT_STYLES.get(one.what, ""),
            "job": one.job,
            "name": job_label(one.job),
            "text": short(one.text, ROW_TEXT),
        }
        for one in events[:MOST_EVENTS]
    }


def job_page(name: str, snapshot: Snapshot, seen: Seen, known: Known) -> Row:
    """The page of a job."""
    job = snapshot.job(name)
    if job is None:
        return {"gone": f"{name} is not among the newest jobs: its record may have expired, or was purged"}
    detail, record = known.detail, job.record
    told = left_out(job, detail)
    traceback = record.traceback if isinstance(record, Failed) else ""
    return {
        "facts": _facts(
            [(label, text, style) for label, text, style in job_facts(job, snapshot, seen, detail, UNICODE)]
        ),
        "share": job.share,
        "progress": progress_words(job),
        "errors": _points(course_of(detail, known.errors)),
        "map": _map(job, snapshot, detail),
        "traceback": short(traceback or "", LONG_TEXT),
        "left_out": [(f"term {term}", short(words, ROW_TEXT), short(trace, LONG_TEXT)) for term, words, trace in told][
            :MOST_SKIPPED
        ],
        "more_left_out": max(0, len(told) - MOST_SKIPPED),
        "ended": record is not None,
    }


def _points(errors: Sequence[float]) -> list[float]:
    """The newest errors that have a logarithm."""
    return [error for error in errors if error > 0 and math.isfinite(error)][-MOST_POINTS:]


def _map(job: JobView, snapshot: Snapshot, detail: Detail | None) -> Row | None:
    found = terms_map(job, snapshot, detail, ASCII, MOST_CELLS)
    if found is None:
        return None
    words = f"the terms 0 to {grouped(found.total - 1)}, {grouped(found.in_each)} in each place"
    return {"cells": found.drawn.plain, "words": words, "names": found.names}


def _facts(facts: Sequence[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    return [(label, short(text, PAGE_TEXT), style) for label, text, style in facts]


def worker_page(wid: str, snapshot: Snapshot, seen: Seen, known: Known) -> Row:
    """The page of a worker."""
    worker = next((one for one in snapshot.workers if one.wid == wid), None)
    if worker is None:
        return {"gone": f"{wid.rpartition(':')[0]} has left"}
    facts = _facts(list(worker_facts(worker, snapshot, seen, known.busy.get(wid, (0, 0)))))
    busy = worker.beat is not None and worker.beat.state == "busy"
    assert worker.beat is not None or not busy
    job = worker.beat.job if worker.beat is not None and busy else ""
    return {"facts": facts, "job": job if snapshot.job(job) is not None else "", "task": task_words(worker, snapshot)}
