"""`mrq metrics`: what Prometheus reads of a queue."""

from __future__ import annotations

from typing import Annotated

import typer

from mapreduce_rq.broker.connection import LOOK_SECONDS
from mapreduce_rq.cli.connect import connect
from mapreduce_rq.cli.interrupts import Interrupts
from mapreduce_rq.cli.listening import port_of
from mapreduce_rq.cli.metrics.exporter import USUAL_PORT, listen, serve, well
from mapreduce_rq.cli.options import KeyFile, Queue, Quiet, Url, required
from mapreduce_rq.cli.streams import say
from mapreduce_rq.client.environment import DEFAULT_QUEUE


def metrics(
    *,
    port: Annotated[
        str,
        typer.Option(
            "--port",
            envvar="MRQ_PORT",
            metavar="[HOST:]PORT",
            help="Where to listen. Without a host: at all addresses of this machine. 0: any free port.",
        ),
    ] = USUAL_PORT,
    url: Url = None,
    queue: Queue = DEFAULT_QUEUE,
    key_file: KeyFile = None,
    quiet: Quiet = False,
) -> None:
    """Serve the queue's metrics for Prometheus, until told to stop.

    They are at /metrics, and /healthz says whether Redis answers. It only reads.
    Anyone who reaches the port may read numbers, and no names, parameters or values of jobs.
    """
    where = required(url, "metrics")
    listening = listen("--port", port)
    endpoint = connect(where, queue, key_file).wire.endpoint
    if not quiet:
        say(f"metrics of queue {queue} of {endpoint} at port {port_of(listening)}: /metrics, /healthz")
    with Interrupts():
        serve(listening, lambda: connect(where, queue, key_file, within=LOOK_SECONDS), queue, well)
