from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
BENCH = [sys.executable, str(ROOT / "scripts" / "bench.py")]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the benchmark reads /proc")


def bench(*options: str) -> str:
    done = subprocess.run([*BENCH, *options], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def figures() -> list[str]:
    return [line.split()[0] for line in bench("--list").splitlines()]


def test_the_quick_mode_measures_what_it_is_asked_for(tmp_path: Path) -> None:
    wanted = ["messages", "lone", "exp", "cost", "memory", "detached", "killed"]
    table, data, drawing = tmp_path / "table.md", tmp_path / "data.json", tmp_path / "bars.svg"
    said = bench(
        "--quick", "--no-peers", "--only", *wanted,
        "--json", str(data), "--markdown", str(table), "--picture", str(drawing),
    )  # fmt: skip
    found: dict[str, Any] = json.loads(data.read_text())
    assert found["schema"] == "mrq-bench/1"
    assert {"date", "cpu", "cores", "python", "server", "versions"} <= found["machine"].keys()
    assert [figure["name"] for figure in found["figures"]] == wanted
    for figure in found["figures"]:
        assert figure["rows"], figure["name"]
        for row in figure["rows"]:
            assert row["samples"], row
            assert min(row["samples"]) <= row["median"] <= max(row["samples"])
    assert table.read_text() == said
    assert said.count("| **mrq") >= 4
    assert ET.parse(drawing).getroot().tag == "{http://www.w3.org/2000/svg}svg"


def test_every_figure_of_the_list_can_be_asked_for() -> None:
    names = figures()
    assert len(names) == len(set(names)) > 15
    done = subprocess.run([*BENCH, "--only", "nonsense"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert all(name in done.stderr for name in names)
