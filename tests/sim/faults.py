"""The faults, by name. Each happens to a world at one moment; the world's own random numbers choose its victim."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from mapreduce_rq.broker.jobs import Jobs
from mapreduce_rq.broker.keys import Keys
from mapreduce_rq.core.messages import MAP, OK, Answer, Reply, Task
from mapreduce_rq.core.sealing import Codecs, Keyring
from mapreduce_rq.errors import BrokerError, NoSuchJob
from mapreduce_rq.runtime.master.cancel import cancel as cancel_job
from tests.sim.actors import ClientProcess, Host
from tests.sim.invariants import Job
from tests.sim.scheduler import Actor
from tests.sim.store import Stream
from tests.sim.wire import SimClock, SimWire

if TYPE_CHECKING:
    from tests.sim.world import World  # it imports us

T = TypeVar("T")
Fault = Callable[["World"], None]
FAULTS: dict[str, Fault] = {}

COMMON = (
    *("kill_worker", "kill_worker", "lose_host", "pause_worker", "pause_supervisor", "pause_host", "term_worker"),
    *("start_host", "drain_host", "kill_master", "kill_master", "pause_master", "stop_master", "start_client"),
    *("restart", "failover", "fail_behind", "rewind", "stall", "full", "cut", "cut", "lose_queue", "lose_hand"),
    *("lose_workers", "lose_masters", "lose_jobs", "lose_replies", "flush", "junk", "double_task", "replay_reply"),
    *("replay_task", "forge", "clock", "freeze_master", "lose_bodies"),
)
"""Faults that a world may have by chance. A fault that is listed twice comes more often."""
_ALWAYS = ("start_client", "start_client", "start_host", "kill_worker", "pause_worker", "lose_queue", "lose_hand")
STORMS = (
    # masters that freeze, are replaced, and come back
    (*("freeze_master",) * 8, "pause_master", "stop_master", "pause_supervisor", *_ALWAYS),
    # histories that split, under clocks that jump
    (*("failover",) * 2, *("fail_behind",) * 5, "restart", "kill_master", "lose_replies", "term_worker", *_ALWAYS),
    # answers that come twice, late, or from strangers
    (*("replay_reply",) * 4, *("forge",) * 4, *("double_task",) * 3, "replay_task", "junk", "kill_master", *_ALWAYS),
)
"""There are three kinds of storms, since the faults of one kind would hide bugs that another kind shows."""
OF_MASTERS = {"kill_master", "stop_master", "pause_master", "freeze_master", "start_client"}


def fault(happen: Fault) -> Fault:
    """List a fault under its function's name."""
    FAULTS[happen.__name__] = happen
    return happen


def pick(world: World, row: list[T]) -> T | None:
    """One of them, if there is any."""
    return world.rng.choice(row) if row else None


# -- workers and hosts ---------------------------------------------------------------------------------------------


def a_host(world: World) -> Host | None:
    """A host that runs."""
    return pick(world, world.live_hosts())


def a_worker(world: World) -> tuple[Host, int] | None:
    """A worker that runs: its host and pid."""
    return pick(world, [(host, pid) for host in world.live_hosts() for pid in host.workers])


def pause_actor(world: World, actor: Actor, seconds: float) -> None:
    """SIGSTOP, which no other process is told of, and SIGCONT."""
    world.say(f"!! pause {actor.name} {seconds:.1f} s")
    actor.pause()
    world.paused.append(actor)
    world.scheduler.at(seconds, actor.resume)


@fault
def kill_worker(world: World) -> None:
    if found := a_worker(world):
        host, pid = found
        world.say(f"!! kill {host.workers[pid].actor.name}")
        host.kill_worker(pid)


@fault
def lose_host(world: World) -> None:
    """A host loses its power, or its network for ever: no supervisor writes an obituary."""
    if host := a_host(world):
        world.say(f"!! lose {host.name}")
        size = host.size
        host.lose()
        if world.rng.random() < 0.7:
            world.scheduler.at(world.rng.uniform(1, 30), world.start_host, max(1, size))


@fault
def pause_worker(world: World) -> None:
    if found := a_worker(world):
        host, pid = found
        seconds = world.rng.choice([1, 8, 25, 60]) * world.rng.random()
        world.say(f"!! stop {host.workers[pid].actor.name} {seconds:.1f} s")
        host.stop_worker(pid, resume=False)
        world.scheduler.at(seconds, lambda: host.stop_worker(pid, resume=True))


@fault
def pause_supervisor(world: World) -> None:
    if host := a_host(world):
        pause_actor(world, host.actor, world.rng.choice([5, 25, 60]) * world.rng.random())


