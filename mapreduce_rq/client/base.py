"""What all methods of a client share: how it is opened, leads a planned job, is closed, and survives a fork.

It is the lower of a client's two layers; the upper one (``client.py``) is the public API. The parts of a client have
modules of their own: the server and the local workers (``site.py``), connections (``wires.py``), planning a job
(``planning.py``), leading it (``leading.py``).
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from mapreduce_rq.broker.connection import Endpoint
from mapreduce_rq.broker.jobs import Jobs
from mapreduce_rq.broker.keys import Keys
from mapreduce_rq.client.arguments import seen_by
from mapreduce_rq.client.leading import Leader, let_go_text
from mapreduce_rq.client.planning import Planner
from mapreduce_rq.client.sharing import put_shared
from mapreduce_rq.client.site import Site
from mapreduce_rq.client.surroundings import Surroundings
from mapreduce_rq.client.wires import CLOSED, Wires
from mapreduce_rq.core.computation import Computation
from mapreduce_rq.core.given import check
from mapreduce_rq.core.job.events import Source
from mapreduce_rq.core.job.record import Done, Failed
from mapreduce_rq.core.job.result import Result, cause_of, error_of
from mapreduce_rq.core.messages import Spec
from mapreduce_rq.core.sealing import Codecs
from mapreduce_rq.errors import JobError, UsageError
from mapreduce_rq.functions.trust import Trust
from mapreduce_rq.runtime.clock import Clock
from mapreduce_rq.runtime.master.ended import Ended
from mapreduce_rq.runtime.master.master import Master
from mapreduce_rq.runtime.master.observer import Observer, Silent
from mapreduce_rq.runtime.server.embedded import EmbeddedServer

if TYPE_CHECKING:  # what few programs use is imported in the functions that need it: `mrq compute` must not pay for it
    from mapreduce_rq.broker.inspect import ServerInfo
    from mapreduce_rq.client.job import Job
    from mapreduce_rq.client.loops import Loops
    from mapreduce_rq.client.open_job import OpenJob
    from mapreduce_rq.progress.shown import Progress

_UNSEEN = nullcontext()

CLOSE_SECONDS = 5.0
"""How long ``close`` waits for other threads to let go of their jobs, and for Redis to answer."""


class ClientBase:
    """A client from its opening to its close. For its arguments see ``Client``."""

    def __init__(
        self,
        url: str | Endpoint | None,
        queue: str,
        *,
        local: int | None,
        keys: Iterable[bytes | str] | None,
        server: EmbeddedServer | None,
        allow_pickle: bool,
        allow: Iterable[str],
        as_rq: bool,
        host: str,
        loops: Loops | None,
    ) -> None:
        self.site = Site(url, queue, local=local, keys=keys, server=server)
        site = self.site
        self._loops = loops
        self._followers: list[Job | OpenJob] = []
        self._sight = threading.Lock()  # held to change the followers
        self._closed = False
        self._surroundings = Surroundings()
        self.clock = Clock()
        self.keys = Keys(queue)
        self.info: ServerInfo | None = None
        self.endpoint = site.endpoint
        self.keyring = site.keyring
        self.codecs = Codecs(queue, self.keyring)
        self.trust = Trust(
            private=site.private,
            signed=self.keyring.kid != 0,
            allow=tuple(allow),
            allow_pickle=allow_pickle,
            as_rq=as_rq or loops is not None,
        )
        # Nothing of these refers to this client: where it is dropped and never closed, its workers end at once.
        self.wires = Wires(self.keys, self.codecs, site.wire)
        watched = site.hub is None
        self.leader = Leader(
            self.clock, self.trust, self.wires, local=site.size, alone=site.private, watched=watched, host=host
        )
        put = partial(put_shared, site.shelf, self.wires, alone=site.hub is not None)
        self._planner = Planner(self.clock, self.trust, site.shelf if site.private else None, put)
        own = self.wires.own
        try:
            if not site.private:
                assert isinstance(self.endpoint, Endpoint)
                from mapreduce_rq.broker import inspect as look  # for servers of others

                own.wire.connect()
                self.info = look.inspect(own.wire)
                look.require_kind(self.info, self.endpoint)
                look.require_primary(self.info, self.endpoint)
                look.check_types(own.wire, own.keys)
                own.wire.close()  # we may have no open connection while we fork
            if server is None:  # a program's own jobs are of functions: what is imported now, all forked workers share
                import mapreduce_rq.functions.computation  # noqa: F401  `mrq` itself starts the server, and has no need
            site.start_workers(self.trust)
            # A client that is never closed also ends its workers first: otherwise they would report the server's end.
            weakref.finalize(self, site.end)
            site.wait_ready()
            own.wire.connect()
            if loops is not None:
                loops.start()
        except BaseException:
            self.close()
            raise
        _clients.add(self)

    def __repr__(self) -> str:
        where = "a private server" if self.site.server is not None else str(self.endpoint)
        return f"<Client of queue {self.keys.name} on {where}>"

    @property
    def verbs(self) -> Jobs:
        """The verbs over its own connection, which one thread uses at a time."""
        return self.wires.own

    @property
    def embedded(self) -> bool:
        """Whether the server is a private one that ends with this client, or over pipes the client itself."""
        return self.site.private

    @property
    def ends_with_it(self) -> str:
        """What ends with this client, and its jobs with that; '' on a shared server."""
        return "workers over pipes have" if self.site.hub is not None else "private server has" if self.embedded else ""

    @property
    def local(self) -> int:
        """How many local workers it has."""
        return self.site.size

    @property
    def supervisor(self) -> int:
        """The process id of its local workers' supervisor; 0 if there is none."""
        return self.site.pool.pid if self.site.pool is not None else 0

    def pool_code(self) -> int | None:
        """The exit code of local workers that have ended by themselves, below 0 the signal; None: they are there."""
        return self.site.pool.ended() if self.site.pool is not None else None

    def close(self) -> None:
        """End local workers and a private server. Jobs on a shared server are let go of, and can be resumed.

        Any thread may call it, also while others wait for their jobs: those end with a JobError. It takes seconds at
        most. In a process forked from the client's own it only closes connections that this process has made.
        """
        self._closed = True
        self.wires.refuse()
        deadline = time.monotonic() + CLOSE_SECONDS
        followers, self._followers = self._followers, []
        for job in followers:
            job.let_go()
        self.leader.let_go()
        if self.embedded:  # its jobs end with the server, so there is nothing to let go of
            self.site.end()
        for job in followers:
            job.let_go_by(deadline)
        if self._loops is not None:
            _run_until(deadline, self._loops.stop)
        if not self.leader.leads_here():
            hear = None if self.embedded else partial(_run_until, deadline, self.leader.hear_of_end)
            self.wires.close_own(deadline, hear)
        self.wires.close_idle()
        self.site.end()

    def _begin_anew_after_fork(self) -> None:
        """In a forked child: connections, jobs and threads belong to the parent. Calls here get new connections."""
        for job in self._followers:
            job.disown()
        self._sight, self._followers = threading.Lock(), []
        self.leader.begin_anew()
        self.wires.begin_anew()

    def __reduce__(self) -> str:
        raise UsageError("a client cannot be sent to another process: make one there")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    # -- jobs ------------------------------------------------------------------------------------------------------

    @property
    def planner(self) -> Planner:
        """What makes the jobs to lead. Raises UsageError once this client is closed."""
        if self._closed:
            raise UsageError(CLOSED)
        return self._planner

    def keep_in_sight(self, job: Job | OpenJob) -> None:
        """Remember a job, to let go of it when this client is closed."""
        with self._sight:
            self._followers = [*(other for other in self._followers if not other.done()), job]

    def _led_here(
        self,
        spec: Spec,
        computation: Computation[Any],
        source: Source | None,
        *,
        progress: Progress = None,
        observer: Observer | None = None,
        wait_workers: float | None = None,
    ) -> Result:
        """The result of a job that is led in this thread."""
        if observer is not None or wait_workers is not None:
            check(observer=observer, wait_workers=wait_workers)
        seen = seen_by(progress, spec.label, observer)
        with self.wires.verbs() as verbs:
            with seen or _UNSEEN:
                master = self.leader.master(
                    spec,
                    computation,
                    seen or observer or Silent(),
                    source=source,
                    wait_workers=wait_workers,
                    verbs=verbs,
                    pipelined=verbs is self.wires.own,
                    unseen=self.site.hub is not None,
                )
                ended = self._led(master)
            master.hand_over()  # only now: the last picture shows what was counted
        return self.result_of(ended)

    def _led(self, master: Master) -> Ended:
        """How a job ended that is led in this thread. Raises what it raises, and JobError if the client was closed."""
        ended = self.leader.lead(master)
        if ended is None:
            over = self.leader.abandoned.get(master.spec.job, False)
            raise JobError(let_go_text(master.spec.job, ended=self.ends_with_it, lazy=master.spec.lazy, cancelled=over))
        return ended

    def result_of(self, ended: Ended) -> Result:
        """The result of a job that ended. Raises JobFailed, JobCancelled."""
        record = ended.record
        if not isinstance(record, Done):
            if not isinstance(record, Failed):
                raise error_of(record)
            more = self._surroundings.explain(record.kind, record.message) if self.site.pool is not None else ""
            raise error_of(record, more) from (ended.errors[None].make() if ended.errors else cause_of(record))
        if ended.outcome is not None:
            return Result(record, ended.outcome, ended.errors)
        from mapreduce_rq.client.values import outcome_of  # few jobs are ended by another master

        with self.wires.verbs() as verbs:
            return Result(record, outcome_of(verbs, record, self.trust))


_clients: weakref.WeakSet[ClientBase] = weakref.WeakSet()


def _begin_anew() -> None:
    for client in list(_clients):
        client._begin_anew_after_fork()  # noqa: SLF001


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)


def _run_until(deadline: float, function: Callable[[], None]) -> None:
    """Call the function and wait for its end until ``deadline``: it may hang on a server that does not answer."""
    thread = threading.Thread(target=function, name="mrq close", daemon=True)
    thread.start()
    thread.join(max(0.0, deadline - time.monotonic()))
