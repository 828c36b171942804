"""Real processes and servers under attack: the short scenarios here, all of them by ``scripts/chaos``."""

from __future__ import annotations

import pytest

from tests.chaos import (
    failover_scenarios,
    mixed_scenarios,
    network_scenarios,
    pipe_scenarios,
    process_scenarios,
    server_scenarios,
)
from tests.chaos.scenarios import SCENARIOS

FILLED = (
    process_scenarios, server_scenarios, failover_scenarios, network_scenarios, mixed_scenarios, pipe_scenarios,
)  # fmt: skip
assert all(FILLED)


@pytest.mark.parametrize("name", [scenario.name for scenario in SCENARIOS.values() if scenario.short])
def test_the_result_is_that_of_an_undisturbed_run(name: str) -> None:
    SCENARIOS[name].play()
