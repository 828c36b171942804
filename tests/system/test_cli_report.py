"""`mrq report` and `mrq trace` of real jobs, and the page in a real browser."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import User
from tests.support.servers import RealServer

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def server() -> Iterator[RealServer]:
    with RealServer("valkey") as running:
        yield running


@pytest.fixture
def at(server: RealServer, queue: str, tmp_path: Path) -> Iterator[User]:
    with User(tmp_path, MRQ_URL=server.url, MRQ_QUEUE=queue) as made:
        yield made


def test_a_job_leaves_a_page_and_a_trace(at: User, tmp_path: Path) -> None:
    at.run("compute", "montecarlo", "--samples", "300000", "--local", "2")
    page, trace = tmp_path / "report.html", tmp_path / "trace.json"
    at.run("report", "montecarlo", "-o", str(page))
    at.run("trace", "montecarlo", "-o", str(trace))
    found = json.loads(trace.read_text())
    slices = [one for one in found["traceEvents"] if one["ph"] == "X" and one["pid"] == 1]
    data = json.loads(at.run("report", "montecarlo", "--json").out)
    assert sum(one["args"]["tasks"] for one in slices) <= data["record"]["tasks"]
    cells = [cell for row in data["timeline"]["rows"] for cell in row["cells"]]
    assert sum(cell["terms"] for cell in cells) >= data["record"]["terms_used"]
    if CHROMIUM is None:
        pytest.skip("no browser here: install chromium")
    options = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    options += f" --disable-component-update --disable-sync --enable-logging=stderr --user-data-dir={tmp_path}/profile"
    command = [CHROMIUM, *options.split(), "--dump-dom", page.as_uri()]
    seen = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "Workers over time" in seen.stdout
    assert "CONSOLE" not in seen.stderr, seen.stderr


def test_mistakes_are_one_line(at: User) -> None:
    at.run("compute", "exp", "--x", "2", "--local", "1")
    no_file = at.run("report", "exp")
    assert (no_file.code, "--out FILE" in no_file.err) == (2, True)
    no_job = at.run("trace", "nobody", "--out", "x.json")
    assert (no_job.code, "there is no job nobody" in no_job.err) == (4, True)
