"""Large items on a shared Redis: each stands there once, apart from its task, and nothing of it is left."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mapreduce_rq import Client, Limits
from tests.support.commands import KEY, environment
from tests.support.servers import ROOT, RealServer
from tests.support.stage import until

SIZE = 12_500
"""Numbers in each array: 100 kB, so each task has a large body."""


@pytest.fixture(scope="module")
def server() -> Iterator[RealServer]:
    """One flavour: what is asked of it here is the same in both."""
    with RealServer("valkey") as started:
        yield started


def arrays(count: int) -> Iterator[Any]:
    for k in range(count):
        yield np.full(SIZE, k, dtype=np.float64)


def slow_first(array: Any) -> float:
    time.sleep(0.1)
    return float(array[0])


def dies_once(array: Any) -> float:
    flag = Path(os.environ["MRQ_TEST_FLAG"])
    if array[0] == 5:
        with contextlib.suppress(FileExistsError):
            flag.touch(exist_ok=False)
            os.kill(os.getpid(), signal.SIGKILL)
    return slow_first(array)


def kinds_of(server: RealServer, queue: str) -> set[str]:
    """The kinds of keys that the queue has, by their letters."""
    keys: Any = server.client().keys(f"mrq1:{{{queue}}}:*")
    return {key.decode().split(":")[2] for key in keys}


def bodies_of(server: RealServer, queue: str) -> dict[bytes, bytes]:
    keys: Any = server.client().keys(f"mrq1:{{{queue}}}:b:*")
    found: Any = server.client().hgetall(keys[0]) if keys else {}
    return dict(found)


def test_tasks_are_small_and_their_bodies_go_when_they_are_counted(server: RealServer, queue: str) -> None:
    with Client(server.url, local=2, queue=queue, keys=[KEY]) as client:
        job = client.submit_function(slow_first, arrays(40), reduce="list", limits=Limits(chunk=1))
        until(lambda: job.progress["counted"] >= 20, 20, "half of them are counted")
        waiting = server.client().lrange(f"mrq1:{{{queue}}}:q", 0, -1)
        assert waiting
        assert max(map(len, waiting)) < 1000
        assert 0 < len(bodies_of(server, queue)) <= 20 + 5
        assert job.result(30).native == [float(k) for k in range(40)]
        assert kinds_of(server, queue) <= {"J", "e", "j", "v", "w"}


def test_a_body_that_somebody_changed_or_deleted_is_not_taken(server: RealServer, queue: str) -> None:
    with Client(server.url, local=1, queue=queue, keys=[KEY]) as client:
        job = client.submit_function(slow_first, arrays(12), reduce="list", limits=Limits(chunk=1))
        until(lambda: job.progress["counted"] >= 2, 20, "some are counted")
        (key,) = server.client().keys(f"mrq1:{{{queue}}}:b:*")
        names = list(bodies_of(server, queue))
        server.client().hset(key, names[-1], np.full(SIZE, 77.0).tobytes())
        server.client().hdel(key, names[-2])
        assert job.result(30).native == [float(k) for k in range(12)]


def test_a_worker_that_dies_with_a_large_item_in_hand_changes_nothing(
    server: RealServer, queue: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MRQ_TEST_FLAG", str(tmp_path / "died"))
    with Client(server.url, local=2, queue=queue, keys=[KEY]) as client:
        assert client.map_reduce(dies_once, arrays(20), reduce="list", chunksize=1) == [float(k) for k in range(20)]
        assert (tmp_path / "died").exists()
        assert "b" not in kinds_of(server, queue)


def test_cancelled_jobs_leave_no_body(server: RealServer, queue: str) -> None:
    with Client(server.url, local=1, queue=queue, keys=[KEY]) as client:
        job = client.submit_function(slow_first, arrays(10**6), reduce="count", limits=Limits(chunk=1))
        until(lambda: len(bodies_of(server, queue)) > 3, 20, "bodies lie there")
        job.cancel(now=True)
        until(lambda: "b" not in kinds_of(server, queue), 10, "they are gone")


KILLED = """
import sys
from mapreduce_rq import Client
from tests.system.test_bodies import arrays, slow_first
with Client(sys.argv[1], queue=sys.argv[2], keys=[sys.argv[3]]) as client:
    client.map_reduce(slow_first, arrays(10**6), reduce="list", chunksize=1)
"""


def test_what_a_killed_master_has_laid_expires(server: RealServer, queue: str) -> None:
    """The items were in its memory: no other master can go on, so the answers go, too."""
    command = [sys.executable, "-c", KILLED, server.url, queue, KEY]
    with subprocess.Popen(command, cwd=ROOT, env=environment(path=[ROOT])) as process:
        try:
            until(lambda: len(bodies_of(server, queue)) > 3, 20, "bodies lie there")
        finally:
            process.kill()
    for kind in ("b", "r"):
        (key,) = server.client().keys(f"mrq1:{{{queue}}}:{kind}:*")
        assert 0 < server.client().ttl(key) <= 600


def test_several_masters_do_not_read_the_bodies_of_each_other(server: RealServer, queue: str) -> None:
    """Each looks at the whole queue every three seconds. With the bodies in it that was most of the traffic."""
    raw = server.client()
    with Client(server.url, local=2, queue=queue, keys=[KEY]) as client:

        def lead() -> None:
            assert client.map_reduce(slow_first, arrays(35), chunksize=1) == sum(range(35))

        before = int(raw.info("stats")["total_net_output_bytes"])
        threads = [threading.Thread(target=lead) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        sent = int(raw.info("stats")["total_net_output_bytes"]) - before
    assert sent < 1.2 * 3 * 35 * 8 * SIZE
