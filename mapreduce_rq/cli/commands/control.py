"""`mrq attach`, `mrq resume`, `mrq cancel`, `mrq standby`: commands for jobs that are there already, from any host."""

from __future__ import annotations

import signal
import threading
import time
from typing import Annotated

import typer

from mapreduce_rq.cli.connect import connect, find_job
from mapreduce_rq.cli.interrupts import Interrupts, Signalled
from mapreduce_rq.cli.options import (
    JobId,
    Json,
    KeyFile,
    Local,
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
from mapreduce_rq.cli.session import Session, Show, Where, left_alone
from mapreduce_rq.cli.streams import aside, say
from mapreduce_rq.cli.values import choice
from mapreduce_rq.client.environment import DEFAULT_QUEUE
from mapreduce_rq.core.job.record import Record, State
from mapreduce_rq.runtime.clock import Clock
from mapreduce_rq.runtime.master.cancel import cancel as cancel_job
from mapreduce_rq.runtime.master.standby import POLL_SECONDS, Standby


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
    show = Show("json" if json else choice("--output", output, FORMATS), quiet)
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
    return Session(show=show).report(place.with_value(record))


def _await_end(standby: Standby, watcher: Watcher) -> Record:
    said = False
    while True:
        state = standby.wait()
        assert state is not None, "its stop is never set"
        if state.record is not None:
            return state.record
        if not said:
            said = True
            watcher.noticed(f"{standby.job} has no master: mrq resume {standby.job}")
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
    show = Show("json" if json else choice("--output", output, FORMATS), quiet, None if out is None else OutFile(out))
    where = Where(url=required(url, "resume"), queue=queue, local=local_workers(local, url), key_file=key_file)
    return Session(where, show).resume(lambda verbs: find_job(verbs, job))


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
    """Cancel a job, with or without a master. Workers stop after the task in hand."""
    place = connect(required(url, "cancel"), queue, key_file)
    name = find_job(place.jobs, job)
    before = place.jobs.load(name)
    state = cancel_job(place.jobs, Clock(), name, now=now)
    if state.word == State.CANCELLED and (before is None or before.running):
        say(f"cancelled: {name}")
    else:
        say(f"{name} has ended already: {state.word}")


def standby(
    *,
    url: Url = None,
    queue: Queue = DEFAULT_QUEUE,
    key_file: KeyFile = None,
    quiet: Quiet = False,
) -> None:
    """Stand by for every job of the queue: lead each job whose master dies or lets go, until told to stop."""
    where = Where(url=required(url, "standby"), queue=queue, local=0, key_file=key_file)
    stop = threading.Event()
    watcher = Watcher("standby", quiet=quiet)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with aside(), Session(where).client() as client:
        if not quiet:
            say(f"standing by for the jobs on queue {queue} of {client.endpoint}")
        client.stand_by(_Notices(watcher), stop)


class _Notices:
    """Passes notices on, but no progress: there may be many jobs."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher

    def progressed(self, report: object) -> None:
        """Do nothing: progress is not shown."""

    def noticed(self, text: str) -> None:
        """Print the notice as one line."""
        self._watcher.noticed(text)
