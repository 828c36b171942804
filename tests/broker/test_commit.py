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


RIGHT: dict[str, str | float] = {
    "expect": "1:a:1",
    "token": "1:a:2",
    "what": "",
    "number": 0,
    "job": "job",
    "n": 1,
    "m": 1,
    "items": 0,
}
PAIRS = ("ck", "x", "1", "a body")


def all_names(keys: Keys) -> tuple[str, ...]:
    """The keys of a commit, in the order of the script."""
    one = "job"
    apart = keys.values(one), keys.bodies(one), keys.pieces(one)
    return (keys.job(one), keys.replies(one), keys.queue, keys.jobs, *apart)


@pytest.mark.parametrize("what", ["", "keep", "ahead", "over", "over, kept", "0-1"])
def test_arguments_in_range_are_taken(jobs: Jobs, keys: Keys, raw: redis.Redis, what: str) -> None:
    create(jobs)
    names = all_names(keys)
    for number in (1, 315360000) if what.startswith("over") else (0, 253402300799):
        arguments = RIGHT | {"what": what, "number": number}
        raw.hset(names[0], "tok", "1:a:1")
        assert raw.eval(COMMIT.source, len(names), *names, *arguments.values(), *PAIRS, "task")[0] == b"ok"
    many = RIGHT | {"n": 996, "m": 0}
    raw.hset(names[0], "tok", "1:a:1")
    assert raw.eval(COMMIT.source, len(names), *names, *many.values(), *(["field", "x"] * 996))[0] == b"ok"


@pytest.mark.parametrize(
    "wrong",
    [
        {"what": "over", "number": 0},
        {"what": "over", "number": -1},
        {"what": "over", "number": 315360001},
        {"what": "over", "number": 10**18},
        {"what": "over", "number": "1e400"},
        {"what": "over", "number": "nan"},
        {"what": "over", "number": 1.5},
        {"what": "over", "number": ""},
        {"what": "over, kept", "number": 0},
        {"what": "over, kept", "number": 10**18},
        {"number": -1},
        {"number": 0.5},
        {"number": 253402300800},
        {"number": 10**18},
        {"what": "create", "number": "soon"},
        {"n": -1},
        {"n": 3},
        {"n": 0.5},
        {"n": "x"},
        {"n": ""},
        {"n": 10**9},
        {"n": "nan"},
        {"m": -1},
        {"m": 2},
        {"m": 0.5},
        {"m": "x"},
        {"m": ""},
        {"m": 10**9},
        {"m": "nan"},
        {"n": 2, "m": -1},
        {"what": "no stream id"},
    ],
    ids=str,
)
def test_an_argument_out_of_range_is_refused_with_nothing_done(
    jobs: Jobs, keys: Keys, raw: redis.Redis, wrong: dict[str, str | float]
) -> None:
    create(jobs)
    raw.xadd(keys.replies("job"), {"a": b"r"})
    before = {key: raw.dump(key) for key in raw.keys(f"{keys.prefix}*")}
    names, arguments = all_names(keys), RIGHT | wrong
    with pytest.raises(redis.ResponseError):
        raw.eval(COMMIT.source, len(names), *names, *arguments.values(), *PAIRS)
    assert {key: raw.dump(key) for key in raw.keys(f"{keys.prefix}*")} == before


def test_more_fields_than_a_call_of_lua_takes_are_refused_with_nothing_done(
    jobs: Jobs, keys: Keys, raw: redis.Redis
) -> None:
    create(jobs)
    before = {key: raw.dump(key) for key in raw.keys(f"{keys.prefix}*")}
    names, arguments = all_names(keys), RIGHT | {"n": 997, "m": 0}
    with pytest.raises(redis.ResponseError, match="out of range"):
        raw.eval(COMMIT.source, len(names), *names, *arguments.values(), *(["field", "x"] * 997))
    assert {key: raw.dump(key) for key in raw.keys(f"{keys.prefix}*")} == before


@pytest.mark.parametrize("what", ["", "ahead"])
def test_any_number_of_tasks_is_pushed_once(jobs: Jobs, keys: Keys, raw: redis.Redis, what: str) -> None:
    create(jobs)
    tasks = [b"%d" % number for number in range(9001)]
    jobs.commit("job", "1:a:1", "1:a:2", what=what, number=1000, tasks=tasks)
    found = raw.lrange(keys.queue, 0, -1)
    assert found == tasks[::-1]


@pytest.mark.parametrize("at", [1, 2, 3, 4, 5, 6])
def test_a_key_of_another_type_is_refused_with_nothing_done(jobs: Jobs, keys: Keys, raw: redis.Redis, at: int) -> None:
    create(jobs)
    names = all_names(keys)
    raw.delete(names[at])
    raw.set(names[at], "of another program")
    before = {key: raw.dump(key) for key in raw.keys(f"{keys.prefix}*")}
    for what, number in (("", 1000), ("over", 9), ("over, kept", 9), ("keep", 1000)):
        with pytest.raises(ForeignKey, match=f"{re.escape(names[at])} holds a string and not a "):
            jobs.commit("job", "1:a:1", "1:a:2", what=what, number=number, fields=[("ck", b"x")], tasks=[b"t"])
    assert {key: raw.dump(key) for key in raw.keys(f"{keys.prefix}*")} == before
