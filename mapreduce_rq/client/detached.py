"""Jobs that are queued for an `mrq master` to lead: the process that submits one may end at once."""

from __future__ import annotations

from typing import Any, Protocol

from msgspec.structs import replace

from mapreduce_rq.broker.jobs import Jobs
from mapreduce_rq.client.found_job import Asker, FoundJob
from mapreduce_rq.client.identity import process_name
from mapreduce_rq.computations import load
from mapreduce_rq.core.computation import Computation
from mapreduce_rq.core.job.record import State
from mapreduce_rq.core.messages import Checkpoint, Event, Spec
from mapreduce_rq.errors import BrokerDown, NoSuchJob, TooLarge, UsageError
from mapreduce_rq.functions.trust import Trust
from mapreduce_rq.runtime.clock import Clock
from mapreduce_rq.runtime.master.observer import Silent


class Client(Asker, Protocol):
    """The part of a client that these functions need."""

    clock: Clock
    trust: Trust

    @property
    def embedded(self) -> bool:
        """Whether the server ends with the client."""


def detach(client: Client, spec: Spec, computation: Computation[Any]) -> FoundJob:
    """Queue a job. Raises UsageError, BrokerError, TooLarge."""
    if client.embedded:
        raise UsageError("a detached job needs a Redis that stays: a private server ends with its client")
    if spec.lazy:
        raise UsageError("a detached job cannot have items that come while it runs: give a range, a list, or files")
    with client.wires.using() as verbs:
        _queue(client, verbs, spec, computation)
    return FoundJob(client, spec.job)


def retry(client: Client, job: str) -> FoundJob:
    """Queue a failed or cancelled job anew, from what it has counted. Raises NoSuchJob, UsageError, BrokerError."""
    state = client.job_state(job)
    if state is None:
        raise NoSuchJob(f"there is no job {job} on queue {client.keys.name}: see `mrq jobs`")
    if state.running or state.state is State.DONE:
        raise UsageError(f"{job} is {state.state.word}: only a job that failed or was cancelled is tried again")
    if state.spec.lazy:
        raise UsageError(f"{job} cannot be tried again: its items came from a process that is gone")
    name = f"{state.spec.computation}-{client.clock.random(16).hex()}"
    spec = replace(state.spec, job=name, created=client.clock.wall(), by=process_name(), traceparent="")
    computation = load(spec.computation).to_lead(spec.params, client.trust)
    with client.wires.using() as verbs:
        _queue(client, verbs, spec, computation, state.checkpoint)
        again = Event(job=job, what="retried", by=process_name(), text=spec.job, at=client.clock.wall())
        client.leader.journal(verbs).tell([again])
    return FoundJob(client, spec.job)


def _queue(
    client: Client, verbs: Jobs, spec: Spec, computation: Computation[Any], counted: Checkpoint | None = None
) -> None:
    master = client.leader.master(spec, computation, Silent(), verbs=verbs)
    if counted is not None:
        master.begin_with(counted)
    try:
        try:
            master.submit(hand_over=True)
        except BrokerDown:
            verbs.wire.connect()
            master.submit(hand_over=True)  # the second try finds out whether the first was done
        master.span.handed_over()
    except TooLarge as error:
        master.span.broken(error)
        remedy = "put the items into files, and give Files"
        raise TooLarge("the job with its items", error.size, error.limit, remedy) from None
