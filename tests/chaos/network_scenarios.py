"""What is done to the network between clients and server."""

from __future__ import annotations

import time

from tests.chaos.ground import TERMS, Ground
from tests.chaos.namespace import Namespace
from tests.chaos.relay import Relay
from tests.chaos.scenarios import scenario

NOTICED_SECONDS = 13.0
"""From a connection that died without a word to work going on; for ten of them one waits for an answer."""


def _through(ground: Ground, port: int) -> str:
    return f"redis://:{ground.server.password}@127.0.0.1:{port}"


@scenario("slow-network")
def slow_network() -> dict[str, float]:
    """40 ms each way for a host and for the master."""
    with Ground(tcp=True) as ground, Relay(ground.server.port, delay=0.04) as relay:
        ground.host(url=_through(ground, relay.port))
        ground.scene.url = _through(ground, relay.port)
        ground.begin(hosts=0)
        ground.end()
        assert set(ground.stage.count().values()) == {1}
        return ground.figures


@scenario("half-open")
def half_open() -> dict[str, float]:
    """All connections die without a word, twice; new ones go through."""
    with Ground(tcp=True) as ground, Relay(ground.server.port) as relay:
        ground.scene.url = _through(ground, relay.port)
        ground.begin()
        for _ in range(2):
            ground.wait_progress(100)
            relay.freeze()
            time.sleep(0.2)  # what had gone through before
            ground.figure("back to work after", ground.wait_progress(1), NOTICED_SECONDS)
        ground.end()
        return ground.figures


@scenario("partition-host")
def partition_host() -> dict[str, float]:
    """A host is cut off for 25 s and comes back; its tasks have been done elsewhere meanwhile."""
    with Ground(tcp=True) as ground, Relay(ground.server.port) as relay:
        apart = ground.host(url=_through(ground, relay.port))
        ground.begin(5 * TERMS, hosts=1)
        relay.part()
        time.sleep(25)
        relay.heal()
        ground.end()
        assert len(apart.workers()) == 2
        return ground.figures


@scenario("partition-master")
def partition_master() -> dict[str, float]:
    """The master is cut off for 20 s, succeeded meanwhile, and comes back."""
    with Ground(tcp=True) as ground, Relay(ground.server.port) as relay:
        direct = ground.scene.url
        for _ in range(2):
            ground.host()
        ground.scene.url = _through(ground, relay.port)
        leader = ground.begin(3 * TERMS, hosts=0)
        ground.scene.url = direct
        follower = ground.follower()
        relay.part()
        parted = time.monotonic()
        at, _ = follower.heard_at(f"notice leading {ground.job}", 60)
        ground.figure("takeover after", at - parted, 12.0)
        time.sleep(max(0.0, 20 - (time.monotonic() - parted)))
        relay.heal()
        found = ground.end(leader, follower)
        assert found is not None
        assert found.takeovers == 1
        return ground.figures


@scenario("lossy-network", root=True)
def lossy_network() -> dict[str, float]:
    """A host behind a crowded wire that drops a part of all packets, and that is pulled out for 5 s and for 25 s."""
    with Ground(tcp=True) as ground, Namespace() as space, ground.server.client() as client:
        client.config_set("bind", f"127.0.0.1 {space.here}")
        far = f"redis://:{ground.server.password}@{space.here}:{ground.server.port}"
        ground.fleets.append(ground.scene.fleet(2, url=far, prefix=space.prefix))
        ground.begin(8 * TERMS, hosts=1)
        space.crowd()
        time.sleep(15)
        ground.figures["packets dropped"] = float(space.calm())
        for seconds in (5, 25):
            space.pull()
            time.sleep(seconds)
            space.plug()
        ground.end()
        assert ground.figures["packets dropped"] > 0
        return ground.figures
