"""The rules of the protocol switched off one by one: the simulation must notice each."""

from __future__ import annotations

import pytest

from tests.sim.mutants import EDITS, SAFETY, Edit
from tests.sim.plan import plan_of, storm_of
from tests.sim.world import run_plan

STORMS = 10


def test_no_storm_does_harm_to_the_protocol_as_it_is() -> None:
    assert [run_plan(storm_of(seed)).failure for seed in range(2 * STORMS)] == [""] * 2 * STORMS


@pytest.mark.parametrize("name", SAFETY)
def test_without_a_safety_rule_a_storm_does_harm(name: str) -> None:
    with SAFETY[name]():
        assert any(run_plan(storm_of(seed)).failure for seed in range(STORMS)), f"{name} survives {STORMS} storms"


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: f"{edit.script}: {edit.text[:50]}")
def test_an_edit_of_a_script_does_harm(edit: Edit) -> None:
    with edit():
        plans = (plan(seed) for seed in range(10 * STORMS) for plan in (storm_of, plan_of))
        assert any(run_plan(plan).failure for plan in plans), f"{edit} survives"
