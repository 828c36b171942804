"""One world, made from a plan. Its phases: safety, in which faults happen; healing, without faults; and a calm.

While faults happen, no term may be lost or counted twice. After the last fault, each job must come to its right end
within a bounded time, and leave no keys behind.
"""

from __future__ import annotations

import contextlib
import logging
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

from mapreduce_rq.broker.keys import Keys
from mapreduce_rq.core.fleet.prefetch import MAX_TASKS
from mapreduce_rq.core.job.chunking import QUICK_WINDOW
from mapreduce_rq.core.job.events import Broken as LedgerBroken
from mapreduce_rq.core.job.events import Command, Event
from mapreduce_rq.core.job.ledger import Ledger
from mapreduce_rq.core.job.record import Done
from mapreduce_rq.core.messages import Spec, Task
from mapreduce_rq.core.sealing import Codec, Codecs, Keyring, Kind
from mapreduce_rq.errors import BadMessage
from mapreduce_rq.runtime.master.ended import Ended
from mapreduce_rq.runtime.pool import kernel
from mapreduce_rq.runtime.pool.settings import PoolSettings
from mapreduce_rq.runtime.pool.supervisor import LONG_SECONDS
from tests.sim import contracts
from tests.sim.actors import ClientProcess, Host, SimWorker, Site
from tests.sim.computation import Oracle, SimComputation, TestParams, items
from tests.sim.faults import FAULTS
from tests.sim.invariants import Bounds, Broken, Invariants, Job, require
from tests.sim.many import ManyProcess
from tests.sim.network import ENDPOINT, EPOCH, Request, Server, Weather
from tests.sim.plan import JobPlan, Plan, plan_of
from tests.sim.scheduler import Actor, Scheduler
from tests.sim.scripts import Run
from tests.sim.store import Snapshot, SortedSet, is_hash
from tests.sim.wire import SimClock

KEYRING = Keyring([b"sixteen bytes of the simulation"])
QUEUES = ("sim", "sim-b", "sim-c")
CALM_SECONDS = 30.0
"""Virtual seconds after the last job's end, in which all leftovers must disappear."""


@dataclass
class Verdict:
    """The outcome of a world."""

    seed: int
    failure: str = ""
    ends: list[str] = field(default_factory=list)  # of each job
    seconds: float = 0.0  # virtual, until the last job's end
    healed: float = 0.0  # virtual, from the end of the faults to it
    steps: int = 0
    executions: int = 0  # spans computed
    trace: list[str] = field(default_factory=list)


class Execution(NamedTuple):
    """A worker began to compute a span."""

    job: str
    lo: int
    hi: int
    at: float
    by: str


class TaskCodec(Codec):
    """Opens the same bytes once: each look around reads the whole queue again, and a task never changes."""

    def __init__(self, kind: Kind, shape: type[Task], queue: str, keyring: Keyring) -> None:
        super().__init__(kind, shape, queue, keyring)
        self._opened: dict[bytes, Task] = {}

    def open(self, data: bytes) -> Task:
        found = self._opened.get(data)
        if found is None:
            found = self._opened[data] = Codec.open(self, data)
        return found


