"""Jobs of other kinds, several jobs, and several things at a time."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time

from tests.chaos.ground import TERMS, Ground
from tests.chaos.scenarios import scenario
from tests.support.stage import until


@scenario("ordered")
def ordered() -> dict[str, float]:
    """A list in the order of its terms, while workers, the master and the server are killed."""
    with Ground() as ground:
        leader = ground.begin(3 * TERMS, reduce="list")
        follower = ground.follower()
        for _ in range(3):
            ground.wait_progress(100)
            os.kill(random.choice(ground.workers()), signal.SIGKILL)
            ground.wait_progress(50)
            ground.server.restart()
        leader.kill9()
        ground.end(follower)
        return ground.figures


@scenario("three-jobs")
def three_jobs() -> dict[str, float]:
    """Three jobs at a time on one queue; one is cancelled, everything is cut and restarted, the other two are exact."""
    with Ground() as ground:
        first = ground.begin(2 * TERMS)
        second, third = ground.another(), ground.another(function="noted")
        for each in (second, third):
            until(lambda job=each.job: ground.scene.state(job) is not None, 20, "all three jobs there")  # type: ignore[misc]
        for number in range(4):
            ground.wait_progress(100)
            with ground.server.client() as client:
                client.client_kill_filter(_type="normal", skipme=True)
            ground.server.restart()
            if number == 1:
                assert ground.scene.cancel(second.job, now=True) == "cancelled"
        assert second.record()["state"] == "cancelled-now"
        ground.end(first, third)
        return ground.figures


@scenario("everything")
def everything() -> dict[str, float]:
    """Half a minute of kills, stops, cuts, restarts and losses, one after another at random."""
    with Ground() as ground:
        leader = ground.begin(8 * TERMS)
        follower = ground.follower()
        masters = [leader, follower]

        def worker() -> None:
            if workers := ground.workers():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(random.choice(workers), signal.SIGKILL)

        def pause() -> None:
            if workers := ground.workers():
                victim = random.choice(workers)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGSTOP)
                    time.sleep(1)
                    os.kill(victim, signal.SIGCONT)

        def master() -> None:
            if masters[0].poll() is None:
                masters[0].kill9()
                masters.append(ground.follower())
                del masters[0]

        def cut() -> None:
            with ground.server.client() as client:
                client.client_kill_filter(_type="normal", skipme=True)

        def flush() -> None:
            with ground.server.client() as client:
                client.script_flush()

        def lose() -> None:
            names = [name for name in ground.scene.names() if name[:2] != "j:"]
            if names:
                with ground.server.client() as client:
                    client.delete(ground.scene.keys.prefix + random.choice(names))

        until_ = time.monotonic() + 30
        while time.monotonic() < until_ and ground.running():
            random.choice([worker, worker, worker, pause, master, cut, flush, lose, ground.server.restart])()
            time.sleep(random.uniform(0, 1))
        ground.end(*masters)
        return ground.figures
