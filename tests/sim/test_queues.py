"""Workers on several queues, in a world: exact times on the real code, and mutants that each check here must notice."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

import pytest

from mapreduce_rq.broker.tasks import Tasks
from mapreduce_rq.runtime.worker.rota import Rota
from tests.sim.network import Request
from tests.sim.plan import JobPlan, Plan
from tests.sim.store import Snapshot
from tests.sim.world import World, checked


class Seen:
    """What was seen of a world with these jobs: when each began and ended after its start, and all requests."""

    def __init__(self, *jobs: JobPlan, hosts: list[int], queues: int = 2, horizon: float = 40.0) -> None:
        plan = Plan(1, list(jobs), hosts, horizon=horizon, patience=1.0, queues=queues, stays=True)
        self.world = World(plan)
        self.requests: list[tuple[float, str]] = []
        stepped = self.world.invariants[0].stepped
        ends: dict[str, float] = {}

        def look(before: Snapshot, after: Snapshot, what: Request | str) -> None:
            stepped(before, after, what)
            if isinstance(what, Request):
                self.requests.append((self.world.scheduler.now, str(what.commands[0][0])))

        def note() -> None:
            for job in self.world.jobs:
                if job.name not in ends and self.world.state(job.name) == "done":
                    ends[job.name] = self.world.scheduler.now

        self.world.on_step.append(note)
        with patch.object(self.world.invariants[0], "stepped", look), checked():
            verdict = self.world.run()
        assert not verdict.failure, verdict.failure
        starts = {job.name: plan.starts for job, plan in zip(self.world.jobs, jobs, strict=True)}
        self.ends = [ends[job.name] - starts[job.name] for job in self.world.jobs]
        self.begins = [
            min(done.at for done in self.world.executions if done.job == name) - start for name, start in starts.items()
        ]


def job(queue: int, starts: float, *, terms: int = 10, seconds: float = 0.1) -> JobPlan:
    return JobPlan(terms=terms, seconds=seconds, even=True, chunk=1, starts=starts, queue=queue)


# -- the checks ----------------------------------------------------------------------------------------------------


def an_idle_worker_begins_at_once_on_any_queue() -> None:
    for queue in range(3):
        seen = Seen(job(queue, 6.3), hosts=[1], queues=3, horizon=9.0)
        assert seen.begins[0] < 0.02, (queue, seen.begins)  # six ways of 0.5 ms to and fro, and no wait


def the_first_queue_goes_first() -> None:
    both = Seen(job(1, 1.0, terms=100), job(0, 1.0, terms=100), hosts=[1])
    assert both.ends[1] < 10.5 < both.ends[0], both.ends
    late = Seen(job(1, 1.0, terms=200), *(job(0, start, terms=5) for start in (5.05, 10.05, 15.05)), hosts=[1])
    assert max(late.ends[1:]) < 1.0, late.ends  # half a second of work, and the tasks in hand before it


def a_busy_process_holds_no_task_of_another_queue() -> None:
    for queue in (0, 1):
        seen = Seen(job(1 - queue, 1.0, terms=1, seconds=30.0), job(queue, 5.0), hosts=[2])
        assert seen.ends[1] < 1.5, seen.ends
        assert seen.begins[0] < 0.02, seen.begins


def a_worker_that_computes_asks_no_queue_whether_something_waits() -> None:
    seen = Seen(job(2, 1.0, terms=3, seconds=20.0), hosts=[1], queues=3, horizon=70.0)
    there = Counter(name for at, name in seen.requests if 2.0 < at < 60.0)
    assert there["LLEN"] == there["LMOVE"] == 0, there
    assert there["BLMOVE"] <= 10, there  # five seconds each, where one of them is read between two tasks


def an_idle_worker_is_idle() -> None:
    seen = Seen(job(0, 1.0), hosts=[1], queues=3, horizon=160.0)
    there = Counter(name for at, name in seen.requests if 60.0 < at < 160.0)
    assert there["BLMOVE"] <= 3 * 100 / 5 + 3, there
    assert there["LMOVE"] <= 3 * 100 / 5 + 3, there
    assert there["LLEN"] == 0, there


CHECKS: list[Callable[[], None]] = [
    an_idle_worker_begins_at_once_on_any_queue,
    the_first_queue_goes_first,
    a_busy_process_holds_no_task_of_another_queue,
    a_worker_that_computes_asks_no_queue_whether_something_waits,
    an_idle_worker_is_idle,
]


@pytest.mark.parametrize("check", CHECKS)
def test_check(check: Callable[[], None]) -> None:
    check()


def check_all() -> None:
    for check in CHECKS:
        check()


# -- the mutants ---------------------------------------------------------------------------------------------------


def swap_the_order() -> AbstractContextManager[Any]:
    """The last queue is the first."""
    made = Rota.__init__

    def reversed_(self: Rota, workers: Sequence[Any], *rest: Any, **named: Any) -> None:
        made(self, list(reversed(workers)), *rest, **named)

    return patch.object(Rota, "__init__", reversed_)


def starve_the_others() -> AbstractContextManager[Any]:
    """Only the first queue has turns."""
    turn, watch = Rota._turn, Rota._watch
    return both(
        patch.object(Rota, "_turn", lambda self, rank: turn(self, rank) if rank == 0 else False),
        patch.object(Rota, "_watch", lambda self, rank: watch(self, rank) if rank == 0 else None),
    )


def stay_on_a_queue() -> AbstractContextManager[Any]:
    """A turn ends only when nothing waits."""
    return patch.object(Rota, "_others_first", lambda _self, _rank: False)


def poll() -> AbstractContextManager[Any]:
    """No watch: each queue is asked every 0.1 s."""

    def wait(self: Rota) -> None:
        self._clock.sleep(0.1)
        self._watches.clear()

    def watch(self: Rota, rank: int) -> None:
        self._watches[rank] = self._clock.now()

    unheard: Any = patch.object(Rota, "_hear", lambda _self, _ranks, _seconds: [])
    return both(patch.object(Rota, "_watch", watch), patch.object(Rota, "_wait", wait), unheard)


def wait_on_one_after_another() -> AbstractContextManager[Any]:
    """A wait on one queue delays the others."""

    def wait(self: Rota) -> None:
        for rank in list(self._watches):
            self._hear([rank], 1.0)

    return patch.object(Rota, "_wait", wait)


def take_while_waiting() -> AbstractContextManager[Any]:
    """A watch takes the task into the hand on that queue."""
    made = Rota.__init__

    def greedy(self: Rota, workers: Sequence[Any], *rest: Any, **named: Any) -> None:
        made(self, workers, *rest, **named)
        for worker in workers:
            watch_by_taking(worker)

    return patch.object(Rota, "__init__", greedy)


def watch_by_taking(worker: Any) -> None:
    tasks, wire = worker.tasks, worker.tasks.wire
    words = ("BLMOVE", tasks.keys.queue, tasks.keys.in_flight(worker.wid), "RIGHT", "LEFT")

    def watched() -> bool:
        task = wire.answer()
        worker._hand.tasks += [task] if task else []
        return task is not None

    tasks.ask_to_watch = lambda seconds: wire.ask_call(*words, str(seconds))
    tasks.watched = watched


def take_from_another_queue() -> AbstractContextManager[Any]:
    """A task of the first queue is taken into the hand on another."""

    def take(self: Tasks, wid: str, _: float) -> Any:
        return self.wire.call("LMOVE", "mrq1:{sim}:q", self.keys.in_flight(wid), "RIGHT", "LEFT")

    return patch.object(Tasks, "take", take)


def answer_at_another_queue() -> AbstractContextManager[Any]:
    """What was taken from one queue is counted at another."""
    ask = Tasks.ask_to_settle

    def elsewhere(self: Tasks, *arguments: Any, **named: Any) -> None:
        keys = self.keys
        replies = keys.replies
        with patch.object(keys, "replies", lambda name: replies(name).replace("sim-b}", "sim}")):
            ask(self, *arguments, **named)

    return patch.object(Tasks, "ask_to_settle", elsewhere)


@contextlib.contextmanager
def both(*patches: AbstractContextManager[Any]) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for one in patches:
            stack.enter_context(one)
        yield


MUTANTS: list[Callable[[], AbstractContextManager[Any]]] = [
    swap_the_order,
    starve_the_others,
    stay_on_a_queue,
    poll,
    wait_on_one_after_another,
    take_while_waiting,
    take_from_another_queue,
    answer_at_another_queue,
]


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mutant_is_noticed(mutant: Callable[[], AbstractContextManager[Any]]) -> None:
    with mutant(), pytest.raises(AssertionError):
        check_all()