class World:
    """Everything there is in one run."""

    def __init__(self, plan: Plan, *, listen: bool = False) -> None:
        self.plan = plan
        self.scheduler = Scheduler(plan.seed, listen=listen)
        self.rng = self.scheduler.rng
        self.server = Server(self.scheduler, self._stepped, plan.flavour, self._scripted)
        self.server.weather = plan.weather
        self.sites = [self._site(name) for name in QUEUES[: plan.queues]]
        self.keys, self.codecs = self.sites[0].keys, self.sites[0].codecs
        bounds = Bounds(queue=2 * QUICK_WINDOW * len(plan.jobs), hand=2 * MAX_TASKS, stream=3000, keys=400)
        self.invariants = [Invariants(site.keys, site.codecs, bounds) for site in self.sites]
        self.failure = ""
        self.hosts: list[Host] = []
        self.clients: list[ClientProcess] = []
        self.masters: list[ManyProcess] = []
        self.jobs: list[Job] = []
        self.specs: list[Spec] = []
        self.ends: dict[str, str] = {}  # as a client heard of it first
        self.executions: list[Execution] = []
        self.on_step: list[Callable[[], None]] = []  # called after each step
        self.paused: list[Actor] = []
        self.sealed: dict[str, list[bytes]] = {"task": [], "reply": []}  # everything ever sent, to be replayed
        self.healing_since: float | None = None
        self.wait_workers: float | None = None
        self._costs: dict[str, list[float]] = {}
        self._names = 0
        self._submitted = 0
        self._wiped = False  # a job may be gone: flushed, or lost in a failover
        for size in plan.hosts:
            self.start_host(size)
        for number, job in enumerate(plan.jobs):
            self._expect(f"sim-{number}", job)
        for at, kind in plan.faults:
            self.scheduler.at(at, self.inject, kind)
        for comes, goes, how in plan.masters:
            self.scheduler.at(comes, self.start_master, goes - comes, how)

    # -- who is there ----------------------------------------------------------------------------------------------

    def _site(self, queue: str) -> Site:
        codecs = Codecs(queue, KEYRING)
        codecs.task = TaskCodec("task", Task, queue, KEYRING)
        return Site(self.scheduler, self.server, Keys(queue), codecs)

    def site_of(self, job: str) -> Site:
        """Its queue's."""
        return self.sites[self.plan_of(job).queue]

    def plan_of(self, job: str) -> JobPlan:
        """Its plan."""
        return self.plan.jobs[int(job.removeprefix("sim-"))]

    def _expect(self, name: str, plan: JobPlan) -> None:
        spec = plan.spec(name)
        bad = frozenset(plan.raising + plan.deadly)
        job = Job(name, Oracle(plan.terms, ordered=plan.ordered), bad, plan.on_error, kept=plan.kept, laid=plan.laid)
        self._costs[name] = plan.costs(self.plan.seed, name)
        self.jobs.append(job)
        self.specs.append(spec)
        self.invariants[plan.queue].add(job)
        self.scheduler.at(plan.starts, self._submit, spec)
        for _ in range(plan.standbys):
            self.scheduler.at(plan.starts + 1 + 4 * self.rng.random(), self.start_client, spec)

    def _submit(self, spec: Spec) -> None:
        self._submitted += 1
        self.start_client(spec, submits=True)

    def computation(self, spec: Spec) -> SimComputation:
        """The computation of a spec; its terms cost virtual time of the process that maps them."""
        costs = self._costs[spec.job]
        plan = self.plan_of(spec.job)

        def spend(lo: int, hi: int, enough: Callable[[], bool]) -> int:
            actor = self.scheduler.actor()
            place = len(self.executions)
            self.executions.append(Execution(spec.job, lo, hi, self.scheduler.now, actor.name))
            if plan.logs:
                self._print(actor, f"execution {place} of {spec.job}")
            at = lo
            seconds = costs[hi] - costs[lo] + sum(plan.slow.get(k, 0.0) for k in range(lo, hi))
            while at < hi:
                # in one step if no part answer can be asked for: each step costs the simulation an event
                end = at + 1 if seconds > LONG_SECONDS else hi
                dies_at = min((k for k in plan.deadly if at <= k < end), default=None)
                if dies_at is not None:
                    actor.sleep(costs[dies_at + 1] - costs[at])
                    self._segfault(actor)
                actor.sleep(costs[end] - costs[at] + sum(plan.slow.pop(k, 0.0) for k in range(at, end)))
                at = end
                if enough():
                    break
            self.executions[place] = self.executions[place]._replace(hi=at)
            return at

        def rest() -> None:
            self.scheduler.actor().sleep(plan.request_seconds)

        def finish() -> None:
            if plan.finishing:
                self.scheduler.actor().sleep(plan.finishing)

        return SimComputation(TestParams(**spec.params), spend, rest, finish)

    def _print(self, actor: Actor, line: str) -> None:
        for host in self.hosts:
            for worker in host.workers.values():
                if worker.actor is actor and worker.streams.to is not None:
                    worker.streams.to.add("stdout", f"{line}\n".encode())

    def _segfault(self, actor: Actor) -> None:
        for host in self.hosts:
            for pid, worker in list(host.workers.items()):
                if worker.actor is actor:
                    self.say(f"{actor.name:>8} dies of its term")
                    host.kill_worker(pid)

    def start_host(self, size: int) -> Host:
        """A supervisor with ``size`` workers."""
        skew = self.rng.choice([0.0, 0.0, -7.0, 3600.0])
        clock = SimClock(self.scheduler, started=1000 * self.rng.random(), skew=skew)
        settings = PoolSettings(ENDPOINT, "sim", KEYRING, size)
        name = self._name("host")
        host = Host(name, self.sites, settings, clock, self.computation)
        self.hosts.append(host)
        return host

    def start_client(self, spec: Spec, *, submits: bool = False) -> ClientProcess:
        """`mrq compute` (submits) or `mrq resume`."""
        client = ClientProcess(
            self._name("client"),
            self.site_of(spec.job),
            spec,
            clock=SimClock(self.scheduler, started=1000 * self.rng.random()),
            make=lambda: self.computation(spec),
            on_end=self._client_ended,
            wait_workers=self.wait_workers,
            source=source_of(spec.params["terms"]) if spec.lazy else None,
            submits=submits,
            detached=self.plan_of(spec.job).detached,
        )
        self.clients.append(client)
        return client

    def start_master(self, stays: float, how: str) -> ManyProcess:
        """`mrq master`, which is told to go after a while, or killed, as long as there are faults."""
        clock = SimClock(self.scheduler, started=1000 * self.rng.random())
        name = self._name("master")
        made = ManyProcess(name, self.sites[0], clock=clock, make=self.computation, on_end=self._ended)
        self.masters.append(made)

        def go() -> None:
            if self.healing_since is None and not self.failure:
                self.say(f"!! {how} {name}")
                (made.kill if how == "KILL" else made.let_go)()

        self.scheduler.at(stays, go)
        return made

    def _name(self, kind: str) -> str:
        self._names += 1
        return f"{kind}{self._names}"

    def live_hosts(self) -> list[Host]:
        """Hosts whose supervisor runs."""
        return [host for host in self.hosts if not host.actor.dead]

    def state(self, job: str) -> str:
        """A job's state as it stands in Redis; '' if it is not there."""
        found = self.server.model.now.keys.get(self.site_of(job).keys.job(job).encode())
        return str(found[b"state"], "ascii") if is_hash(found) else ""

    def say(self, text: str) -> None:
        """A line of the trace."""
        self.scheduler.say(text)

    # -- how it goes on --------------------------------------------------------------------------------------------

    def run(self) -> Verdict:
        """All three phases."""
        scheduler, plan = self.scheduler, self.plan
        over = 0.0
        try:
            scheduler.run(plan.horizon, lambda: bool(self.failure) or (not plan.stays and self._over()))
            self._heal()
            scheduler.run(scheduler.now + plan.patience, lambda: bool(self.failure) or self._over())
            over = scheduler.now
            if not self.failure:
                require(self._over(), f"no end {plan.patience:.0f} s after the last fault")
                scheduler.run(over + CALM_SECONDS, lambda: bool(self.failure))
                if self._all_busy():  # with long terms, perhaps of another queue than the one where a fault put tasks
                    scheduler.run(over + 100 * CALM_SECONDS, lambda: bool(self.failure) or not self._all_busy())
                    scheduler.run(scheduler.now + CALM_SECONDS, lambda: bool(self.failure))
                self._calm()
        except Broken as error:
            self.fail(str(error))
        except Exception:
            self.fail(f"the simulation itself failed: {traceback.format_exc()}")
        finally:
            self._end()
        return Verdict(
            seed=plan.seed,
            failure=self.failure,
            ends=[self.ends.get(job.name, "?") for job in self.jobs],
            seconds=over,
            healed=over - (self.healing_since or over),
            steps=self.server.steps,
            executions=len(self.executions),
            trace=scheduler.trace,
        )

    def inject(self, kind: str) -> None:
        """Let a fault happen, unless the time for faults is over."""
        if self.healing_since is None and not self.failure:
            self._look_for_crashes()
            FAULTS[kind](self)

    def fail(self, text: str) -> None:
        """Note a failure; only the first one counts."""
        if not self.failure:
            self.failure = text
            self.say(f"## {text}")

    def _stepped(self, before: Snapshot, after: Snapshot, what: Request | str) -> None:
        if self.failure:
            return
        try:
            for invariants in self.invariants:
                invariants.stepped(before, after, what)
            if isinstance(what, Request) and len(self.sites) > 1:
                require(len(queues_of(what)) <= 1, f"{what} names keys of two queues, which may be on two nodes")
        except Broken as error:
            self.fail(str(error))
        for look in self.on_step:
            look()
        if isinstance(what, Request):
            self._remember(what)
        elif any(key.encode() in before.keys and key.encode() not in after.keys for key in self._job_keys()):
            self._wiped = True

    def _scripted(self, name: str, run: Run) -> None:
        if self.failure:
            return
        try:
            contracts.hold(name, run)
        except Broken as error:
            self.fail(f"{name}.lua: {error}")

    def _job_keys(self) -> list[str]:
        return [self.site_of(job.name).keys.job(job.name) for job in self.jobs]

    def _remember(self, what: Request) -> None:
        if what.name == "settle":
            appended = [command[-1] for command in what.commands[2:]]
            self.sealed["reply"] += [item for item in [*what.commands[1][3:], *appended] if isinstance(item, bytes)]
        elif what.name == "commit":
            self.sealed["task"] += [item for item in what.commands[1][-3:] if isinstance(item, bytes)]

    def _client_ended(self, client: ClientProcess, ended: Ended | None) -> None:
        self.say(f"{client.name:>8} ends: {ended.state if ended else 'without the job'}")
        if ended is None:
            return
        self._ended(client, client.spec.job, ended)

    def _ended(self, _: object, name: str, ended: Ended) -> None:
        job = next(job for job in self.jobs if job.name == name)
        self.ends.setdefault(job.name, ended.state)
        try:
            if isinstance(ended.record, Done):
                require(ended.record.value == job.value, f"a client announced {ended.record.value}")
                if ended.outcome is not None:
                    require(ended.outcome.value == job.value, f"a master holds {ended.outcome.value}")
            elif ended.state == "failed":
                require(job.may_fail, f"a client announced {ended.record}")
            else:
                require(job.may_be_cancelled, f"a client announced {ended.state}")
        except Broken as error:
            self.fail(str(error))

    def _look_for_crashes(self) -> None:
        for host in self.hosts:
            for actor in [host.actor, *host.crashed]:
                if actor.error is not None:
                    self.fail(f"{actor.name} crashed: {actor.error!r}")
        for client in self.clients:
            if client.actor.error is not None:
                self.fail(f"{client.name} crashed: {client.actor.error!r}")
        for actor in (actor for master in self.masters for actor in master.actors):
            if actor.error is not None:
                self.fail(f"{actor.name} crashed: {actor.error!r}")

    # -- how it ends -----------------------------------------------------------------------------------------------

    def _over(self) -> bool:
        """Whether every job has come to its end and every client knows."""
        if self._submitted < len(self.jobs):
            return False
        if not self.server.quiet or any(not client.actor.dead for client in self.clients):
            return False
        # A job that Redis has lost is submitted again by whoever leads it, also by an `mrq master` without any client.
        led = {job for master in self.masters if not master.dead for job in master.wheel.leads}
        # A lazy job whose end was rolled back stays without a master: its items are gone.
        return all(
            (self.state(job.name) != "running" and job.name not in led) or (plan.lazy and job.name in self.ends)
            for job, plan in zip(self.jobs, self.plan.jobs, strict=True)
        )

    def _heal(self) -> None:
        """No fault from here on. Servers and hosts that are down come up, and jobs without a master get one."""
        if self.failure:
            return
        self.say("== healing")
        self.healing_since = self.scheduler.now
        self.server.weather = Weather(latency=min(0.005, self.plan.weather.latency))
        self.server.have_room()
        for actor in self.paused:
            actor.resume()
        for host in self.hosts:
            for pid in list(host.workers):
                host.stop_worker(pid, resume=True)
        if not any(host.stays for host in self.live_hosts()):
            self.start_host(max(1, sum(self.plan.hosts) // 2))
        self.scheduler.at(1.0, self._look_after)

    def _look_after(self) -> None:
        """Resume jobs without a master, as a user does who sees them."""
        for spec in () if self.plan.unattended else self.specs:
            alone = all(client.actor.dead for client in self.clients if client.spec.job == spec.job)
            if alone and self.state(spec.job) == "running" and not spec.lazy:
                self.start_client(spec)
        self.scheduler.at(5.0, self._look_after)

    def _workers(self) -> list[SimWorker]:
        return [worker for host in self.live_hosts() for worker in host.workers.values()]

    def _all_busy(self) -> bool:
        workers = self._workers()
        return bool(workers) and all(worker.slate.read().busy for worker in workers)

    def _calm(self) -> None:
        """Check what must be true after the calm."""
        found = self.server.model.now.keys
        for job, plan in zip(self.jobs, self.plan.jobs, strict=True):
            state = self.state(job.name)
            end = self.ends.setdefault(job.name, state or "gone")
            rolled_back = plan.lazy and end != state
            require(bool(state) or self._wiped or plan.keep <= CALM_SECONDS, f"{job.name} is gone")
            if state and end != state:
                allowed = self._wiped or job.may_be_cancelled or rolled_back
                require(allowed, f"{job.name} ended {end} and is {state}")
            if state and not job.may_be_cancelled and not rolled_back:
                require(state == ("failed" if job.may_fail else "done"), f"{job.name} is {state}")
            if state != "running":
                keys = self.site_of(job.name).keys
                for key in (keys.replies(job.name), keys.bodies(job.name), keys.pieces(job.name)):
                    require(key.encode() not in found, f"{job.name} left {key} behind")
        abandoned = any(self.state(job.name) == "running" for job in self.jobs)
        for site in self.sites:
            listed = found.get(site.keys.jobs.encode())
            if isinstance(listed, SortedSet):
                require(set(listed.values()) == {EPOCH}, f"jobs are listed under the times {listed}")
            waiting = found.get(site.keys.queue.encode(), ())
            require(abandoned or not waiting, f"{len(waiting)} tasks are left in {site.keys.queue}")
        for worker in self._workers():
            if worker.slate.read().busy:
                continue  # with a long term of a job that a backup copy has ended
            for site in self.sites:
                hand = found.get(site.keys.in_flight(worker.wid).encode(), ())
                held = [item for item in hand if isinstance(item, bytes) and is_task(site, item)]
                require(not held, f"{worker.actor.name} still holds {len(held)} tasks")

    def _end(self) -> None:
        """Unwind every greenlet, so that nothing of this world is left for another."""
        self._look_for_crashes()
        for host in self.hosts:
            for actor in host.actors():
                actor.kill()
        for client in self.clients:
            client.kill()
        for master in self.masters:
            master.kill()
        self.scheduler.drain()


def is_task(site: Site, item: bytes) -> bool:
    """Whether these bytes are a task of this queue."""
    try:
        site.codecs.task.open(item)
    except BadMessage:
        return False
    return True


def queues_of(request: Request) -> set[str]:
    """The queues whose keys a request names."""
    words = [word for command in request.commands for word in command if isinstance(word, str)]
    return {word[: word.index("}")] for word in words if word.startswith("mrq1:{")}


def source_of(terms: int) -> Callable[[int], tuple[bytes, int, bool]]:
    """The items of a lazy job; now and then fewer than are wanted."""
    at = 0
    chance = Random(terms)

    def give(size: int) -> tuple[bytes, int, bool]:
        nonlocal at
        wanted = chance.randint(0, size) if chance.random() < 0.2 else size
        lo, at = at, min(terms, at + wanted)
        return items(lo, at), at - lo, at == terms

    return give


def _no_size(pid: int) -> int:  # noqa: ARG001  # as the one it stands for
    """No process of this id is ours."""
    return 0


@contextlib.contextmanager
def checked() -> Iterator[None]:
    """While entered, ledgers check themselves after each event, and no process logs."""
    receive = Ledger.receive

    def receive_and_check(self: Ledger, event: Event, now: float) -> list[Command]:
        commands = receive(self, event, now)
        if not any(isinstance(command, LedgerBroken) for command in commands):
            self.validate()
        return commands

    log = logging.getLogger("mapreduce_rq")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)
    rss = kernel.rss
    Ledger.receive = receive_and_check  # type: ignore[method-assign]
    kernel.rss = _no_size
    try:
        yield
    finally:
        Ledger.receive = receive  # type: ignore[method-assign]
        kernel.rss = rss
        log.setLevel(level)


def run_seed(seed: int, *, listen: bool = False) -> Verdict:
    """The world of a seed, from beginning to end."""
    return run_plan(plan_of(seed), listen=listen)


def run_plan(plan: Plan, *, listen: bool = False) -> Verdict:
    """The world of a plan, from beginning to end."""
    with checked():
        return World(plan, listen=listen).run()
