"""A snapshot's jobs and workers in words and as plain data. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from mapreduce_rq.broker.inspect import ServerInfo
from mapreduce_rq.broker.snapshot import JobView, Snapshot, WorkerView
from mapreduce_rq.core.job.record import Cancelled, Done, State
from mapreduce_rq.core.text import count, duration, job_label, plural, size

SCHEMA = 1
SILENT_SECONDS = 15.0
"""A worker whose beat is older than this is shown as silent: beats come every three seconds."""
LEADERLESS_SECONDS = 8.0
"""A job without a sign of its master for this time has no master: masters write every second."""
LOOK_SECONDS = 2.0
"""Two readings of a token at least this far apart show whether its master is alive."""
_NAMED = re.compile(r"\(([^()]*):(\d+)(?: on [^()]*)?\)$")
"""The end of what a supervisor writes about a dead worker: its name."""
_FUNCTION_DETAILS = {"function", "code", "around", "pickle", "reduce_pickle", "reduce_options", "start", "step"}
_FUNCTION_DETAILS |= {"python", "merge_code", "merge_zero", "merge_law", "carried"}
"""Parameters of a user function's job that are not shown to people: its label and its reducer say enough."""


@dataclass(frozen=True)
class Seen:
    """When a snapshot was read; and, where several were read, for how long a worker or a job has not changed."""

    at: float  # unix seconds
    unchanged: Mapping[str, float] = field(default_factory=dict)  # worker or job id -> seconds, by our own clock


def age_of(worker: WorkerView, seen: Seen) -> float | None:
    """Seconds since its last sign of life. What we have seen ourselves is trusted before the clocks of two hosts."""
    if worker.beat is None:
        return None
    by_clock = abs(seen.at - worker.beat.at)
    by_looks = seen.unchanged.get(worker.wid)
    return by_clock if by_looks is None else min(by_clock, by_looks)


def worker_name(worker: WorkerView) -> str:
    """Its given name and pid, or its host and pid. A dead worker's name stands in its supervisor's obituary."""
    if worker.beat is None:
        found = _NAMED.search(worker.obituary)
        return f"{found[1]}:{found[2]}" if found and worker.address.endswith(f":{found[2]}") else worker.address
    if not worker.beat.name or worker.beat.name == worker.address:
        return worker.address
    return f"{worker.beat.name}:{worker.beat.pid}"


def worker_state(worker: WorkerView, seen: Seen) -> str:
    """idle, busy, stopped; or silent (no sign of life for long), or dead (its supervisor saw it die)."""
    if worker.beat is None:
        return "dead"
    age = age_of(worker, seen)
    return "silent" if age is not None and age > SILENT_SECONDS else worker.beat.state


def silence(job: JobView, seen: Seen) -> float:
    """Seconds without a sign of its master; 0 where the master is there, or where one reading cannot decide.

    A master writes every second. We decide by two readings of our own that show no change. How long the silence lasted
    before them is taken from the last report, by the master's clock; where there is none, from the submission.
    """
    looked = seen.unchanged.get(job.job, 0.0)
    if looked < LOOK_SECONDS:
        return 0.0
    return max(looked, seen.at - (job.report.at or job.created))


def job_state(job: JobView, seen: Seen) -> str:
    """running, done, failed, cancelled; or waiting: it should run, and has no master."""
    if job.state is not State.RUNNING:
        return job.state.word
    return "waiting" if not job.master or silence(job, seen) >= LEADERLESS_SECONDS else "running"


def lacks(job: JobView, snapshot: Snapshot, seen: Seen) -> Literal["", "master", "workers"]:
    """What a running job waits for; '' if it has all that it needs, or has ended."""
    if job_state(job, seen) == "waiting":
        return "master"
    alive = any(worker_state(one, seen) in {"idle", "busy"} for one in snapshot.workers)
    return "" if job.state is not State.RUNNING or alive else "workers"


def state_words(job: JobView, snapshot: Snapshot, seen: Seen) -> str:
    """Its state for people: running, no master, no workers, done, failed, cancelled."""
    lacking = lacks(job, snapshot, seen)
    return f"no {lacking}" if lacking else job_state(job, seen)


def remedy_words(job: JobView, snapshot: Snapshot, seen: Seen) -> str:
    """What a running job waits for, and what to do; '' if nothing needs to be done."""
    lacking = lacks(job, snapshot, seen)
    if lacking == "workers":
        if snapshot.unread_workers:
            return f"{nothing('worker', snapshot.unread_workers)}: mrq doctor"
        return "no worker is on this queue: mrq worker"
    if lacking != "master":
        return ""
    quiet = silence(job, seen)
    what = f"no sign of its master for {duration(quiet)}" if job.master else "it has no master"
    if job.lazy:
        return f"{what}, and its items are gone with it: mrq cancel {job_label(job.job)}"
    every = "" if job.master else ", or mrq master for all such jobs"
    return f"{what}: mrq resume {job_label(job.job)}{every}"


def nothing(kind: Literal["job", "worker"], unread: int, state: str = "") -> str:
    """Why a list of jobs or workers is empty. ``unread``: those that are there and cannot be read, as with another key.

    ``state``: the only one that was asked for.
    """
    if unread:
        return f"{plural(unread, kind)} cannot be read here, and no other is {state or 'there'}"
    return f"no {kind} is {state}" if state else f"no {kind}s"


