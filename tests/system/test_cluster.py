"""A real cluster of three shards: each queue on its own, a killed primary, a slot that moves during a job."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from mapreduce_rq import Client, Limits
from mapreduce_rq.broker.cluster import shards, slots_served
from mapreduce_rq.broker.connection import parse_url
from mapreduce_rq.broker.redis_wire import RedisWire
from mapreduce_rq.client.job import Job
from mapreduce_rq.errors import BrokerRefused
from tests.support.clusters import SLOTS, RealCluster
from tests.support.commands import KEY, Running, environment, mrq
from tests.support.servers import RealServer, find_server, need_server
from tests.support.stage import until

ENV = environment({"MRQ_KEY": KEY})
QUITE_SLOW = "tests.support.models:quite_slow"
FEW = Limits(chunk=1)
TERMS = 160
"""Of QUITE_SLOW, 50 ms each: two seconds and more for the two workers."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[RealCluster]:
    flavour = "redis" if find_server("redis") else "valkey"
    need_server(flavour)
    with RealCluster(flavour) as made:
        yield made


def workers(url: str, *queues: str) -> Running:
    """Two of them."""
    words = [word for queue in queues for word in ("--queue", queue)]
    return Running("worker", "-u", url, "-c", "2", *words, env=ENV)


def begun(client: Client) -> Job:
    """A job of TERMS terms that is under way."""
    job = client.submit_function(QUITE_SLOW, range(TERMS), limits=FEW)
    until(lambda: job.progress["counted"] > 10, 20, "it runs")
    return job


def test_queues_on_three_shards(cluster: RealCluster, queue: str) -> None:
    names = cluster.queues(queue)
    assert len({cluster.owner(name).port for name in names}) == 3
    one = cluster.url_of(cluster.servers[-1])  # a replica, which has no slot: every queue is found all the same
    with workers(one, *names) as running:
        running.hear("2 workers on queues ")
        for name in names:
            with Client(one, queue=name, keys=[KEY]) as client:
                assert client.map_reduce(abs, range(1000), wait_workers=20.0) == 499_500
        listed = mrq("queues", "-u", one, "--json", env=ENV).json
        assert [(row["queue"], row["workers"], row["jobs"]) for row in listed] == [
            (name, 2, 1) for name in sorted(names)
        ]
        for name in names:
            for command in ("status", "workers", "jobs"):
                seen = mrq(command, "-u", one, "--queue", name, env=ENV)
                assert (seen.code, seen.err) == (0, "")
            still = mrq("dashboard", "--once", "-u", one, "--queue", name, env=ENV)
            assert still.code == 0
            assert "2 workers" in still.out or name in still.out
            found = mrq("purge", "--yes", "-u", one, "--queue", name, env=ENV)
            assert (found.code, found.err) == (0, "mrq: deleted: 1 record\n")
        running.signal(signal.SIGTERM)
        assert running.wait() == 0
    for name in names:
        with cluster.owner(name).client() as client:
            assert not client.exists(f"mrq1:{{{name}}}:w")


def test_doctor_looks_at_all_shards(cluster: RealCluster, queue: str) -> None:
    seen = mrq("doctor", "-u", cluster.url, "--queue", queue, "--json", env=ENV)
    found = {one["what"]: one for one in seen.json}
    mine = cluster.owner(queue)
    assert found["shards"]["text"] == f"3 shards, queue {queue} on 127.0.0.1:{mine.port}"
    assert found["replicas"]["level"] == "ok"
    others = {f"persistence 127.0.0.1:{one.port}" for one in cluster.primaries() if one is not mine}
    assert {what for what in found if what.startswith("persistence ")} == others
    assert seen.code == 0


def test_the_wrong_kind_of_url_is_one_line(cluster: RealCluster, queue: str) -> None:
    commands = ["compute", "exp", "--x", "2"], ["worker"], ["jobs"]
    for server, words in zip(cluster.servers[:3], commands, strict=True):  # one of them has the queue
        seen = mrq(*words, "-u", server.tcp_url, "--queue", queue, env=ENV)
        assert seen.code == 69
        assert seen.err.count("\n") == 1
        assert f"where each queue is on one of the nodes: write redis+cluster://127.0.0.1:{server.port}" in seen.err
    with RealServer(cluster.servers[0].flavour, tcp=True) as alone:
        url = alone.tcp_url.replace("redis://", "redis+cluster://")
        with pytest.raises(BrokerRefused, match=r"is in no cluster: write redis:// in the place of redis\+cluster://"):
            Client(url, queue=queue)


