"""settle.lua: a worker's answers and its next tasks in one step, against real servers.

This is what only a server has; test_conformance has the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import redis

from mapreduce_rq.broker.jobs import Jobs
from mapreduce_rq.broker.keys import Keys
from mapreduce_rq.broker.tasks import SettleAnswer, Tasks
from mapreduce_rq.errors import BrokerFull
from tests.support.records import cancelled

WID = "host:1:w"


@pytest.fixture
def running(jobs: Jobs) -> str:
    """A running job."""
    jobs.commit("job", "", "1:a:1", what="create", number=1, fields=[("state", "running")])
    return "job"


@contextmanager
def full(raw: redis.Redis) -> Iterator[None]:
    """A server at its limit of memory."""
    raw.config_set("maxmemory", 1)
    try:
        yield
    finally:
        raw.config_set("maxmemory", 0)


def hold(raw: redis.Redis, keys: Keys, *tasks: bytes) -> None:
    """Oldest first."""
    raw.lpush(keys.in_flight(WID), *tasks)


def wait(raw: redis.Redis, keys: Keys, *tasks: bytes) -> None:
    """First to be taken first."""
    raw.lpush(keys.queue, *tasks)


def replies(raw: redis.Redis, keys: Keys, job: str) -> list[bytes]:
    found = raw.execute_command("XRANGE", keys.replies(job), "-", "+")
    return [fields[b"a"] for _, fields in found if b"a" in fields]


def test_it_can_be_asked_first_and_heard_later(tasks: Tasks, keys: Keys, raw: redis.Redis, running: str) -> None:
    tasks.settle(WID, [], 0, 0, 0)  # now the server knows the script, and does it before the answer is read
    hold(raw, keys, b"t0", b"t1")
    wait(raw, keys, b"t2")
    for flushed in (False, True):
        if flushed:
            raw.script_flush()
        tasks.ask_to_settle(WID, [(running, b"r")], 2, 1, 1)
        if not flushed:
            while raw.lrange(keys.in_flight(WID), 0, -1) != [b"t2", b"t1"]:
                pass
            raw.lpush(keys.queue, b"t3")
        assert tasks.settled() == SettleAnswer(True, [], [b"t3" if flushed else b"t2"])
    assert tasks.in_hand(WID) == [b"t2", b"t3"]


def test_a_full_server_refuses_all_of_it(tasks: Tasks, keys: Keys, raw: redis.Redis, running: str) -> None:
    hold(raw, keys, b"t0", b"t1")
    wait(raw, keys, b"t2")
    with full(raw):
        with pytest.raises(BrokerFull):
            tasks.settle(WID, [(running, b"r")], 2, 1, 1)
        assert replies(raw, keys, running) == []
        assert tasks.in_hand(WID) == [b"t0", b"t1"]
    assert tasks.settle(WID, [(running, b"r")], 2, 1, 1) == SettleAnswer(True, [], [b"t2"])


def test_the_script_survives_a_flush_of_scripts(tasks: Tasks, raw: redis.Redis, running: str) -> None:
    for _ in range(3):
        raw.script_flush()
        assert tasks.settle(WID, [(running, b"r")], 0, 0, 0).as_expected


def test_only_a_record_of_the_job_has_its_workers_killed(tasks: Tasks, running: str, raw: redis.Redis) -> None:
    def sealed(job: str, *, now: bool) -> bytes:
        return tasks.codecs.record.at(job).seal(cancelled(job, now=now))

    jobs = [running, "other", "gone"]
    assert tasks.cancelled_now(jobs) == set()
    for record in (None, b"", b"garbage", sealed("other", now=True), sealed(running, now=False)):
        raw.hset(tasks.keys.job(running), mapping={"state": "cancelled-now", **({"record": record} if record else {})})
        assert tasks.cancelled_now(jobs) == set(), record
    raw.hset(tasks.keys.job(running), mapping={"state": "cancelled-now", "record": sealed(running, now=True)})
    assert tasks.cancelled_now(jobs) == {running}
    raw.set(tasks.keys.job("other"), "no hash")
    assert tasks.cancelled_now(jobs) == {running}
    assert tasks.cancelled_now([]) == set()


def test_pieces_are_laid_while_the_job_runs_and_it_is_said_whether_they_are(
    tasks: Tasks, keys: Keys, raw: redis.Redis, running: str
) -> None:
    assert tasks.lay(running, "fold", [b"a", b"b"])
    assert sorted(raw.hkeys(keys.pieces(running))) == [b"fold:0", b"fold:1"]
    assert not tasks.lay("another", "fold", [b"a"])
    assert not raw.exists(keys.pieces("another"))
