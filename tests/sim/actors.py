"""The processes of a world: supervisors with their workers, and clients that lead a job or stand by.

The decisions are the real code's: Worker, Pool, Master, Standby. What is made here is only what the kernel does for
them: forking, telling of deaths, delivering signals, ending.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mapreduce_rq.broker.jobs import Jobs
from mapreduce_rq.broker.keys import Keys
from mapreduce_rq.broker.tasks import Tasks
from mapreduce_rq.core.computation import Computation
from mapreduce_rq.core.job.events import Source
from mapreduce_rq.core.job.printed import Printed
from mapreduce_rq.core.job.record import Done, Report
from mapreduce_rq.core.messages import Spec
from mapreduce_rq.core.sealing import Codecs
from mapreduce_rq.errors import BrokerDown, BrokerError, BrokerFull, NoSuchJob, Superseded
from mapreduce_rq.runtime.master.ended import Ended
from mapreduce_rq.runtime.master.lease import Lease
from mapreduce_rq.runtime.master.lease_keeper import TEND_SECONDS, Keeper
from mapreduce_rq.runtime.master.master import Interrupted, Master
from mapreduce_rq.runtime.master.standby import Standby
from mapreduce_rq.runtime.pool.by_redis import ByRedis
from mapreduce_rq.runtime.pool.child import Child
from mapreduce_rq.runtime.pool.post import Post
from mapreduce_rq.runtime.pool.settings import PoolSettings
from mapreduce_rq.runtime.pool.supervisor import TICK_SECONDS, Pool
from mapreduce_rq.runtime.worker.output import Capture, Streams
from mapreduce_rq.runtime.worker.rota import Rota
from mapreduce_rq.runtime.worker.slate import Doing, Slate
from mapreduce_rq.runtime.worker.stops import Stop
from mapreduce_rq.runtime.worker.worker import Worker
from tests.sim.invariants import require
from tests.sim.network import Server
from tests.sim.scheduler import Actor, Scheduler
from tests.sim.waiting import SimWaiting
from tests.sim.wire import SimClock, SimWire

FIRST_PID = 1 << 23
"""Above any pid that Linux gives out: nothing about a real process is found under it."""


class SimSlate(Slate):
    """A slate whose reader lives in virtual time."""

    def __init__(self, clock: SimClock) -> None:
        super().__init__()
        self._clock = clock
        self._since = 0
        self._known: Doing | None = None  # what was read since it was written last

    def begin(self, lo: int, hi: int, now: int) -> None:
        super().begin(lo, hi, now)
        self._since = now
        self._known = None

    def again(self, now: int) -> None:
        super().again(now)
        self._since = now
        self._known = None

    def end(self) -> None:
        super().end()
        self._known = None

    def job(self, job: str, timeout: float | None) -> None:
        super().job(job, timeout)
        self._known = None

    def numerics(self, probe: str) -> None:
        super().numerics(probe)
        self._known = None

    def read(self) -> Doing:
        doing = self._known
        if doing is None:
            doing = self._known = super().read()._replace(seconds=0.0)
        return doing._replace(seconds=(self._clock.nanoseconds() - self._since) / 1e9) if doing.busy else doing


@dataclass
class Site:
    """What all processes of a world share, of one queue."""

    scheduler: Scheduler
    server: Server
    keys: Keys
    codecs: Codecs


class SimStreams(Streams):
    """Where a worker's terms print; the streams of this process, which all share, stay as they are."""

    def lead_to(self, capture: Capture) -> None:
        self.to = capture

    def lead_back(self) -> None:
        self.to = None


