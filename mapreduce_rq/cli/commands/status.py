"""`mrq status`, `jobs`, `workers`, `queues`, `result`: what is on the queue now, as plain text or JSON."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Annotated, Any

import typer
from msgspec.structs import replace

from mapreduce_rq.broker.journal import BEGINNING
from mapreduce_rq.broker.queues import names_of_queues
from mapreduce_rq.broker.snapshot import MAX_JOBS, JobView, Snapshot
from mapreduce_rq.cli.completion import job_ids
from mapreduce_rq.cli.connect import Place, connect, find_job, reach
from mapreduce_rq.cli.interrupts import Interrupts
from mapreduce_rq.cli.options import JobId, Json, KeyFile, Out, Output, PlainJson, Queue, Url, required
from mapreduce_rq.cli.out_file import OutFile
from mapreduce_rq.cli.screen.output import FORMATS, as_json
from mapreduce_rq.cli.screen.views import (
    LEADERLESS_SECONDS,
    LOOK_SECONDS,
    Seen,
    age_of,
    eta_words,
    job_data,
    job_state,
    living_first,
    memory_words,
    nothing,
    params_words,
    progress_words,
    remedy_words,
    snapshot_data,
    state_words,
    task_words,
    value_words,
    worker_data,
    worker_name,
    worker_state,
    workers_on,
)
from mapreduce_rq.cli.session import Session, Show, unled
from mapreduce_rq.cli.streams import say, show, write
from mapreduce_rq.cli.values import choice, integer, seconds
from mapreduce_rq.client.environment import DEFAULT_QUEUE
from mapreduce_rq.core.job.record import Done, State
from mapreduce_rq.core.text import count, duration, grouped, plural, rate, short, size
from mapreduce_rq.errors import BadMessage, CannotWrite, JobError, NoSuchJob

VALUE_WIDTH = 48
LABEL_WIDTH = 32
WAIT_SECONDS = 1.0
"""Of a job whose end was not told, for its word may be lost, the end is seen so late."""


def status(
    job: Annotated[
        str | None,
        typer.Argument(
            metavar="[JOB]",
            help="One job's id, or any part of it that no other job has.",
            show_default=False,
            autocompletion=job_ids,
        ),
    ] = None,
    *,
    url: Url = None,
    queue: Queue = DEFAULT_QUEUE,
    key_file: KeyFile = None,
    json: PlainJson = False,
) -> None:
    """Show the state of the queue, or of one job."""
    place = connect(required(url, "status"), queue, key_file)
    wanted = find_job(place.jobs, job) if job is not None else None
    took, snapshot, seen = look(place, also=() if wanted is None else (wanted,))
    if wanted is None:
        if json:
            write(as_json(snapshot_data(snapshot, seen, str(place.wire.endpoint), took)))
        else:
            show(_summary(snapshot, seen, str(place.wire.endpoint), took))
        return
    found = snapshot.job(wanted)
    if found is None:
        place.jobs.load(wanted)  # raises the reason why it cannot be read
        raise NoSuchJob(f"job {wanted} has just expired")
    if json:
        write(as_json(job_data(found, snapshot, seen)))
    else:
        show(_job(found, snapshot, seen))


STATES = ("running", "waiting", "done", "failed", "cancelled")
SORTS: dict[str, Callable[[JobView], Any]] = {
    "age": lambda job: -job.created,
    "name": lambda job: (job.label, -job.created),
    "time": lambda job: -job.report.elapsed_s,
    "state": lambda job: (job.state.word, -job.created),
}


def jobs(
    *,
    state: Annotated[
        str | None,
        typer.Option("--state", envvar="MRQ_STATE", metavar="|".join(STATES), help="Show only jobs in this state."),
    ] = None,
    limit: Annotated[
        str, typer.Option("--limit", envvar="MRQ_LIMIT", metavar="N", help="Show at most this many jobs.")
    ] = "200",
    sort: Annotated[
        str,
        typer.Option(
            "--sort",
            envvar="MRQ_SORT",
            metavar="|".join(SORTS),
            help="Order them: newest first, by name, longest first, or by state.",
        ),
    ] = "age",
    interval: Annotated[
        str | None,
        typer.Option(
            "-i",
            "--interval",
            envvar="MRQ_INTERVAL",
            metavar="SEC",
            help="Print it again and again, with this pause in between.",
        ),
    ] = None,
    url: Url = None,
    queue: Queue = DEFAULT_QUEUE,
    key_file: KeyFile = None,
    json: PlainJson = False,
) -> None:
    """List the jobs: what each is, who submitted it and who leads it."""
    wanted = None if state is None else choice("--state", state, STATES)
    order, most = SORTS[choice("--sort", sort, tuple(SORTS))], integer("--limit", limit, 1)
    pause = None if interval is None else max(0.1, seconds("--interval", interval))
    place = connect(required(url, "jobs"), queue, key_file)
    while True:
        newest_do = wanted is None and sort == "age" and most <= MAX_JOBS
        _, snapshot, seen = look(place, MAX_JOBS if newest_do else EVERY_JOB)
        found = [one for one in snapshot.jobs if wanted is None or job_state(one, seen) == wanted]
        found = sorted(found, key=order)[:most]
        if json:
            write(as_json([job_data(one, snapshot, seen) for one in found]))
        else:
            _list(found, snapshot, seen, nothing("job", snapshot.unread_jobs, wanted or ""))
        if pause is None:
            return
        time.sleep(pause)
        if not json:
            show([""])


EVERY_JOB = 1_000_000


def _list(found: Sequence[JobView], snapshot: Snapshot, seen: Seen, empty: str) -> None:
    rows = [
        (
            one.job,
            short(one.label, LABEL_WIDTH),
            state_words(one, snapshot, seen),
            progress_words(one),
            rate(one.report.rate) if job_state(one, seen) == "running" else "",
            eta_words(one, snapshot, seen),
            duration(one.report.elapsed_s),
            duration(max(0.0, seen.at - one.created)),
            one.by,
            one.leader if job_state(one, seen) == "running" else "",
            short(value_words(one), VALUE_WIDTH),
        )
        for one in found
    ]
    headers = ("JOB", "WHAT", "STATE", "COUNTED", "RATE", "LEFT", "TIME", "AGE", "SUBMITTED BY", "LED BY", "VALUE")
    _table(headers, rows, empty)
    for one in found:
        if what := remedy_words(one, snapshot, seen):
            say(f"{one.job}: {what}")


def workers(
    *,
    url: Url = None,
    queue: Queue = DEFAULT_QUEUE,
    key_file: KeyFile = None,
    json: PlainJson = False,
) -> None:
    """List the workers."""
    place = connect(required(url, "workers"), queue, key_file)
    _, snapshot, seen = look(place)
    if json:
        write(as_json([worker_data(one, seen) for one in snapshot.workers]))
        return
    rows = []
    for one in living_first(snapshot, seen):
        beat = one.beat
        age = age_of(one, seen)
        rows.append(
            (
                worker_name(one),
                worker_state(one, seen),
                short(task_words(one, snapshot), VALUE_WIDTH),
                f"{beat.lo}..{beat.hi}" if beat and beat.state != "idle" else "",
                rate(beat.rate) if beat else "",
                count(beat.done) if beat else "",
                size(beat.rss) if beat and beat.rss else "",
                duration(age) if age is not None else "",
            )
        )
    headers = ("WORKER", "STATE", "JOB", "TERMS", "TASKS", "DONE", "MEMORY", "SEEN")
    _table(headers, rows, nothing("worker", snapshot.unread_workers))


def queues(
    *,
    url: Url = None,
    key_file: KeyFile = None,
    json: PlainJson = False,
) -> None:
    """List the queues on the server: what waits there, what workers have in hand, and how many jobs run."""
    place = reach(required(url, "queues"), DEFAULT_QUEUE, key_file)
    found = []
    for name in sorted({name for wire in place.servers() for name in names_of_queues(wire)}):
        one = place.beside(name).snapshot()
        if one.dropped:
            say(f"{name}: {plural(one.dropped, 'entry', 'entries')} cannot be read: {one.why_dropped}")
        found.append(
            {
                "queue": name,
                "waiting": one.waiting,
                "in_hand": one.in_flight,
                "workers": sum(worker.beat is not None for worker in one.workers),
                "running": sum(job.state is State.RUNNING for job in one.jobs),
                "jobs": one.known_jobs,
            }
        )
    if json:
        write(as_json(found))
        return
    rows = [[grouped(value) if isinstance(value, int) else str(value) for value in one.values()] for one in found]
    _table(("QUEUE", "WAITING", "IN HAND", "WORKERS", "RUNNING", "JOBS"), rows, "no queues")


def result(
    job: JobId,
    *,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end of a job that runs.")] = False,
    url: Url = None,
    queue: Queue = DEFAULT_QUEUE,
    key_file: KeyFile = None,
    output: Output = "text",
    json: Json = False,
    out: Out = None,
) -> int:
    """Print the result of a job that has ended, as `mrq compute` prints it."""
    form = "json" if json else choice("--output", output, FORMATS)
    file = OutFile(out) if out is not None else None
    place = connect(required(url, "result"), queue, key_file)
    name = find_job(place.jobs, job)
    heard = BEGINNING
    looks = 0  # at a job that no process leads: one that was just submitted is led within the first
    with Interrupts():
        while True:
            state = place.jobs.load(name)
            if state is None:
                raise NoSuchJob(f"job {name} has just expired")
            if state.record is not None:
                break
            if state.faults:
                raise BadMessage(f"{state.faults[0]}; `mrq resume {name}` goes on with it, `mrq cancel {name}` ends it")
            if not wait:
                words = f"wait for it with `mrq attach {name}` or `mrq result --wait`"
                raise JobError(f"{name} is still running: {words}" if state.master else f"{unled(name)}; {words}")
            looks = 0 if state.master else looks + 1
            if looks == 2:
                say(unled(name))
            heard = place.journal.await_end(name, heard, WAIT_SECONDS)
    record = state.record
    if file is None or not isinstance(record, Done):
        return Session(show=Show(form)).report(place.with_value(record))
    try:
        count = file.write(place.fetched(record).written())
    except OSError as error:
        raise CannotWrite(f"--out: cannot write {file.path}: {error.strerror}; {name} keeps its result") from None
    return Session(show=Show(form)).report(replace(record, value=f"{plural(count, 'byte')} written to {file.path}"))


def look(place: Place, most: int = MAX_JOBS, also: Sequence[str] = ()) -> tuple[float, Snapshot, Seen]:
    """The seconds of a round trip; a snapshot with the newest ``most`` jobs, and ``also`` these; when it was taken."""
    took = place.round_trip()
    snapshot = place.snapshot(most=most, also=also)
    if snapshot.dropped:
        say(f"{plural(snapshot.dropped, 'entry', 'entries')} cannot be read: {snapshot.why_dropped}")
    return took, snapshot, Seen(time.time(), watch_quiet(place, snapshot))


def watch_quiet(place: Place, snapshot: Snapshot) -> dict[str, float]:
    """For how many seconds a job has not changed, by its id: for those whose last report is old, or from a wrong clock.

    One reading says nothing about a master, and the clocks of two hosts are never compared to decide. So the token of
    such a job is read until it changes: a master that is alive changes it every second. A job whose report is old is
    read for LOOK_SECONDS at most.
    """
    began, now = time.monotonic(), time.time()
    quiet: dict[str, tuple[str, float]] = {}
    for job in snapshot.jobs:
        age = now - (job.report.at or job.created)
        if job.state is State.RUNNING and job.master and not 0 <= age < LEADERLESS_SECONDS:
            quiet[job.job] = (job.token, LOOK_SECONDS if age > 0 else LEADERLESS_SECONDS)
    found: dict[str, float] = {}
    while watched := [name for name in quiet if name not in found]:
        time.sleep(LOOK_SECONDS / 4)
        tokens = place.wire.pipeline([("HGET", place.keys.job(name), "tok") for name in watched])
        passed = time.monotonic() - began
        for name, token in zip(watched, tokens, strict=True):
            before, enough = quiet[name]
            if (token or b"").decode(errors="replace") != before:
                found[name] = 0.0
            elif passed >= enough:
                found[name] = passed
    return found


def _summary(snapshot: Snapshot, seen: Seen, url: str, took: float) -> Iterator[str]:
    server = snapshot.server
    facts = [f"{server.product} {server.version} at {url}", memory_words(server), f"{duration(took)} away"]
    yield f"server   {', '.join(filter(None, facts))}"
    if server.warning:
        yield f"warning  {server.warning}"
    yield f"queue    {snapshot.queue}: {plural(snapshot.waiting, 'task')} waiting, {snapshot.in_flight} in hand"
    yield f"workers  {_tally((worker_state(one, seen) for one in snapshot.workers), snapshot.unread_workers)}"
    yield f"jobs     {_tally((state_words(one, snapshot, seen) for one in snapshot.jobs), snapshot.unread_jobs)}"
    for one in snapshot.jobs:
        if one.state is State.RUNNING:
            words = [state_words(one, snapshot, seen), progress_words(one), value_words(one)]
            if what := remedy_words(one, snapshot, seen):
                words.append(what)
            else:
                words[2:2] = [rate(one.report.rate), eta_words(one, snapshot, seen)]
            yield f"         {one.job}  {'  '.join(word for word in words if word)}"


def _tally(words: Iterable[str], unread: int) -> str:
    counts: dict[str, int] = {}
    for word in words:
        counts[word] = counts.get(word, 0) + 1
    found = [f"{number} {word}" for word, number in sorted(counts.items())]
    return ", ".join([*found, *[f"{unread} that cannot be read here"] * bool(unread)]) or "none"


def _job(job: JobView, snapshot: Snapshot, seen: Seen) -> Iterator[str]:
    report = job.report
    of = report.counted if report.total is None else report.total
    counted = grouped(of) if report.total is None else f"{grouped(report.counted)} of {grouped(of)}"
    rows = [
        ("job", job.job),
        ("computation", f"{job.computation} {params_words(job)}".rstrip()),
        ("submitted", f"{duration(max(0.0, seen.at - job.created))} ago" + (f" by {job.by}" if job.by else "")),
        ("state", state_words(job, snapshot, seen)),
        ("counted", f"{plural(of, 'term', shown=counted)} ({progress_words(job)})"),
        ("value", short(value_words(job), 200)),
        ("rate", rate(report.rate) if job_state(job, seen) == "running" else ""),
        ("left", eta_words(job, snapshot, seen)),
        ("time", duration(report.elapsed_s)),
        ("tasks", f"{grouped(report.tasks)} counted, {report.out} out, {report.ignored} answered twice"),
        ("workers", str(workers_on(job, snapshot, seen))),
        ("master", job.master if job_state(job, seen) == "running" else ""),
        ("remedy", remedy_words(job, snapshot, seen)),
    ]
    return (f"{name:<12} {text}" for name, text in rows if text)


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]], nothing: str) -> None:
    if not rows:
        say(nothing)
        return
    widths = [max(len(row[column]) for row in [headers, *rows]) for column in range(len(headers))]
    line: Callable[[Sequence[str]], str] = lambda row: "  ".join(  # noqa: E731  two lines need it
        f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)
    ).rstrip()
    show(line(row) for row in [headers, *rows])
