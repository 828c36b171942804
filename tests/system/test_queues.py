"""Workers on several queues, in the order of their rank; and the list of queues."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from mapreduce_rq import Client, Limits
from mapreduce_rq.broker.keys import Keys
from tests.support.commands import KEY, Running, environment, mrq
from tests.support.servers import RealServer, find_server
from tests.support.stage import allowed, until

SLOW = Limits(chunk=1)


@pytest.fixture
def url(running: Callable[[str], RealServer]) -> str:
    return running("redis" if find_server("redis") else "valkey").url


@pytest.fixture
def queues(queue: str) -> tuple[str, str]:
    """Of a high rank, and of a low one."""
    return f"{queue}-gpu", f"{queue}-low"


@pytest.fixture
def workers(url: str, queues: tuple[str, str]) -> Iterator[Running]:
    """Two that work on both."""
    high, low = queues
    with Running(
        "worker", "-u", url, "-c", "2", "--queue", high, "--queue", low, env=environment({"MRQ_KEY": KEY})
    ) as made:
        made.hear(f"2 workers on queues {high}, {low} of ")
        yield made


def clients(url: str, queues: tuple[str, str]) -> tuple[Client, Client]:
    """Of both."""
    high, low = (Client(url, queue=name, keys=[KEY]) for name in queues)
    return high, low


def test_the_first_queue_goes_first_and_both_results_are_right(
    url: str, queues: tuple[str, str], workers: Running
) -> None:
    high, low = clients(url, queues)
    with high, low:
        assert low.map_reduce(abs, range(1000), wait_workers=20.0) == sum(range(1000))
        long = low.submit_function("tests.support.models:quite_slow", range(400), limits=SLOW)  # 10 s for two
        until(lambda: long.progress["counted"] > 10, 20, "it runs")
        began = time.monotonic()
        assert high.map_reduce("tests.support.models:quite_slow", range(20), limits=SLOW) == sum(range(20))
        assert not long.done()
        assert time.monotonic() - began < allowed(3)  # half a second of work for two
        assert high.snapshot().workers[0].wid in {worker.wid for worker in low.snapshot().workers}
        assert long.result().native == sum(range(400))
    workers.signal(signal.SIGTERM)
    assert workers.wait() == 0
    with clients(url, queues)[0] as client:
        for name in queues:
            assert client.verbs.wire.call("HLEN", Keys(name).workers) == 0


def test_a_killed_workers_task_goes_back_to_its_own_queue(url: str, queues: tuple[str, str], workers: Running) -> None:
    assert workers.pid
    high, low = clients(url, queues)
    with high, low:
        jobs = [
            client.submit_function("tests.support.models:quite_slow", range(60), limits=SLOW) for client in (low, high)
        ]
        until(lambda: jobs[1].progress["counted"] > 2, 20, "it runs")
        os.kill(int(high.snapshot().workers[0].wid.split(":")[1]), signal.SIGKILL)
        assert [job.result().native for job in jobs] == [sum(range(60))] * 2
        assert [job.result().terms_used for job in jobs] == [60, 60]


def test_a_burst_ends_when_all_its_queues_are_empty(url: str, queues: tuple[str, str]) -> None:
    high, low = clients(url, queues)
    with high, low:
        jobs = [client.submit_function("tests.support.models:quite_slow", range(20)) for client in (low, high)]
        until(lambda: all(client.snapshot().waiting for client in (high, low)), 20, "both wait")
        ran = mrq(
            "worker", "-u", url, "--burst", "-c", "1", "--queue", ",".join(queues), env=environment({"MRQ_KEY": KEY})
        )
        assert ran.code == 0
        assert [job.result().native for job in jobs] == [sum(range(20))] * 2


def test_the_list_of_queues(url: str, queues: tuple[str, str], workers: Running) -> None:
    assert workers.pid
    env = environment({"MRQ_KEY": KEY})
    high, low = clients(url, queues)
    with high, low:
        long = low.submit_function("tests.support.models:quite_slow", range(400), limits=SLOW)
        until(lambda: long.progress["counted"] > 2, 20, "it runs")
        found = {one["queue"]: one for one in json.loads(mrq("queues", "-u", url, "--json", env=env).out)}
        assert found[queues[1]]["running"] == found[queues[1]]["jobs"] == 1
        assert found[queues[1]]["workers"] == found[queues[0]]["workers"] == 2
        assert found[queues[1]]["in_hand"] >= 1
        assert found[queues[1]]["waiting"] > 0
        assert found[queues[0]]["waiting"] == found[queues[0]]["running"] == 0
        table = mrq("queues", "-u", url, env=env).out.splitlines()
        assert table[0].split() == ["QUEUE", "WAITING", "IN", "HAND", "WORKERS", "RUNNING", "JOBS"]
        assert any(line.startswith(queues[0]) for line in table)
        long.cancel()


@pytest.mark.parametrize(
    ("given", "said"), [("a,b,a", "a queue is named twice"), ("a b!", "'b!' is no name for a queue")]
)
def test_mistakes(url: str, given: str, said: str) -> None:
    ran = mrq("worker", "-u", url, "--queue", given)
    assert ran.code == 2
    assert said in ran.err
    assert len(ran.err.splitlines()) == 1
