"""The jobs that a worker has met: ready to be worked on, refused, or over.

A worker meets a job with the job's first task, and prepares it once. It asks Redis again about a job that seems over,
because its master may have submitted it anew meanwhile.
"""

from __future__ import annotations

import logging
import math
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from mapreduce_rq.broker.pieces import Away, LaidApart, LaidFold
from mapreduce_rq.broker.shared import fetch
from mapreduce_rq.broker.tasks import Tasks
from mapreduce_rq.core.bodies import Pieces
from mapreduce_rq.core.computation import Computation, Interruption
from mapreduce_rq.core.foreign_errors import kind_of, message_of
from mapreduce_rq.core.job.record import State
from mapreduce_rq.core.messages import Failure, Spec, Task, Tried
from mapreduce_rq.errors import BadMessage, BrokerError, ForeignKey
from mapreduce_rq.runtime.clock import Clock
from mapreduce_rq.runtime.server.shelf import Shelf
from mapreduce_rq.runtime.worker.probe import numerics
from mapreduce_rq.runtime.worker.shared import obtain
from mapreduce_rq.runtime.worker.slate import Slate

log = logging.getLogger("mapreduce_rq.worker")

VOID_SECONDS = 0.2
"""Seconds after which we ask again about a job that seems over: its master may have submitted it anew."""
JOBS_KEPT = 64


class Ready(NamedTuple):
    """A job that this worker can work on."""

    computation: Computation[Any]
    spec: Spec
    shelf: Shelf | None  # the place of its large bodies, with a private server
    pieces: Pieces | None  # the place of its shuffle's pieces


class Host(Protocol):
    """The worker, as a job's computation sees it."""

    def read(self) -> None:
        """Read the answer to a settle on its way, which must be done before any other request."""

    def note_laid(self, fold: LaidFold) -> None:
        """Note pieces that were laid aside: they are kept until the answer that names them has arrived."""

    def leave_when_answered(self) -> None:
        """See ``Computation.leave``."""

    def calls_are_made(self) -> None:
        """See ``Computation.called``."""

    def wait_to_try(self, seconds: float) -> None:
        """Wait before a term is tried again."""

    def note_tried(self, tried: Tried) -> None:
        """Note a term that took more than one call."""


class KnownJobs:
    """The jobs that one worker knows. ``prepare`` makes a computation of a spec, or raises MrqError to refuse it."""

    def __init__(
        self,
        wid: str,
        tasks: Tasks,
        clock: Clock,
        slate: Slate,
        *,
        prepare: Callable[[Spec], Computation[Any]],
        shelf: str,
    ) -> None:
        self.current = ""  # the job written on the slate
        self._wid = wid
        self._tasks = tasks
        self._clock = clock
        self._slate = slate
        self._prepare = prepare
        self._shelf = shelf
        self._known: OrderedDict[str, Ready | Failure | None] = OrderedDict()  # None: over, or not there
        self._void_since: dict[str, float] = {}
        self._warned: set[str] = set()

    def get(self, job: str) -> Ready | Failure | None:
        """The job if it is ready, the reason if it is refused, None if it is over."""
        return self._known.get(job)

    def enter(self, task: Task, host: Host) -> Ready | Failure | Spec | None:
        """Make the task's job the current one, and prepare the job if it is new. Returns None if the job is over.

        If the job is new and the attempts of its task are used up, it returns the spec alone: perhaps preparing the job
        has killed the workers.
        """
        job = task.job
        now = self._clock.now()
        if job not in self._known or now - self._void_since.get(job, now) > VOID_SECONDS:
            met = self._meet(task, host)  # may raise: then all stays as it is, and the next task asks again
            if isinstance(met, Spec):
                return met
            self._void_since.pop(job, None)
            self._known[job] = met
            if met is None:
                self.void(job, since=self._clock.now())
            while len(self._known) > JOBS_KEPT:
                self._void_since.pop(self._known.popitem(last=False)[0], None)
        self._known.move_to_end(job)
        ready = self._known[job]
        if isinstance(ready, Ready) and self.current != job:
            self.current = job
            ready.computation.reducer.lay_in(ready.pieces)  # equal jobs share a computation
            self._slate.job(job, ready.spec.limits.task_timeout)
        return ready

    def void(self, job: str, *, since: float = -math.inf) -> None:
        """Note that the job is over, or not there: drop its tasks, and look again VOID_SECONDS after ``since``.

        A missing stream does not prove that the job is over: after a loss of data its master may have submitted it
        again. So Redis is asked before the next task is dropped.
        """
        known = self._known.get(job)
        if isinstance(known, Ready) and known.shelf is not None:
            known.shelf.withdraw()
        self._known[job] = None
        self._void_since[job] = since
        if self.current == job:
            self.current = ""

    def warn(self, about: str, text: str) -> None:
        """Log a warning about this, once."""
        if about not in self._warned:
            self._warned.add(about)
            log.warning("%s", text)

    def _meet(self, task: Task, host: Host) -> Ready | Failure | Spec | None:
        try:
            if task.spec and task.job not in self._known:  # only Redis knows whether a job that was over still is
                spec: Spec | None = self._tasks.codecs.spec.at(task.job).open(task.spec)
            else:
                host.read()
                spec, state = self._tasks.spec(task.job)
                if state != State.RUNNING:
                    spec = None
            if spec is None or spec.job != task.job:
                return None
        except (BadMessage, ForeignKey) as error:
            self.warn("spec", f"dropped a task of {task.job}: {error}")
            return None
        if task.attempt >= spec.limits.attempts:
            return spec
        self.current = ""
        self._slate.job(task.job, None)  # no limit: an import may take any time
        self._slate.meet(task.lo, task.hi, self._clock.nanoseconds())
        try:
            computation = self._prepare(spec)
            if computation.wants:
                host.read()  # nothing else may be asked while a settle is on its way
                wire, keys = self._tasks.wire, self._tasks.keys
                computation.take(obtain(self._shelf, computation.wants, lambda name: fetch(wire, keys, name)))
            shelf = Shelf(self._shelf, spec.job) if self._shelf else None
            ready = Ready(computation, spec, shelf, shelf or self._laid_apart(spec, host))
            if spec.numerics:
                self._slate.numerics(numerics())
            computation.leave = host.leave_when_answered
            if not spec.joins:  # else the task is kept, and more are taken before it is answered
                computation.called = host.calls_are_made
            computation.pause, computation.told_of = host.wait_to_try, host.note_tried
            log.debug("%s: begins to work for it (%s)", task.job, spec.label)
            return ready
        except (Interruption, BrokerError):
            raise
        except BaseException as error:  # an import may raise anything
            self.warn(task.job, f"refuses {task.job}: {message_of(error)}")
            return Failure(None, kind_of(error), message_of(error), "", self._wid.rpartition(":")[0])
        finally:
            self._slate.met()

    def _laid_apart(self, spec: Spec, host: Host) -> LaidApart | None:
        """The place in Redis for the pieces of a shuffle; None if only the master has the items: pieces that a failover
        loses are computed again, which needs the items.
        """
        return (
            None
            if spec.lazy
            else LaidApart(
                self._tasks, spec.job, self._clock.random(8).hex(), host.read, note=host.note_laid, lost=Away
            )
        )
