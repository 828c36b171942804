"""A worker's hand and its answers: what may not have arrived is sent again, and nothing that has."""

from __future__ import annotations

from functools import partial

import msgspec
import pytest
import redis

from mapreduce_rq.broker.connection import parse_url
from mapreduce_rq.broker.jobs import Jobs
from mapreduce_rq.broker.keys import Keys
from mapreduce_rq.broker.redis_wire import RedisWire
from mapreduce_rq.broker.tasks import Tasks
from mapreduce_rq.broker.wire import SPARE_BYTES
from mapreduce_rq.core.messages import ERROR, MAP, OK, Answer, Beat, Reply, Task, Tried, decode_failure
from mapreduce_rq.core.sealing import Codecs
from mapreduce_rq.errors import BrokerDown, BrokerFull
from mapreduce_rq.runtime.clock import Clock
from mapreduce_rq.runtime.master.lease import EPOCH_DIGITS, Lease
from mapreduce_rq.runtime.worker.hand import Batch, Hand
from mapreduce_rq.runtime.worker.known_jobs import KnownJobs
from mapreduce_rq.runtime.worker.replies import Replies
from mapreduce_rq.runtime.worker.slate import Slate
from tests.support.servers import RealServer

WID = "host:1:w"
MEBIBYTE = 1 << 20


@pytest.fixture
def running(jobs: Jobs) -> str:
    """A running job."""
    jobs.commit("job", "", "1:a:1", what="create", number=1, fields=[("state", "running")])
    return "job"


def beat() -> Beat:
    return Beat(
        count=0, host="host", pid=1, name="one", state="idle", job="", lo=0, hi=0, seconds=0.0, done=0, rate=0.0, rss=0,
        version="1", probe="", kid=0, at=1.0,
    )  # fmt: skip


def refuse(error: BrokerFull) -> None:
    raise error


class Ground:
    """A worker's hand, and what Redis holds of it and of the job."""

    def __init__(self, tasks: Tasks, jobs: Jobs, raw: redis.Redis) -> None:
        self.tasks, self.jobs, self.raw = tasks, jobs, raw
        self.hand = hand_of(tasks)

    def held(self, count: int = 2) -> list[bytes]:
        """Tasks in the hand, in Redis and in memory, oldest first."""
        sealed = [self.tasks.codecs.task.seal(Task("job", term, term + 1)) for term in range(count)]
        self.raw.lpush(self.tasks.keys.in_flight(WID), *sealed)
        self.hand.tasks = list(sealed)
        return sealed

    def in_redis(self) -> list[bytes]:
        """The hand as Redis has it, oldest first."""
        return self.tasks.in_hand(WID)

    def answered(self) -> list[tuple[int, int]]:
        """The spans of all answers in the stream."""
        _, replies, bad = self.jobs.replies("job", "0-0", 0)
        assert not bad
        return [(answer.lo, answer.hi) for reply in replies for answer in reply.answers]

    def settle(self, batch: Batch) -> None:
        """Settle a batch, and hear of it."""
        self.hand.settle(batch, 0)
        self.hand.hear()


@pytest.fixture
def ground(tasks: Tasks, jobs: Jobs, raw: redis.Redis, running: str) -> Ground:
    """A hand whose job runs."""
    assert running == "job"
    return Ground(tasks, jobs, raw)


def hand_of(tasks: Tasks) -> Hand:
    clock = Clock()

    def prepare(_: object) -> None:
        raise AssertionError("no job is met")

    jobs = KnownJobs(WID, tasks, clock, Slate(), prepare=prepare, shelf="")  # type: ignore[arg-type]  # see its error
    return Hand(WID, tasks, clock, jobs, Replies(WID, tasks), full=refuse, beat=beat)


def batch_of(done: list[bytes]) -> Batch:
    return Batch([("job", [Answer(term, term + 1, 0, MAP, OK, b"x", 1) for term in range(len(done))])], done)


@pytest.mark.parametrize("sent", [False, True])
def test_answers_that_may_not_have_arrived_are_sent_again(ground: Ground, sent: bool) -> None:
    hand = ground.hand
    first, second = ground.held()
    batch = batch_of([first])
    assert hand.done(batch)
    if sent:
        hand.settle(batch, 0)
        assert hand.asks
    ground.tasks.wire.close()
    with pytest.raises(BrokerDown):
        (hand.hear if sent else partial(ground.settle, batch))()
    hand.recover()
    assert not hand.asks
    assert ground.answered().count((0, 1)) in ({1, 2} if sent else {1})
    assert hand.tasks == [second] == ground.in_redis()
    assert ground.raw.hexists(ground.tasks.keys.workers, WID)
    before = ground.answered()
    hand.recover()  # nothing is left that may not have arrived
    assert ground.answered() == before


