"""What a master holds between its commits: when it may wait, what a checkpoint tells, and what it may forget."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from mapreduce_rq.broker.jobs import Jobs
from mapreduce_rq.computations import load
from mapreduce_rq.core.job.events import Push, Replied, Resumed, Source
from mapreduce_rq.core.messages import MAP, OK, Answer, Limits, Spec
from mapreduce_rq.runtime.clock import Clock
from mapreduce_rq.runtime.master.bell import Bell
from mapreduce_rq.runtime.master.checkpoints import HEAVY_BYTES
from mapreduce_rq.runtime.master.master import Master
from mapreduce_rq.runtime.master.observer import Silent

TERMS = 4


class Steady(Clock):
    """A clock that the test moves."""

    at = 100.0

    def __init__(self) -> None:
        self.now = lambda: self.at
        self.wall = lambda: 1_000_000.0 + self.at


def master_of(
    jobs: Jobs,
    *,
    source: Source | None = None,
    bell: Bell | None = None,
    alone: bool = False,
    unseen: bool = False,
) -> Master:
    params = {"function": "tests.support.terms:fingerprint", "reduce": "int_sum", "terms": TERMS}
    spec = Spec(
        job="function-a",
        computation="function",
        params=params,
        total=None if source is not None else TERMS,
        limits=Limits(chunk=1),
        created=0.0,
        version="",
    )
    return Master(
        jobs,
        Steady(),
        spec,
        load("function").create(params),
        Silent(),
        source=source,
        bell=bell,
        alone=alone,
        unseen=unseen,
    )


def answer_all(master: Master) -> None:
    """Have a worker answer all tasks."""
    tasks = [
        task for made in master.ledger.receive(Resumed(), 0.0) if isinstance(made, Push) for task in made.tasks
    ] or list(master.ledger.out.values())
    bodies = [master.computation.map_encoded(task.lo, task.hi) for task in tasks]
    answers = [Answer(task.lo, task.hi, 0, MAP, OK, body, 1000) for task, body in zip(tasks, bodies, strict=True)]
    master._receive(Replied("w", answers))


@pytest.mark.parametrize(
    ("alone", "unseen", "written"),
    [(False, False, True), (True, False, False), (False, True, False), (True, True, False)],
)
def test_a_large_fold_that_no_other_process_can_go_on_with_is_in_no_checkpoint(
    jobs: Jobs, alone: bool, unseen: bool, written: bool
) -> None:
    master = master_of(jobs, alone=alone, unseen=unseen)
    master._aside.read = HEAVY_BYTES - 1
    master._receive(Resumed())
    answer_all(master)
    assert master._checkpoints.has_news
    master._aside.read = HEAVY_BYTES
    master._receive(Replied("w", []))
    assert master._checkpoints.has_news is written


@pytest.fixture
def bell() -> Iterator[Bell]:
    with closing(Bell(lambda: False)) as made:
        yield made


def test_a_master_asks_a_source_that_has_nothing_again_at_once_unless_a_bell_tells_it(jobs: Jobs, bell: Bell) -> None:
    def nothing(_: int) -> tuple[bytes, int, bool]:
        return b"", 0, False

    for rung in (None, bell):
        master = master_of(jobs, source=nothing, bell=rung)
        assert master._patience() > 0.0  # it has not asked yet
        master._receive(Resumed())
        assert master.ledger.waits
        assert (master._patience() == 0.0) is (rung is None)


def test_a_report_tells_when_the_checkpoint_was_written(jobs: Jobs) -> None:
    """`mrq metrics` shows its age."""
    master = master_of(jobs)
    master.submit()
    assert master.report().saved == 0.0
    master._commit()
    assert master.report().saved == 0.0
    answer_all(master)
    master._commit(checkpoint=True)
    assert master.report().saved == master.clock.wall()
    state = jobs.load("function-a")
    assert state is not None
    assert state.checkpoint is not None
    assert state.checkpoint.runs == [(0, TERMS)]


def test_a_value_is_forgotten_once_the_end_is_sure_and_kept_while_it_is_in_doubt(jobs: Jobs) -> None:
    """It is needed to end the job again."""
    master = master_of(jobs)
    answer_all(master)
    master._ending.in_doubt = True
    master.hand_over()
    assert master.ledger.counted == TERMS
    master._ending.in_doubt = False
    master.hand_over()
    assert master.ledger.counted == 0
