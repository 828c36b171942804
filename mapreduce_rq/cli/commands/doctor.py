"""`mrq doctor`: what can be wrong between a user and a result, each finding with its remedy."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Literal

import typer

from mapreduce_rq.broker.cluster import SLOTS, slots_served
from mapreduce_rq.broker.inspect import ServerInfo, check_types, inspect
from mapreduce_rq.broker.leftovers import Leftovers, find_leftovers
from mapreduce_rq.broker.leftovers import clear as clear_leftovers
from mapreduce_rq.broker.snapshot import Snapshot
from mapreduce_rq.cli.connect import Place, reach
from mapreduce_rq.cli.options import KeyFile, PlainJson, Queue, Url, required
from mapreduce_rq.cli.screen.output import as_json
from mapreduce_rq.cli.screen.views import Seen, job_state, nothing, worker_name, worker_state
from mapreduce_rq.cli.streams import show, write
from mapreduce_rq.cli.values import seconds
from mapreduce_rq.client.environment import DEFAULT_QUEUE
from mapreduce_rq.core.job.record import State
from mapreduce_rq.core.sealing import kid_text
from mapreduce_rq.core.text import duration, plural, size
from mapreduce_rq.errors import BrokerDown, BrokerError, BrokerRefused, ForeignKey
from mapreduce_rq.runtime.pool.reporter import BEAT_SECONDS
from mapreduce_rq.version import __version__

Level = Literal["ok", "warn", "fail"]

PINGS = 20
FAR_SECONDS = 0.005
FULL_SHARE = 0.8
SKEW_SECONDS = 5.0
LONG_SECONDS = 10.0
"""Only after this time is a worker reported that still computes for a job that has ended: it stops after its task."""
WATCH_SECONDS = 3.0
"""A master writes every second: two snapshots this far apart show whether a job has one."""
CLEAR_SECONDS = 2 * BEAT_SECONDS + 1
"""A worker writes every BEAT_SECONDS: an entry that is the same after this time belongs to no living process, and may
be deleted. After less, `--clear` would take their tasks and jobs from processes that have another key.
"""


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    level: Level
    what: str
    text: str
    remedy: str = ""


def doctor(
    *,
    url: Url = None,
    queue: Queue = DEFAULT_QUEUE,
    key_file: KeyFile = None,
    watch: Annotated[
        str,
        typer.Option(
            "--watch",
            envvar="MRQ_WATCH",
            metavar="SEC",
            help="How long to watch running jobs for a sign of their masters. With --clear: 7 seconds at least.",
        ),
    ] = f"{WATCH_SECONDS:g}",
    clear: Annotated[
        bool,
        typer.Option("--clear", help="Delete leftovers: what our key cannot read, and what belongs to no process."),
    ] = False,
    json: PlainJson = False,
) -> int:
    """Find out what is wrong, and say what helps.

    Each line is ok, warn or fail. The exit code is 1 if a line is fail, and 69 if the server does not answer.
    """
    patience = seconds("--watch", watch, zero=True)
    if clear:
        patience = max(patience, CLEAR_SECONDS)
    where = required(url, "doctor")
    findings: list[Finding] = []
    code = 0
    try:
        findings += examine(reach(where, queue, key_file), patience, clear=clear)
    except BrokerError as error:
        remedy = "" if isinstance(error, BrokerRefused) else "check that the server runs and takes commands"
        findings.append(Finding("fail", "connection", str(error), remedy))
        code = error.exit_code
    if json:
        write(as_json([asdict(finding) for finding in findings]))
    else:
        width = max(len(finding.what) for finding in findings)
        show(
            f"{one.level:<4}  {one.what:<{width}}  {one.text}{f'; {one.remedy}' if one.remedy else ''}"
            for one in findings
        )
    return code or int(any(finding.level == "fail" for finding in findings))


def examine(place: Place, patience: float, *, clear: bool = False) -> Iterator[Finding]:
    """All findings about a queue and its server, the server first. Raises BrokerError if the server goes away."""
    info = place.info
    yield Finding("ok", "connection", f"{place.wire.endpoint} answers as {info.product} {info.version}")
    yield from _server(info)
    if place.wire.endpoint.nodes:
        yield from _cluster(place)
    yield _latency(place)
    yield _scripts(place)
    try:
        check_types(place.jobs.wire, place.jobs.keys)
    except ForeignKey as error:
        yield Finding("fail", "keys", str(error))
        return
    yield Finding("ok", "keys", f"those of queue {place.keys.name} are of our types")
    snapshot = place.snapshot()
    seen = Seen(time.time())
    left = find_leftovers(place.wire, place.keys, place.codecs)
    running = {job.job: job.token for job in snapshot.jobs if job_state(job, seen) == "running"}
    if (running or left) and patience:
        time.sleep(patience)
        snapshot = place.snapshot()
        still = {job.job for job in snapshot.jobs if running.get(job.job) == job.token}
        seen = Seen(time.time(), dict.fromkeys(still, float("inf")))
    yield from _entries(place, snapshot)
    yield from _workers(snapshot, seen)
    yield from _jobs(snapshot, seen)
    yield from _leftovers(place, left, clear=clear)


def _server(info: ServerInfo) -> Iterator[Finding]:
    if info.is_replica:
        yield Finding(
            "fail",
            "role",
            "this is a replica, which takes no writes",
            "give the URL of the primary, or of the sentinels",
        )
    if not info.told:
        text = "this user may not use INFO: persistence, eviction and memory cannot be checked"
        yield Finding("warn", "server", text, "ACL SETUSER ... +info lets them be checked")
        return
    if info.aof:
        yield Finding("ok", "persistence", "append-only file")
    elif info.snapshots:
        yield Finding("warn", "persistence", "snapshots only: a crash forgets minutes of work", "set appendonly yes")
    else:
        yield Finding("warn", "persistence", "none: a restart forgets all jobs", "set appendonly yes")
    if info.warning:
        yield Finding("fail" if info.maxmemory else "warn", "eviction", info.warning)
    else:
        yield Finding("ok", "eviction", "noeviction")
    used = size(info.used_memory)
    if info.maxmemory and info.used_memory >= info.maxmemory and info.eviction_policy == "noeviction":
        text = f"{used} of {size(info.maxmemory)} are used: the server refuses writes"
        yield Finding("fail", "memory", text, "raise maxmemory or free some")
    elif info.maxmemory and info.used_memory > FULL_SHARE * info.maxmemory:
        yield Finding("warn", "memory", f"{used} of {size(info.maxmemory)} are used", "raise maxmemory or free some")
    else:
        yield Finding("ok", "memory", used + (f" of {size(info.maxmemory)}" if info.maxmemory else ", no limit"))


def _cluster(place: Place) -> Iterator[Finding]:
    """What is to be known of all shards, and of the servers that do not have our queue."""
    found = place.shards()
    mine = f"{place.wire.address[0]}:{place.wire.address[1]}"
    gaps = SLOTS - slots_served(found)
    text = f"{plural(len(found), 'shard')}, queue {place.keys.name} on {mine}"
    if gaps:
        yield Finding("fail", "shards", f"{text}; {plural(gaps, 'slot')} without a node", "queues there cannot be used")
    else:
        yield Finding("ok", "shards", text)
    bare = [f"{shard.nodes[0][0]}:{shard.nodes[0][1]}" for shard in found if len(shard.nodes) == 1]
    if bare:
        yield Finding("warn", "replicas", f"{_some(bare)}: none, so its queues wait for it", "give it a replica")
    else:
        yield Finding("ok", "replicas", "each shard has one at least")
    for shard in found:
        where = f"{shard.nodes[0][0]}:{shard.nodes[0][1]}"
        if where == mine:
            continue
        try:
            with place.server(shard) as wire:
                info = inspect(wire)
        except BrokerError as error:
            yield Finding("fail", where, str(error), "its queues wait for it")
            continue
        for one in _server(info):
            yield replace(one, what=f"{one.what} {where}")


def _latency(place: Place) -> Finding:
    took = [place.round_trip() for _ in range(PINGS)]
    text = f"{duration(statistics.median(took))} a round trip, at most {duration(max(took))} of {PINGS}"
    if statistics.median(took) > FAR_SECONDS:
        return Finding("warn", "latency", text, "small tasks suffer: run masters near the server")
    return Finding("ok", "latency", text)


def _scripts(place: Place) -> Finding:
    try:
        place.wire.call("EVAL", "return 1", 0)
    except BrokerDown:
        raise  # an outage says nothing about scripts
    except BrokerError as error:
        return Finding("fail", "scripts", str(error), "allow EVAL and EVALSHA")
    return Finding("ok", "scripts", "run")


def _entries(place: Place, snapshot: Snapshot) -> Iterator[Finding]:
    if kid := place.codecs.keyring.kid:
        yield Finding("ok", "signing", f"messages are signed ({kid_text(kid)})")
    else:
        text = "messages are not signed: every program that can write to this Redis can give workers tasks"
        yield Finding("warn", "signing", text, "make a key with `mrq key` and set MRQ_KEY on all hosts")
    if snapshot.dropped:
        text = f"{plural(snapshot.dropped, 'entry', 'entries')} cannot be read, first: {snapshot.why_dropped}"
        yield Finding("warn", "entries", text)


def _workers(snapshot: Snapshot, seen: Seen) -> Iterator[Finding]:
    states = [worker_state(one, seen) for one in snapshot.workers]
    alive = [one for one, state in zip(snapshot.workers, states, strict=True) if state not in {"dead", "silent"}]
    if not alive and snapshot.unread_workers:
        why = "give them and us one key, and one version"
        yield Finding("warn", "workers", nothing("worker", snapshot.unread_workers), why)
    elif not alive:
        yield Finding("warn", "workers", "none", "start `mrq worker` with the same URL")
    else:
        yield Finding("ok", "workers", f"{plural(len(alive), 'worker')}, {states.count('busy')} busy")
    for state in ("silent", "dead", "stopped"):
        names = [worker_name(one) for one, now in zip(snapshot.workers, states, strict=True) if now == state]
        if names:
            why = "a master gives their tasks to others" if state != "stopped" else "continue or kill them"
            yield Finding("warn", "workers", f"{len(names)} {state}: {_some(names)}", why)
    beats = [one.beat for one in alive if one.beat is not None]
    over = {job.job for job in snapshot.jobs if job.state is not State.RUNNING}
    for beat in beats:
        if beat.job in over and beat.state == "busy" and beat.seconds > LONG_SECONDS:
            text = f"{beat.host}:{beat.pid} has computed for {duration(beat.seconds)} for {beat.job}, which has ended"
            yield Finding("warn", "workers", text, f"if it hangs, kill -9 {beat.pid} on {beat.host}: it is replaced")
    others = sorted({beat.version for beat in beats} - {__version__})
    if others:
        text = f"workers run {', '.join(others)}, this is {__version__}"
        yield Finding("warn", "versions", text, "install one version on all hosts")
    elif beats:
        yield Finding("ok", "versions", f"all workers run {__version__}")
    skewed = sorted({beat.host for beat in beats if abs(beat.at - seen.at) > SKEW_SECONDS})
    if skewed:
        yield Finding(
            "warn",
            "clocks",
            f"{_some(skewed)}: off by seconds, or beats come late (nothing but displays depends on it)",
        )


def _jobs(snapshot: Snapshot, seen: Seen) -> Iterator[Finding]:
    running = [job for job in snapshot.jobs if job.state is State.RUNNING]
    alone = [job for job in running if job_state(job, seen) == "waiting"]
    for job in alone:
        if job.lazy:
            text = f"{job.job} has no master, and its items are gone with it"
            yield Finding("warn", "jobs", text, f"mrq cancel {job.job}")
        else:
            yield Finding("warn", "jobs", f"{job.job} has no master", f"mrq resume {job.job}")
    if len(running) > len(alone) or not running:
        text = f"{len(running) - len(alone)} running, {len(snapshot.jobs) - len(running)} ended"
        unread = f", {snapshot.unread_jobs} that cannot be read here" if snapshot.unread_jobs else ""
        yield Finding("ok", "jobs", text + unread)


def _leftovers(place: Place, before: Leftovers, *, clear: bool) -> Iterator[Finding]:
    now = find_leftovers(place.wire, place.keys, place.codecs)
    found = before.still(now)
    if clear:
        clear_leftovers(place.wire, place.keys, found)
    remedy = "cleared" if clear else "`mrq doctor --clear` deletes it"
    whys: dict[str, int] = {}
    for why in found.tasks.values():
        whys[why] = whys.get(why, 0) + 1
    if whys:
        reason = "; ".join(f"{count}: {why}" for why, count in list(whys.items())[:3])
        text = f"{plural(len(found.tasks), 'task')} in the queue that our key cannot read ({reason})"
        yield Finding("warn", "orphans", text, remedy)
    for job, (_, why) in found.jobs.items():
        yield Finding("warn", "orphans", f"{place.keys.job(job)}: {why}", remedy)
    for wid, (_, why) in found.workers.items():
        yield Finding("warn", "orphans", f"the entry of worker {wid.rpartition(':')[0]}: {why}", remedy)
    for wid, tasks in found.hands.items():
        text = f"{plural(tasks, 'task')} in the hands of {wid.rpartition(':')[0]}, which is no known worker"
        yield Finding("warn", "orphans", text, "cleared" if clear else f"their job's master sends them again; {remedy}")
    for job in found.streams:
        text = f"replies to {job}, which does not run, in {place.keys.replies(job)}"
        yield Finding("warn", "orphans", text, remedy)
    others = len({*before.jobs, *now.jobs} - found.jobs.keys()) + len({*now.workers} - found.workers.keys())
    if others:
        text = f"{plural(others, 'job or worker', 'jobs and workers')} with another key, in use"
        yield Finding("warn", "orphans", text, "left alone; with their key in MRQ_KEY or --key-file you see them")
    if not now and not before:
        yield Finding("ok", "orphans", "none")


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
