"""`mrq report` and `mrq trace`: what happened while a job ran, after its end."""

from __future__ import annotations

from typing import Annotated

import typer

from mapreduce_rq.cli.connect import Place, connect, find_job
from mapreduce_rq.cli.options import OUTPUT, JobId, KeyFile, PlainJson, Queue, Url, required
from mapreduce_rq.cli.out_file import OutFile
from mapreduce_rq.cli.screen.output import as_json
from mapreduce_rq.cli.screen.page import page_of
from mapreduce_rq.cli.screen.trace import trace_of
from mapreduce_rq.cli.streams import say, write
from mapreduce_rq.client.environment import DEFAULT_QUEUE
from mapreduce_rq.core.job.record import Record
from mapreduce_rq.core.job.timeline import Timeline, timeline_data
from mapreduce_rq.errors import CannotWrite, NoSuchJob, UsageError

File = Annotated[
    str | None,
    typer.Option("-o", "--out", envvar="MRQ_OUT", metavar="FILE", help="Write to this file.", rich_help_panel=OUTPUT),
]


def report(
    job: JobId,
    *,
    url: Url = None,
    queue: Queue = DEFAULT_QUEUE,
    key_file: KeyFile = None,
    out: File = None,
    json: PlainJson = False,
) -> None:
    """Write a page about a job that has ended: its result, and what each worker did at which time.

    The page is one file and needs no network. With --json: the same facts as data.
    """
    file = _file(out, needed=not json)
    place = connect(required(url, "report"), queue, key_file)
    record, timeline = _ended(place, job)
    if json:
        kept = timeline_data(timeline) if timeline is not None else None
        text = as_json({"record": record.data, "timeline": kept}) + "\n"
    else:
        text = page_of(record.data, timeline)
    _put(file, text)


def trace(
    job: JobId,
    *,
    url: Url = None,
    queue: Queue = DEFAULT_QUEUE,
    key_file: KeyFile = None,
    out: File = None,
) -> None:
    """Write what each worker of an ended job did at which time, for Perfetto.

    The file is in the Chrome trace event format: open it at https://ui.perfetto.dev.
    """
    file = _file(out, needed=True)
    place = connect(required(url, "trace"), queue, key_file)
    record, timeline = _ended(place, job)
    if timeline is None:
        raise NoSuchJob(f"no timeline is kept of {record.job}: an older version led it")
    _put(file, as_json(trace_of(timeline)) + "\n")


def _file(out: str | None, *, needed: bool) -> OutFile | None:
    if out is None and needed:
        raise UsageError("say where to write: --out FILE")
    return OutFile(out) if out is not None else None


def _ended(place: Place, job: str) -> tuple[Record, Timeline | None]:
    return place.ended(find_job(place.jobs, job))


def _put(file: OutFile | None, text: str) -> None:
    if file is None:
        write(text.rstrip("\n"))
        return
    try:
        file.write([text.encode()])
    except OSError as error:
        raise CannotWrite(f"cannot write {file.path}: {error.strerror}") from None
    say(f"written to {file.path}")
