"""What is done to masters, supervisors and workers."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time

from tests.chaos.ground import TERMS, WORKERS, Ground
from tests.chaos.scenarios import scenario
from tests.support.fleet import kill9
from tests.support.servers import wait_gone
from tests.support.stage import allowed, until


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


@scenario("worker-kill", short=True)
def worker_kill() -> dict[str, float]:
    """A worker is killed every 0.3 s; its task runs elsewhere within a second."""
    between: list[int] = []
    with Ground() as ground:
        ground.begin()
        while ground.running():
            workers = set(ground.workers())
            busy = {pid: term for pid, term in ground.stage.runs() if pid in workers}
            if not busy:
                continue
            victim = random.choice(list(busy))
            kill9(victim)
            killed = time.monotonic()
            term = [at for pid, at in ground.stage.runs() if pid == victim][-1]

            def elsewhere(victim: int = victim, term: int = term) -> bool:
                return any(at == term and pid != victim for pid, at in ground.stage.runs())

            with contextlib.suppress(AssertionError):
                until(lambda: elsewhere() or not ground.running(), 1.0, "elsewhere, or the job over")
            if elsewhere():
                took = time.monotonic() - killed
                ground.figure("task elsewhere after", took, 1.0 if took <= 1.0 else allowed(1.0))  # as the wait above
            else:
                between.append(term)  # killed between two tasks it was not in the midst of one, or else it shows below
            time.sleep(0.3)
        ground.end()
        times = ground.stage.count()
        assert all(times[term] == 1 for term in between), "a task ran elsewhere, but not within a second"
        return ground.figures


@scenario("worker-stop")
def worker_stop() -> dict[str, float]:
    """A worker is stopped for 20 s, given up, and goes on."""
    with Ground() as ground:
        ground.begin(5 * TERMS)
        victim = ground.workers()[0]
        _signal(victim, signal.SIGSTOP)
        time.sleep(20)
        _signal(victim, signal.SIGCONT)
        ground.end()
        return ground.figures


@scenario("supervisor-stop")
def supervisor_stop() -> dict[str, float]:
    """A supervisor is stopped while its workers work on: one is given up and comes back by itself."""
    with Ground() as ground:
        ground.begin(12 * TERMS)
        ground.scene.wait_beats(2 * WORKERS)
        ground.fleets[0].stop()
        stopped = time.monotonic()
        # Not before there is something in its hand as the master looks around.
        until(lambda: ground.scene.vouched() < 2 * WORKERS, 35, "a worker given up")
        ground.figures["given up after"] = time.monotonic() - stopped
        ground.wait_progress(100)
        ground.fleets[0].go_on()
        ground.scene.wait_beats(2 * WORKERS)
        ground.end()
        return ground.figures


@scenario("worker-leave")
def worker_leave() -> dict[str, float]:
    """Workers are told to leave and replaced, all the time; nothing is computed twice."""
    with Ground() as ground:
        ground.begin()
        with ground.meanwhile(lambda: ground.fleets[0].signal(signal.SIGHUP), 0.5):
            ground.end()
        assert set(ground.stage.count().values()) == {1}
        return ground.figures


@scenario("segfault", short=True)
def segfault() -> dict[str, float]:
    """Some terms kill their first worker by SIGSEGV, SIGKILL or exit."""
    with Ground() as ground:
        ground.stage.write("poison", "20:once-segfault 21:once-kill 200:once-exit")
        ground.begin(function="poisoned")
        ground.end()
        return ground.figures


@scenario("loop-in-c", short=True)
def loop_in_c() -> dict[str, float]:
    """A term loops in C for ever the first time, and is killed when its time is up."""
    with Ground() as ground:
        ground.stage.write("poison", "20:once-hang")
        leader = ground.begin(function="poisoned", task_timeout=1.0)
        ground.end(leader)
        return ground.figures


@scenario("host-kill")
def host_kill() -> dict[str, float]:
    """A whole host is lost, while there is plenty to do; its tasks run elsewhere within 18 s."""
    with Ground() as ground:
        ground.begin(6 * TERMS)
        ground.scene.wait_beats(4)
        lost = ground.fleets[0]
        workers = lost.workers()
        lost.kill9()
        killed = time.monotonic()
        assert all(wait_gone(worker) for worker in workers)
        for worker, terms in ground.scene.hands().items():
            for term in terms if worker in workers else []:
                ground.stage.begun(term, 30, but=worker)
        ground.figure("lost host's tasks elsewhere after", time.monotonic() - killed, 18.0)
        ground.end()
        return ground.figures


@scenario("master-kill", short=True)
def master_kill() -> dict[str, float]:
    """The master is killed; a standby leads within 12 s, and no work is lost."""
    with Ground() as ground:
        leader = ground.begin(3 * TERMS)
        follower = ground.follower()
        leader.kill9()
        killed = time.monotonic()
        at, _ = follower.heard_at(f"notice leading {ground.job}", 60)
        ground.figure("takeover after", at - killed, 12.0)
        ground.end(follower)
        assert set(ground.stage.count().values()) == {1}
        return ground.figures


@scenario("masters-kill")
def masters_kill() -> dict[str, float]:
    """Masters are killed again and again, each shortly after it has taken over."""
    with Ground() as ground:
        leader = ground.begin(12 * TERMS)  # workers do a window of them, and wait for the next master
        for _ in range(4):
            follower = ground.follower()
            leader.kill9()
            killed = time.monotonic()
            at, _ = follower.heard_at(f"notice leading {ground.job}", 60)
            ground.figure("takeover after", at - killed, 12.0)
            leader = follower
            time.sleep(random.uniform(0, 1.5))
        found = ground.end(leader)
        assert found is not None
        assert found.takeovers == 4
        return ground.figures


@scenario("master-stop")
def master_stop() -> dict[str, float]:
    """The master is stopped for 15 s, succeeded meanwhile, and goes on: it changes nothing any more."""
    with Ground() as ground:
        leader = ground.begin(6 * TERMS)
        follower = ground.follower()
        leader.stop()
        stopped = time.monotonic()
        at, _ = follower.heard_at(f"notice leading {ground.job}", 60)
        ground.figure("takeover after", at - stopped, 12.0)
        time.sleep(max(0.0, 15 - (time.monotonic() - stopped)))
        leader.go_on()
        found = ground.end(leader, follower)
        assert found is not None
        assert found.takeovers == 1
        return ground.figures


@scenario("master-blink")
def master_blink() -> dict[str, float]:
    """The master is stopped for 4 s, less than its lease, again and again; nobody takes over."""
    with Ground() as ground:
        leader = ground.begin(6 * TERMS)
        follower = ground.follower()
        for _ in range(3):
            leader.stop()
            before = ground.token()
            time.sleep(4)
            leader.go_on()
            until(lambda token=before: ground.token() != token, 20, "a sign of life")  # type: ignore[misc]
        found = ground.end(leader, follower)
        assert found is not None
        assert found.takeovers == 0
        return ground.figures