@fault
def pause_host(world: World) -> None:
    if host := a_host(world):
        seconds = world.rng.choice([5, 25, 60]) * world.rng.random()
        for actor in host.actors():
            pause_actor(world, actor, seconds)


@fault
def term_worker(world: World) -> None:
    if found := a_worker(world):
        host, pid = found
        world.say(f"!! term {host.workers[pid].actor.name}")
        host.tell(pid)


@fault
def start_host(world: World) -> None:
    if len(world.live_hosts()) < 4:
        world.say("!! start a host")
        world.start_host(world.rng.randint(1, 3))


@fault
def drain_host(world: World) -> None:
    if host := a_host(world):
        world.say(f"!! drain {host.name}")
        host.drain()


@fault
def clock(world: World) -> None:
    if host := a_host(world):
        host.clock.skew += world.rng.choice([-1, 1]) * 10 ** world.rng.uniform(-1, 5)
        world.say(f"!! the wall clock of {host.name} jumps")


# -- masters and standbys ------------------------------------------------------------------------------------------


def a_client(world: World) -> ClientProcess | None:
    """A client that may die: a job must not be lost before it was there."""
    there = {job.name for job in world.jobs if job.tokens}
    return pick(world, [client for client in world.clients if not client.actor.dead and client.spec.job in there])


@fault
def kill_master(world: World) -> None:
    if client := a_client(world):
        world.say(f"!! kill {client.name}")
        client.kill(power=world.rng.random() < 0.3)


@fault
def pause_master(world: World) -> None:
    if client := a_client(world):
        pause_actor(world, client.actor, world.rng.choice([2, 15, 60]) * world.rng.random())


@fault
def freeze_master(world: World) -> None:
    """A master is paused until another one takes over, and then comes back."""
    leading = [client for client in world.clients if client.master is not None and not client.actor.dead]
    if client := pick(world, [client for client in leading if not client.actor.paused]):
        pause_actor(world, client.actor, world.rng.uniform(12, 20))


@fault
def stop_master(world: World) -> None:
    if client := a_client(world):
        world.say(f"!! interrupt {client.name}")
        client.interrupt()


@fault
def start_client(world: World) -> None:
    spec = pick(world, [spec for spec in world.specs if not spec.lazy and world.state(spec.job)])
    if spec and sum(not client.actor.dead for client in world.clients) < 4:
        world.say(f"!! a user resumes {spec.job}")
        world.start_client(spec)


@fault
def cancel(world: World) -> None:
    start_cancel(world, world.rng.choice(world.jobs), now=world.rng.random() < 0.5)


def start_cancel(world: World, job: Job, *, now: bool) -> None:
    """`mrq cancel`, from a process of its own."""
    job.may_be_cancelled = True
    world.say(f"!! cancel {job.name}{' --now' if now else ''}")
    wire = SimWire(world.server)
    clock = SimClock(world.scheduler)

    def body() -> None:
        with contextlib.suppress(BrokerError, NoSuchJob):
            wire.connect()
            site = world.site_of(job.name)
            cancel_job(Jobs(wire, site.keys, site.codecs), clock, job.name, now=now)
        wire.close()

    Actor(world.scheduler, "cancel", body)


# -- the server ----------------------------------------------------------------------------------------------------


@fault
def restart(world: World) -> None:
    world.server.restart(world.rng.choice([0.05, 1, 8]) * world.rng.random())


@fault
def failover(world: World) -> None:
    """To a replica that lags behind and has another clock."""
    fail_over(world, int(world.rng.choice([0, 5, -5, -3000, 100_000, -100_000]) * world.rng.random()))


@fault
def fail_behind(world: World) -> None:
    """To a replica whose clock is so far behind that earlier stream ids come again."""
    fail_over(world, -world.rng.randint(3_000, 60_000))


def fail_over(world: World, skew_ms: int) -> None:
    """To a state some steps back, with another clock."""
    size = len(world.server.model.history)
    back = min(size - 1, int(world.rng.choice([2, 10, 60, 300]) * world.rng.random()))
    seconds = world.rng.choice([0.05, 1, 8]) * world.rng.random()
    world.server.restart(seconds, index=size - 1 - back, skew_ms=skew_ms)


@fault
def rewind(world: World) -> None:
    """To any earlier state of the server."""
    size = len(world.server.model.history)
    skew = int(world.rng.choice([0, -100_000, -10_000_000]) * world.rng.random())
    world.server.restart(world.rng.random(), index=world.rng.randrange(size), skew_ms=skew)


@fault
def stall(world: World) -> None:
    world.server.stall(world.rng.choice([1, 6, 25]) * world.rng.random())


@fault
def full(world: World) -> None:
    seconds = world.rng.choice([1, 6, 40]) * world.rng.random()
    world.say(f"!! full for {seconds:.1f} s")
    world.server.model.full = True
    world.scheduler.at(seconds, world.server.have_room)


