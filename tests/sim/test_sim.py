"""Worlds by the thousand: whatever goes wrong, nothing is lost or counted twice, and every job comes to its end."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from random import Random

import pytest

from tests.sim.computation import Oracle, RowOfTerms, SumOfTerms, fold
from tests.sim.faults import COMMON, FAULTS
from tests.sim.network import Weather
from tests.sim.plan import JobPlan, Plan, plan_of
from tests.sim.world import World, checked
from tests.support.servers import IN_CI, ROOT

SEEDS = 2000 if IN_CI else 400
PARTS = 20  # of which each takes seconds, also on a machine that others use


def simulate(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.sim", *arguments]
    return subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("part", range(PARTS))
def test_every_world_ends_well(part: int) -> None:
    size = SEEDS // PARTS
    found = simulate("--seeds", str(size), "--start", str(part * size))
    assert found.returncode == 0, found.stdout + found.stderr
    assert f"{size} seeds, 0 failed" in found.stdout


def test_a_seed_is_the_same_world_every_time() -> None:
    traces = [simulate("--seed", "7", "--trace", PYTHONHASHSEED=salt).stdout for salt in ("1", "2")]
    assert traces[0] == traces[1]
    assert traces[0].count("\n") > 100


def test_another_seed_is_another_world() -> None:
    assert plan_of(1) != plan_of(2)


def test_the_worlds_have_every_kind_of_fault() -> None:
    had = Counter(kind for seed in range(SEEDS) for _, kind in plan_of(seed).faults)
    assert had.keys() == FAULTS.keys() == {*COMMON, "cancel"}


@pytest.mark.parametrize("ordered", [False, True])
def test_the_oracle_knows_any_spans(ordered: bool) -> None:
    oracle = Oracle(40, ordered=ordered)
    rng = Random(1)
    for _ in range(100):
        ends = sorted(rng.sample(range(41), 4))
        without = set(rng.sample(range(40), 3))
        terms = [k for lo, hi in (ends[:2], ends[2:]) for k in range(lo, hi) if k not in without]
        assert oracle.runs([(ends[0], ends[1]), (ends[2], ends[3])], without) == fold(terms, ordered=ordered)


def test_a_partial_shows_what_is_wrong_with_it() -> None:
    right = fold(range(20), ordered=True)
    assert fold([*range(20), 7], ordered=True) != right
    assert fold([k for k in range(20) if k != 7], ordered=True) != right
    assert fold([1, 0, *range(2, 20)], ordered=True) != right
    reducer = RowOfTerms()
    parts = [fold(range(lo, lo + 5), ordered=True) for lo in range(0, 20, 5)]
    grouped = reducer.merge(reducer.merge(parts[0], parts[1]), reducer.merge(parts[2], parts[3]))
    assert grouped == right
    assert reducer.merge(parts[1], parts[0]) != reducer.merge(parts[0], parts[1])
    assert SumOfTerms().merge(fold([3], ordered=False), fold([1], ordered=False)) == fold([1, 3], ordered=False)


@pytest.mark.parametrize("seed", range(12))
def test_without_faults_every_term_is_computed_once(seed: int) -> None:
    rng = Random(seed)
    workers = rng.randint(1, 6)
    job = JobPlan(
        terms=rng.randint(1, 500),
        seconds=rng.choice([0.0005, 0.02, 0.3]),
        ordered=rng.random() < 0.5,
        lazy=rng.random() < 0.3,
        more=rng.random() < 0.3,
        chunk=rng.choice([None, 1, 3]),
        standbys=rng.randint(0, 2),
        even=True,
    )
    job.more = job.more and not job.lazy and job.terms > 1
    plan = Plan(seed, [job], [workers], horizon=400, patience=1, weather=Weather(latency=rng.choice([0.0002, 0.01])))
    with checked():
        world = World(plan)
        verdict = world.run()
    assert not verdict.failure
    assert verdict.ends == ["done"]
    computed = Counter(k for done in world.executions for k in range(done.lo, done.hi))
    assert computed == Counter(range(job.terms))
