"""The quick mode of `scripts/fleet` gives each of its figures."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.support.servers import ROOT

NUMBER = r"[\d,.]+"
SAID = {
    "takeover": rf"takeover: median ({NUMBER}) s, {NUMBER} to {NUMBER}, of 1",
    "horse": rf"horse: median ({NUMBER}) s, {NUMBER} to {NUMBER}, of 1",
    "cluster": rf"a cluster reaches ({NUMBER}) % of a server that is alone",
}


@pytest.mark.parametrize("figure", SAID)
def test_quick(figure: str) -> None:
    command = [sys.executable, "-m", "tests.chaos.fleet", "--quick", "--only", figure]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    found = re.search(SAID[figure], done.stdout)
    assert found is not None, done.stdout
    assert float(found[1].replace(",", "")) > 0
