"""commit.lua: the one way to change a job, against real servers."""

from __future__ import annotations

import re
from typing import Any

import pytest
import redis

from mapreduce_rq.broker.jobs import COMMIT, Committed, Jobs, Lost
from mapreduce_rq.broker.keys import Keys
from mapreduce_rq.errors import ForeignKey


def create(jobs: Jobs, job: str = "job", token: str = "1:a:1", **more: Any) -> Committed | Lost:
    return jobs.commit(job, "", token, what="create", number=1000, fields=[("state", "running")], **more)


def test_create_makes_the_job_its_stream_and_its_listing(jobs: Jobs, keys: Keys, raw: redis.Redis) -> None:
    assert create(jobs, tasks=[b"t0", b"t1"]) == Committed(waiting=2)
    assert raw.hgetall(keys.job("job")) == {b"tok": b"1:a:1", b"state": b"running"}
    assert raw.exists(keys.replies("job"))
    assert raw.xlen(keys.replies("job")) == 0
    assert raw.zscore(keys.jobs, "job") == 1000
    assert raw.lrange(keys.queue, 0, -1) == [b"t1", b"t0"]  # the first is taken first, from the right
    assert raw.ttl(keys.job("job")) == -1


def test_create_where_the_job_is_changes_nothing(jobs: Jobs, keys: Keys, raw: redis.Redis) -> None:
    create(jobs)
    assert create(jobs, token="1:b:1", tasks=[b"t"]) == Lost("1:a:1", "running")
    assert raw.hget(keys.job("job"), "tok") == b"1:a:1"
    assert raw.llen(keys.queue) == 0
    assert raw.exists(keys.replies("job"))
    assert raw.xlen(keys.replies("job")) == 0


@pytest.mark.parametrize("expect", ["", "1:a:2", "1:a:1 ", "1:A:1"])
def test_another_token_changes_nothing(jobs: Jobs, keys: Keys, raw: redis.Redis, expect: str) -> None:
    create(jobs)
    before = raw.dump(keys.job("job")), raw.dump(keys.replies("job"))
    for what in ("", "over", "9999999999999-0"):
        answer = jobs.commit("job", expect, "2:x:1", what=what, fields=[("ck", b"other")], tasks=[b"t"])
        assert answer == Lost("1:a:1", "running")
    assert (raw.dump(keys.job("job")), raw.dump(keys.replies("job"))) == before
    assert raw.llen(keys.queue) == 0


def test_a_job_that_is_gone_is_lost_with_an_empty_token(jobs: Jobs, keys: Keys, raw: redis.Redis) -> None:
    assert jobs.commit("job", "1:a:1", "1:a:2", fields=[("ck", b"x")], tasks=[b"t"]) == Lost("", "")
    assert raw.exists(keys.job("job"), keys.queue) == 0


def test_go_on_sets_fields_and_pushes_behind_what_waits(jobs: Jobs, keys: Keys, raw: redis.Redis) -> None:
    create(jobs, tasks=[b"t0"])
    assert jobs.commit("job", "1:a:1", "1:a:2", fields=[("ck", b"\0\xff"), ("progress", b"p")], tasks=[b"t1"]) == (
        Committed(waiting=2)
    )
    assert raw.hgetall(keys.job("job")) == {b"tok": b"1:a:2", b"state": b"running", b"ck": b"\0\xff", b"progress": b"p"}
    assert raw.rpop(keys.queue) == b"t0"
    assert raw.rpop(keys.queue) == b"t1"


def test_a_token_serves_once(jobs: Jobs) -> None:
    create(jobs)
    assert isinstance(jobs.commit("job", "1:a:1", "1:a:2"), Committed)
    assert jobs.commit("job", "1:a:1", "1:a:2") == Lost("1:a:2", "running")


def test_trim_removes_exactly_what_lies_below(jobs: Jobs, keys: Keys, raw: redis.Redis) -> None:
    create(jobs)
    for n in range(300):  # more than one node of the stream's tree, which an approximate trim would keep whole
        raw.xadd(keys.replies("job"), {"a": b"r"}, id=f"9000000000000-{n}")
    jobs.commit("job", "1:a:1", "1:a:2", what="9000000000000-137", fields=[("ck", b"x")])
    left = [entry for entry, _ in raw.execute_command("XRANGE", keys.replies("job"), "-", "+")]
    assert left == [f"9000000000000-{n}".encode() for n in range(137, 300)]


