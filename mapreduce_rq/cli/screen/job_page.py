"""The page of one job: its facts, its progress, how its value converges, where its terms are, which failed. Pure."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from mapreduce_rq.broker.detail import Detail
from mapreduce_rq.broker.snapshot import JobView, Snapshot
from mapreduce_rq.cli.screen.charts import HANDS, Glyphs, Hand, bar, sparkline, term_map
from mapreduce_rq.cli.screen.frame import LABEL_WIDTH, STYLES, cropped, labelled
from mapreduce_rq.cli.screen.ink import Text
from mapreduce_rq.cli.screen.views import (
    Seen,
    params_words,
    progress_words,
    remedy_words,
    state_words,
    value_words,
    worker_name,
    workers_on,
)
from mapreduce_rq.core.job.record import Done, Failed, State
from mapreduce_rq.core.job.timeline import losses
from mapreduce_rq.core.text import count, duration, grouped, plural, rate
from mapreduce_rq.core.visible import visible_lines

MAP_LINES = 3
TRACEBACK_LINES = 12
MOST_SKIPPED = 50


def job_lines(
    job: JobView,
    snapshot: Snapshot,
    seen: Seen,
    *,
    detail: Detail | None,
    errors: Sequence[float],
    glyphs: Glyphs,
    width: int,
) -> list[Text]:
    """The whole page. ``errors``: of the running value, at each look. ``detail``: None while it is not read yet."""
    made: list[Text] = []
    for label, text, style in job_facts(job, snapshot, seen, detail, glyphs):
        made += labelled(label, text, style, width)
    made += [Text(), bar(job.share, width, glyphs, STYLES[state_words(job, snapshot, seen)])]
    errors = course_of(detail, errors)
    if len(errors) > 1 and (line := sparkline(errors, width - LABEL_WIDTH - 2, glyphs)).strip():
        made += labelled("converging", line, "green", width)
        reach = f"its error from {_error(errors[0])} to {_error(errors[-1])}, on a logarithmic scale"
        made += labelled("", reach, "dim", width)
    made += _map(job, snapshot, detail, glyphs, width)
    made += _left_out(job, detail, width)
    return made


def course_of(detail: Detail | None, errors: Sequence[float]) -> Sequence[float]:
    """The error of the value over time: from the timeline of a job that has ended, else one number for each look."""
    if detail is None or detail.timeline is None:
        return errors
    return [point.error for point in detail.timeline.points if point.error is not None]


def _error(error: float) -> str:
    return f"{error:.2g}" if math.isfinite(error) else "not known"


def job_facts(
    job: JobView, snapshot: Snapshot, seen: Seen, detail: Detail | None, glyphs: Glyphs
) -> Iterator[tuple[str, str, str]]:
    """``(label, text, style)`` for each fact; a label of '' goes on with the one before."""
    report, record = job.report, job.record
    state = state_words(job, snapshot, seen)
    yield "job", job.job, "bold"
    yield "state", f"{state}   {progress_words(job)}", STYLES[state]
    if remedy := remedy_words(job, snapshot, seen):
        yield "", remedy, "magenta"
    yield "parameters", params_words(job), ""
    if job.by:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(job.created))
        yield "submitted", f"by {job.by}, {since}, {duration(max(0.0, seen.at - job.created))} ago", ""
    if job.state is State.RUNNING:
        yield "led by", job.leader or "nobody", ""
    value = value_words(job).replace("±", glyphs.plus_minus)
    if value:
        yield "value", value, "green" if not isinstance(record, Failed) else "red"
    bound = record.bound_kind if isinstance(record, Done) else report.bound_kind
    if bound:
        yield "bound", str(bound), ""
    if isinstance(record, Done) and record.digest:
        yield "digest", record.digest, ""
    total = f" of {grouped(report.total)}" if report.total is not None else ""
    goes_on = job.state is State.RUNNING
    cut = f", {grouped(report.cut)} cut into tasks" if goes_on else ""
    yield "terms", f"{grouped(report.counted)}{total} counted{cut}", ""
    twice = f", {plural(report.ignored, 'answer')} came twice" if report.ignored else ""
    bad = f", {plural(report.dropped, 'reply', 'replies')} could not be read" if report.dropped else ""
    next_one = f"{count(report.chunk)} {'term' if report.chunk == 1 else 'terms'} in the next"
    coming = f", {grouped(report.out)} out, {next_one}" if goes_on else ""
    yield "tasks", f"{grouped(report.tasks)} counted{coming}{twice}{bad}", ""
    busy = workers_on(job, snapshot, seen)
    speed = (
        report.rate if goes_on or report.elapsed_s <= 0 else report.counted / report.elapsed_s
    )  # in the end the mean
    yield "rate", f"{rate(speed)}, {plural(busy, 'worker')}, for {duration(report.elapsed_s)}", "cyan"
    lost = _overhead(job, detail)
    if lost is not None:
        when = "" if isinstance(job.record, Done) else ", from their first answers on"
        yield "overhead", f"{100 * lost:.0f} % of the workers' time went to other things than your function{when}", ""
    if job.state is State.RUNNING:
        saved = duration(max(0.0, seen.at - report.saved)) + " ago" if report.saved else "none yet"
        yield "checkpoint", saved, ""
    if detail is not None and detail.why:
        yield "", detail.why, "yellow"


def _overhead(job: JobView, detail: Detail | None) -> float | None:
    """The share of the workers' time in which they did not work, by the job's timeline.

    While it runs, nothing is known of a worker's time after its last answer: it may compute the next one.
    """
    if detail is None or detail.timeline is None:
        return None
    timeline = detail.timeline
    lost = losses(timeline)
    there = lost.computing + lost.between
    if isinstance(job.record, Done):
        there = timeline.seconds * max(1, job.record.workers)
    return max(0.0, 1 - lost.computing / there) if there > 0 else None


class TermsMap(NamedTuple):
    """``drawn``: a character for each range of ``in_each`` terms. ``names``: the worker that each letter stands for."""

    total: int
    in_each: int
    drawn: Text
    names: list[tuple[str, str]]


def terms_map(job: JobView, snapshot: Snapshot, detail: Detail | None, glyphs: Glyphs, most: int) -> TermsMap | None:
    """Where the terms are, in at most ``most`` characters; None if that is not known."""
    total = job.report.total
    if not total:
        return None
    counted: Sequence[tuple[int, int]]
    if isinstance(job.record, Done) and job.report.counted == total:
        counted = [(0, total)]
    elif detail is not None and detail.runs is not None:
        counted = detail.runs
    else:
        return None
    busy = [
        one for one in snapshot.workers if one.beat is not None and one.beat.state == "busy" and one.beat.job == job.job
    ]
    running = busy if job.state is State.RUNNING else []
    letters = {one.wid: HANDS[min(index, len(HANDS) - 1)] for index, one in enumerate(running)}
    hands = [Hand(one.beat.lo, one.beat.hi, letters[one.wid]) for one in running if one.beat is not None]
    cells = min(total, most)
    drawn = term_map(total, job.report.cut, counted, hands, cells=cells, glyphs=glyphs)
    names = [(letters[one.wid], worker_name(one)) for one in running[: len(HANDS)]]
    return TermsMap(total, -(-total // cells), drawn, names)


def _map(job: JobView, snapshot: Snapshot, detail: Detail | None, glyphs: Glyphs, width: int) -> list[Text]:
    found = terms_map(job, snapshot, detail, glyphs, MAP_LINES * width)
    if found is None:
        return []
    lines = [Text(), Text(f"the terms 0 to {grouped(found.total - 1)}, {grouped(found.in_each)} in each place", "dim")]
    lines += [Text.assemble(found.drawn[k : k + width]) for k in range(0, len(found.drawn), width)]
    key = f"{glyphs.counted} counted  {glyphs.partly} partly  {glyphs.waiting} waits  {glyphs.uncut} not cut yet"
    who = "  ".join(f"{letter} {name}" for letter, name in found.names)
    return [*lines, *labelled("", f"{key}  {who}", "dim", width, indent=0)]


def left_out(job: JobView, detail: Detail | None) -> list[tuple[int, str, str]]:
    """``(term, what it raised, traceback)`` for each term without a value; '' for a traceback that is not known."""
    skipped = job.record.skipped if isinstance(job.record, Done) else []
    told = {one.term: (f"{one.kind}: {one.message} (at {one.where})", "") for one in skipped}
    failures = dict(detail.skipped) if detail is not None else {}
    told |= {term: (f"{one.kind}: {one.message} (at {one.where})", one.traceback) for term, one in failures.items()}
    return [(term, *words) for term, words in sorted(told.items())]


def _left_out(job: JobView, detail: Detail | None, width: int) -> list[Text]:
    """Terms without a value, with the traceback of each where the checkpoint has it; and why a job failed."""
    lines: list[Text] = []
    if isinstance(job.record, Failed) and job.record.traceback:
        lines += [Text(), Text("the traceback", "bold"), *_traceback(job.record.traceback, width)]
    told = left_out(job, detail)
    if told:
        lines += [Text(), Text(f"{plural(len(told), 'term')} left out", "bold yellow")]
    for term, words, traceback in told[:MOST_SKIPPED]:
        lines += labelled(f"term {term}", words, "yellow", width)
        if traceback:
            lines += _traceback(traceback, width)
    if len(told) > MOST_SKIPPED:
        lines.append(Text(f"and {len(told) - MOST_SKIPPED} more: mrq status {job.job} --json", "dim"))
    return lines


def _traceback(text: str, width: int) -> list[Text]:
    rows = visible_lines(text.rstrip()).split("\n")
    if len(rows) > TRACEBACK_LINES:
        rows = [f"... {plural(len(rows) - TRACEBACK_LINES, 'line')} ...", *rows[-TRACEBACK_LINES:]]
    return [cropped(Text(f"  {row}", style="dim"), width) for row in rows]
