"""The pictures show the software as it is."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path
from random import Random

import pytest

from mapreduce_rq.core.job.events import Command, Event
from mapreduce_rq.core.job.ledger import Ledger
from tests.docs.ledger_states import Move, drawing, moves, played, states
from tests.docs.pictures import PICTURES, screenshot
from tests.sim.plan import JobPlan, Plan
from tests.sim.world import run_plan, run_seed
from tests.support.servers import ROOT

LEAST, MOST = 40, 1000
"""Worlds that are looked at, and at most, for the rarest of the moves that are drawn."""
PARTS = 2
"""They are looked at in this number of tests, of which each takes a tenth of its time limit."""


def failing_early(seed: int) -> Plan:
    """A world in which a term fails, and a master that has cut it dies before its first checkpoint, or thereabouts.

    Every second job leaves such a term out.
    """
    chance = Random(f"failing early {seed}")
    on_error = ("fail", "skip")[seed // PARTS % 2]
    terms = 300  # more than are cut at first, which a job's creation has written down
    term = chance.randrange(64, 160)
    job = JobPlan(terms=terms, seconds=0.02, raising=(term,), on_error=on_error, chunk=1, standbys=1)
    deaths = [(0.01 * term + chance.uniform(-0.3, 0.1), "kill_master")]  # two workers come to the term at about then
    return Plan(seed=seed, jobs=[job], hosts=[1, 1], horizon=15.0, patience=75.0, faults=deaths)


def test_the_picture_of_the_ledger_is_what_the_ledger_does_now() -> None:
    assert (PICTURES / "ledger.svg").read_text(encoding="utf-8") == drawing(), "run scripts/pictures ledger"


@pytest.mark.parametrize("part", range(PARTS))
def test_no_world_shows_a_move_that_the_picture_lacks(part: int) -> None:
    """Simulated worlds with all their faults; and sooner or later they show every move that is drawn."""
    drawn = set(played())
    seen: set[Move] = set()
    receive = Ledger.receive

    def watched(self: Ledger, event: Event, now: float) -> list[Command]:
        below = self.next + 1 if self.total is None else self.total
        before = states(self, below)
        commands = receive(self, event, now)
        seen.update(moves(before, states(self, below), commands))
        return commands

    Ledger.receive = watched  # type: ignore[method-assign]
    try:
        for seed in range(part, MOST, PARTS):
            if seed >= LEAST and seen >= drawn:
                break
            assert not run_seed(seed).failure
            assert not run_plan(failing_early(seed)).failure
    finally:
        Ledger.receive = receive  # type: ignore[method-assign]
    assert seen == drawn


def test_a_screenshot_asks_for_nothing_from_elsewhere() -> None:
    made = screenshot("\x1b[1mjobs\x1b[0m 2 running\n", "mrq dashboard")
    assert "running" in made
    for picture in (made, (PICTURES / "dashboard.svg").read_text(encoding="utf-8")):
        assert not re.search(r"url\((?!#)|href=|src=|@import", picture)


@pytest.mark.parametrize("name", ["report", "convergence"])
def test_pictures_of_a_report_stand_alone(name: str) -> None:
    text = (PICTURES / f"{name}.svg").read_text(encoding="utf-8")
    assert ET.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
    assert not re.search(r"url\((?!#)|href=|src=|@import|<script", text)
    assert "prefers-color-scheme:dark" in text
    words = {"report": ("Workers over time", "Throughput", "worker lost: "), "convergence": ("polyline", "1e-")}
    for word in words[name]:
        assert word in text, f"run scripts/pictures {name}: {word}"


PHONE, LEAST_HIGH = 360, 8.5
"""How wide a picture is on a phone, and how high its smallest letters are there at least."""


@pytest.mark.parametrize("path", sorted([*PICTURES.glob("*.svg"), *(ROOT / "scripts/benchmarks").glob("*.svg")]))
def test_each_picture_can_be_read_on_a_phone(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    wide = re.search(r'viewBox="0 0 ([0-9.]+) ', text)
    assert wide
    letters = [float(size) for size in re.findall(r"""font(?:-size)?(?::\s*|=")([0-9.]+)""", text)]
    assert min(letters) * PHONE / float(wide[1]) >= LEAST_HIGH


def test_the_screenshot_shows_the_panes_of_today() -> None:
    shown = (PICTURES / "dashboard.svg").read_text(encoding="utf-8")
    for word in ("jobs", "workers", "running", "done", "state", "tasks/s"):
        assert word in shown, f"run scripts/pictures dashboard: {word}"
