"""A whole map-reduce as one RQ job: it leads the job here, maps here, too, and enqueues loops for idle rq workers.

The master has a thread of its own, and the thread that RQ gave us only waits. RQ raises exceptions in the latter: its
alarm at ``job_timeout``, a second TERM, an imminent shutdown. So these interrupt no step of the master: it is told to
let go of the job, with a checkpoint. Another run of this RQ job, or a standby, goes on from there.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import rq

from mapreduce_rq.broker.jobs import Jobs
from mapreduce_rq.client.client import Client
from mapreduce_rq.client.loops import Loops
from mapreduce_rq.core.computation import Computation
from mapreduce_rq.core.job.events import Source
from mapreduce_rq.core.job.record import Report, State
from mapreduce_rq.core.messages import Checkpoint, Spec
from mapreduce_rq.errors import BrokerError, JobCancelled, JobError, MrqError
from mapreduce_rq.rq.host import Host
from mapreduce_rq.runtime.master.ended import Ended
from mapreduce_rq.runtime.master.master import Master
from mapreduce_rq.runtime.master.standby import HINTED_LOOKS, Standby

log = logging.getLogger("mapreduce_rq.rq")

LOOK_SECONDS = 1.0
SHORT_SECONDS = 0.2
"""Seconds after which helpers are asked for: a job that is over by then needs none."""
LET_GO_SECONDS = 10.0
"""Seconds that letting go of a job may take: RQ kills a horse a minute after its ``job_timeout``."""
LONGEST_VALUE = 100
"""Characters of a running value, or of a result, in ``meta`` at most."""


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """While entered, errors of Redis or the job are only logged: they must not lose what was computed."""
    try:
        yield
    except MrqError as error:
        log.warning("%s", error)


class Lead:
    """One job, led in a thread of its own. ``resumed``: an earlier run of the same RQ job has begun it; ``counted``: by
    another job of an earlier run, which has failed.
    """

    def __init__(
        self,
        client: Client,
        spec: Spec,
        computation: Computation[Any],
        source: Source | None,
        *,
        resumed: bool = False,
        counted: Checkpoint | None = None,
    ) -> None:
        self.job = spec.job
        self.report: Report | None = None
        self.notice = ""
        self.ended: Ended | None = None
        self.error: BaseException | None = None
        self._client = client
        self._spec, self._computation, self._source = spec, computation, source
        self._resumed = resumed
        self._counted = counted
        self._next_report = 0.0
        self._leader: Standby | Master | None = None
        self._stopping = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"mrq {spec.job}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Wait at most ``seconds`` for the end. Returns whether it is over."""
        return self._over.wait(seconds)

    def let_go(self, seconds: float) -> None:
        """Let go of the job, with a checkpoint. Waits at most ``seconds`` for that."""
        self._stopping = True
        if self._leader is not None:
            self._leader.stop = True
        if self._thread.is_alive():
            self._over.wait(seconds)
        if self._spec.lazy and self.ended is None:
            with quietly():  # only this process has its items; another run of this RQ job gets them again
                self._client.cancel(self.job)

    def progressed(self, report: Callable[[], Report]) -> None:
        """Keep the master's report, once in LOOK_SECONDS; see Observer."""
        now = time.monotonic()
        if now >= self._next_report:
            self._next_report = now + LOOK_SECONDS
            self.report = report()

    def noticed(self, text: str) -> None:
        """Keep the master's notice, and log it; see Observer."""
        self.notice = text
        log.warning("%s", text)

    def _run(self) -> None:
        client = self._client
        verbs: Jobs | None = None
        try:
            verbs = client.wires.verbs_over(client.wires.borrow())  # the thread that RQ gave us has the client's own
            if self._resumed:
                self.ended = client.leader.follow(self.job, self, self._watch, verbs=verbs, looks=HINTED_LOOKS)
            else:
                master = client.leader.master(self._spec, self._computation, self, source=self._source, verbs=verbs)
                if self._counted is not None:
                    master.begin_with(self._counted)
                self._watch(master)
                self.ended = client.leader.lead(master, self._watch)
        except BaseException as error:  # raised where the result is asked for
            self.error = error
        finally:
            if verbs is not None:
                client.wires.give_back(verbs.wire, sound=False)
            self._over.set()

    def _watch(self, leader: Standby | Master) -> None:
        self._leader = leader
        leader.stop = self._stopping


