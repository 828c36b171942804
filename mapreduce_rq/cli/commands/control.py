"""`mrq attach`, `resume`, `cancel`, `retry`, `purge`, `master`: commands for jobs that are there already, anywhere."""

from __future__ import annotations

import signal
import threading
import time
from typing import Annotated

import typer

from mapreduce_rq.broker.pruning import delete_ended
from mapreduce_rq.cli.connect import connect, find_job, once_there, wait_for
from mapreduce_rq.cli.interrupts import Interrupts, Signalled
from mapreduce_rq.cli.options import (
    JobId,
    Json,
    KeyFile,
    Local,
    MetricsPort,
    Out,
    Output,
    Queue,
    Quiet,
    Url,
    local_workers,
    required,
)
from mapreduce_rq.cli.out_file import OutFile
from mapreduce_rq.cli.progress import Watcher
from mapreduce_rq.cli.screen.output import FORMATS
from mapreduce_rq.cli.session import Session, Show, Where, left_alone, unled
from mapreduce_rq.cli.streams import aside, or_else, say, show, write
from mapreduce_rq.cli.values import choice, integer, seconds
from mapreduce_rq.client.environment import DEFAULT_QUEUE
from mapreduce_rq.client.identity import process_name
from mapreduce_rq.core.job.record import Record, State
from mapreduce_rq.core.text import plural
from mapreduce_rq.errors import UsageError
from mapreduce_rq.runtime.clock import Clock
from mapreduce_rq.runtime.master.cancel import cancel as cancel_job
from mapreduce_rq.runtime.master.standby import POLL_SECONDS, Standby


def retry(
    job: JobId,
    *,
    url: Url = None,
    queue: Queue = DEFAULT_QUEUE,
    key_file: KeyFile = None,
) -> None:
    """Queue a failed or cancelled job anew, from what it has counted, and print its id.

    It is a new job, and an `mrq master` leads it. The record of the old one stays. What was counted after its last
    checkpoint, about a second, is computed again and counted once.
    """
    where = Where(url=required(url, "retry"), queue=queue, local=0, key_file=key_file)
    with aside(), Session(where).client() as client:
        again = client.retry(find_job(client.verbs, job))
    with or_else(f"{again.id} is queued: mrq result {again.id} --wait | mrq cancel {again.id}"):
        write(again.id)


ENDED = (State.DONE.word, State.FAILED.word, State.CANCELLED.word)


def purge(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be deleted.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Delete.")] = False,
    state: Annotated[
        str | None,
        typer.Option(
            "--state",
            envvar="MRQ_STATE",
            metavar="|".join(ENDED),
            help="Delete only jobs that ended in this state. Default: all that have ended.",
        ),
    ] = None,
    older: Annotated[
        str,
        typer.Option(
            "--older",
            envvar="MRQ_OLDER",
            metavar="SEC",
            help="Delete only jobs that were submitted longer ago than this.",
        ),
    ] = "0",
    url: Url = None,
    queue: Queue = DEFAULT_QUEUE,
    key_file: KeyFile = None,
) -> None:
    """Delete the records of jobs that have ended. Jobs that run are left alone."""
    if dry_run == yes:
        raise UsageError("say --dry-run to see what would be deleted, or --yes to delete it")
    wanted = ENDED if state is None else (choice("--state", state, ENDED),)
    least = seconds("--older", older, zero=True)
    place = connect(required(url, "purge"), queue, key_file)
    now = time.time()
    snapshot = place.snapshot(most=EVERY_JOB)
    if snapshot.unread_jobs:
        left = plural(snapshot.unread_jobs, "job")
        say(f"{left} cannot be read here, and will be left alone ({snapshot.why_dropped}); see `mrq doctor`")
    found = [one.job for one in snapshot.jobs if one.state.word in wanted and now - one.created >= least]
    if dry_run:
        show(found)
        say(f"{plural(len(found), 'record')} would be deleted: say --yes")
        return
    say(f"deleted: {plural(delete_ended(place.jobs, found), 'record')}")


EVERY_JOB = 1_000_000
USUAL_AT_ONCE, MOST_AT_ONCE = 32, 1024
"""Jobs that one process leads at the same time, and urgent ones beside them: each costs what its master remembers."""


