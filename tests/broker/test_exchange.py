"""What a master does while it waits for Redis: it may be interrupted then and at no other time, and it reads ahead."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from mapreduce_rq.broker.jobs import Jobs
from mapreduce_rq.core.bodies import Buffer
from mapreduce_rq.core.messages import Answer, Reply, Task
from mapreduce_rq.core.reducers.ahead import LEAST_BYTES, Ahead
from mapreduce_rq.errors import BrokerDown
from mapreduce_rq.runtime.master.bodies import Bodies
from mapreduce_rq.runtime.master.exchange import Exchange
from mapreduce_rq.runtime.master.lease import Lease
from tests.support.stage import until


class NoTasks:
    """Stands for a master whose tasks are never out."""

    def all_out(self) -> list[Task]:
        return []


@pytest.fixture
def exchange(jobs: Jobs) -> Exchange:
    bodies = Bodies(jobs.codecs.task, NoTasks().all_out, apart=True, items=False)
    return Exchange(jobs, "job", Lease(jobs, "job", "a"), bodies, bell=None, keeps=False)


def waits_during(exchange: Exchange, act: Callable[[], object]) -> bool:
    """Whether it says that it waits while ``act`` runs, which takes half a second."""
    acting = threading.Thread(target=act)
    acting.start()
    try:
        until(lambda: exchange.waiting or not acting.is_alive(), 10, "it waits, or is over")
        return exchange.waiting
    finally:
        acting.join()


def test_it_waits_for_replies_and_for_no_longer(exchange: Exchange, jobs: Jobs) -> None:
    jobs.commit("job", "", "1:a:1", what="create", number=1, fields=[("state", "running")])
    assert not exchange.waiting
    assert waits_during(exchange, lambda: exchange.hear(0.5, wants_items=False))
    assert not exchange.waiting


def test_it_waits_for_the_creation_and_the_first_replies(exchange: Exchange, jobs: Jobs) -> None:
    exchange.create(1, [("state", "running")], [Task("job", 0, 1)], 0.5, "create")
    assert not exchange.waiting
    assert waits_during(exchange, exchange.hear_of_commit)
    assert not exchange.waiting
    assert jobs.token("job").state == "running"
    assert exchange.others == 0  # the queue holds nothing but its own task


class Slow:
    """Bodies to be read ahead. ``during`` is called while the first of them is read."""

    def __init__(self, count: int, during: Callable[[], object]) -> None:
        self.read: list[int] = []
        self._during = during
        self.ahead = Ahead(self.parts)
        for _ in range(count):
            self.ahead.offer(bytes(LEAST_BYTES))

    def parts(self, _: Buffer) -> Iterator[list[Any]]:
        self.read.append(len(self.read))
        if len(self.read) == 1:
            self._during()
        yield from ()


def reading(jobs: Jobs, values: Slow) -> Exchange:
    """The conversation of a master that has these to read."""
    bodies = Bodies(jobs.codecs.task, NoTasks().all_out, apart=True, items=False)
    lease = Lease(jobs, "job", "a")
    return Exchange(jobs, "job", lease, bodies, bell=None, keeps=True, ahead=values.ahead)


def answer_to(jobs: Jobs, raw: redis.Redis) -> None:
    """A worker answers a task of the job."""
    raw.xadd(
        jobs.keys.replies("job"), {"r": jobs.codecs.reply.seal(Reply("job", "w", [Answer(0, 1, 0, 0, 0, b"", 1)]))}
    )


def test_while_it_waits_it_reads_until_an_answer_comes(jobs: Jobs, raw: redis.Redis) -> None:
    values = Slow(5, lambda: answer_to(jobs, raw))
    exchange = reading(jobs, values)
    replies, entries = exchange.hear(5.0, wants_items=False)
    assert (len(replies), entries) == (1, 1)
    assert len(values.read) in {1, 2}  # the answer may take a moment
    again, _ = exchange.hear(0.2, wants_items=False)
    assert not again
    assert len(values.read) == 5
    assert not values.ahead
    assert jobs.token("job") is not None  # the connection is in order


def test_an_answer_that_is_there_is_not_kept_waiting(jobs: Jobs, raw: redis.Redis) -> None:
    values = Slow(5, lambda: None)
    exchange = reading(jobs, values)
    answer_to(jobs, raw)
    replies, _ = exchange.hear(0, wants_items=False)
    assert len(replies) == 1
    assert not values.read


def test_a_signal_while_it_reads_leaves_the_conversation_in_order(jobs: Jobs, raw: redis.Redis) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    exchange = reading(jobs, Slow(2, interrupt))
    with pytest.raises(KeyboardInterrupt):
        exchange.hear(0.2, wants_items=False)
    assert not exchange.waiting
    exchange.connect()
    answer_to(jobs, raw)
    replies, _ = exchange.hear(5.0, wants_items=False)
    assert len(replies) == 1


def test_after_an_outage_while_it_read_it_says_that_the_connection_is_lost(jobs: Jobs, raw: redis.Redis) -> None:
    exchange = reading(jobs, Slow(2, lambda: raw.client_kill_filter(_type="normal", skipme=True)))
    with pytest.raises(BrokerDown):
        exchange.hear(5.0, wants_items=False)
    assert not exchange.waiting