def test_a_trimmed_stream_is_still_there_when_it_is_empty(jobs: Jobs, keys: Keys, raw: redis.Redis) -> None:
    create(jobs)
    jobs.commit("job", "1:a:1", "1:a:2", what="9999999999999-1")
    assert raw.xlen(keys.replies("job")) == 0
    assert raw.exists(keys.replies("job"))  # or workers would take the job for over


def test_over_ends_the_stream_and_lets_the_record_expire(jobs: Jobs, keys: Keys, raw: redis.Redis) -> None:
    create(jobs)
    end = jobs.commit("job", "1:a:1", "1:a:2", what="over", number=7, fields=[("state", "done"), ("record", b"r")])
    assert isinstance(end, Committed)
    assert not raw.exists(keys.replies("job"))
    assert 0 < raw.ttl(keys.job("job")) <= 7
    assert jobs.commit("job", "1:a:1", "1:a:3", fields=[("ck", b"late")]) == Lost("1:a:2", "done")


def test_many_tasks_and_fields_at_once(jobs: Jobs, keys: Keys, raw: redis.Redis) -> None:
    many = [b"%d" % n for n in range(16_384)]  # Lua's unpack gives up at about 8000
    assert create(jobs, tasks=many) == Committed(waiting=len(many))
    assert raw.lrange(keys.queue, 0, -1) == many[::-1]


def test_a_full_server_lets_a_job_go_on_and_end(jobs: Jobs, keys: Keys, raw: redis.Redis) -> None:
    create(jobs)
    raw.config_set("maxmemory", 1)
    try:
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            raw.set(keys.prefix + "probe", "x")
        assert isinstance(jobs.commit("job", "1:a:1", "1:a:2", what="1-1", tasks=[b"t"]), Committed)
        assert isinstance(jobs.commit("job", "1:a:2", "1:a:3", what="over", number=9), Committed)
        assert create(jobs, "other") == Committed(waiting=1)
    finally:
        raw.config_set("maxmemory", 0)


def test_the_script_survives_a_flush_of_scripts(jobs: Jobs, raw: redis.Redis) -> None:
    create(jobs)
    for n in range(1, 4):
        raw.script_flush()
        assert isinstance(jobs.commit("job", f"1:a:{n}", f"1:a:{n + 1}"), Committed)


def test_token_and_leases_say_what_stands_there(jobs: Jobs, keys: Keys, raw: redis.Redis) -> None:
    assert jobs.token("job") == Lost("", "")
    create(jobs)
    jobs.commit("job", "1:a:1", "1:a:2", fields=[("master", "master:a")])
    create(jobs, "ended", "1:b:1")
    jobs.commit("ended", "1:b:1", "1:b:2", what="over", number=60, fields=[("state", "done")])
    raw.zadd(keys.jobs, {"expired": 5})
    assert jobs.token("job") == Lost("1:a:2", "running")
    assert jobs.leases() == {"job": ("1:a:2", "master:a")}


@pytest.mark.parametrize("what", ["", "9999999999999-0"])
def test_a_running_job_whose_listing_was_lost_is_listed_again(
    jobs: Jobs, keys: Keys, raw: redis.Redis, what: str
) -> None:
    create(jobs)
    raw.delete(keys.jobs)
    jobs.commit("job", "1:a:1", "1:a:2", what=what)
    assert jobs.leases() == {}
    jobs.commit("job", "1:a:2", "1:a:3", what=what, number=1000)
    assert raw.zscore(keys.jobs, "job") == 1000
    raw.delete(keys.jobs)
    jobs.commit("job", "1:a:3", "1:a:4", what="over", number=9)
    assert not raw.exists(keys.jobs)


def test_a_stream_that_was_lost_is_opened_again(jobs: Jobs, keys: Keys, raw: redis.Redis) -> None:
    create(jobs)
    raw.delete(keys.replies("job"))
    assert jobs.commit("job", "1:a:1", "1:a:2", what="9999999999999-0") == Committed(waiting=0, reopened=True)
    assert raw.exists(keys.replies("job"))
    assert raw.xlen(keys.replies("job")) == 0
    assert jobs.commit("job", "1:a:2", "1:a:3") == Committed(waiting=0, reopened=False)
    raw.delete(keys.replies("job"))
    assert jobs.commit("job", "1:a:3", "1:a:4", what="over", number=9) == Committed(waiting=0)
    assert not raw.exists(keys.replies("job"))


