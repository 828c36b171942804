"""What is done to the server and its data."""

from __future__ import annotations

import os
import random
import signal
import time

from tests.chaos.ground import TERMS, Ground
from tests.chaos.scenarios import scenario
from tests.support.stage import until


@scenario("redis-kill")
def redis_kill() -> dict[str, float]:
    """The server is killed and restarted from its append-only file, three times."""
    with Ground() as ground:
        ground.begin()
        for _ in range(3):
            ground.wait_progress(100)
            ground.server.restart()
            ground.back_to_work()
        ground.end()
        return ground.figures


@scenario("redis-down")
def redis_down() -> dict[str, float]:
    """The server is away for 20 s."""
    with Ground() as ground:
        leader = ground.begin(2 * TERMS)
        follower = ground.follower()
        ground.server.kill9()
        time.sleep(20)
        ground.server.start()
        ground.back_to_work()
        ground.end(leader, follower)
        return ground.figures


@scenario("redis-stop")
def redis_stop() -> dict[str, float]:
    """The server stands still for 4 s, and for 14 s, longer than any client waits for an answer."""
    with Ground() as ground:
        leader = ground.begin(2 * TERMS)
        follower = ground.follower()
        for seconds in (4, 14):
            os.kill(ground.server.pid, signal.SIGSTOP)
            time.sleep(seconds)
            os.kill(ground.server.pid, signal.SIGCONT)
            ground.back_to_work()
        ground.end(leader, follower)
        return ground.figures


@scenario("aof-cut", short=True)
def aof_cut() -> dict[str, float]:
    """The server is killed and loses the end of its append-only file, cut at any byte: the only honest power loss."""
    with Ground() as ground:
        ground.begin()
        for _ in range(3):
            ground.wait_progress(100)
            ground.server.kill9()
            file = ground.history_files()[-1]
            size = file.stat().st_size
            os.truncate(file, random.randrange(max(0, size - 50_000), size))
            ground.server.start()
            ground.back_to_work()
        ground.end()
        return ground.figures


@scenario("aof-cut-standby")
def aof_cut_standby() -> dict[str, float]:
    """As aof-cut, with the master killed at the same time."""
    with Ground() as ground:
        leader = ground.begin(6 * TERMS)  # while nobody leads, workers do up to a thousand of them
        for _ in range(2):
            follower = ground.follower()
            ground.wait_progress(100)
            leader.kill9()
            ground.server.kill9()
            file = ground.history_files()[-1]
            size = file.stat().st_size
            os.truncate(file, random.randrange(max(size // 2, size - 50_000), size))
            ground.server.start()
            follower.hear(f"notice leading {ground.job}", 30)
            leader = follower
        ground.end(leader)
        return ground.figures


@scenario("script-flush")
def script_flush() -> dict[str, float]:
    """The server forgets its scripts every 20 ms."""
    with Ground() as ground, ground.server.client() as client:
        ground.begin()
        with ground.meanwhile(client.script_flush, 0.02):
            ground.end()
        return ground.figures


@scenario("client-kill", short=True)
def client_kill() -> dict[str, float]:
    """All connections are cut every 0.5 s."""
    with Ground() as ground, ground.server.client() as client:
        ground.begin()
        with ground.meanwhile(lambda: client.client_kill_filter(_type="normal", skipme=True), 0.5):
            ground.end()
        return ground.figures


@scenario("client-pause")
def client_pause() -> dict[str, float]:
    """The server answers nobody for 2 s, and for 12 s."""
    with Ground() as ground, ground.server.client() as client:
        leader = ground.begin(2 * TERMS)
        follower = ground.follower()
        for seconds in (2, 12):
            client.execute_command("CLIENT", "PAUSE", seconds * 1000, "ALL")
            time.sleep(seconds)
            ground.back_to_work()
        ground.end(leader, follower)
        return ground.figures


@scenario("oom", short=True)
def oom() -> dict[str, float]:
    """The server is at its memory limit for 3 s."""
    with Ground() as ground, ground.server.client() as client:
        ground.begin()
        client.config_set("maxmemory", 1)
        time.sleep(3)
        client.config_set("maxmemory", 0)
        ground.back_to_work()
        ground.end()
        return ground.figures


@scenario("oom-long")
def oom_long() -> dict[str, float]:
    """The server is at its memory limit for 25 s; nobody is given up for not being able to write."""
    with Ground() as ground, ground.server.client() as client:
        leader = ground.begin(2 * TERMS)
        follower = ground.follower()
        client.config_set("maxmemory", 1)
        time.sleep(25)
        client.config_set("maxmemory", 0)
        ground.back_to_work()
        found = ground.end(leader, follower)
        assert found is not None
        assert found.takeovers == 0
        return ground.figures


@scenario("keys-lost", short=True)
def keys_lost() -> dict[str, float]:
    """One of the soft keys (queue, hands, workers, masters, replies, listing) is deleted every 0.1 s."""
    with Ground() as ground, ground.server.client() as client:
        ground.begin()

        def lose() -> None:
            names = [name for name in ground.scene.names() if name[:2] != "j:"]
            if names and ground.count() < TERMS // 2:
                client.delete(ground.scene.keys.prefix + random.choice(names))

        with ground.meanwhile(lose, 0.1):
            ground.end()
        return ground.figures


@scenario("job-lost")
def job_lost() -> dict[str, float]:
    """The job itself is deleted under a living master: it submits it again, with what it has counted."""
    with Ground() as ground, ground.server.client() as client:
        leader = ground.begin()
        for _ in range(3):
            ground.wait_progress(100)
            client.delete(ground.scene.keys.job(ground.job))
        leader.hear(f"notice {ground.job} is gone from Redis: submitted again with what is counted")
        ground.end()
        return ground.figures


@scenario("flushall", short=True)
def flushall() -> dict[str, float]:
    """Everything is deleted under a living master, three times."""
    with Ground() as ground, ground.server.client() as client:
        ground.begin()
        for _ in range(3):
            ground.wait_progress(100)
            client.flushall()
            ground.back_to_work()
        ground.end()
        return ground.figures


@scenario("flushall-orphan", short=True)
def flushall_orphan() -> dict[str, float]:
    """Everything is deleted while no master is alive: whoever stands by says that there is no such job."""
    with Ground() as ground, ground.server.client() as client:
        leader = ground.begin()
        follower = ground.follower()
        leader.kill9()
        client.flushall()
        assert follower.wait(20) == 4
        assert f"there is no job {ground.job}" in follower.hear("error NoSuchJob")
        until(lambda: ground.scene.names() in ([], ["w"]), 20, "nothing of the job left")
        return ground.figures
