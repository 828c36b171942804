"""A standby and its looks, on real servers: whom it follows, what it says, and what it does not read again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mapreduce_rq.broker.jobs import Jobs
from mapreduce_rq.core.job.record import Report
from mapreduce_rq.runtime.clock import Clock
from mapreduce_rq.runtime.master.standby import OrphanWatch, Standby
from tests.broker.test_job_hash import sealed
from tests.support.records import done

JOB = "exp-a"


class Watcher:
    """An observer that keeps all that it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.last: Report | None = None

    def progressed(self, report: Callable[[], Report]) -> None:
        self.last = report()

    def noticed(self, text: str) -> None:
        self.said.append(text)


class Scripted(Clock):
    """A clock on which something happens in each wait."""

    def __init__(self, *acts: Callable[[], object]) -> None:
        self._acts = list(acts)
        self.seconds = 0.0

    def wall(self) -> float:
        return 1.0 + self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        if self._acts:
            self._acts.pop(0)()


@pytest.fixture
def job(jobs: Jobs, raw: Any) -> str:
    """A job as its master has written it."""
    fields = {name: row[0] for name, row in sealed(jobs.codecs, JOB).items()} | {"state": b"running"}
    del fields["record"]
    raw.hset(jobs.keys.job(JOB), mapping=fields)
    raw.zadd(jobs.keys.jobs, {JOB: 1})
    return JOB


def moves(jobs: Jobs, raw: Any, count: int) -> Callable[[], object]:
    return lambda: raw.hset(jobs.keys.job(JOB), "tok", f"1:a:{count}")


def test_a_master_that_lets_go_is_followed_at_the_next_look(jobs: Jobs, raw: Any, job: str) -> None:
    clock = Scripted(moves(jobs, raw, 2), lambda: raw.hset(jobs.keys.job(job), "master", ""))
    seen = Watcher()
    standby = Standby(jobs, clock, job, seen)
    state = standby.wait()
    assert state is not None
    assert state.running
    assert (clock.seconds, standby.led) == (4.0, False)
    assert seen.said == []


def test_a_master_that_writes_no_more_is_given_up_after_five_looks_and_it_is_said_before(
    jobs: Jobs, raw: Any, job: str
) -> None:
    clock = Scripted(*(moves(jobs, raw, count) for count in range(3)))
    seen = Watcher()
    standby = Standby(jobs, clock, job, seen)
    assert standby.wait() is not None
    assert (clock.seconds, standby.led) == (3 * 2.0 + 5 * 2.0, False)
    assert seen.said == ["no sign of its master for 6 s; taking over in 4 s, unless one comes"]
    assert seen.last is not None
    assert seen.last.counted == 3


def test_who_only_watches_says_how_to_resume(jobs: Jobs, job: str) -> None:
    seen = Watcher()
    Standby(jobs, Scripted(), job, seen, takes_over=False).wait()
    assert len(seen.said) == 1
    assert seen.said[0].endswith(f"; mrq resume {job}, unless one comes")


def test_a_master_that_writes_again_leads_again(jobs: Jobs, raw: Any, job: str) -> None:
    led: list[bool | None] = []

    def look() -> None:
        led.append(standby.led)

    clock = Scripted(moves(jobs, raw, 2), *[look] * 4, moves(jobs, raw, 3), look)
    standby: Standby = Standby(jobs, clock, job, Watcher())
    standby.wait()
    assert led == [True, True, True, False, True]


def test_a_job_that_ends_is_told_to_its_end(jobs: Jobs, raw: Any, job: str) -> None:
    record = done(job)

    def end() -> None:
        sealed_record = jobs.codecs.record.at(job).seal(record)
        raw.hset(jobs.keys.job(job), mapping={"state": "done", "record": sealed_record, "master": ""})

    seen = Watcher()
    standby = Standby(jobs, Scripted(end), job, seen)
    state = standby.wait()
    assert state is not None
    assert not state.running
    assert standby.led is False
    assert seen.last is not None
    assert (seen.last.counted, seen.last.total, seen.last.out) == (record.terms_used, record.terms, 0)
    assert seen.last.value == record.value


def test_ended_jobs_are_read_again_after_thirty_looks_and_running_ones_at_each(
    jobs: Jobs, raw: Any, job: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw.hset(jobs.keys.job("over"), mapping={"tok": "1:a:9", "state": "done"})
    raw.zadd(jobs.keys.jobs, {"over": 2})
    read: list[list[str]] = []
    leases = jobs.leases

    def look(names: Any) -> Any:
        read.append(sorted(names))
        return leases(names)

    monkeypatch.setattr(jobs, "leases", look)
    watch = OrphanWatch(jobs)
    for _ in range(32):
        watch.orphans()
    assert read[0] == read[31] == [job, "over"]
    assert read[1:31] == [[job]] * 30