def workers_on(job: JobView, snapshot: Snapshot, seen: Seen) -> int:
    """How many workers take part, or took part in a job that has ended. Each worker is counted for one job only."""
    if job.state is not State.RUNNING:
        return job.record.workers if isinstance(job.record, Done) else job.report.workers
    return sum(
        one.beat is not None and one.beat.job == job.job and worker_state(one, seen) in {"idle", "busy"}
        for one in snapshot.workers
    )


def task_words(worker: WorkerView, snapshot: Snapshot, *, shorten: bool = False) -> str:
    """The job that a busy worker computes for, and whether that job is over; the running job that an idle worker
    refuses, and why. For a dead worker: how it died.
    """
    if worker.beat is None:
        return worker.obituary
    if worker.beat.state == "idle":
        job, _, why = worker.beat.refuses.partition(": ")
        refused = snapshot.job(job)
        running = refused is not None and refused.state is State.RUNNING
        return f"refuses {job_label(job) if shorten else job}: {why}" if running else ""
    found = snapshot.job(worker.beat.job)
    name = job_label(worker.beat.job) if shorten else worker.beat.job
    return f"{name} (over)" if found is not None and found.state is not State.RUNNING else name


WORKER_ORDER = ("busy", "stopped", "idle", "silent", "dead")
"""The order of workers in lists: those that live come first."""


def living_first(snapshot: Snapshot, seen: Seen) -> list[WorkerView]:
    """The workers in that order, then by address."""
    return sorted(snapshot.workers, key=lambda one: (WORKER_ORDER.index(worker_state(one, seen)), one.address))


def memory_words(server: ServerInfo) -> str:
    """``1.2 MB of 64 MB``; '' where the server does not tell us."""
    if not server.told:
        return ""
    return size(server.used_memory) + (f" of {size(server.maxmemory)}" if server.maxmemory else "")


def progress_words(job: JobView) -> str:
    """``42 %``, or the terms counted where the total is not known."""
    share = job.share
    return count(job.report.counted) if share is None else f"{int(100 * share)} %"


def value_words(job: JobView) -> str:
    """The value, or the running value, with what is known of its error."""
    record = job.record
    if record is None:
        if job.report.value is None:
            return ""
        error = job.report.error
        return job.report.value if error is None else f"{job.report.value} ± {error:.2g}"
    if isinstance(record, Done):
        value = record.value or ""  # a large value is not fetched for a list
        return value if record.bound in {None, "0"} else f"{value} ± {record.bound}"
    if isinstance(record, Cancelled):
        return "" if record.message == job.state.word else record.message
    return record.message if record.kind == "Deadline" else f"{record.kind}: {record.message}"


def params_words(job: JobView) -> str:
    """``x=2 terms=50``; for a user's function ``package.module:function reduce=sum terms=1000``."""
    params = {name: value for name, value in job.params.items() if name not in _FUNCTION_DETAILS}
    label = params.pop("label", None)
    words = [f"{name}={value}" for name, value in params.items() if isinstance(value, (str, int, float))]
    return " ".join([str(label), *words] if label else words)


def eta_words(job: JobView, snapshot: Snapshot, seen: Seen) -> str:
    """The time left; '' where it is not known, or where the job waits."""
    left = job.seconds_left
    return "" if left is None or lacks(job, snapshot, seen) else duration(left)


def job_data(job: JobView, snapshot: Snapshot, seen: Seen) -> dict[str, Any]:
    """One job for programs; keys are stable."""
    report = job.report
    return {
        "job": job.job,
        "computation": job.computation,
        "params": job.params,
        "state": "waiting" if lacks(job, snapshot, seen) else job_state(job, seen),
        "waits_for": lacks(job, snapshot, seen) or None,
        "silent_s": silence(job, seen),
        "created": job.created,
        "master": job.master,
        "label": job.label,
        "by": job.by,
        **msgspec.structs.asdict(report),
        "workers": workers_on(job, snapshot, seen),
        "eta_s": job.seconds_left,
        "record": job.record.data if job.record is not None else None,
    }


def worker_data(worker: WorkerView, seen: Seen) -> dict[str, Any]:
    """One worker for programs; keys are stable."""
    beat = msgspec.structs.asdict(worker.beat) if worker.beat is not None else {}
    return {
        "worker": worker.wid,
        **beat,
        "state": worker_state(worker, seen),
        "held": worker.held,
        "age_s": age_of(worker, seen),
        "obituary": worker.obituary or None,
    }


def snapshot_data(snapshot: Snapshot, seen: Seen, url: str, round_trip: float) -> dict[str, Any]:
    """All of it for programs; keys are stable."""
    server = snapshot.server
    return {
        "schema": SCHEMA,
        "at": seen.at,
        "url": url,
        "queue": snapshot.queue,
        "server": {
            "product": server.product,
            "version": server.version,
            "used_memory": server.used_memory,
            "maxmemory": server.maxmemory,
            "eviction_policy": server.eviction_policy,
            "clients": server.clients,
            "round_trip_s": round(round_trip, 6),
        },
        "waiting": snapshot.waiting,
        "in_flight": snapshot.in_flight,
        "dropped": snapshot.dropped,
        "jobs": [job_data(job, snapshot, seen) for job in snapshot.jobs],
        "workers": [worker_data(worker, seen) for worker in snapshot.workers],
    }
