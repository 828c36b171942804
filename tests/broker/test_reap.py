"""reap.lua, surveys and the stream of replies, against real servers.

This is what only a server has; test_conformance has the rest.
"""

from __future__ import annotations

import os
import threading
import time

import pytest
import redis

from mapreduce_rq.broker.connection import parse_url
from mapreduce_rq.broker.inspect import check_types
from mapreduce_rq.broker.jobs import FIRST_REPLY, Jobs
from mapreduce_rq.broker.keys import Keys
from mapreduce_rq.broker.redis_wire import RedisWire
from mapreduce_rq.broker.tasks import Tasks
from mapreduce_rq.core.messages import Answer, Reply, Task
from mapreduce_rq.core.sealing import Codecs, Keyring
from mapreduce_rq.errors import BrokerFull, ForeignKey
from tests.support.servers import RealServer

WID = "host:1:w"


def test_a_full_server_refuses_a_reap_as_a_whole(jobs: Jobs, keys: Keys, raw: redis.Redis) -> None:
    raw.lpush(keys.in_flight(WID), b"t0")
    raw.config_set("maxmemory", 1)
    try:
        with pytest.raises(BrokerFull):
            jobs.reap(WID, "X:dead", [(b"t0", b"t0")])
        with pytest.raises(BrokerFull):
            jobs.survey("job", 1)  # nobody can beat either: this look must not count
    finally:
        raw.config_set("maxmemory", 0)
    assert raw.lrange(keys.in_flight(WID), 0, -1) == [b"t0"]
    assert not raw.exists(keys.queue, keys.workers)


def test_a_survey_goes_on_past_names_that_are_not_ours(jobs: Jobs, keys: Keys, raw: redis.Redis) -> None:
    raw.hset(keys.workers, mapping={b"\xff\xfe": b"x", b"a": b"\xff"})
    assert jobs.survey("job", 1).beats["a"] == b"\xff"


def reply(job: str, lo: int) -> Reply:
    return Reply(job, WID, [Answer(lo, lo + 1, 0, 0, 0, b"body", 1)])


def create(jobs: Jobs, job: str) -> None:
    jobs.commit(job, "", "1:a:1", what="create", number=1)


def test_waiting_for_a_reply_ends_with_the_reply(jobs: Jobs, server: RealServer, keys: Keys, codecs: Codecs) -> None:
    create(jobs, "job")
    cursor, _, _ = jobs.replies("job", FIRST_REPLY, 0)
    other = RedisWire(parse_url(server.url))
    other.connect()

    def answer() -> None:
        with server.client() as client:  # once the reader waits
            while not any(info["cmd"] == "xread" and "b" in info["flags"] for info in client.client_list()):
                pass
        Tasks(other, keys, codecs).settle(WID, [("job", codecs.reply.seal(reply("job", 7)))], 0, 0, 0)

    thread = threading.Thread(target=answer)
    thread.start()
    assert jobs.replies("job", cursor, 5)[1] == [reply("job", 7)]
    thread.join()
    other.close()


def test_waiting_in_vain_gives_nothing(jobs: Jobs) -> None:
    create(jobs, "job")
    cursor, _, _ = jobs.replies("job", FIRST_REPLY, 0)
    began = time.monotonic()
    assert jobs.replies("job", cursor, 0.3) == (cursor, [], 0)
    assert time.monotonic() - began > 0.25  # the server waits: a master that asked again and again would cost a core
    assert jobs.replies("job", cursor, 0.001) == (cursor, [], 0)
    assert jobs.replies("gone", FIRST_REPLY, 0.001) == (FIRST_REPLY, [], 0)


def test_the_word_that_a_job_is_over_is_no_reply_and_nothing_bad(jobs: Jobs, raw: redis.Redis, keys: Keys) -> None:
    create(jobs, "job")
    raw.xadd(keys.replies("job"), {"end": ""})
    cursor, found, bad = jobs.replies("job", FIRST_REPLY, 0)
    assert (found, bad) == ([], 0)
    assert cursor != FIRST_REPLY


def test_a_new_connection_is_one_for_both_wires(
    jobs: Jobs, tasks: Tasks, server: RealServer, codecs: Codecs, raw: redis.Redis
) -> None:
    create(jobs, "job")
    ear = RedisWire(parse_url(server.url))
    ear.connect()
    jobs.ear = ear
    bell, _ = os.pipe()
    try:
        assert jobs.replies_or("job", FIRST_REPLY, 0.01, bell) is None  # the question is on its way
        raw.client_kill_filter(_type="normal", skipme=True)  # as an outage does
        jobs.connect()
        tasks.wire.connect()
        tasks.settle(WID, [("job", codecs.reply.seal(reply("job", 7)))], 0, 0, 0)
        found = jobs.replies_or("job", FIRST_REPLY, 5, bell)
        assert found is not None
        assert found[1] == [reply("job", 7)]
    finally:
        ear.close()
        os.close(bell)


def test_forged_and_misplaced_replies_are_dropped_and_counted(
    jobs: Jobs, keys: Keys, codecs: Codecs, raw: redis.Redis, queue: str
) -> None:
    create(jobs, "job")
    good = codecs.reply.seal(reply("job", 1))
    stream = keys.replies("job")
    strange = [
        Codecs(queue).reply.seal(reply("job", 2)),  # unsigned
        Codecs(queue, Keyring([b"x" * 32])).reply.seal(reply("job", 3)),  # another key
        Codecs("other", codecs.keyring).reply.seal(reply("job", 4)),  # another queue
        codecs.reply.seal(reply("other", 5)),  # another job
        codecs.task.seal(Task("job", 6, 7)),  # another kind
        b"",
        b"\xff" * 100,
        good[:-1],
    ]
    for each in strange:
        raw.xadd(stream, {"a": each})
    raw.xadd(stream, {"b": b"not a reply", "c": b"d"})  # nor is this
    raw.xadd(stream, {"a": good})
    _, found, bad = jobs.replies("job", FIRST_REPLY, 0)
    assert found == [reply("job", 1)]
    assert bad == len(strange) + 1


@pytest.mark.parametrize("name", ["q", "w", "m", "J"])
def test_a_key_of_another_type_is_foreign(jobs: Jobs, keys: Keys, raw: redis.Redis, name: str) -> None:
    check_types(jobs.wire, jobs.keys)
    raw.set(keys.prefix + name, "of another program")
    with pytest.raises(ForeignKey, match=r"holds a string, and mrq needs a .*another program uses the key.*--queue"):
        check_types(jobs.wire, jobs.keys)


def test_of_two_equal_tasks_in_hand_one_is_moved_for_each_pair(jobs: Jobs, keys: Keys, raw: redis.Redis) -> None:
    raw.lpush(keys.in_flight(WID), b"t", b"t", b"u")
    assert jobs.reap(WID, "", [(b"t", b"u"), (b"gone", b"x")]) == 1
    assert raw.lrange(keys.in_flight(WID), 0, -1) == [b"u", b"t"]
    assert raw.lrange(keys.queue, 0, -1) == [b"u"]
