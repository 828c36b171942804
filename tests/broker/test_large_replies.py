"""Large replies on their way through real servers: sent in pieces, appended in one step with settle.lua, read in
small numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis

from mapreduce_rq.broker.jobs import BYTES_AT_ONCE, FIRST_REPLY, Jobs
from mapreduce_rq.broker.keys import Keys
from mapreduce_rq.broker.packing import LARGE_BYTES
from mapreduce_rq.broker.tasks import SettleAnswer, Tasks
from mapreduce_rq.core.messages import ERROR, MAP, OK, Answer, Failure, Reply, encode_failure, pieces_of_reply
from mapreduce_rq.core.sealing import Codecs, InPieces
from mapreduce_rq.errors import BrokerDown, BrokerFull, ForeignKey, TooLarge

WID = "host:1:w"
BODY = bytes(range(256)) * 4096


JOB = "job"


@pytest.fixture(autouse=True)
def running(jobs: Jobs) -> None:
    """A running job."""
    jobs.commit(JOB, "", "1:a:1", what="create", number=1, fields=[("state", "running")])


@contextmanager
def limited(raw: redis.Redis, name: str, value: int) -> Iterator[None]:
    """A server with another limit."""
    before = str(raw.config_get(name)[name])
    raw.config_set(name, value)
    try:
        yield
    finally:
        raw.config_set(name, before)


def large(codecs: Codecs, job: str = JOB, lo: int = 0, *, size: int = len(BODY)) -> InPieces:
    """A sealed reply with a body of this size."""
    answer = Answer(lo, lo + 1, 0, MAP, OK, BODY[:size], 5)
    return codecs.reply.seal_pieces(pieces_of_reply(Reply(job, WID, [answer]), LARGE_BYTES))


def hold(raw: redis.Redis, keys: Keys, *tasks: bytes) -> None:
    """Oldest first."""
    raw.lpush(keys.in_flight(WID), *tasks)


def read(jobs: Jobs, job: str = JOB) -> list[Reply]:
    """All replies, from the first."""
    found: list[Reply] = []
    after = FIRST_REPLY
    while True:
        last, some, bad = jobs.replies(job, after, 0.0)
        assert not bad
        if last == after:
            return found
        found, after = found + some, last


def test_a_large_reply_is_appended_and_its_task_is_struck_off_in_one_step(
    tasks: Tasks, jobs: Jobs, keys: Keys, codecs: Codecs, raw: redis.Redis
) -> None:
    hold(raw, keys, b"t0", b"t1")
    raw.lpush(keys.queue, b"t2")
    small = codecs.reply.seal(Reply(JOB, WID, [Answer(1, 2, 0, MAP, OK, b"x", 5)]))
    both: list[tuple[str, bytes | InPieces]] = [(JOB, large(codecs)), (JOB, small)]
    assert tasks.settle(WID, both, 2, 2, 1) == SettleAnswer(as_expected=True, over=[], tasks=[b"t2"])
    assert raw.lrange(keys.in_flight(WID), 0, -1) == [b"t2"]
    first, second = read(jobs)
    assert (bytes(first.answers[0].body), second.answers[0].body) == (BODY, b"x")


def test_a_large_reply_to_a_job_that_is_over_opens_no_stream(
    tasks: Tasks, jobs: Jobs, keys: Keys, codecs: Codecs, raw: redis.Redis
) -> None:
    raw.delete(keys.replies(JOB))
    jobs.commit("other", "", "1:a:1", what="create", number=1, fields=[("state", "running")])
    hold(raw, keys, b"t0")
    both = [("job", large(codecs)), ("other", large(codecs, "other"))]
    assert tasks.settle(WID, both, 1, 1, 0) == SettleAnswer(as_expected=True, over=[0], tasks=[])
    assert not raw.exists(keys.replies("job"))
    assert len(read(jobs, "other")) == 1


def test_a_large_reply_arrives_even_if_the_hand_differs(
    tasks: Tasks, jobs: Jobs, keys: Keys, codecs: Codecs, raw: redis.Redis
) -> None:
    hold(raw, keys, b"t0", b"t1")
    answer = tasks.settle(WID, [(JOB, large(codecs))], 1, 1, 1)
    assert answer == SettleAnswer(as_expected=False, over=[], tasks=[b"t0", b"t1"])
    assert len(read(jobs)) == 1


@pytest.mark.parametrize("known", [False, True])
def test_a_full_server_refuses_a_large_reply_with_the_whole_step(
    tasks: Tasks, jobs: Jobs, keys: Keys, codecs: Codecs, raw: redis.Redis, *, known: bool
) -> None:
    if known:
        tasks.settle(WID, [(JOB, large(codecs))], 0, 0, 0)
    hold(raw, keys, b"t0")
    sealed = large(codecs, lo=1)
    with limited(raw, "maxmemory", 1), pytest.raises(BrokerFull):
        tasks.settle(WID, [(JOB, sealed)], 1, 1, 0)
    assert raw.lrange(keys.in_flight(WID), 0, -1) == [b"t0"]
    assert len(read(jobs)) == known
    assert tasks.settle(WID, [(JOB, sealed)], 1, 1, 0).as_expected
    assert len(read(jobs)) == known + 1


def test_a_key_of_another_program_in_the_place_of_the_stream_strikes_no_task_off(
    tasks: Tasks, keys: Keys, codecs: Codecs, raw: redis.Redis
) -> None:
    raw.delete(keys.replies(JOB))
    raw.set(keys.replies(JOB), "theirs")
    hold(raw, keys, b"t0")
    with pytest.raises(ForeignKey):
        tasks.settle(WID, [(JOB, large(codecs))], 1, 1, 0)
    assert raw.lrange(keys.in_flight(WID), 0, -1) == [b"t0"]
    assert tasks.settle(WID, [], 1, 0, 0).as_expected, "the connection goes on"


def test_where_the_scripts_were_forgotten_the_reply_is_there_and_the_worker_looks_anew(
    tasks: Tasks, jobs: Jobs, keys: Keys, codecs: Codecs, raw: redis.Redis
) -> None:
    hold(raw, keys, b"t0")
    tasks.settle(WID, [(JOB, large(codecs))], 1, 0, 0)
    raw.script_flush()
    with pytest.raises(BrokerDown, match="forgotten its scripts"):
        tasks.settle(WID, [(JOB, large(codecs, lo=1))], 1, 1, 0)
    assert raw.lrange(keys.in_flight(WID), 0, -1) == [b"t0"]
    tasks.wire.connect()
    assert tasks.settle(WID, [(JOB, large(codecs, lo=1))], 1, 1, 0).as_expected
    assert [reply.answers[0].lo for reply in read(jobs)] == [0, 1, 1], "it was sent again, and will be counted once"


def test_a_reply_that_the_server_does_not_take_is_refused_before_it_is_sent(
    tasks: Tasks, codecs: Codecs, raw: redis.Redis
) -> None:
    with limited(raw, "proto-max-bulk-len", 1 << 20):
        tasks.wire.connect()
        with pytest.raises(TooLarge):
            tasks.settle(WID, [(JOB, large(codecs))], 0, 0, 0)
        assert tasks.settle(WID, [], 0, 0, 0).as_expected, "the connection goes on"


def test_a_large_reply_that_was_changed_is_dropped(
    tasks: Tasks, jobs: Jobs, keys: Keys, codecs: Codecs, raw: redis.Redis
) -> None:
    tasks.settle(WID, [(JOB, large(codecs)), (JOB, large(codecs, lo=1))], 0, 0, 0)
    found: Any = raw.xrange(keys.replies(JOB))
    ((entry, fields), _) = found
    changed = bytearray(fields[b"a"])
    changed[-1000] ^= 1
    raw.xdel(keys.replies(JOB), entry)
    raw.xadd(keys.replies(JOB), {"a": bytes(changed)})
    _, read_again, bad = jobs.replies(JOB, FIRST_REPLY, 0.0)
    assert ([reply.answers[0].lo for reply in read_again], bad) == ([1], 1)


def test_after_large_replies_few_are_read_at_once_and_none_is_left_out(
    tasks: Tasks, jobs: Jobs, codecs: Codecs
) -> None:
    count = 3 * BYTES_AT_ONCE // len(BODY)
    for lo in range(count):
        tasks.settle(WID, [(JOB, large(codecs, lo=lo))], 0, 0, 0)
    reads: list[int] = []
    seen: list[int] = []
    after = FIRST_REPLY
    while len(seen) < count:
        after, found, _ = jobs.replies(JOB, after, 0.0)
        assert len(found) <= jobs.most
        reads.append(len(found))
        seen += [reply.answers[0].lo for reply in found]
    assert seen == list(range(count))
    assert max(reads[1:]) * len(BODY) <= BYTES_AT_ONCE < reads[0] * len(BODY)


def test_of_a_large_reply_only_partials_are_views_and_the_rest_are_bytes(codecs: Codecs) -> None:
    failure = encode_failure(Failure(3, "ValueError", "no", "", "host:1"))
    answers: list[Any] = [
        Answer(0, 1, 0, MAP, OK, BODY, 5),
        Answer(3, 4, 0, MAP, ERROR, failure, 5),
        Answer(4, 5, 0, MAP, OK, b"small", 5, [(5, 6)]),
    ]
    reply = Reply("job", WID, answers)
    found = codecs.reply.open(bytes(codecs.reply.seal_pieces(pieces_of_reply(reply, LARGE_BYTES))))
    assert found == codecs.reply.open(codecs.reply.seal(reply))
    assert [type(answer.body) for answer in found.answers] == [memoryview, bytes, memoryview]
    assert [bytes(answer.body) for answer in found.answers] == [answer.body for answer in answers]
    assert found.answers[2].spans == [(4, 5), (5, 6)]


@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.parametrize("count", [1, 15, 16, 70])
@pytest.mark.parametrize("size", [LARGE_BYTES - 1, LARGE_BYTES, len(BODY)])
def test_pieces_are_what_the_encoder_and_the_seal_make(codecs: Codecs, *, keyed: bool, count: int, size: int) -> None:
    codec = codecs.reply if keyed else Codecs("queue").reply
    rows = [Answer(k, k + 1, k % 3, MAP, OK, BODY[: size if k % 5 == 0 else k], 10**k % 997) for k in range(count)]
    reply = Reply("jöb", WID, rows)
    assert bytes(codec.seal_pieces(pieces_of_reply(reply, LARGE_BYTES))) == codec.seal(reply)
    assert len(codec.seal_pieces(pieces_of_reply(reply, LARGE_BYTES))) == len(codec.seal(reply))
