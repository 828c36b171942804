"""A look at a queue: everything that is there, nothing that is forged, in two round trips."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import redis

from mapreduce_rq.broker.jobs import Jobs
from mapreduce_rq.broker.keys import Keys
from mapreduce_rq.broker.orphans import find_orphans
from mapreduce_rq.broker.redis_wire import RedisWire
from mapreduce_rq.broker.snapshot import MAX_JOBS, read_snapshot
from mapreduce_rq.broker.wire import Command
from mapreduce_rq.core.job.record import Report
from mapreduce_rq.core.messages import Beat, Limits, Spec, Task
from mapreduce_rq.core.sealing import Codecs, Keyring
from tests.support.records import cancelled, done

REPORT = {"counted": 3, "total": 10, "rate": 2.0, "elapsed_s": 1.5, "workers": 1, "value": "7", "error": 0.5, "new": 1}


class CountingWire:
    """A wire that counts its round trips."""

    def __init__(self, wire: RedisWire) -> None:
        self._wire = wire
        self.trips: list[Sequence[Command]] = []

    def pipeline(self, commands: Sequence[Command], *, refusals: bool = False) -> list[Any]:
        self.trips.append(commands)
        return self._wire.pipeline(commands, refusals=refusals)


def add_job(jobs: Jobs, name: str, *, created: float = 1000.0, state: str = "running", **fields: Any) -> None:
    """A job as a master writes it."""
    spec = Spec(job=name, computation="exp", params={"x": "2"}, total=10, limits=Limits(), created=created, version="1")
    row: dict[str, Any] = {
        "state": state,
        "spec": jobs.codecs.spec.at(name).seal(spec),
        "master": "master:n" if state == "running" else "",
        "progress": jobs.codecs.report.at(name).seal(REPORT),
        **fields,
    }
    jobs.commit(name, "", f"1:n:{name}", what="create", number=int(created), fields=list(row.items()))


def beat(codecs: Codecs, pid: int) -> bytes:
    return codecs.beat.at(f"h:{pid}:aa").seal(
        Beat(
            count=1, host="h", pid=pid, name="", state="busy", job="exp-a", lo=1, hi=2, seconds=0.5, done=4, rate=1.0,
            rss=9, version="1", probe="", kid=0, at=5.0,
        )
    )  # fmt: skip


def test_an_empty_queue(wire: RedisWire, keys: Keys, codecs: Codecs) -> None:
    found = read_snapshot(wire, keys, codecs)
    assert (found.jobs, found.workers, found.waiting, found.in_flight, found.dropped) == ((), (), 0, 0, 0)
    assert found.server.product in {"Redis", "Valkey"}
    assert found.queue == keys.name


def test_everything_that_is_there_in_two_round_trips(
    wire: RedisWire, keys: Keys, codecs: Codecs, jobs: Jobs, raw: redis.Redis
) -> None:
    record = done("exp-b")
    add_job(jobs, "exp-a", created=1000.0)
    add_job(jobs, "exp-b", created=2000.0, state="done", record=codecs.record.at("exp-b").seal(record))
    ending = codecs.record.at("exp-c").seal(cancelled("exp-c", now=True))
    add_job(jobs, "exp-c", created=1500.0, state="cancelled-now", record=ending)
    raw.hset(keys.workers, mapping={"h:1:aa": beat(codecs, 1), "h:2:bb": b"X:killed by SIGKILL"})
    raw.lpush(keys.in_flight("h:1:aa"), b"one", b"two")
    raw.lpush(keys.queue, *[codecs.task.seal(Task("exp-a", k, k + 1)) for k in range(5)])
    counting = CountingWire(wire)
    found = read_snapshot(counting, keys, codecs)  # type: ignore[arg-type]  # what it uses of a wire
    assert len(counting.trips) == 2
    assert [(job.job, job.state) for job in found.jobs] == [
        ("exp-b", "done"),
        ("exp-c", "cancelled-now"),
        ("exp-a", "running"),
    ]
    running = found.job("exp-a")
    assert running is not None
    assert (running.report.counted, running.report.total, running.report.error) == (3, 10, 0.5)
    assert (running.share, running.seconds_left) == (0.3, 3.5)
    assert running.params == {"x": "2"}
    assert found.jobs[0].record == record
    assert [(one.wid, one.held, one.obituary) for one in found.workers] == [
        ("h:1:aa", 2, ""),
        ("h:2:bb", 0, "killed by SIGKILL"),
    ]
    assert found.workers[0].beat == codecs.beat.at("h:1:aa").open(beat(codecs, 1))
    assert found.workers[0].address == "h:1"
    assert (found.waiting, found.in_flight, found.known_jobs, found.dropped) == (5, 2, 3, 0)


def test_a_record_is_read_once(wire: RedisWire, keys: Keys, codecs: Codecs, jobs: Jobs, raw: redis.Redis) -> None:
    add_job(jobs, "exp-a", state="done", record=codecs.record.at("exp-a").seal(done(value="7" * 1000)))
    add_job(jobs, "exp-b")
    before = read_snapshot(wire, keys, codecs)
    counting = CountingWire(wire)
    again = read_snapshot(counting, keys, codecs, before)  # type: ignore[arg-type]  # what it uses of a wire
    assert again.jobs == before.jobs
    assert ("HMGET", keys.job("exp-a"), "tok") in counting.trips[1]
    raw.hset(keys.job("exp-a"), "tok", "2:other:1")
    once_more = read_snapshot(wire, keys, codecs, again)
    assert [job.job for job in read_snapshot(wire, keys, codecs, once_more).jobs] == ["exp-a", "exp-b"]
    raw.delete(keys.job("exp-a"))
    assert [job.job for job in read_snapshot(wire, keys, codecs, once_more).jobs] == ["exp-b"]


def test_a_job_with_a_master_is_seen_however_many_came_after_it(
    wire: RedisWire, keys: Keys, codecs: Codecs, jobs: Jobs, raw: redis.Redis
) -> None:
    add_job(jobs, "exp-old", created=1.0)
    raw.zadd(keys.jobs, {f"exp-expired-{k}": 1000 + k for k in range(MAX_JOBS)})
    raw.hset(keys.masters, "exp-old", "1")
    found = read_snapshot(wire, keys, codecs)
    assert [job.job for job in found.jobs] == ["exp-old"]
    assert found.known_jobs == MAX_JOBS + 1


@pytest.mark.parametrize("reader", ["another key", "no key"])
def test_what_is_not_ours_is_left_out_and_counted(jobs: Jobs, raw: redis.Redis, reader: str) -> None:
    add_job(jobs, "exp-a")
    raw.hset(jobs.keys.workers, "h:1:aa", beat(jobs.codecs, 1))
    other = Codecs(jobs.keys.name, Keyring([b"o" * 32] if reader == "another key" else []))
    found = read_snapshot(jobs.wire, jobs.keys, other)
    assert (found.jobs, found.workers, found.dropped) == ((), (), 2)
    assert "configured here" in found.why_dropped


@pytest.mark.parametrize("value", [b"garbage", b"", b"\0\0", None])
def test_a_job_without_a_spec_that_can_be_read_hides_no_other(
    jobs: Jobs, raw: redis.Redis, value: bytes | None
) -> None:
    add_job(jobs, "exp-a")
    add_job(jobs, "exp-b")
    if value is None:
        raw.hdel(jobs.keys.job("exp-a"), "spec")
    else:
        raw.hset(jobs.keys.job("exp-a"), "spec", value)
    found = read_snapshot(jobs.wire, jobs.keys, jobs.codecs)
    assert [job.job for job in found.jobs] == ["exp-b"]
    assert found.dropped == 1
    assert "job exp-a cannot be read" in found.why_dropped


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("state", b"confused"), ("state", b"done"), ("state", None), ("progress", b"garbage"), ("record", b"garbage"),
        ("tok", None),
    ],
)  # fmt: skip
def test_what_else_is_damaged_in_a_job_is_counted_and_the_job_is_shown(
    jobs: Jobs, raw: redis.Redis, field: str, value: bytes | None
) -> None:
    add_job(jobs, "exp-a")
    if value is None:
        raw.hdel(jobs.keys.job("exp-a"), field)
    else:
        raw.hset(jobs.keys.job("exp-a"), field, value)
    found = read_snapshot(jobs.wire, jobs.keys, jobs.codecs)
    assert [(job.job, job.state) for job in found.jobs] == [("exp-a", "running")]
    assert found.dropped == 1
    assert "exp-a" in found.why_dropped


@pytest.mark.parametrize("kind", ["string", "list", "zset"])
def test_a_key_of_another_type_hides_no_job(jobs: Jobs, raw: redis.Redis, kind: str) -> None:
    add_job(jobs, "exp-a")
    raw.zadd(jobs.keys.jobs, {"exp-b": 1})
    raw.hset(jobs.keys.workers, "h:1:aa", beat(jobs.codecs, 1))
    for key in (jobs.keys.job("exp-b"), jobs.keys.in_flight("h:1:aa")):
        if kind == "string":
            raw.set(key, "x")
        elif kind == "list":
            raw.rpush(key, "x")
        else:
            raw.zadd(key, {"x": 1})
    found = read_snapshot(jobs.wire, jobs.keys, jobs.codecs)
    assert [job.job for job in found.jobs] == ["exp-a"]
    assert [one.wid for one in found.workers] == ["h:1:aa"]
    assert jobs.keys.job("exp-b") in found.why_dropped


def test_a_report_of_the_wrong_types_is_not_shown(wire: RedisWire, keys: Keys, codecs: Codecs, jobs: Jobs) -> None:
    add_job(jobs, "exp-a", progress=codecs.report.at("exp-a").seal({"counted": "many"}))
    found = read_snapshot(wire, keys, codecs)
    assert ([job.report for job in found.jobs], found.dropped) == ([Report(total=10)], 1)
    assert "a report is malformed" in found.why_dropped


def test_another_jobs_spec_is_not_taken_for_its_own(
    wire: RedisWire, keys: Keys, codecs: Codecs, jobs: Jobs, raw: redis.Redis
) -> None:
    add_job(jobs, "exp-a")
    add_job(jobs, "exp-b")
    spec = raw.hget(keys.job("exp-a"), "spec")
    raw.hset(keys.job("exp-b"), "spec", spec)
    found = read_snapshot(wire, keys, codecs)
    assert [job.job for job in found.jobs] == ["exp-a"]
    assert "job exp-b cannot be read: a spec fails its MAC" in found.why_dropped


def test_orphans(wire: RedisWire, keys: Keys, codecs: Codecs, jobs: Jobs, raw: redis.Redis) -> None:
    add_job(jobs, "exp-a")
    add_job(jobs, "exp-b", state="done")
    raw.hset(keys.workers, "h:1:aa", beat(codecs, 1))
    raw.lpush(keys.in_flight("h:1:aa"), b"one")
    raw.lpush(keys.in_flight("h:2:bb"), b"one", b"two")
    raw.xadd(keys.replies("exp-gone"), {"a": b"late"})
    found = find_orphans(wire, keys)
    assert found.hands == {"h:2:bb": 2}
    assert set(found.streams) == {"exp-b", "exp-gone"}
    other = find_orphans(wire, Keys(f"{keys.name}-2"))
    assert (other.hands, other.streams) == ({}, ())