def test_answers_that_have_arrived_are_not_sent_again(ground: Ground) -> None:
    first, second = ground.held()
    batch = batch_of([first])
    assert ground.hand.done(batch)
    ground.hand.settle(batch, 0)
    assert ground.hand.tasks == [second]
    assert ground.hand.hear()
    ground.hand.recover()
    assert ground.answered() == [(0, 1)]
    assert ground.hand.tasks == [second]


def test_where_others_have_taken_from_the_hand_it_is_read_anew_and_the_answers_stay(ground: Ground) -> None:
    first, second, third = ground.held(3)
    ground.raw.execute_command("LREM", ground.tasks.keys.in_flight(WID), 1, second)  # one takes the worker for dead
    batch = batch_of([first])
    assert ground.hand.done(batch)
    ground.hand.settle(batch, 0)
    assert not ground.hand.hear()
    assert (0, 1) in ground.answered()
    assert ground.hand.tasks == [third]


@pytest.mark.parametrize("state", ["running", "done"])
def test_the_next_task_is_taken_before_the_answer_is_written(ground: Ground, state: str) -> None:
    hand = ground.hand
    hand.sure_until = Clock().now() + 5
    (first,) = ground.held(1)
    ground.raw.hset(ground.tasks.keys.job("job"), "state", state)
    ground.raw.lpush(ground.tasks.keys.queue, "next", "later")
    hand.ask_for_next("job")
    batch = batch_of([first])
    assert hand.done(batch)
    assert hand.add_next() is (state == "running")  # else the job's end is heard of before the next task is begun
    assert hand.tasks == [first, b"next"] == ground.in_redis()
    hand.settle(batch, 0)
    assert hand.hear()
    assert hand.tasks == [b"next"] == ground.in_redis()
    assert ground.answered() == [(0, 1)]
    hand.ask_for_next("job")  # it is read by who reads first
    hand.read()
    assert hand.add_next() is (state == "running")
    assert hand.tasks == [b"next", b"later"]


def test_where_no_task_waits_none_is_added(ground: Ground) -> None:
    ground.hand.sure_until = Clock().now() + 5
    (first,) = ground.held(1)
    ground.hand.ask_for_next("job")
    assert not ground.hand.add_next()
    assert ground.hand.tasks == [first] == ground.in_redis()
    assert not ground.hand.add_next()  # nor where none was asked for


@pytest.mark.parametrize(("held", "sure"), [(2, 5.0), (1, -1.0)])
def test_no_task_is_asked_for_beside_another_or_by_a_worker_that_may_count_as_dead(
    ground: Ground, held: int, sure: float
) -> None:
    ground.hand.sure_until = Clock().now() + sure
    sealed = ground.held(held)
    ground.raw.lpush(ground.tasks.keys.queue, "next")
    ground.hand.ask_for_next("job")
    assert not ground.hand.add_next()
    assert ground.hand.tasks == sealed == ground.in_redis()


@pytest.mark.parametrize("asked", [False, True])
def test_a_connection_lost_about_the_next_task_costs_no_answer(ground: Ground, asked: bool) -> None:
    hand = ground.hand
    hand.sure_until = Clock().now() + 5
    (first,) = ground.held(1)
    ground.raw.lpush(ground.tasks.keys.queue, "next")
    if asked:
        hand.ask_for_next("job")
    ground.tasks.wire.close()
    if not asked:
        hand.ask_for_next("job")  # it is called in a task, which has nothing to do with it
    batch = batch_of([first])
    with pytest.raises(BrokerDown):
        hand.done(batch) and hand.add_next()
    hand.recover()
    assert ground.answered() == [(0, 1)]
    assert hand.tasks == ground.in_redis() == ([b"next"] if asked else [])
    assert not hand.add_next()


def test_where_another_thread_has_given_it_back_the_next_task_is_not_begun(ground: Ground) -> None:
    hand = ground.hand
    hand.sure_until = Clock().now() + 5
    (first,) = ground.held(1)
    ground.raw.lpush(ground.tasks.keys.queue, "next")
    hand.ask_for_next("job")
    hand.leaving, hand.changed = frozenset([b"next"]), True  # as part_answers.py does it, before it is in the queue
    hand.settle_and_read(batch_of([first]))
    assert hand.tasks == []
    assert not hand.add_next()
    assert ground.answered() == [(0, 1)]
    hand.changed = True
    hand.tasks = [first]
    hand.ask_for_next("job")
    assert not hand.add_next()