class SimWorker:
    """One worker process."""

    def __init__(self, host: Host, pid: int, wid: str, slate: SimSlate, prepare: Callable[[Spec], Any]) -> None:
        self.host = host
        self.wid = wid
        self.wires = [SimWire(site.server) for site in host.sites]
        self.slate = slate
        self.streams = SimStreams()
        workers = [
            Worker(wid, Tasks(wire, site.keys, site.codecs), host.clock, slate, prepare=prepare, streams=self.streams)
            for wire, site in zip(self.wires, host.sites, strict=True)
        ]
        first_of = SimWaiting(host.scheduler).wait
        self.worker = workers[0] if len(workers) == 1 else Rota(workers, host.clock, first_of, burst=False)
        self.actor = Actor(host.scheduler, f"{host.name}.{pid - FIRST_PID}", self.worker.run)
        self.actor.on_end = lambda _: host.ended(pid)
        self.ear: Actor | None = None

    def listen(self) -> None:
        """As the thread that hears of its supervisor."""
        if self.ear is None or self.ear.dead:
            self.ear = Actor(self.actor.scheduler, f"{self.actor.name}.ear", self.worker.told_to_shorten)
            self.ear.on_end = self._crashed

    def _crashed(self, ear: Actor) -> None:
        if ear.error is not None:
            self.host.crashed.append(ear)

    def kill(self) -> None:
        """End its threads where they are."""
        for thread in (self.actor, self.ear):
            if thread is not None:
                thread.kill()

    def signalled(self, *, at_once: bool) -> None:
        """As the handlers that the pool installs."""
        if self.actor.dead:
            return
        try:
            self.worker.told_to_stop(at_once=at_once)
        except Stop as stop:
            self.actor.interrupt(stop)


class Host(Pool):
    """A supervisor and its workers on one host."""

    def __init__(
        self,
        name: str,
        sites: list[Site],
        settings: PoolSettings,
        clock: SimClock,
        prepare: Callable[[Spec], Any],
    ) -> None:
        super().__init__(settings, ByRedis, clock)
        self.name = name
        self.sites = sites
        self.scheduler = sites[0].scheduler
        self.clock: SimClock = clock
        self.workers: dict[int, SimWorker] = {}
        self.crashed: list[Actor] = []
        self.wires = [SimWire(site.server) for site in sites]
        self._speak_on(name, [Post(wire, site.keys, site.codecs) for wire, site in zip(self.wires, sites, strict=True)])
        self._prepare = prepare
        self._pids = 0
        self._news: list[tuple[int, int]] = []  # (pid, status) as waitpid would say
        self.actor = Actor(self.scheduler, name, self._supervise)

    # -- the supervisor's process ----------------------------------------------------------------------------------

    def _supervise(self) -> None:
        """As Pool.run, without its signals."""
        self._spawn_missing()
        while self._children or self._reporter.buried or not self._over():
            if not self._news:
                self.scheduler.actor().sleep(TICK_SECONDS)
            self._bury()
            self._enforce()
            self._reporter.report(self._children, stopping=bool(self._stopping))
            if not self._over():
                self._spawn_missing()
            if self._over() and not self._children and not self._reporter.connected:
                break
        for wire in self.wires:
            wire.close()

    def _spawn(self) -> None:
        self._pids += 1
        pid = FIRST_PID + self._pids
        slate = SimSlate(self.clock)
        wid = f"{self.name}:{pid}:{self.clock.random(8).hex()}"
        self._children[pid] = Child(wid, pid, slate, self.clock.now())
        self._reporter.hurry()
        self.workers[pid] = SimWorker(self, pid, wid, slate, self._prepare)

    def _bury(self) -> None:
        news, self._news = self._news, []
        for pid, status in news:
            child = self._children.pop(pid, None)
            if child is not None:
                self._died(child, status)

    def _kill(self, child: Child, why: str) -> None:
        child.why = child.why or why
        self.kill_worker(child.pid)

    def _shorten(self, child: Child) -> None:
        worker = self.workers.get(child.pid)
        if worker is not None and not worker.actor.dead and not child.stopped:
            worker.listen()

    def _tell(self, child: Child) -> None:
        child.told += 1
        worker = self.workers.get(child.pid)
        if worker is None:
            return  # dead, and not yet waited for
        if child.stopped:
            child.stopped = False
            worker.actor.resume()
        at_once = child.told > 1
        self.scheduler.at(0, lambda: worker.signalled(at_once=at_once))

    # -- the kernel ------------------------------------------------------------------------------------------------

    def ended(self, pid: int) -> None:
        """A worker's own end."""
        worker = self.workers.pop(pid)
        worker.kill()
        if worker.actor.error is not None:
            self.crashed.append(worker.actor)
        self._heard(pid, 0 if worker.actor.error is None else 70 << 8)

    def _heard(self, pid: int, status: int) -> None:
        """SIGCHLD wakes the supervisor."""
        self._news.append((pid, status))
        self.scheduler.at(0.001, self._woken)

    def _woken(self) -> None:
        # A select is cut short by the signal; a request that is under way is not.
        if all(wire.connection is None or not wire.connection.asked for wire in self.wires):
            self.actor.wake(self.actor.ticket())

    def kill_worker(self, pid: int, *, power: bool = False) -> None:
        """SIGKILL, or the end of its host."""
        worker = self.workers.pop(pid, None)
        if worker is None:
            return
        worker.kill()
        for wire in worker.wires:
            if power:
                wire.lose_power()
            else:
                wire.close()
        if not power:
            self._heard(pid, signal.SIGKILL)

    def stop_worker(self, pid: int, *, resume: bool) -> None:
        """SIGSTOP or SIGCONT, of which the supervisor hears."""
        worker, child = self.workers.get(pid), self._children.get(pid)
        if worker is None or child is None:
            return
        child.stopped = not resume
        if resume:
            worker.actor.resume()
        else:
            worker.actor.pause()

    def tell(self, pid: int) -> None:
        """TERM to one worker, by its supervisor."""
        if pid in self._children:
            self._tell(self._children[pid])

    def drain(self) -> None:
        """TERM to the supervisor."""
        self._stopping += 1
        for child in list(self._children.values()):
            self._tell(child)

    @property
    def stays(self) -> bool:
        """Whether it has not been told to stop."""
        return self.size > 0 and not self._over()

    def actors(self) -> list[Actor]:
        """The supervisor and its workers."""
        ears = [worker.ear for worker in self.workers.values() if worker.ear is not None]
        return [self.actor, *(worker.actor for worker in self.workers.values()), *ears]

    def lose(self) -> None:
        """The host is gone: power, or the network for ever."""
        for pid in list(self.workers):
            self.kill_worker(pid, power=True)
        self.actor.kill()
        for wire in self.wires:
            wire.lose_power()