def test_a_slot_moves_during_a_job(cluster: RealCluster, queue: str) -> None:
    with workers(cluster.url, queue) as running, Client(cluster.url, queue=queue, keys=[KEY]) as client:
        running.hear("2 workers on ")
        job = begun(client)
        source, target = cluster.begin_move(queue)
        cluster.move_keys(queue, source, target, most=2)
        half = mrq("jobs", "-u", cluster.url, "--queue", queue, env=ENV)  # what asks for one key is told
        assert half.code in {0, 69}
        cluster.move_keys(queue, source, target)
        wire = RedisWire(parse_url(cluster.url_of(source)).at(queue))
        wire.connect()
        assert wire.address[1] == source.port
        assert wire.call("HGET", client.keys.job(job.id), "state") == b"running"  # ASK is followed
        assert wire.call("HGET", client.keys.job("none"), "state") is None
        cluster.move_keys(queue, source, target)
        cluster.end_move(queue, source, target)
        wire.connect()
        assert wire.address[1] == target.port  # MOVED is followed
        wire.close()
        assert job.result(timeout=60).native == sum(range(TERMS))
        assert cluster.owner(queue) is target


def test_a_slot_moves_while_workers_wait_for_several_queues(cluster: RealCluster, queue: str) -> None:
    names = cluster.queues(queue)
    moving, *others = names
    with ExitStack() as stack:
        stack.enter_context(workers(cluster.url, *names)).hear("2 workers on queues ")
        clients = {name: stack.enter_context(Client(cluster.url, queue=name, keys=[KEY])) for name in names}

        def computed(name: str) -> int:
            value: int = clients[name].map_reduce(abs, range(200), limits=Limits(chunk=10), wait_workers=60.0)
            return value

        assert {computed(name) for name in names} == {19_900}
        source, target = cluster.begin_move(moving)
        cluster.move_keys(moving, source, target)  # who waits at the source for its tasks is told nothing
        assert {computed(name) for name in others} == {19_900}, "the others go on"
        with ThreadPoolExecutor() as pool:
            meanwhile = pool.submit(computed, moving)
            assert {computed(name) for name in others} == {19_900}
            until(lambda: not cluster.move_keys(moving, source, target), 20, "all keys have been moved")
            cluster.end_move(moving, source, target)
            assert meanwhile.result(60) == 19_900
        source, target = cluster.begin_move(moving)  # and once more, while all workers are idle
        cluster.move_keys(moving, source, target)
        cluster.end_move(moving, source, target)
        assert {computed(name) for name in names} == {19_900}


def test_a_primary_is_killed_during_a_job() -> None:
    flavour = "valkey" if find_server("valkey") else "redis"
    need_server(flavour)
    with RealCluster(flavour) as cluster:
        first, other, _ = cluster.queues("killed")
        only = cluster.url_of(cluster.owner(first))  # the only node that the URL names is the one that dies
        with workers(only, first, other) as running, Client(only, queue=first, keys=[KEY]) as client:
            running.hear("2 workers on ")
            job = begun(client)
            killed = cluster.owner(first)
            killed.kill9()
            with Client(cluster.url, queue=other, keys=[KEY]) as elsewhere:  # and the same workers go on
                assert elsewhere.map_reduce(abs, range(1000)) == 499_500
            cluster.wait_failover(first, killed)
            assert job.result(timeout=60).native == sum(range(TERMS))
            wire = RedisWire(parse_url(cluster.url).at(first))
            wire.connect()
            found = shards(wire.call, wire.address)
            assert slots_served(found) == SLOTS
            assert wire.address[1] != killed.port
            wire.close()
            running.signal(signal.SIGTERM)
            assert running.wait() == 0
