"""Leading a job from its submission to its end, whatever happens meanwhile.

    lead    submit ──> run ──────────────────────────────────────> the end
                 │      │ another master has taken it over
                 │      └──> follow ──> its end, as that master made it
                 │              │ that one is gone, or has let go
                 │              └──> adopt ──> run ──> the end
                 └ Redis does not answer: perhaps it has the job all the same, so run() finds that out and goes on

All interfaces lead jobs in this way: a call that waits, a job in the background, the command line, an RQ job. `mrq
master` adopts jobs, too, but it does not follow a job that another process leads, because it has others to lead.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from mapreduce_rq.broker.job_hash import JobState
from mapreduce_rq.broker.jobs import Jobs
from mapreduce_rq.broker.journal import Journal, Through
from mapreduce_rq.client.identity import process_name
from mapreduce_rq.client.wires import CLOSED, Wires
from mapreduce_rq.computations import load
from mapreduce_rq.core.computation import Computation
from mapreduce_rq.core.fleet.liveness import DEAD_AFTER
from mapreduce_rq.core.foreign_errors import told
from mapreduce_rq.core.job.events import Source
from mapreduce_rq.core.messages import Spec
from mapreduce_rq.core.text import here, plural
from mapreduce_rq.errors import (
    BrokerDown,
    BrokerError,
    JobFailed,
    MrqError,
    NoSuchJob,
    NoWorkers,
    Superseded,
    TooLarge,
    UsageError,
)
from mapreduce_rq.functions.trust import Trust
from mapreduce_rq.runtime.clock import Clock
from mapreduce_rq.runtime.master.bell import Bell
from mapreduce_rq.runtime.master.cancel import cancel
from mapreduce_rq.runtime.master.ended import Ended
from mapreduce_rq.runtime.master.lease import Lease
from mapreduce_rq.runtime.master.lease_keeper import Keeper
from mapreduce_rq.runtime.master.master import Master
from mapreduce_rq.runtime.master.observer import Observer
from mapreduce_rq.runtime.master.standby import Standby
from mapreduce_rq.runtime.tracing import begin_job, begin_lead

PRUNE_EVERY = 64
"""After this number of jobs, records beyond the number that a queue remembers are looked for and deleted."""

Taken = Callable[[Standby | Master], None]
"""It is called with the object whose ``stop`` ends the call: a watcher, or a master."""


class Among(NamedTuple):
    """What a master shares with other masters in the same process.

    ``workers``: the number of workers that the others saw a short time ago, for a new job; 0: the master counts them
    itself.
    """

    keeper: Callable[[Lease, Jobs], Keeper]
    told: Through
    workers: int


class Leader:
    """Leads the jobs of one client, each in its caller's thread.

    ``local``: the number of the client's local workers. ``alone``: the server ends with the client, so no other process
    needs its jobs after their end. ``watched``: other processes can look at the server meanwhile. ``host``: the id of
    the RQ job that this process runs; '' if none.
    """

    def __init__(
        self, clock: Clock, trust: Trust, wires: Wires, *, local: int, alone: bool, watched: bool, host: str
    ) -> None:
        self.clock = clock
        self._trust = trust
        self.wires = wires
        self._local = local
        self._alone = alone
        self._watched = watched
        self._host = host
        self._led = 0  # jobs
        self._ending: Master | None = None  # the last job's master, until Redis has confirmed the end of that job
        self._leading: dict[Master, int] = {}  # masters that our callers wait for, with their threads' ids
        self._closed = False
        self.abandoned: dict[str, bool] = {}  # jobs that were, and whether Redis has said that they are over

    def master(
        self,
        spec: Spec,
        computation: Computation[Any],
        observer: Observer,
        *,
        wait_workers: float | None = None,
        source: Source | None = None,
        verbs: Jobs | None = None,
        pipelined: bool = False,
        unseen: bool = False,
        bell: Bell | None = None,
        among: Among | None = None,
        adopted: bool = False,
    ) -> Master:
        """A master for a job, which is not submitted yet, or was ``adopted``.

        With ``pipelined`` set, ``lead`` and ``hear_of_end`` make sure that the job's end has reached Redis.
        """
        verbs = verbs or self.wires.own
        if adopted:
            span = begin_lead(spec, verbs.keys.name)
        else:
            spec, span = begin_job(spec, verbs.keys.name)
        return Master(
            verbs,
            self.clock,
            spec,
            computation,
            observer,
            source=source,
            wait_workers=wait_workers,
            workers=self._local if among is None else among.workers,
            look_soon=among is None or not among.workers,
            pipelined=pipelined,
            alone=self._alone,
            unseen=unseen,
            watched=self._watched,
            bell=bell,
            host=self._host,
            keeper=Keeper if among is None else among.keeper,
            value_stays=not (pipelined or self._alone),  # otherwise only the caller needs it, and has it in memory
            journal=self.events(verbs, None if among is None else among.told),
            by=process_name(),
            span=span,
        )

    def events(self, verbs: Jobs, through: Through | None = None) -> Journal | None:
        """As ``journal``; None if no other process can read what happens here."""
        return self.journal(verbs, through) if self._watched else None

    def journal(self, verbs: Jobs, through: Through | None = None) -> Journal:
        """The queue's journal over these verbs' wire, in this process's name. ``through``: see Journal."""
        return Journal(verbs.wire, verbs.keys, verbs.codecs, process_name(), through)

    def lead(
        self, master: Master, taken: Taken | None = None, *, leaves: tuple[type[BaseException], ...] = ()
    ) -> Ended | None:
        """Submit and run a master's job. None if it was told to stop. ``taken``: see ``follow``.

        Whatever is raised ends the job, too: see ``lead_on``. Raises what ``Master.submit`` raises, less BrokerDown.
        """
        self._leading[master] = threading.get_ident()
        try:
            self.submit(master)
            return self.lead_on(master, taken, leaves=leaves)
        finally:
            self._leading.pop(master, None)

    def submit(self, master: Master) -> None:
        """Submit a job for ``lead_on`` to lead. If Redis does not answer, it is not certain whether the job is there.

        Raises UsageError, TooLarge, BrokerError, less BrokerDown.
        """
        if self._closed:
            raise UsageError(CLOSED)
        try:
            try:
                master.submit()
            except BrokerDown as error:
                master.observer.noticed(f"{error}; trying again")  # whether it was submitted, run() finds out
        except (Superseded, TooLarge) as error:  # no part of it was queued
            master.span.broken(error)
            raise
        except BaseException as error:  # a signal's, perhaps, after it was sent
            self.abandon(master, error)
            master.span.broken(error)
            raise

    def lead_on(
        self, master: Master, taken: Taken | None = None, *, leaves: tuple[type[BaseException], ...] = ()
    ) -> Ended | None:
        """As ``lead``, for a job that was submitted.

        After an error no process leads the job. So it is cancelled, and its record says why; otherwise it would be
        shown as running. The same is done with a job that is let go of, if only this process has its items. ``leaves``:
        errors after which the job stays as it is, to be resumed. Raises NoWorkers, BrokerError, and what observer and
        items raise.
        """
        try:
            ended = self._run(master, taken)
        except leaves:
            raise
        except BaseException as error:
            self.abandon(master, error)
            raise
        if ended is None and master.spec.lazy and not self._alone:
            self.abandon(master, None)
        return ended

    def _run(self, master: Master, taken: Taken | None) -> Ended | None:
        try:
            ended = master.run()
        except Superseded:
            return self.follow(master.spec.job, master.observer, taken, verbs=master.jobs)
        if master.jobs is self.wires.own:
            self._make_sure_of_end()  # the previous job: the answer to its end has been read meanwhile
            if master.end_in_doubt:
                self._ending = master
                master.when_sure_of_end(self._forget_ending)
        self.tidy(master.jobs)
        return ended

    def follow(
        self,
        job: str,
        observer: Observer,
        taken: Taken | None = None,
        *,
        verbs: Jobs | None = None,
        looks: int = DEAD_AFTER,
    ) -> Ended | None:
        """Watch a job to its end, and lead it if its master is gone or has let go. None if told to stop.

        ``taken`` is called with the object whose ``stop`` ends this: first the watcher, later perhaps a master.
        ``looks``: after this number of looks without a sign of the master, two seconds apart, the master counts as
        dead. If it lives all the same, it changes nothing more, whatever this number is.
        Raises NoSuchJob, JobFailed.
        """
        verbs = verbs or self.wires.own
        while True:
            watcher = Standby(verbs, self.clock, job, observer, looks=looks)
            if taken is not None:
                taken(watcher)
            state = watcher.wait()
            if state is None:
                return None
            if state.record is not None:
                return Ended(state.record, None)
            try:
                return self.adopt(state, verbs, observer, taken).run()
            except Superseded:
                continue

    def adopt(
        self,
        state: JobState,
        verbs: Jobs,
        observer: Observer,
        taken: Taken | None = None,
        *,
        among: Among | None = None,
    ) -> Master:
        """A master for a job that has none, or whose master is dead; the caller then calls its ``run``.

        Raises Superseded if another was quicker, JobFailed for a job whose items came from another process.
        """
        job = state.spec.job
        if state.spec.lazy:
            raise JobFailed(f"{job} cannot continue: its items came from an iterator in a process that is gone")
        try:
            computation = load(state.spec.computation).to_lead(state.spec.params, self._trust)
            master = self.master(state.spec, computation, observer, verbs=verbs, among=among, adopted=True)
        except MrqError:
            raise
        except Exception as error:  # without a key any client may have written the job
            raise JobFailed(f"{job} cannot be led {here()}: what its spec asks for raised {told(error)}") from error
        if taken is not None:
            taken(master)
        try:
            master.take_over(state)
            observer.noticed(f"leading {job} from its checkpoint: {plural(master.ledger.counted, 'term')} counted")
        except BrokerDown as error:
            observer.noticed(f"{error}; trying again")  # whether it was claimed, run() finds out
        return master

    def abandon(self, master: Master, error: BaseException | None) -> None:
        """Cancel a job whose master was interrupted by an error (Ctrl-C, a failing iterator), so its state may be half
        changed. ``error`` None: the client was closed. Nothing is tried twice, for perhaps Redis is down.
        """
        if master.computation.aside is not None:
            master.computation.aside.clear()
        idle = isinstance(error, NoWorkers)  # no worker has a task of it, and the wire is sound
        why = "no worker came in time" if idle else f"its client ended: {type(error).__name__}"
        why = "its client was closed" if error is None else why
        with self.uncertain(master.spec.job):
            if not idle:
                master.jobs.wire.connect()
            master.tell_the_rest()
            events = self.events(master.jobs)
            cancel(master.jobs, self.clock, master.spec.job, now=not idle, why=why, journal=events)

    @contextlib.contextmanager
    def uncertain(self, job: str) -> Iterator[None]:
        """In this, a job is cancelled. Whether Redis has said that it is over is noted; an error is not raised."""
        self.abandoned[job] = False
        with contextlib.suppress(MrqError):
            with contextlib.suppress(NoSuchJob):
                yield
            self.abandoned[job] = True

    def tidy(self, verbs: Jobs) -> None:
        """Count a job that was led to its end. Once in PRUNE_EVERY jobs, delete records beyond the number that a queue
        remembers.

        On a shared server this is done at the first job, too, because many clients lead no second one.
        """
        self._led += 1
        if self._led % PRUNE_EVERY == (0 if self._alone else 1):  # a private server's first jobs are soon gone with it
            from mapreduce_rq.broker.pruning import prune  # once in many jobs

            with contextlib.suppress(BrokerError):  # the job itself has ended well all the same
                prune(verbs)

    def _forget_ending(self) -> None:
        """The last job's end has arrived. Its master is let go of while the next job's first task is under way."""
        self._ending = None

    def _make_sure_of_end(self) -> None:
        """If Redis did not take the end of the last job, send it again. The caller has the value already."""
        ending, self._ending = self._ending, None
        if ending is not None and ending.end_in_doubt:
            with contextlib.suppress(MrqError):  # if Redis has a fault, the next job reports it
                ending.make_sure()

    # -- the client is being closed ---------------------------------------------------------------------------------

    def let_go(self) -> None:
        """Have all masters let go of their jobs soon. From now on this object leads no job."""
        self._closed = True
        for master in list(self._leading):
            master.stop = True

    def leads_here(self) -> bool:
        """Whether a master of this client runs in the caller's thread: it may have called the iterable of its items."""
        return threading.get_ident() in self._leading.values()

    def hear_of_end(self) -> None:
        """Read whether the end of the last job has arrived, and send it again, once, if not."""
        with contextlib.suppress(BrokerError):
            self.wires.own.wire.hear()
        if self._ending is not None:
            self._ending.stop = True  # so that it is tried only once if Redis is gone
            self._make_sure_of_end()

    def begin_anew(self) -> None:
        """In a forked child: the jobs belong to the parent."""
        self._leading = {}
        self._ending = None


def let_go_text(job: str, *, ended: str, lazy: bool, cancelled: bool) -> str:
    """The message about a job whose client was closed before its end. ``ended``: what ended with the client."""
    if ended:
        then = f"its {ended} ended with the client"
    elif not lazy:
        then = f"it keeps what is counted: mrq resume {job}"
    elif cancelled:
        then = "it is cancelled, for its items came from this process alone"
    else:
        then = f"Redis did not answer, so it may not be cancelled: mrq cancel {job}"
    return f"{job} was not finished, because its client was closed: {then}"
