"""settle.lua: a worker's answers and its next tasks in one step, against real servers."""

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


def test_answers_settles_and_takes(tasks: Tasks, keys: Keys, raw: redis.Redis, running: str) -> None:
    hold(raw, keys, b"t0", b"t1", b"t2")
    wait(raw, keys, b"t3", b"t4", b"t5")
    assert tasks.settle(WID, [(running, b"r")], 3, 2, 2) == SettleAnswer(True, [], [b"t3", b"t4"])
    assert tasks.in_hand(WID) == [b"t2", b"t3", b"t4"]
    assert raw.lrange(keys.queue, 0, -1) == [b"t5"]
    assert replies(raw, keys, running) == [b"r"]


def test_nothing_to_take_and_nothing_in_hand(tasks: Tasks, running: str) -> None:
    assert tasks.settle(WID, [(running, b"r")], 0, 0, 5) == SettleAnswer(True, [], [])


def test_another_hand_than_expected_settles_nothing_but_answers(
    tasks: Tasks, keys: Keys, raw: redis.Redis, running: str
) -> None:
    hold(raw, keys, b"t0", b"t1")
    wait(raw, keys, b"t2")
    assert tasks.settle(WID, [(running, b"r")], 3, 2, 2) == SettleAnswer(False, [], [b"t0", b"t1"])
    assert tasks.in_hand(WID) == [b"t0", b"t1"]
    assert raw.llen(keys.queue) == 1
    assert replies(raw, keys, running) == [b"r"]


def test_a_job_that_is_over_takes_no_answer_and_stays_over(
    tasks: Tasks, keys: Keys, raw: redis.Redis, running: str
) -> None:
    hold(raw, keys, b"t0")
    answer = tasks.settle(WID, [("over", b"x"), (running, b"r"), ("gone", b"y")], 1, 1, 0)
    assert answer == SettleAnswer(True, [0, 2], [])
    assert not raw.exists(keys.replies("over"), keys.replies("gone"), keys.in_flight(WID))
    assert replies(raw, keys, running) == [b"r"]


@pytest.mark.parametrize(
    "case",  # waiting, workers, wanted, got
    [(10, 1, 4, 4), (10, 4, 8, 3), (3, 4, 8, 1), (1, 4, 8, 1), (8, 0, 9, 8), (100, 3, 512, 34)],
)
def test_no_more_than_a_fair_share(tasks: Tasks, keys: Keys, raw: redis.Redis, case: tuple[int, int, int, int]) -> None:
    waiting, workers, want, got = case
    wait(raw, keys, *(b"%d" % n for n in range(waiting)))
    if workers:
        tasks.beat({f"w{n}": b"beat" for n in range(workers)})
    answer = tasks.settle(WID, [], 0, 0, want)
    assert answer.tasks == [b"%d" % n for n in range(got)]
    assert tasks.in_hand(WID) == answer.tasks


@pytest.mark.parametrize(("waiting", "got"), [(7, 3), (1, 0), (8, 4)])
def test_who_has_something_left_leaves_the_odd_ones_to_others(
    tasks: Tasks, keys: Keys, raw: redis.Redis, waiting: int, got: int
) -> None:
    hold(raw, keys, b"done", b"left")
    wait(raw, keys, *(b"%d" % n for n in range(waiting)))
    tasks.beat({"w0": b"beat", "w1": b"beat"})
    assert tasks.settle(WID, [], 2, 1, 8).tasks == [b"%d" % n for n in range(got)]
    assert len(tasks.settle(WID, [], 1 + got, 1 + got, 8).tasks) == -(-(waiting - got) // 2)


def test_what_is_given_back_is_next_for_others_and_oldest_first(
    tasks: Tasks, keys: Keys, raw: redis.Redis, running: str
) -> None:
    hold(raw, keys, b"done", b"kept", b"t1", b"t2")
    wait(raw, keys, b"t3")
    assert tasks.settle(WID, [(running, b"r")], 4, 1, -2) == SettleAnswer(True, [], [])
    assert tasks.in_hand(WID) == [b"kept"]
    assert [tasks.take("other", 1) for _ in range(3)] == [b"t1", b"t2", b"t3"]


def test_it_can_be_asked_first_and_heard_later(tasks: Tasks, keys: Keys, raw: redis.Redis, running: str) -> None:
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


def test_twice_answers_twice_and_settles_once(tasks: Tasks, keys: Keys, raw: redis.Redis, running: str) -> None:
    hold(raw, keys, b"t0", b"t1")
    assert tasks.settle(WID, [(running, b"r")], 2, 2, 0).as_expected
    again = tasks.settle(WID, [(running, b"r")], 2, 2, 0)
    assert again == SettleAnswer(False, [], [])
    assert replies(raw, keys, running) == [b"r", b"r"]


def test_the_script_survives_a_flush_of_scripts(tasks: Tasks, raw: redis.Redis, running: str) -> None:
    for _ in range(3):
        raw.script_flush()
        assert tasks.settle(WID, [(running, b"r")], 0, 0, 0).as_expected


def test_take_files_the_task_under_its_worker(tasks: Tasks, keys: Keys, raw: redis.Redis) -> None:
    wait(raw, keys, b"t0", b"t1")
    assert tasks.take(WID, 0.01) == b"t0"
    assert tasks.in_hand(WID) == [b"t0"]
    assert tasks.take(WID, 0.01) == b"t1"
    assert tasks.in_hand(WID) == [b"t0", b"t1"]
    assert tasks.take(WID, 0.01) is None


def test_a_dropped_task_goes_and_equal_ones_stay(tasks: Tasks, keys: Keys, raw: redis.Redis) -> None:
    hold(raw, keys, b"t0", b"t1", b"t0")
    tasks.drop(WID, [b"t0", b"unknown"])
    assert tasks.in_hand(WID) == [b"t1", b"t0"]
    tasks.drop(WID, [])
    assert tasks.in_hand(WID) == [b"t1", b"t0"]


def test_a_leaver_gives_back_in_order_and_is_struck_off(tasks: Tasks, keys: Keys, raw: redis.Redis) -> None:
    tasks.beat({WID: b"beat", "other": b"beat"})
    wait(raw, keys, b"t2", b"t3")
    hold(raw, keys, b"t0", b"t1")
    tasks.give_back(WID, tasks.in_hand(WID))
    assert [tasks.take("other", 0.01) for _ in range(4)] == [b"t0", b"t1", b"t2", b"t3"]
    assert raw.hkeys(keys.workers) == [b"other"]
    assert not raw.exists(keys.in_flight(WID))


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


def test_beating_for_nobody_is_nothing(tasks: Tasks, keys: Keys, raw: redis.Redis) -> None:
    tasks.beat({})
    assert not raw.exists(keys.workers)
