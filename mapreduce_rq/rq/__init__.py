"""Map-reduce on an RQ fleet that you have already: the functions that RQ workers run.

    job = queue.enqueue("mapreduce_rq.rq.map_reduce", "shop.stats:revenue", range(10**6), reduce="sum", job_timeout=-1)
    job.get_meta()["progress"], job.return_value()

One RQ job is a whole map-reduce: it leads the job, it maps, and it enqueues worker loops for rq workers that are idle.
RQ only places these. All that is known of the job stands in keys of our own on the same Redis, which is found by the RQ
job's connection. No argument is secret: signing keys come from MRQ_KEY or MRQ_KEY_FILE on the hosts of the rq workers.

No signal handler is installed and RQ's process is not changed: our workers are processes of their own, so every class
of rq worker can run these functions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import rq
from rq.job import Job as RQJob

from mapreduce_rq.broker.clients import asking, client_of, endpoint_of
from mapreduce_rq.broker.connection import parse_url
from mapreduce_rq.client.client import Client
from mapreduce_rq.client.environment import chosen_queue
from mapreduce_rq.client.loops import MAX_IDLE
from mapreduce_rq.core.job.record import State
from mapreduce_rq.core.messages import Limits
from mapreduce_rq.core.reducers.base import Law
from mapreduce_rq.errors import BadParameter, NoSuchJob
from mapreduce_rq.rq.host import LED, Host
from mapreduce_rq.rq.lead import run
from mapreduce_rq.rq.loop import Loop
from mapreduce_rq.runtime.tracing import flush

__all__ = ["map_reduce", "on_stopped", "work"]


def map_reduce(
    function: Any,
    items: Iterable[Any] | int,
    *,
    reduce: Any = "sum",
    zero: Any = ...,
    law: Law | str = Law.ORDERED,
    options: Mapping[str, Any] | None = None,
    limits: Limits | Mapping[str, Any] | None = None,
    setup: Any = None,
    shared: Any = ...,
    helpers: int | None = None,
    queue: str | None = None,
) -> Any:
    """The fold of ``function(item)`` over all items, as an RQ job; its return value is the reducer's Python object.

    ``function``, ``reduce``, ``zero``, ``law``, ``options``, ``setup``, ``shared``: as of ``Client.map_reduce``.
    ``items``: as there, or a number N for ``range(N)``. ``limits``: a Limits, or its settings by name. ``helpers``: how
    many rq workers are asked to help (None: as many as are idle). ``queue``: a queue of ours, not of RQ (None:
    MRQ_QUEUE, or ``default``).

    ``meta`` of the RQ job says, once a second, ``progress`` (0 to 1), ``counted``, ``total``, ``value`` with its
    ``bound`` and ``bound_kind``, ``workers``, ``state``, and at the end ``digest``, ``skipped``, ``retried`` and
    ``ended``. A value that RQ's serializer cannot carry is returned as its text. RQ's ``job_timeout`` lets go of the
    job and never cancels it: another run (``Retry``, ``requeue``) goes on from what is counted; items other than a
    range are begun anew.
    Raises UsageError, JobFailed naming the term.
    """
    host = Host.here("map_reduce")
    if helpers is not None and helpers < 0:
        raise BadParameter(f"{helpers} helpers: a number from 0 on, or None for as many as there are idle rq workers")
    try:
        with Client(host.endpoint, local=1, queue=queue, as_rq=True, host=host.job.id) as client:
            planned = client.planner.function(
                function,
                range(items) if isinstance(items, int) else items,
                reduce=reduce,
                zero=zero,
                law=law,
                options=options,
                limits=limits_of(limits),
                setup=setup,
                shared=shared,
            )
            return run(host, client, planned, helpers)
    finally:
        host.close()
        flush()  # a horse ends without what is registered at exit


def work(queue: str | None = None, *, max_idle: float | None = MAX_IDLE) -> str:
    """One worker for our queue, as an RQ job, to be enqueued with ``job_timeout=-1``. Returns why it left.

    It leaves after ``max_idle`` seconds without a task (None: it does not), when its rq worker is told to end, when
    rq workers are suspended, when its RQ job is cancelled, and when other RQ jobs wait for an rq worker, one loop for
    each. It finishes the task in hand and gives the rest back. As an rq worker does, it runs every function that is
    named. Raises UsageError, JobError.
    """
    host = Host.here("work")
    if max_idle is not None and max_idle <= 0:
        raise BadParameter(f"max_idle: {max_idle:g} s: above 0, or None")
    try:
        return Loop(host, chosen_queue(queue), max_idle).run()
    finally:
        host.close()


def on_stopped(job: RQJob, connection: Any) -> None:
    """Cancel the job that an RQ job has led, and say so in its ``meta``.

    It is for ``on_stopped=Callback("mapreduce_rq.rq.on_stopped")``.
    """
    queue, _, ours = (connection.hget(job.key, LED) or b"").decode(errors="replace").partition(" ")
    if not ours:
        return
    with Client(endpoint_of(connection), local=0, queue=queue, as_rq=True) as client:
        try:
            client.cancel(ours, now=True)
        except NoSuchJob:
            pass  # the job has ended, and its record has expired
    stopped: Any = job  # not all of its methods have types
    stopped.meta = {**stopped.get_meta(), "state": State.CANCELLED.word}
    stopped.save_meta()


def queue_at(url: str, name: str) -> tuple[rq.Queue, int]:
    """The RQ queue of this name on a server, and how many rq workers listen there. Raises BadURL, BrokerError."""
    endpoint = parse_url(url)
    with asking(endpoint):
        found = rq.Queue(name, connection=client_of(endpoint))
        return found, rq.Worker.count(queue=found)


def limits_of(given: Limits | Mapping[str, Any] | None) -> Limits | None:
    """Limits, which may be given as settings by name, as JSON has them. Raises BadParameter."""
    if given is None or isinstance(given, Limits):
        return given
    try:
        return Limits(**given)
    except TypeError as error:
        raise BadParameter(f"limits: {error}") from None