def test_a_user_without_the_command_takes_no_task_so(ground: Ground, server: RealServer) -> None:
    ground.raw.execute_command("ACL", "SETUSER", "few", "on", "nopass", "~*", "&*", "+@all", "-lmove")
    try:
        wire = RedisWire(msgspec.structs.replace(parse_url(server.url), username="few", password="x"))
        wire.connect()
        hand = hand_of(Tasks(wire, ground.tasks.keys, ground.tasks.codecs))
        hand.sure_until = Clock().now() + 5
        (first,) = hand.tasks = ground.held(1)
        ground.raw.lpush(ground.tasks.keys.queue, "next")
        hand.ask_for_next("job")
        assert not hand.add_next()
        hand.recover()
        hand.ask_for_next("job")
        assert not hand.add_next()
        assert hand.tasks == [first] == ground.in_redis()
        wire.close()
    finally:
        ground.raw.execute_command("ACL", "DELUSER", "few")


def test_of_an_error_in_sending_the_tasks_are_told_and_forgotten(ground: Ground) -> None:
    first, _ = ground.held()
    ground.hand.done(batch_of([first]))
    assert ground.hand.unsent() == [first]
    assert ground.hand.unsent() == []
    ground.hand.recover()
    assert ground.answered() == []
    ground.hand.answer_later(batch_of([first]))
    ground.hand.recover()
    assert ground.answered() == [(0, 1)]


def test_a_reply_that_is_too_large_goes_in_parts_each_with_its_own_terms(
    server: RealServer, raw: redis.Redis, keys: Keys, codecs: Codecs
) -> None:
    before = str(raw.config_get("proto-max-bulk-len")["proto-max-bulk-len"])
    raw.config_set("proto-max-bulk-len", MEBIBYTE)
    try:
        wire = RedisWire(parse_url(server.url))
        wire.connect()
        replies = Replies(WID, Tasks(wire, keys, codecs))
        items = [Answer(term, term + 1, 0, MAP, OK, b"x" * 600_000, 1) for term in range(2)]
        items.append(Answer(2, 3, 0, MAP, OK, b"x" * (2 * MEBIBYTE), 1))
        tried = [Tried(term, 2, "ValueError", "no") for term in range(3)]
        read: list[Reply] = [codecs.reply.open(bytes(sealed)) for sealed in replies.sealed("job", items, tried)]
        wire.close()
    finally:
        raw.config_set("proto-max-bulk-len", before)
    assert [[answer.lo for answer in reply.answers] for reply in read] == [[0], [1], [2]]
    assert [[one.term for one in reply.tried] for reply in read][:2] == [[0], [1]]
    assert [answer.status for reply in read for answer in reply.answers] == [OK, OK, ERROR]
    failure = decode_failure(read[2].answers[0].body)
    assert failure.where == "host:1"
    assert f"and {MEBIBYTE - SPARE_BYTES:,} is the most" in failure.message  # the rest is the request's


def test_a_reply_of_just_the_size_that_redis_accepts_is_sent_as_it_is(
    server: RealServer, raw: redis.Redis, keys: Keys, codecs: Codecs
) -> None:
    before = str(raw.config_get("proto-max-bulk-len")["proto-max-bulk-len"])
    raw.config_set("proto-max-bulk-len", 2 * MEBIBYTE)
    try:
        wire = RedisWire(parse_url(server.url))
        wire.connect()
        replies = Replies(WID, Tasks(wire, keys, codecs))

        def sealed(size: int) -> bytes:
            (one,) = replies.sealed("job", [Answer(0, 1, 0, MAP, OK, b"x" * size, 1)])
            return bytes(one)

        around = len(sealed(MEBIBYTE)) - MEBIBYTE
        most = 2 * MEBIBYTE - SPARE_BYTES - around
        statuses = [codecs.reply.open(sealed(size)).answers[0].status for size in (most, most + 1)]
        wire.close()
    finally:
        raw.config_set("proto-max-bulk-len", before)
    assert statuses == [OK, ERROR]


@pytest.mark.parametrize(("digits", "epoch"), [(1, 10), (EPOCH_DIGITS, 10**EPOCH_DIGITS), (EPOCH_DIGITS + 1, 1)])
def test_an_epoch_is_followed_as_far_as_it_can_be_read(jobs: Jobs, digits: int, epoch: int) -> None:
    lease = Lease(jobs, "job", "b")
    lease.succeed(f"{'9' * digits}:a:1")
    assert lease._epoch == epoch
