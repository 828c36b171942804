"""Verbs on jobs that loops use and whose parts few tests reach: a second wire, surveys, values, urgent jobs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from mapreduce_rq.broker.connection import parse_url
from mapreduce_rq.broker.jobs import FIRST_REPLY, SURVEY_TRIES, Jobs
from mapreduce_rq.broker.keys import Keys
from mapreduce_rq.broker.listening import Listening
from mapreduce_rq.broker.redis_wire import RedisWire
from mapreduce_rq.core.messages import MAP, OK, Answer, Reply
from mapreduce_rq.core.sealing import Codecs
from mapreduce_rq.errors import BrokerDown
from tests.support.servers import RealServer


@pytest.fixture
def bell() -> Iterator[int]:
    """A descriptor that cannot be read: nobody rings."""
    reader, writer = os.pipe()
    yield reader
    os.close(reader)
    os.close(writer)


@pytest.fixture
def heard(server: RealServer, jobs: Jobs) -> Iterator[Jobs]:
    """Verbs that have a second wire."""
    ear = RedisWire(parse_url(server.url))
    ear.connect()
    jobs.ear = ear
    yield jobs
    ear.close()


def reply(codecs: Codecs, term: int, job: str = "job") -> bytes:
    made: bytes = codecs.reply.seal(Reply(job, "h:1:w", [Answer(term, term + 1, 0, MAP, OK, b"x", 1)]))
    return made


def terms(replies: list[Reply]) -> list[int]:
    return [answer.lo for each in replies for answer in each.answers]


def test_what_is_no_reply_is_counted_once_and_what_wakes_is_not(
    jobs: Jobs, raw: redis.Redis, keys: Keys, codecs: Codecs
) -> None:
    raw.xadd(keys.replies("job"), {"a": reply(codecs, 0)})
    raw.xadd(keys.replies("job"), {"a": b"noise"})
    raw.xadd(keys.replies("job"), {"a": reply(codecs, 1, job="another")})
    last = raw.xadd(keys.replies("job"), {"end": b""})
    after, found, bad = jobs.replies("job", FIRST_REPLY, 0.0)
    assert (after.encode(), terms(found), bad) == (last, [0], 2)
    assert jobs.replies("job", after, 0.0) == (after, [], 0)
    jobs.ask_for_replies("job", FIRST_REPLY)
    assert jobs.replies_asked("job", FIRST_REPLY) == (after, found, 2)
    jobs.ask_for_replies("job", after)
    assert jobs.replies_asked("job", after) == (after, [], 0)


def test_the_values_of_a_job_come_in_their_order_however_many_they_are(
    jobs: Jobs, raw: redis.Redis, keys: Keys, codecs: Codecs
) -> None:
    for term in range(2 * jobs.at_once + 3):
        raw.xadd(keys.values("job"), {"a": reply(codecs, term)})
    assert terms(list(jobs.values("job"))) == list(range(2 * jobs.at_once + 3))
    assert list(jobs.values("none")) == []


def test_urgent_jobs_are_found_among_keys_of_any_type(jobs: Jobs, raw: redis.Redis, keys: Keys) -> None:
    raw.hset(keys.job("quick"), "urgent", "1")
    raw.hset(keys.job("slow"), "urgent", "0")
    raw.set(keys.job("foreign"), "1")
    assert jobs.urgent(["quick", "slow", "foreign", "none"]) == {"quick"}


def test_both_wires_are_connected_anew(heard: Jobs, raw: redis.Redis, keys: Keys, codecs: Codecs, bell: int) -> None:
    assert heard.replies_or("job", FIRST_REPLY, 0.01, bell) is None
    raw.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    with pytest.raises(BrokerDown):
        heard.replies_or("job", FIRST_REPLY, 10.0, bell)
    heard.connect()
    raw.xadd(keys.replies("job"), {"a": reply(codecs, 3)})
    found = heard.replies_or("job", FIRST_REPLY, 10.0, bell)
    assert found is not None
    assert terms(found[1]) == [3]
    heard.ear = None
    raw.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    heard.connect()
    assert heard.registry() == {}


@pytest.mark.parametrize("read_to", [FIRST_REPLY, "3-0"])
def test_a_request_that_is_open_is_for_one_stream(  # noqa: PLR0917  fixtures
    heard: Jobs, raw: redis.Redis, keys: Keys, codecs: Codecs, bell: int, read_to: str
) -> None:
    """A stream that was lost and is new begins again: what was asked for behind an old id would never come, also where
    some of the new stream was read before it is asked again.
    """
    raw.xadd(keys.replies("job"), {"a": reply(codecs, 1)}, id="9-1")
    found = heard.replies_or("job", "9-0", 10.0, bell)
    assert found is not None
    assert (found[0], terms(found[1])) == ("9-1", [1])
    assert heard.replies_or("job", "9-1", 0.01, bell) is None
    raw.delete(keys.replies("job"))
    raw.xadd(keys.replies("job"), {"a": reply(codecs, 2)}, id="3-1")
    found = heard.replies_or("job", read_to, 10.0, bell)
    assert found is not None
    assert (found[0], terms(found[1])) == ("3-1", [2])


def test_an_open_request_for_many_jobs_lacks_what_is_read_anew(heard: Jobs, keys: Keys) -> None:
    assert heard.ear is not None
    listening = Listening(heard.ear, keys, "me")
    listening.connect()
    assert listening.lacks("job", FIRST_REPLY)
    listening.ask({"job": "5-2", "new": FIRST_REPLY}, 10.0)
    assert not listening.lacks("job", "5-2")
    assert not listening.lacks("job", "6-0")
    assert listening.lacks("job", "5-1")
    assert not listening.lacks("new", FIRST_REPLY)
    assert listening.lacks("other", FIRST_REPLY)
    listening.knock(heard.wire)
    assert listening.answer() == {}
    assert listening.lacks("job", "6-0")


def test_an_empty_answer_leaves_the_place_as_it_is(heard: Jobs, bell: int) -> None:
    assert heard.replies_or("job", "7-0", 10.0, bell) == ("7-0", [], 0)


def test_a_survey_asks_again_for_the_hands_of_workers_that_are_new(jobs: Jobs, raw: redis.Redis, keys: Keys) -> None:
    raw.hset(keys.workers, mapping={"h:1:a": b"beat a", "h:2:b": b"beat b"})
    raw.lpush(keys.in_flight("h:1:a"), b"task")
    raw.lpush(keys.queue, b"waits")
    found = jobs.survey("job", 5)
    assert found.beats == {"h:1:a": b"beat a", "h:2:b": b"beat b"}
    assert (found.held, found.waiting) == ({"h:1:a": [b"task"], "h:2:b": []}, [b"waits"])
    assert raw.hget(keys.masters, "job") == b"5"
    raw.hdel(keys.workers, "h:1:a")
    assert jobs.survey("job", 6).held == {"h:2:b": []}


def test_a_survey_ends_where_a_worker_comes_with_each_look(
    jobs: Jobs, raw: redis.Redis, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []
    plain = jobs.wire.transaction

    def look(commands: Any) -> Any:
        looks.append(raw.hset(keys.workers, f"h:{len(looks)}:w", b"beat"))
        raw.lpush(keys.in_flight(f"h:{len(looks) - 1}:w"), b"task")
        return plain(commands)

    monkeypatch.setattr(jobs.wire, "transaction", look)
    found = jobs.survey("job", 5)
    assert len(looks) == len(found.beats) == SURVEY_TRIES
    assert sorted(map(len, found.held.values())) == [0, *[1] * (SURVEY_TRIES - 1)], "the newest holds nothing yet"