def run(host: Host, client: Client, planned: tuple[Spec, Computation[Any], Source | None], helpers: int | None) -> Any:
    """The result of the job, or what RQ is to do instead: run this RQ job again."""
    spec, computation, source = planned
    lead = _begun(host, client, spec, computation, source)
    loops = _helpers(host, client.keys.name, helpers)
    look_at = placed_at = time.monotonic()
    placed = False
    try:
        while not lead.wait(SHORT_SECONDS if not placed else LOOK_SECONDS):
            now = time.monotonic()
            if loops is not None and not placed and now - placed_at >= SHORT_SECONDS / 2:
                loops.start()
            placed = True
            if now < look_at:
                continue
            look_at = now + LOOK_SECONDS * 0.9
            if (code := client.pool_code()) is not None:
                raise JobError(f"the worker beside the master has ended with exit code {code}: {lead.job} is let go of")
            word = _tell(host, client, lead)
            if word == "stopped":
                with quietly():
                    client.cancel(lead.job)
                lead.wait(LET_GO_SECONDS)
                _post(host, facts_of(lead) | {"state": State.CANCELLED.word})
                raise JobCancelled(f"{lead.job} was cancelled, as RQ job {host.job.id} was")
            if word == "leaving":
                lead.let_go(LET_GO_SECONDS)
                if lead.ended is None and lead.error is None:
                    log.warning("%s is let go of: this rq worker ends, and the RQ job is enqueued again", lead.job)
                    _post(host, {"notice": "let go of, as its rq worker ended; it goes on from what is counted"})
                    return rq.Retry(max=(host.job.number_of_retries or 0) + 1, enqueue_at_front=True)
                break
    except BaseException:
        lead.let_go(LET_GO_SECONDS)
        raise
    finally:
        if loops is not None:
            loops.stop()
    return _result(host, client, lead)


def _begun(host: Host, client: Client, spec: Spec, computation: Computation[Any], source: Source | None) -> Lead:
    """The job under way: the one that an earlier run of this RQ job has left, if it is the same, or a new one."""
    queue, job = host.led()
    resumed, counted = False, None
    if job and queue == client.keys.name:
        before = client.job_state(job)
        if before is not None and before.spec.lazy:
            with quietly():
                client.cancel(job)  # only the earlier run had its items; this run has them again
        elif before is not None and _same(before.spec, spec) and before.state in {State.RUNNING, State.DONE}:
            spec, resumed = before.spec, True
        elif before is not None and _same(before.spec, spec):
            counted = before.checkpoint  # it has failed, or was cancelled: what is counted of it is still true
    lead = Lead(client, spec, computation, source, resumed=resumed, counted=counted)
    host.leads(client.keys.name, spec.job)
    lead.start()
    return lead


def _same(one: Spec, other: Spec) -> bool:
    """Whether two specs are of the same job. Other clients of Redis may have written which job an RQ job has led."""
    return (one.computation, one.params, one.total, one.limits, one.code) == (
        (other.computation, other.params, other.total, other.limits, other.code)
    )


def _helpers(host: Host, queue: str, helpers: int | None) -> Loops | None:
    if helpers == 0:
        return None

    def wanted(there: int) -> int:
        return there + host.idle() if helpers is None else helpers

    return Loops(host.queue, queue, wanted)


def _tell(host: Host, client: Client, lead: Lead) -> str:
    """Look what RQ wants, and write the progress of the job to RQ."""
    try:
        seen = host.look(client.keys.told_to_leave(host.job.id))
        if seen.stopped:
            return "stopped"
        host.post(facts_of(lead))
        return "leaving" if seen.leaving else ""
    except BrokerError as error:  # the master says so, and goes on
        log.debug("%s", error)
        return ""


def facts_of(lead: Lead) -> dict[str, Any]:
    """The facts of a running job for ``meta``."""
    report = lead.report or Report()
    return {
        "progress": round(report.counted / report.total, 4) if report.total else None,
        "state": "running",
        "job": lead.job,
        "counted": report.counted,
        "total": report.total,
        "rate": round(report.rate, 3),
        "workers": report.workers,
        "value": short(report.value),
        "bound": None if report.error is None else repr(report.error),
        "bound_kind": report.bound_kind,
        "digest": None,
        "notice": lead.notice,
    }


def short(value: str | None) -> str | None:
    """A value, cut to the length that is shown."""
    return value if value is None or len(value) <= LONGEST_VALUE else f"{value[:LONGEST_VALUE]}…"


def _result(host: Host, client: Client, lead: Lead) -> Any:
    if lead.error is not None:
        raise lead.error
    if lead.ended is None:
        raise JobError(f"{lead.job} was let go of before its end, and keeps what is counted: mrq resume {lead.job}")
    try:
        result = client.result_of(lead.ended)
    except JobError:
        _post(host, facts_of(lead) | {"state": lead.ended.state.word})
        raise  # its checkpoint is there for another run of this RQ job
    native = result.native
    facts = facts_of(lead) | {
        "state": "done",
        "progress": 1.0,
        "counted": result.terms_used + len(result.record["skipped"]),
        "total": result.terms,
        "value": short(result.record["value"]),
        "bound": result.bound,
        "bound_kind": result.bound_kind,
        "digest": result.digest,
        "ended": result.ended,
        "skipped": [entry["term"] for entry in result.record["skipped"]],
        "retried": [entry["term"] for entry in result.retried],
        "tasks": result.tasks,
        "workers": result.workers,
        "elapsed_s": round(result.elapsed_s, 3),
    }
    _post(host, facts)
    with quietly():
        host.leads_no_more()
    return native if host.carries(native) else result.value


def _post(host: Host, facts: dict[str, Any]) -> None:
    with quietly():
        host.post(facts)
