"""What Sentinel does to the server."""

from __future__ import annotations

import os
import signal
import time

import redis

from tests.chaos.ground import TERMS, Ground
from tests.chaos.scenarios import scenario
from tests.support.sentinels import Group
from tests.support.stage import until

DOWN_AFTER_MS = 2000
"""So long that no server passes for dead only because the machine is busy."""


@scenario("failover")
def failover() -> dict[str, float]:
    """Sentinel promotes a replica after the server was killed."""
    return _failover(lose=False)


@scenario("failover-lossy")
def failover_lossy() -> dict[str, float]:
    """Sentinel promotes a replica that has missed the last second."""
    return _failover(lose=True)


def _failover(*, lose: bool) -> dict[str, float]:
    with Group(down_after=DOWN_AFTER_MS) as group:
        first = group.master()
        with Ground(server=first, url=group.url) as ground:
            leader = ground.begin(2 * TERMS)
            follower = ground.follower()
            replica = group.replica()
            if lose:
                os.kill(replica.pid, signal.SIGSTOP)
                ground.wait_progress(100)
            first.kill9()
            if lose:
                os.kill(replica.pid, signal.SIGCONT)
            killed = time.monotonic()
            ground.scene.server = ground.server = group.wait_failover(first.port)
            ground.figures["failover took"] = time.monotonic() - killed
            ground.back_to_work()
            ground.end(leader, follower)
            return ground.figures


def _role(client: redis.Redis) -> str:
    """Of its server; '' where that has just cut off its clients."""
    try:
        return str(client.info("replication")["role"])
    except redis.ConnectionError:
        return ""


@scenario("demotion")
def demotion() -> dict[str, float]:
    """Sentinel is told to change master and replica; the old one takes writes for seconds more: in vain."""
    with Group(down_after=DOWN_AFTER_MS) as group:
        first = group.master()
        with Ground(server=first, url=group.url) as ground, first.client() as client:
            leader = ground.begin(8 * TERMS)
            with redis.Redis(port=group.sentinel_ports[0], protocol=2) as sentinel:
                sentinel.execute_command("SENTINEL", "FAILOVER", group.service)
            ground.scene.server = ground.server = group.wait_failover(first.port)
            until(lambda: _role(client) == "slave", 30, "the old master demoted")
            ground.back_to_work()
            ground.end(leader)
            return ground.figures