class SimLock:
    """A lock between actors."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._held = False

    def __enter__(self) -> None:
        while self._held:
            self._scheduler.actor().sleep(0.001)
        self._held = True

    def __exit__(self, *_: object) -> None:
        self._held = False


class SimKeeper(Keeper):
    """A keeper that is an actor besides its master's, and stops, goes on and dies with it."""

    _wire: SimWire

    def __init__(self, lease: Lease, jobs: Jobs, master: Actor) -> None:
        super().__init__(lease, jobs, SimLock(master.scheduler))
        self._master = master
        self._actor: Actor | None = None

    def _begin(self) -> None:
        self._actor = Actor(self._master.scheduler, f"{self._master.name}+", self._run)

    def _run(self) -> None:
        while not self._over.is_set():
            self._master.scheduler.actor().sleep(TEND_SECONDS)
            if not self._over.is_set() and not self._master.paused:
                self.tend()
        self._wire.close()

    def kill(self, *, power: bool) -> None:
        """End it with its process."""
        if self._actor is not None and not self._actor.dead:
            self._actor.kill()
            if power:
                self._wire.lose_power()
            else:
                self._wire.close()


class ClientProcess:
    """`mrq compute` or `mrq resume`: leads one job, or stands by until its master is gone."""

    def __init__(
        self,
        name: str,
        site: Site,
        spec: Spec,
        *,
        clock: SimClock,
        make: Callable[[], Computation[Any]],
        on_end: Callable[[ClientProcess, Ended | None], None],
        source: Source | None = None,
        wait_workers: float | None = None,
        submits: bool,
        detached: bool = False,
    ) -> None:
        self.name = name
        self.scheduler = site.scheduler
        self.spec = spec
        self.clock = clock
        self.wire = SimWire(site.server)
        self.jobs = Jobs(self.wire, site.keys, site.codecs, at_once=2)  # so that there are often more
        self.master: Master | None = None
        self._keeper: SimKeeper | None = None
        self._make = make
        self._source = source
        self._wait_workers = wait_workers
        self._on_end = on_end
        self.ended = ""  # what it was told or found at the end
        self.told = 0  # terms, by the last report that its observer has heard
        self.heard: list[str] = []  # lines that its present master has handed on
        self.actor = Actor(
            self.scheduler, name, self._queue if detached and submits else self._lead if submits else self._follow
        )
        self.actor.on_end = lambda _: self.wire.close()

    # -- what an observer hears ------------------------------------------------------------------------------------

    def progressed(self, report: Callable[[], Report]) -> None:
        """Make the report, as a progress bar would."""
        self.told = report().counted

    def noticed(self, text: str) -> None:
        """Into the trace."""
        if self.scheduler.listen:
            self.scheduler.say(f"{self.name:>8} notices: {text}")

    def printed(self, printed: Printed) -> None:
        """Each line comes once from one master."""
        for line in printed.text.splitlines():
            require(line not in self.heard, f"{self.name} was given {line!r} of {self.spec.job} twice")
            self.heard.append(line)

    # -- its life --------------------------------------------------------------------------------------------------

    def _new_master(self, *, pipelined: bool = False) -> Master:
        self.heard = []
        self.master = Master(
            self.jobs,
            self.clock,
            self.spec,
            self._make(),
            self,
            source=self._source,
            wait_workers=self._wait_workers,
            pipelined=pipelined,
            keeper=self._new_keeper,
        )
        if self.spec.params["terms"] % 2:  # in every other job each body stands apart, however small it is
            self.master._exchange.bodies.least = 1
        return self.master

    def _new_keeper(self, lease: Lease, jobs: Jobs) -> Keeper:
        self._keeper = SimKeeper(lease, jobs, self.actor)
        return self._keeper

    def _queue(self) -> None:
        """As ``mrq compute --detach``, of a person who tries it again."""
        master = self._new_master()
        while True:
            self._connect()
            try:
                master.submit(hand_over=True)
            except BrokerError as error:
                if not isinstance(error, (BrokerDown, BrokerFull)):
                    raise
                self.clock.sleep(0.5)
            except Superseded:
                return  # it is there already, and led
            else:
                return

    def _lead(self) -> None:
        """As Client.lead."""
        master = self._new_master(pipelined=True)
        self._connect()
        try:
            master.submit()
        except BrokerDown as error:
            self.noticed(f"{error}; trying again")
        try:
            self._end(master.run())
        except Superseded:
            self._follow()
        except NoSuchJob:  # it ended, and its record went before we could read it
            self._end(None)
        else:
            self._make_sure(master)

    def _make_sure(self, master: Master) -> None:
        """As Client.close, of a program that does not give up."""
        with contextlib.suppress(BrokerDown):
            self.wire.hear()
        if master.end_in_doubt:
            with contextlib.suppress(Superseded, NoSuchJob):
                master.make_sure()

    def _connect(self) -> None:
        """As a person who tries the command again."""
        while True:
            try:
                self.wire.connect()
                return
            except BrokerDown:
                self.clock.sleep(0.5)

    def _follow(self) -> None:
        """As Client.follow."""
        while True:
            self.master = None
            try:
                state = Standby(self.jobs, self.clock, self.spec.job, self).wait()
            except NoSuchJob:
                self._end(None)
                return
            assert state is not None
            if state.record is not None:
                self._end(Ended(state.record, None))
                return
            master = self._new_master()
            try:
                try:
                    master.take_over(state)
                except BrokerDown as error:
                    self.noticed(f"{error}; trying again")
                self._end(master.run())
                return
            except Superseded:
                continue
            except NoSuchJob:
                self._end(None)
                return

    def _end(self, ended: Ended | None) -> None:
        if (
            ended is not None
            and isinstance(ended.record, Done)
            and self.master is not None
            and ended.outcome is not None
        ):
            require(self.told == ended.record.counted, f"{self.name} was last told of {self.told} terms")
        self.ended = ended.state if ended else "let go"
        self._on_end(self, ended)

    def interrupt(self) -> None:
        """Ctrl-C or TERM: let go of the job."""
        if self.master is None:
            self.kill()
            return
        try:
            self.master.interrupt()
        except Interrupted as error:
            self.actor.interrupt(error)

    def kill(self, *, power: bool = False) -> None:
        """SIGKILL, or the end of its host."""
        self.actor.kill()
        if self._keeper is not None:
            self._keeper.kill(power=power)
        if power:
            self.wire.lose_power()
        else:
            self.wire.close()
