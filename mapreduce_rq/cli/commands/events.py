"""`mrq events`: what happened to the jobs of a queue, one JSON object a line."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from mapreduce_rq.broker.journal import BEGINNING
from mapreduce_rq.cli.completion import job_ids
from mapreduce_rq.cli.connect import connect, find_job
from mapreduce_rq.cli.interrupts import Interrupts
from mapreduce_rq.cli.options import KeyFile, Queue, Url, required
from mapreduce_rq.cli.screen.output import as_json
from mapreduce_rq.cli.streams import say, write
from mapreduce_rq.client.environment import DEFAULT_QUEUE
from mapreduce_rq.core.messages import Event
from mapreduce_rq.core.text import plural

WAIT_SECONDS = 5.0


def events(
    job: Annotated[
        str | None,
        typer.Argument(
            metavar="[JOB]",
            help="Print only events of this job: its id, or any part of it that no other job has.",
            show_default=False,
            autocompletion=job_ids,
        ),
    ] = None,
    *,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Do not end: print events as they happen.")] = False,
    url: Url = None,
    queue: Queue = DEFAULT_QUEUE,
    key_file: KeyFile = None,
) -> None:
    """Print what happened to jobs, as one JSON object on each line.

    Submitted, taken over, let go, worker lost, reclaimed, part answer, term retried, term skipped, poison, full, done,
    failed, cancelled, retried; the newest 10 000.
    """
    place = connect(required(url, "events"), queue, key_file)
    wanted = find_job(place.jobs, job) if job is not None else None
    journal, after, dropped = place.journal, BEGINNING, 0
    with Interrupts():
        while True:
            last, found, bad = journal.read(after, 0.0)
            if last == after and not follow:
                break
            if last == after:
                last, found, bad = journal.read(after, WAIT_SECONDS)
            after, dropped = last, dropped + bad
            for event in found:
                if wanted is None or event.job == wanted:
                    write(as_json(_data(event)))
    if dropped:
        say(f"{plural(dropped, 'event')} cannot be read: they are signed with another key, or with none")


def _data(event: Event) -> dict[str, object]:
    """Its data, with all keys."""
    found = msgspec.structs.asdict(event)
    return {"at": found.pop("at"), "what": found.pop("what"), **found}
