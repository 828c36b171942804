"""Options that several commands share: one spelling, one environment variable, one help text each.

A flag is stronger than its MRQ_* variable, and the variable is stronger than the default. Values arrive as texts (see
groups.py).
"""

from __future__ import annotations

from typing import Annotated, Any

import typer
from msgspec.structs import replace

from mapreduce_rq.cli.completion import job_ids
from mapreduce_rq.cli.values import integer
from mapreduce_rq.client.environment import DEFAULT_QUEUE, KEY_FILE_VARIABLE, QUEUE_VARIABLE, URL_VARIABLES
from mapreduce_rq.errors import UsageError
from mapreduce_rq.pipes.url import NO_SERVER, is_pipes, parse_pipes

WHERE = "Where it runs"
HOW = "How it runs"
OUTPUT = "What you see"


def _url(beside: str = "") -> Any:
    return typer.Option(
        "-u",
        "--url",
        envvar=list(URL_VARIABLES),
        metavar="URL",
        help="The Redis or Valkey: redis://host:6379/0, rediss://, unix:///path, redis+sentinel://host/service, "
        f"redis+cluster://host. Its password may come from MRQ_PASSWORD or MRQ_PASSWORD_FILE instead.{beside}",
        rich_help_panel=WHERE,
    )


Url = Annotated[str | None, _url()]
AnyUrl = Annotated[str | None, _url(" Empty: a private server. pipes: is for workers over pipes, and no server.")]
"""For commands that also run without a server of others."""
Queue = Annotated[
    str,
    typer.Option(
        "--queue",
        envvar=QUEUE_VARIABLE,
        metavar="NAME",
        help="The queue that jobs and workers share.",
        rich_help_panel=WHERE,
    ),
]
Queues = Annotated[
    list[str] | None,
    typer.Option(
        "--queue",
        envvar=QUEUE_VARIABLE,
        metavar="NAME,...",
        help="The queues, the most important first: a,b, or the option several times.",
        rich_help_panel=WHERE,
    ),
]
KeyFile = Annotated[
    str | None,
    typer.Option(
        "--key-file",
        envvar=KEY_FILE_VARIABLE,
        metavar="FILE",
        help="Signing keys, one on each line, made by `mrq key`. The first signs; each is accepted. Or set MRQ_KEY.",
        rich_help_panel=WHERE,
    ),
]
Local = Annotated[
    str | None,
    typer.Option(
        "--local",
        envvar="MRQ_LOCAL",
        metavar="N",
        help="Workers on this host, for this job. Default: one for each core, or none if there is a URL.",
        rich_help_panel=WHERE,
    ),
]
Collect = Annotated[
    str | None,
    typer.Option(
        "--collect",
        envvar="MRQ_COLLECT",
        metavar="HOW",
        help="With -u pipes: how this process waits for its workers: sequential, select, poll or epoll. Default: the "
        "best that this system has.",
        rich_help_panel=WHERE,
    ),
]
PerTerm = Annotated[
    bool,
    typer.Option(
        "--per-term",
        help="With -u pipes: a process for each term, which answers and ends.",
        rich_help_panel=WHERE,
    ),
]
OnRq = Annotated[
    str | None,
    typer.Option(
        "--on-rq",
        envvar="MRQ_ON_RQ",
        metavar="N",
        help="Use N rq workers that run already: each gets one worker loop, as an RQ job.",
        rich_help_panel=WHERE,
    ),
]
RqQueue = Annotated[
    str,
    typer.Option(
        "--rq-queue",
        envvar="MRQ_RQ_QUEUE",
        metavar="NAME",
        help="With --on-rq: the queue of RQ on which its jobs are placed.",
        rich_help_panel=WHERE,
    ),
]
Output = Annotated[
    str,
    typer.Option(
        "-o",
        "--output",
        envvar="MRQ_OUTPUT",
        metavar="text|value|json",
        help="Print the whole result, its value alone, or one JSON object.",
        rich_help_panel=OUTPUT,
    ),
]
Out = Annotated[
    str | None,
    typer.Option(
        "--out",
        envvar="MRQ_OUT",
        metavar="FILE",
        help="Write the value, of any size, to this file; the rest is printed as usual.",
        rich_help_panel=OUTPUT,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="The same as -o json.", rich_help_panel=OUTPUT)]
PlainJson = Annotated[
    bool, typer.Option("--json", help="Print one JSON object instead of a table.", rich_help_panel=OUTPUT)
]
Quiet = Annotated[
    bool,
    typer.Option(
        "-q", "--quiet", envvar="MRQ_QUIET", help="Print errors only: no progress, no notices.", rich_help_panel=OUTPUT
    ),
]
MetricsPort = Annotated[
    str | None,
    typer.Option(
        "--metrics-port",
        envvar="MRQ_METRICS_PORT",
        metavar="[HOST:]PORT",
        help="Also serve the queue's metrics for Prometheus at /metrics, and at /healthz whether this process works.",
        rich_help_panel=OUTPUT,
    ),
]
JobId = Annotated[
    str,
    typer.Argument(
        metavar="JOB",
        help="The job's id, or any part of it that no other job has.",
        show_default=False,
        autocompletion=job_ids,
    ),
]


MAX_LOCAL = 1024
MAX_ON_RQ = 4096
RQ_QUEUE = "default"


def local_workers(text: str | None, url: str | None) -> int | None:
    """The number in --local; without a shared server at least one is needed. Raises BadParameter."""
    return None if text is None else integer("--local", text, 0 if url and not is_pipes(url) else 1, MAX_LOCAL)


def over_pipes(url: str | None, collect: str | None, total: int | None, *, per_term: bool) -> tuple[str, int | None]:
    """The URL with what these options add to it, and the number of workers if they say that. Raises UsageError."""
    if not is_pipes(url):
        if collect is not None or per_term:
            raise UsageError(f"{'--per-term' if per_term else '--collect'} goes with workers over pipes: add -u pipes:")
        return url or "", None
    assert url is not None
    pipes = parse_pipes(url)
    if collect is not None:
        pipes = parse_pipes(str(replace(pipes, collect=collect)))
    if not per_term:
        return str(pipes), None
    if total is None:
        raise UsageError("--per-term needs to know how many terms there are: give --terms, and no tolerance")
    pipes = replace(pipes, once=True)
    pipes.check_room(total)
    return str(pipes), max(1, total)


def rq_workers(text: str | None, url: str | None) -> int | None:
    """The number in --on-rq. Raises BadParameter, UsageError."""
    if text is None:
        return None
    if not url or is_pipes(url):
        raise UsageError("--on-rq needs the Redis of the rq workers: give -u redis://host or set MRQ_URL")
    return integer("--on-rq", text, 1, MAX_ON_RQ)


def chosen_queues(given: list[str] | None) -> list[str]:
    """The queues, the first first. Raises UsageError for one that is named twice."""
    found = " ".join(given or ()).replace(",", " ").split() or [DEFAULT_QUEUE]
    if len(set(found)) < len(found):
        raise UsageError(f"--queue: {', '.join(found)}: a queue is named twice")
    return found


def required(url: str | None, command: str) -> str:
    """The URL, for a command that needs a server. Raises UsageError."""
    if is_pipes(url):
        raise UsageError(NO_SERVER)
    if not url:
        raise UsageError(f"`mrq {command}` needs a Redis: give -u redis://host or set MRQ_URL")
    return url