@fault
def cut(world: World) -> None:
    if connection := pick(world, world.server.connections()):
        world.server.cut(connection)


# -- the data ------------------------------------------------------------------------------------------------------


def some_keys(world: World) -> Keys:
    """Those of one of the queues."""
    return (world.rng.choice(world.sites) if len(world.sites) > 1 else world.sites[0]).keys


@fault
def lose_queue(world: World) -> None:
    world.server.fault("lose the queue", ("DEL", some_keys(world).queue))


@fault
def lose_hand(world: World) -> None:
    prefix = some_keys(world).in_flight("").encode()
    if key := pick(world, sorted(key for key in world.server.model.now.keys if key.startswith(prefix))):
        world.server.fault(f"lose {key.decode()}", ("DEL", key))


@fault
def lose_workers(world: World) -> None:
    world.server.fault("lose the workers", ("DEL", some_keys(world).workers))


@fault
def lose_masters(world: World) -> None:
    world.server.fault("lose the masters", ("DEL", some_keys(world).masters))


@fault
def lose_jobs(world: World) -> None:
    world.server.fault("lose the list of jobs", ("DEL", some_keys(world).jobs))


@fault
def lose_replies(world: World) -> None:
    job = world.rng.choice(world.jobs)
    world.server.fault(f"lose the replies of {job.name}", ("DEL", world.site_of(job.name).keys.replies(job.name)))


@fault
def lose_bodies(world: World) -> None:
    job = world.rng.choice(world.jobs)
    world.server.fault(
        f"lose the bodies of the tasks of {job.name}", ("DEL", world.site_of(job.name).keys.bodies(job.name))
    )


@fault
def flush(world: World) -> None:
    world.server.fault("FLUSHALL", ("FLUSHALL",))


@fault
def junk(world: World) -> None:
    """A client without a key writes to our keys."""
    rng = world.rng
    short = rng.randbytes(rng.choice([0, 1, 2, 30]))
    job = rng.choice(world.jobs)
    keys = world.site_of(job.name).keys
    forged = a_stranger(world).task.seal(Task(job.name, 0, 1))
    item = rng.choice([short, forged, b"\0\0", b"\xff" * 40])
    end = rng.choice(["LPUSH", "RPUSH"])
    place = rng.choice(["queue", "hand", "replies", "odd replies", "workers"])
    if place == "queue":
        world.server.fault("junk in the queue", (end, keys.queue, item))
    elif place == "hand":
        if found := a_worker(world):
            host, pid = found
            world.server.fault("junk in a hand", (end, keys.in_flight(host.workers[pid].wid), item))
    elif place == "workers":
        world.server.fault("junk among the workers", ("HSET", keys.workers, item or b"x", short))
    else:
        stream = keys.replies(job.name)
        name = b"a" if place == "replies" else b"?"
        world.server.fault("junk among the replies", ("XADD", stream, "NOMKSTREAM", "*", name, item))


def a_stranger(world: World) -> Codecs:
    """The codecs of a client without a key, or with another key."""
    return Codecs("sim", world.rng.choice([None, Keyring([b"a key of somebody else's"])]))


@fault
def forge(world: World) -> None:
    """Answers that look like ours and say nothing true."""
    job = world.rng.choice(world.jobs)
    terms = world.rng.sample(range(job.oracle.terms), min(5, job.oracle.terms))
    lies = [Answer(k, k + 1, 0, MAP, OK, bytes(24), 1) for k in terms]
    sealed = a_stranger(world).reply.seal(Reply(job.name, "w", lies))
    stream = world.site_of(job.name).keys.replies(job.name)
    world.server.fault("forge answers", ("XADD", stream, "NOMKSTREAM", "*", "a", sealed))


@fault
def double_task(world: World) -> None:
    queue = some_keys(world).queue
    waiting = world.server.model.now.keys.get(queue.encode(), ())
    if isinstance(waiting, tuple) and not isinstance(waiting, Stream) and waiting:
        world.server.fault("double a task", ("LPUSH", queue, world.rng.choice(waiting)))


@fault
def replay_task(world: World) -> None:
    """A task that was pushed once, also in a history that was undone."""
    if item := pick(world, world.sealed["task"]):
        world.server.fault("replay a task", ("LPUSH", some_keys(world).queue, item))


@fault
def replay_reply(world: World) -> None:
    """A reply that was given once, perhaps to another job."""
    if item := pick(world, world.sealed["reply"]):
        job = world.rng.choice(world.jobs)
        stream = world.site_of(job.name).keys.replies(job.name)
        world.server.fault("replay a reply", ("XADD", stream, "NOMKSTREAM", "*", "a", item))
