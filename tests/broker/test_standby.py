"""A standby and its looks, on real servers: whom it follows, what it says, and what it does not read again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from msgspec.structs import replace

from mapreduce_rq.broker.jobs import Jobs
from mapreduce_rq.core.job.record import Report
from mapreduce_rq.runtime.clock import Clock
from mapreduce_rq.runtime.master.standby import POLL_SECONDS, OrphanWatch, Setbacks, Standby
from tests.broker.test_job_hash import sealed, spec_of
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
    """A clock that does not wait. Things happen when it reaches their seconds."""

    def __init__(self, acts: Mapping[float, Callable[[], object]] | None = None, *, began: float = 1.0) -> None:
        self._acts = dict(acts or {})
        self.seconds = 0.0
        self._began = began

    def now(self) -> float:
        return self.seconds

    def wall(self) -> float:
        return self._began + self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds
        for at in [at for at in sorted(self._acts) if at <= self.seconds]:
            self._acts.pop(at)()


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
    clock = Scripted({2.0: moves(jobs, raw, 2), 4.0: lambda: raw.hset(jobs.keys.job(job), "master", "")})
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
    clock = Scripted({at: moves(jobs, raw, count) for count, at in enumerate((2.0, 4.0, 6.0))})
    seen = Watcher()
    standby = Standby(jobs, clock, job, seen)
    assert standby.wait() is not None
    assert (clock.seconds, standby.led) == (6.0 + 10.0, False)
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

    clock = Scripted(
        {2.0: moves(jobs, raw, 2)} | dict.fromkeys((2.6, 6.6, 8.6), look) | {9.0: moves(jobs, raw, 3), 10.6: look}
    )
    standby: Standby = Standby(jobs, clock, job, Watcher())
    standby.wait()
    assert led == [True, True, False, True]


def test_a_job_that_ends_is_told_to_its_end(jobs: Jobs, raw: Any, job: str) -> None:
    record = done(job)

    def end() -> None:
        sealed_record = jobs.codecs.record.at(job).seal(record)
        raw.hset(jobs.keys.job(job), mapping={"state": "done", "record": sealed_record, "master": ""})

    seen = Watcher()
    standby = Standby(jobs, Scripted({2.0: end}), job, seen)
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


def test_at_first_the_age_of_its_report_tells_whether_a_master_lives(jobs: Jobs, raw: Any, job: str) -> None:
    report = jobs.codecs.report.at(job).seal(Report(counted=3, total=20, at=97.0))
    raw.hset(jobs.keys.job(job), "progress", report)
    seen = Watcher()
    Standby(jobs, Scripted(began=98.0), job, seen).wait()
    assert seen.said == ["no sign of its master for 5 s; taking over in 6 s, unless one comes"]


def test_a_job_without_a_report_is_as_old_as_the_job(jobs: Jobs, raw: Any, job: str) -> None:
    spec = jobs.codecs.spec.at(job).seal(replace(spec_of(job), created=97.0))
    raw.hset(jobs.keys.job(job), "spec", spec)
    raw.hdel(jobs.keys.job(job), "progress")
    seen = Watcher()
    Standby(jobs, Scripted(began=100.0), job, seen).wait()
    assert seen.said == ["no sign of its master for 5 s; taking over in 8 s, unless one comes"]


def test_what_is_wrong_with_a_job_is_said_once(jobs: Jobs, raw: Any, job: str) -> None:
    raw.hset(jobs.keys.job(job), "ck", b"of another program")
    seen = Watcher()
    Standby(jobs, Scripted({2.0: moves(jobs, raw, 2)}), job, seen).wait()
    assert len(seen.said) == 2
    assert "no sign of its master" not in seen.said[0]


def test_after_an_outage_it_connects_once_and_counts_its_looks_anew(
    jobs: Jobs, raw: Any, job: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    connected: list[float] = []
    connect = jobs.wire.connect

    def again() -> None:
        connected.append(clock.seconds)
        connect()

    clock = Scripted({7.0: lambda: raw.client_kill_filter(_type="normal", skipme=True)})
    monkeypatch.setattr(jobs.wire, "connect", again)
    seen = Watcher()
    assert Standby(jobs, clock, job, seen).wait() is not None
    assert len(connected) == 1
    assert clock.seconds == connected[0] + 10.0
    assert sum("trying again" in text for text in seen.said) == 1


def test_if_rq_has_seen_its_end_a_master_is_given_up_after_two_looks(jobs: Jobs, raw: Any, job: str) -> None:
    raw.hset(jobs.keys.job(job), "host", "rq-7")
    clock = Scripted()
    hinted, other = OrphanWatch(jobs, lambda host: host == "rq-7", clock.now), OrphanWatch(jobs, now=clock.now)
    found: list[tuple[list[str], list[str]]] = []
    for _ in range(6):
        found.append((list(hinted.orphans()), list(other.orphans())))
        clock.sleep(POLL_SECONDS)
    assert [one for one, _ in found] == [[], [], *[[job]] * 4]
    assert [one for _, one in found] == [*[[]] * 5, [job]]


def test_glances_count_as_parts_of_a_look_and_each_fourth_calls_for_a_look_at_all(jobs: Jobs, job: str) -> None:
    clock = Scripted()
    watch = OrphanWatch(jobs, now=clock.now)
    assert watch.glance() is True, f"{job} is not known yet"
    assert watch.orphans() == {}
    answers: list[bool] = []
    while not answers or not answers[-1] or not watch.orphans():
        clock.sleep(watch.pause)
        answers.append(watch.glance())
        assert clock.seconds <= 5 * POLL_SECONDS
    assert clock.seconds == 5 * POLL_SECONDS
    assert answers == [False, False, False, True] * 5


def test_a_job_that_could_not_be_led_is_tried_again_after_a_minute_and_each_reason_is_new_once() -> None:
    clock = Scripted()
    setbacks = Setbacks(clock)
    assert setbacks.due(JOB)
    assert [setbacks.note(JOB, why) for why in ("a", "a", "b", "a")] == [True, False, True, True]
    assert not setbacks.due(JOB)
    assert setbacks.due("another")
    clock.seconds = 59.9
    assert not setbacks.due(JOB)
    clock.seconds = 60.0
    assert setbacks.due(JOB)