def attach(
    job: JobId,
    *,
    url: Url = None,
    queue: Queue = DEFAULT_QUEUE,
    key_file: KeyFile = None,
    output: Output = "text",
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Watch a job to its end and print its result.

    Several people may watch one job. Ctrl-C ends the watching, not the job.
    """
    shown = Show("json" if json else choice("--output", output, FORMATS), quiet)
    place = connect(required(url, "attach"), queue, key_file)
    name = find_job(place.jobs, job)
    watcher = Watcher(name.rpartition("-")[0], quiet=quiet)
    standby = Standby(place.jobs, Clock(), name, watcher, takes_over=False)
    with Interrupts():
        watcher.noticed(f"watching {name}")
        try:
            record = _await_end(standby, watcher)
        except Signalled:
            watcher.close()
            say(left_alone(name, led=standby.led))
            raise
        finally:
            watcher.close()
    return Session(show=shown).report(place.with_value(record))


def _await_end(standby: Standby, watcher: Watcher) -> Record:
    said = False
    while True:
        state = standby.wait()
        assert state is not None, "its stop is never set"
        if state.record is not None:
            return state.record
        if not said:
            said = True
            watcher.noticed(unled(standby.job))
        time.sleep(POLL_SECONDS)


def resume(
    job: JobId,
    *,
    url: Url = None,
    local: Local = None,
    queue: Queue = DEFAULT_QUEUE,
    key_file: KeyFile = None,
    output: Output = "text",
    json: Json = False,
    out: Out = None,
    quiet: Quiet = False,
) -> int:
    """Continue a job whose master is gone, from what is counted, and print its result.

    While another master leads the job, this command stands by. It takes over when that master dies or lets go.
    """
    shown = Show("json" if json else choice("--output", output, FORMATS), quiet, None if out is None else OutFile(out))
    where = Where(url=required(url, "resume"), queue=queue, local=local_workers(local, url), key_file=key_file)
    return Session(where, shown).resume(lambda verbs: find_job(verbs, job))


def cancel(
    job: JobId,
    *,
    now: Annotated[
        bool, typer.Option("--now", help="Kill workers within two seconds, and do not let them finish their task.")
    ] = False,
    url: Url = None,
    queue: Queue = DEFAULT_QUEUE,
    key_file: KeyFile = None,
) -> None:
    """Cancel a job, whether or not it has a master. Workers stop after the task in hand."""
    place = connect(required(url, "cancel"), queue, key_file)
    name = find_job(place.jobs, job)
    before = place.jobs.load(name)
    state = cancel_job(place.jobs, Clock(), name, now=now, journal=place.journal)
    if state.word == State.CANCELLED and (before is None or before.running):
        say(f"cancelled: {name}")
    else:
        say(f"{name} has ended already: {state.word}")


def master(
    *,
    concurrency: Annotated[
        str,
        typer.Option(
            "-c",
            "--concurrency",
            envvar="MRQ_CONCURRENCY",
            metavar="N|auto",
            help="Jobs led at the same time, and urgent ones beside them; auto: 32. More take turns of 30 s.",
        ),
    ] = "auto",
    url: Url = None,
    queue: Queue = DEFAULT_QUEUE,
    key_file: KeyFile = None,
    metrics_port: MetricsPort = None,
    quiet: Quiet = False,
) -> None:
    """Lead jobs until told to stop: those submitted with --detach, and each whose master dies or lets go.

    Several may run, on any hosts: they share the jobs, and each takes over those of another that dies.
    """
    most = (
        USUAL_AT_ONCE if concurrency == "auto" else integer("--concurrency", concurrency, 1, MOST_AT_ONCE, word="auto")
    )
    where = Where(url=required(url, "master"), queue=queue, local=0, key_file=key_file)
    if metrics_port is not None:
        from mapreduce_rq.cli.metrics.exporter import listen, master_in, serve_beside  # 40 ms, for who wants metrics

        listening = listen("--metrics-port", metrics_port)
        serve_beside(listening, where.url, queue, key_file, master_in(process_name()))
    wait_for(where.url, queue, key_file, "waiting for it").wire.close()
    stop = threading.Event()
    watcher = Watcher("master", quiet=quiet)
    with aside(), once_there(Session(where).client, "waiting for it") as client:  # it may have gone meanwhile
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        if not quiet:
            say(f"leading the jobs on queue {queue} of {client.endpoint}, {most} at once")
        client.stand_by(_Notices(watcher), stop, at_once=most)


class _Notices:
    """Passes notices on, but no progress: there may be many jobs."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher

    def progressed(self, report: object) -> None:
        """Do nothing: progress is not shown."""

    def noticed(self, text: str) -> None:
        """Print the notice as one line."""
        self._watcher.noticed(text)
