"""How soon a dead master is noticed, and that a living one is not taken for dead: on a clock that the test moves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mapreduce_rq.broker.jobs import Jobs
from mapreduce_rq.core.fleet.liveness import DEAD_AFTER
from mapreduce_rq.core.messages import Limits, Spec
from mapreduce_rq.runtime.clock import Clock
from mapreduce_rq.runtime.master.observer import Silent
from mapreduce_rq.runtime.master.standby import GLANCE_SECONDS, POLL_SECONDS, OrphanWatch, Standby
from tests.support.examples import examples

JOB = "exp-a"
PATIENCE = DEAD_AFTER * POLL_SECONDS
"""Seconds for which a master may be silent."""
LATE = 0.001
"""Seconds of the test's clock by which each sleep is too long."""


class Moved(Clock):
    """A clock that stands still but for its sleeps. ``beats``: when the master changes its token."""

    def __init__(self, jobs: Jobs, raw: Any, beats: Iterator[float]) -> None:
        self.at = 100.0
        self.last = self.at
        self._beats = beats
        self._next = next(beats)
        self._raw, self._key = raw, jobs.keys.job(JOB)
        sealed = jobs.codecs.spec.at(JOB).seal(
            Spec(
                job=JOB,
                computation="exp",
                params={"x": "2", "terms": 20},
                total=20,
                limits=Limits(),
                created=100.0,
                version="1",
            )
        )
        raw.delete(self._key)
        raw.hset(self._key, mapping={"state": "running", "master": "master:a", "tok": "1:a:0", "spec": sealed})
        raw.zadd(jobs.keys.jobs, {JOB: 1})
        self.now = lambda: self.at
        self.wall = lambda: self.at

    def sleep(self, seconds: float) -> None:
        self.at += seconds + LATE
        while self._next <= self.at:
            self.last = self._next
            self._raw.hset(self._key, "tok", f"1:a:{self._next}")
            self._next = next(self._beats, float("inf"))

    @property
    def silent(self) -> float:
        """Seconds since the last beat."""
        return self.at - self.last


def follow(jobs: Jobs, clock: Moved, until: float) -> None:
    """A standby of this one job, until it would take it over."""
    standby = Standby(jobs, clock, JOB, Silent())
    sleep = clock.sleep

    def sleeping(seconds: float) -> None:
        sleep(seconds)
        standby.stop = clock.at >= until

    clock.sleep = sleeping  # type: ignore[method-assign]
    standby.wait()


def watch_all(jobs: Jobs, clock: Moved, until: float) -> None:
    """A process that stands by for all jobs, until it would take this one over."""
    watch = OrphanWatch(jobs, now=clock.now)
    while clock.at < until and not (watch.glance() and watch.orphans()):
        clock.sleep(watch.pause)


WATCHERS: list[Callable[[Jobs, Moved, float], None]] = [follow, watch_all]


@pytest.mark.parametrize("watches", WATCHERS)
@given(first=st.floats(0.0, 1.0), beats=st.integers(1, 9))
@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_dead_master_is_noticed_half_a_second_after_its_patience_is_over(
    watches: Callable[[Jobs, Moved, float], None], jobs: Jobs, raw: Any, first: float, beats: int
) -> None:
    clock = Moved(jobs, raw, iter([100.0 + first + k for k in range(beats)]))
    watches(jobs, clock, 200.0)
    assert clock.at < 200.0
    assert PATIENCE <= clock.silent <= PATIENCE + GLANCE_SECONDS + 0.1


@pytest.mark.parametrize("watches", WATCHERS)
@given(gaps=st.lists(st.floats(0.1, PATIENCE - 0.01), min_size=1, max_size=8))
@settings(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_master_that_beats_within_the_patience_is_never_dead(
    watches: Callable[[Jobs, Moved, float], None], jobs: Jobs, raw: Any, gaps: list[float]
) -> None:
    times = [100.0]
    for gap in gaps:
        times.append(times[-1] + gap)
    clock = Moved(jobs, raw, iter(times))
    watches(jobs, clock, times[-1] + PATIENCE - 2 * GLANCE_SECONDS)
    assert clock.last == times[-1], "it was taken for dead before its last beat"


@pytest.mark.parametrize("pause", [30.0, 3600.0])
def test_an_observer_that_was_paused_takes_nobody_for_dead(jobs: Jobs, raw: Any, pause: float) -> None:
    clock = Moved(jobs, raw, iter([100.5]))
    watch = OrphanWatch(jobs, now=clock.now)
    looks = 0
    while not (watch.glance() and watch.orphans()):
        clock.sleep(pause)
        looks += 1
    assert looks > DEAD_AFTER


def test_jobs_that_nobody_else_leads_cost_one_look_in_two_seconds(jobs: Jobs, raw: Any) -> None:
    clock = Moved(jobs, raw, iter([100.5]))
    watch = OrphanWatch(jobs, now=clock.now)
    assert watch.glance()
    assert watch.orphans(led=[JOB]) == {}
    assert watch.pause == POLL_SECONDS
    assert watch.glance()


def test_a_job_that_is_let_go_of_is_noticed_at_the_next_glance(jobs: Jobs, raw: Any) -> None:
    clock = Moved(jobs, raw, iter([100.5]))
    watch = OrphanWatch(jobs, now=clock.now)
    assert watch.glance()
    assert watch.orphans() == {}
    assert watch.pause == GLANCE_SECONDS
    raw.hset(jobs.keys.job(JOB), "master", "")
    assert watch.glance()
    assert list(watch.orphans()) == [JOB]
    assert watch.pause == POLL_SECONDS, "it is found already, and nobody leads it"
