"""A supervisor's look after lost hosts, look by look, against real servers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis

from mapreduce_rq.broker.jobs import Jobs
from mapreduce_rq.broker.keys import Keys
from mapreduce_rq.broker.tasks import Tasks
from mapreduce_rq.core.fleet.liveness import DEAD_AFTER, FORGOTTEN_AFTER
from mapreduce_rq.core.messages import Beat, Task
from mapreduce_rq.core.sealing import Codecs
from mapreduce_rq.runtime.pool.lost_hosts import LOOK_SECONDS, LostHosts

LOST, ALIVE = "lost:1:a", "alive:1:b"


def beat(count: int, lo: int = 0, state: str = "busy") -> Beat:
    return Beat(count, "host", 1, "host:1", state, "job", lo, lo + 1, 0.0, 0, 0.0, 0, "0", "", 0, 0.0)  # type: ignore[arg-type]


@pytest.fixture
def looks(jobs: Jobs, tasks: Tasks, codecs: Codecs) -> Callable[[int], None]:
    """Looks so often, while one worker beats and the other does not."""
    lost_hosts = LostHosts(jobs)
    made = 0

    def look(count: int) -> None:
        nonlocal made
        for _ in range(count):
            made += 1
            tasks.beat({ALIVE: codecs.beat.at(ALIVE).seal(beat(made))})
            lost_hosts.look(made * LOOK_SECONDS)

    return look


def test_a_lost_worker_is_reaped_and_later_struck_off(
    jobs: Jobs, tasks: Tasks, raw: redis.Redis, looks: Callable[[int], None]
) -> None:
    keys, codecs = jobs.keys, jobs.codecs
    tasks.beat({LOST: codecs.beat.at(LOST).seal(beat(7, lo=1))})
    for lo in range(2):
        raw.lpush(keys.in_flight(LOST), codecs.task.seal(Task("job", lo, lo + 1)))
    raw.lpush(keys.in_flight(ALIVE), codecs.task.seal(Task("job", 5, 6)))
    looks(DEAD_AFTER)
    assert raw.llen(keys.in_flight(LOST)) == 2
    looks(1)
    assert raw.llen(keys.in_flight(LOST)) == 0
    waiting = [codecs.task.open(task) for task in raw.execute_command("LRANGE", keys.queue, 0, -1)]
    assert [(task.lo, task.attempt, task.why) for task in waiting] == [
        (1, 1, "its host or supervisor was lost"),  # what its last beat said it was at
        (0, 0, ""),
    ]
    assert LOST in jobs.registry()
    looks(FORGOTTEN_AFTER - DEAD_AFTER - 1)
    assert LOST in jobs.registry()
    looks(1)
    assert jobs.registry().keys() == {ALIVE}
    assert raw.llen(keys.in_flight(ALIVE)) == 1


def test_one_that_comes_back_is_left_alone(
    jobs: Jobs, tasks: Tasks, raw: redis.Redis, looks: Callable[[int], None]
) -> None:
    keys, codecs = jobs.keys, jobs.codecs
    for count in range(4):
        tasks.beat({LOST: codecs.beat.at(LOST).seal(beat(count))})
        raw.lpush(keys.in_flight(LOST), b"task")
        looks(DEAD_AFTER)
    assert raw.llen(keys.in_flight(LOST)) == 4
    assert LOST in jobs.registry()


def test_what_a_ghost_pop_gave_to_one_with_an_obituary_goes_back(
    jobs: Jobs, keys: Keys, codecs: Codecs, raw: redis.Redis, looks: Callable[[int], None]
) -> None:
    jobs.reap(LOST, "X:killed by SIGKILL", [])
    task = codecs.task.seal(Task("job", 0, 1))
    raw.lpush(keys.in_flight(LOST), task)
    looks(1)
    assert raw.execute_command("LRANGE", keys.queue, 0, -1) == [task]  # nobody is blamed
    looks(FORGOTTEN_AFTER)
    assert jobs.registry().keys() == {ALIVE}


def test_it_looks_seldom(jobs: Jobs, keys: Keys, raw: redis.Redis) -> None:
    lost_hosts = LostHosts(jobs)
    raw.hset(keys.workers, LOST, "X:dead")
    raw.lpush(keys.in_flight(LOST), b"first")
    lost_hosts.look(0.0)
    raw.lpush(keys.in_flight(LOST), b"second")
    lost_hosts.look(LOOK_SECONDS - 1)
    assert raw.llen(keys.in_flight(LOST)) == 1
    lost_hosts.look(LOOK_SECONDS)
    assert raw.llen(keys.in_flight(LOST)) == 0
