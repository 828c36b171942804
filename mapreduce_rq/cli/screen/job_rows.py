"""The jobs in the dashboard's list: two lines for one that runs, one for one that has ended. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from mapreduce_rq.broker.snapshot import JobView, Snapshot
from mapreduce_rq.cli.screen.charts import Glyphs, bar
from mapreduce_rq.cli.screen.frame import STYLES, apart
from mapreduce_rq.cli.screen.ink import Text
from mapreduce_rq.cli.screen.view import View, fits
from mapreduce_rq.cli.screen.views import (
    Seen,
    params_words,
    progress_words,
    remedy_words,
    state_words,
    value_words,
    workers_on,
)
from mapreduce_rq.core.job.record import State
from mapreduce_rq.core.text import count, duration, job_label, plural, rate

JOB_ORDER = ("running", "no workers", "no master", "failed", "done", "cancelled")
WIDE = 100
SHORTEST_BAR, LONGEST_BAR = 4, 40
"""Columns of a terminal; a wider one shows more facts."""


def sorted_jobs(snapshot: Snapshot, seen: Seen, view: View) -> list[JobView]:
    """The jobs that the filter lets pass, in the order of the view; those that run come first."""
    found = [
        job
        for job in snapshot.jobs
        if fits(view, job.job, job.label, job.by, state_words(job, snapshot, seen), params_words(job), value_words(job))
    ]
    order = view.order("jobs")
    if order == "name":
        found.sort(key=lambda job: (job.label, -job.created))
    elif order == "rate":
        found.sort(key=lambda job: -job.report.rate)
    elif order == "left":
        found.sort(key=lambda job: job.seconds_left if job.seconds_left is not None else float("inf"))
    elif order == "state":
        return sorted(found, key=lambda job: (JOB_ORDER.index(state_words(job, snapshot, seen)), -job.created))
    return sorted(found, key=lambda job: not runs(job))


def runs(job: JobView) -> bool:
    """Whether the job has not ended."""
    return job.state is State.RUNNING


def height(job: JobView) -> int:
    """How many lines the job has in the list."""
    return 2 if runs(job) else 1


def label_width(jobs: Sequence[JobView]) -> int:
    """How wide the column of names is."""
    return max([len(job_label(job.job)) for job in jobs], default=0)


def job_items(
    jobs: Sequence[JobView], snapshot: Snapshot, seen: Seen, glyphs: Glyphs, width: int, *, label: int
) -> list[list[Text]]:
    """The lines of each job, as many as ``height`` says. ``label``: how wide the column of names is."""
    return [
        _running(job, snapshot, seen, glyphs, width=width, label=label)
        if runs(job)
        else [_ended(job, glyphs, width, label)]
        for job in jobs
    ]


def _running(job: JobView, snapshot: Snapshot, seen: Seen, glyphs: Glyphs, *, width: int, label: int) -> list[Text]:
    report = job.report
    state = state_words(job, snapshot, seen)
    style = STYLES[state]
    counted = f"{count(report.counted)}/{count(report.total)}" if report.total is not None else "terms"
    left = duration(job.seconds_left) + " left" if job.seconds_left is not None else duration(report.elapsed_s)
    if state != "running":
        left = state
    start = Text.assemble((f"{glyphs.marks[state]} ", style), (f"{job_label(job.job):<{label}}", "bold"), "  ")
    share, terms = (f" {progress_words(job):>5}", "bold"), f" {counted:>11}"
    speed, end = (f" {rate(report.rate):>8}", "cyan"), f" {left:>10}"
    last = share if state == "running" else end
    # A part of a number would be another number: what does not fit beside a short bar is left out whole.
    kinds = [Text.assemble(*some) for some in ((share, terms, speed, end), (share, speed, end), (share, end), (last,))]
    facts = next((one for one in kinds if start.cell_len + one.cell_len + SHORTEST_BAR <= width), kinds[-1])
    room = width - start.cell_len - facts.cell_len
    drawn = max(SHORTEST_BAR, min(room, LONGEST_BAR))
    about = Text(style="dim")
    if room - drawn > 4:  # a wide terminal: what it is, and whose
        about = Text(f"  {params_words(job)}" + (f" {glyphs.dot} {job.by}" if job.by else ""), style="dim")
        about.truncate(room - drawn, overflow="crop", pad=True)
    first = Text.assemble(start, bar(job.share, drawn, glyphs, style), about, facts, no_wrap=True, overflow="crop")
    value = value_words(job).replace("±", glyphs.plus_minus)
    remedy = remedy_words(job, snapshot, seen)
    more = remedy or f"{plural(workers_on(job, snapshot, seen), 'worker')}, {plural(report.out, 'task')} out"
    second = Text(" " * start.cell_len)
    second.append(value or params_words(job), style="green" if value else "dim")
    return [first, apart(second, Text(more, style="magenta" if remedy else "dim"), width)]


def _ended(job: JobView, glyphs: Glyphs, width: int, label: int) -> Text:
    value = value_words(job).replace("±", glyphs.plus_minus)
    state = job.state.word
    start = Text.assemble((f"{glyphs.marks[state]} ", STYLES[state]), f"{job_label(job.job):<{label}}", "  ")
    start.append(value or params_words(job), style=STYLES[state] if state == "failed" else "")
    report = job.report
    terms = f" {plural(report.counted, 'term', shown=f'{count(report.counted):>7}'):13}" if width >= WIDE else ""
    end = Text(f"{state:>9}{terms} {duration(report.elapsed_s):>8}", style="dim")
    return apart(start, end, width)
