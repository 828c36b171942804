"""When a master's conversation with Redis may be interrupted: while it waits, and at no other time."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from mapreduce_rq.broker.jobs import Jobs
from mapreduce_rq.core.messages import Task
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
