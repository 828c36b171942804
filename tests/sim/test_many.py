"""Many jobs under one `mrq master`, in a world: exact times, on the real code."""

from __future__ import annotations

from unittest.mock import patch

import pytest

from mapreduce_rq.broker.jobs import Jobs
from tests.sim.network import Weather
from tests.sim.plan import JobPlan, Plan
from tests.sim.world import World, checked


def ends_of(*jobs: JobPlan, hosts: list[int], masters: list[tuple[float, float, str]] | None = None) -> list[float]:
    """When each job ended, after its start."""
    for job in jobs:
        job.detached = True
    there = [(0.0, 1e9, "TERM")] if masters is None else masters
    world = World(Plan(seed=1, jobs=list(jobs), hosts=hosts, horizon=600.0, patience=60.0, masters=there))
    ends: dict[str, float] = {}

    def look() -> None:
        for job in world.jobs:
            if job.name not in ends and world.state(job.name) == "done":
                ends[job.name] = world.scheduler.now

    world.on_step.append(look)
    with checked():
        verdict = world.run()
    assert not verdict.failure, verdict.failure
    return [ends[job.name] - plan.starts for job, plan in zip(world.jobs, jobs, strict=True)]


def small(starts: float) -> JobPlan:
    """A second of two workers' time."""
    return JobPlan(terms=100, seconds=0.02, even=True, starts=starts)


def test_a_small_job_beside_a_huge_one_ends_within_twice_its_lone_time() -> None:
    (alone,) = ends_of(small(8.0), hosts=[2])
    huge, *others = ends_of(
        JobPlan(terms=3000, seconds=0.04, even=True), *(small(8.0 + 7 * k) for k in range(5)), hosts=[2]
    )
    assert huge > 60
    assert max(others) < 2 * alone, (alone, others)


def test_a_result_that_takes_long_keeps_no_other_job_waiting() -> None:
    (alone,) = ends_of(small(8.0), hosts=[2])
    slow, *others = ends_of(
        JobPlan(terms=20, seconds=0.2, even=True, finishing=40.0), *(small(8.0 + 5 * k) for k in range(5)), hosts=[2]
    )
    assert slow > 40
    assert max(others) < alone + 0.5, (alone, others)


def test_the_jobs_of_a_killed_one_go_on_under_another_within_twelve_seconds() -> None:
    jobs = [JobPlan(terms=40, seconds=0.5, even=True, chunk=1) for _ in range(6)]
    alone = max(ends_of(*jobs, hosts=[8]))
    again = [JobPlan(terms=40, seconds=0.5, even=True, chunk=1) for _ in range(6)]
    both = max(ends_of(*again, hosts=[8], masters=[(0.0, 5.0, "KILL"), (1.0, 1e9, "TERM")]))
    assert both < alone + 12.5, (alone, both)


def test_turns_beside_the_wheel_that_an_outage_ends_together_all_come_back() -> None:
    """The first one's error ended the round, and the other jobs stayed beside the wheel for ever (seed 20285)."""
    weather = Weather(latency=0.002, lost=0.05, late=0.05, answer_lost=0.05)
    there = [(0.0, 1e9, "TERM")]
    together = 0
    for seed in range(4):
        jobs = [JobPlan(terms=60, seconds=0.5, even=True, chunk=1, detached=True) for _ in range(6)]
        world = World(
            Plan(
                seed=seed,
                jobs=jobs,
                hosts=[4],
                horizon=60.0,
                patience=120.0,
                masters=there,
                weather=weather,
                unattended=True,
            )
        )

        def have_turns_beside_the_wheel(world: World = world) -> None:
            nonlocal together
            for process in world.masters:
                for lead in process.wheel.leads.values():
                    lead.heavy = lead.master is not None  # a lead's first turn is never a heavy one
                back = [turn.lead.master for turn, _ in process.wheel._back]
                together = max(together, sum(master is not None and master.adrift for master in back))

        world.on_step.append(have_turns_beside_the_wheel)
        with checked():
            verdict = world.run()
        assert not verdict.failure, verdict.failure
        assert verdict.ends == ["done"] * len(jobs)
    assert together > 1, "in none of these worlds an outage has ended two turns together"


def urgent_beside_full_places() -> None:
    (alone,) = ends_of(small(8.0), hosts=[2])
    full = [JobPlan(terms=200, seconds=0.05, even=True, chunk=1) for _ in range(12)]
    hurry = [small(8.0 + 3 * k) for k in range(3)]
    for job in hurry:
        job.urgent = True
    found = ends_of(*full, *hurry, hosts=[2])
    assert max(found[12:]) < 2 * alone, (alone, found)


def test_an_urgent_job_does_not_wait_for_one_of_many_places() -> None:
    urgent_beside_full_places()


def test_without_a_line_of_their_own_urgent_jobs_would_wait() -> None:
    handed = Jobs.hand_over

    def in_one_line(self: Jobs, job: str, *, urgent: bool, first: bool = False) -> None:
        handed(self, job, urgent=False, first=urgent or first)

    def none(_self: Jobs, _jobs: object) -> set[str]:
        return set()

    with (
        patch.object(Jobs, "hand_over", in_one_line),
        patch.object(Jobs, "urgent", none),
        pytest.raises(AssertionError),
    ):
        urgent_beside_full_places()


def test_fifty_jobs_share_one_that_leads_eight_of_them_at_once() -> None:
    ends = ends_of(*(JobPlan(terms=10, seconds=0.01, even=True) for _ in range(50)), hosts=[4])
    assert len(ends) == 50
    assert max(ends) < 20
