"""commit.lua: the one way to change a job, against real servers.

This is what only a server has; test_conformance has the rest.
"""

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


def test_trim_removes_exactly_what_lies_below(jobs: Jobs, keys: Keys, raw: redis.Redis) -> None:
    create(jobs)
    for n in range(300):  # more than one node of the stream's tree, which an approximate trim would keep whole
        raw.xadd(keys.replies("job"), {"a": b"r"}, id=f"9000000000000-{n}")
    jobs.commit("job", "1:a:1", "1:a:2", what="9000000000000-137", fields=[("ck", b"x")])
    left = [entry for entry, _ in raw.execute_command("XRANGE", keys.replies("job"), "-", "+")]
    assert left == [f"9000000000000-{n}".encode() for n in range(137, 300)]


def test_over_ends_the_stream_and_lets_the_record_expire(jobs: Jobs, keys: Keys, raw: redis.Redis) -> None:
    create(jobs)
    assert raw.ttl(keys.job("job")) == -1
    assert raw.zscore(keys.jobs, "job") == 1000
    end = jobs.commit("job", "1:a:1", "1:a:2", what="over", number=7, fields=[("state", "done"), ("record", b"r")])
    assert isinstance(end, Committed)
    assert not raw.exists(keys.replies("job"))
    assert 0 < raw.ttl(keys.job("job")) <= 7
    assert jobs.commit("job", "1:a:1", "1:a:3", fields=[("ck", b"late")]) == Lost("1:a:2", "done")


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