def test_the_oldest_ended_jobs_are_forgotten_and_running_ones_never(jobs: Jobs, keys: Keys, raw: redis.Redis) -> None:
    for n in range(10):
        jobs.commit(f"job{n}", "", f"1:{n}:1", what="create", number=n, fields=[("state", "running")])
        if n != 1:
            jobs.commit(f"job{n}", f"1:{n}:1", f"1:{n}:2", what="over", number=600, fields=[("state", "done")])
    raw.zadd(keys.jobs, {b"\xff expired": -1})
    assert jobs.prune(keep=6) == 4
    assert [n for n in range(10) if raw.exists(keys.job(f"job{n}"))] == [1, 4, 5, 6, 7, 8, 9]
    assert jobs.prune(keep=8) == 0
    assert jobs.token("job1").state == "running"
    assert jobs.leases() == {"job1": ("1:1:1", "")}


@pytest.mark.parametrize(
    "arguments",
    [
        ("over", 0, 0),
        ("over", -1, 0),
        ("over", 10**18, 0),
        ("over", "1e400", 0),
        ("over", "nan", 0),
        ("over", 1.5, 0),
        ("over", "", 0),
        ("over, kept", 10**18, 0),
        ("", 10**18, 0),
        ("create", "soon", 0),
        ("", 0, -1),
        ("", 0, 1),
        ("", 0, 0.5),
        ("", 0, "x"),
        ("", 0, 10**9),
        ("no stream id", 0, 0),
    ],
)
def test_an_argument_out_of_range_is_refused_with_nothing_done(
    jobs: Jobs, keys: Keys, raw: redis.Redis, arguments: tuple[str, float | str, float | str]
) -> None:
    what, number, count = arguments
    create(jobs)
    raw.xadd(keys.replies("job"), {"a": b"r"})
    before = {key: raw.dump(key) for key in raw.keys(f"{keys.prefix}*")}
    names = (keys.job("job"), keys.replies("job"), keys.queue, keys.jobs, keys.values("job"))
    with pytest.raises(redis.ResponseError):
        raw.eval(COMMIT.source, len(names), *names, "1:a:1", "1:a:2", what, number, "job", count)
    assert {key: raw.dump(key) for key in raw.keys(f"{keys.prefix}*")} == before


@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_a_key_of_another_type_is_refused_with_nothing_done(jobs: Jobs, keys: Keys, raw: redis.Redis, at: int) -> None:
    create(jobs)
    names = (keys.job("job"), keys.replies("job"), keys.queue, keys.jobs, keys.values("job"))
    raw.delete(names[at])
    raw.set(names[at], "of another program")
    before = {key: raw.dump(key) for key in raw.keys(f"{keys.prefix}*")}
    for what, number in (("", 1000), ("over", 9), ("over, kept", 9), ("keep", 1000)):
        with pytest.raises(ForeignKey, match=re.escape(names[at])):
            jobs.commit("job", "1:a:1", "1:a:2", what=what, number=number, fields=[("ck", b"x")], tasks=[b"t"])
    assert {key: raw.dump(key) for key in raw.keys(f"{keys.prefix}*")} == before


def test_tasks_that_go_ahead_are_taken_before_those_that_wait(jobs: Jobs, keys: Keys, raw: redis.Redis) -> None:
    create(jobs, tasks=[b"t0", b"t1"])
    assert jobs.commit("job", "1:a:1", "1:a:2", what="ahead", tasks=[b"t2", b"t3"]) == Committed(waiting=4)
    urgent = jobs.commit("other", "", "1:b:1", what="create, ahead", number=1, tasks=[b"u0", b"u1"])
    assert urgent == Committed(waiting=6)
    assert raw.lrange(keys.queue, 0, -1)[::-1] == [b"u0", b"u1", b"t2", b"t3", b"t0", b"t1"]
    assert raw.zscore(keys.jobs, "other") == 1
    assert raw.exists(keys.replies("job"))
