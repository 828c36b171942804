"""The example plugin, installed as a user installs it, and used from the command line and from Python."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mapreduce_rq.extend import BadValue, Reducer
from tests.support.commands import Running, environment, mrq
from tests.support.servers import ROOT


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the path, with the plugin installed in it; built by the backend that is here, without a network."""
    folder = tmp_path_factory.mktemp("installed")
    source = ROOT / "examples" / "plugin"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps"]
    subprocess.run([*pip, "--no-build-isolation", "--target", str(folder), str(source)], check=True, timeout=100)
    return folder


def test_its_computation_is_a_command_with_its_option(installed: Path) -> None:
    env = environment(path=[installed])
    ran = mrq("compute", "collatz", "1e4", "--local", "2", "--json", env=env)
    assert ran.code == 0, ran.err
    # The longest chain below 10^4 starts at 6171 and has 261 steps (OEIS A006877, A006878).
    assert (ran.json["value"], ran.json["details"]["steps"]) == ("6171", 261)
    assert ran.json["bound_kind"] == "exact"
    ranges = mrq("compute", "collatz", "1", env=env)
    assert ranges.code == 2
    assert "below" in ranges.err.lower()


def test_it_is_listed_with_the_package_that_gives_it(installed: Path) -> None:
    shown = mrq("compute", "--help", env=environment(path=[installed]))
    assert "from the package collatz-plugin" in " ".join(shown.out.split())


def test_its_reducer_folds_a_function_of_ones_own(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "colour.py").write_text("def wheel(k):\n    return 84 * k + 126\n")
    env = environment(path=[installed, tmp_path])
    ran = mrq("run", "colour:wheel", "--terms", "100", "--reduce", "gcd", "--local", "1", "-o", "value", env=env)
    assert (ran.code, ran.out) == (0, "42\n"), ran.err  # gcd(126, 84) = 42


def test_a_worker_without_the_package_refuses_and_the_job_says_so(installed: Path, server_url: str, queue: str) -> None:
    place = {"MRQ_URL": server_url, "MRQ_QUEUE": queue}
    with Running("worker", "-c", "1", env=environment(place)) as worker:
        ran = mrq("compute", "collatz", "10", env=environment(place, path=[installed]))
        assert ran.code == 1
        assert "no computation is called 'collatz'" in ran.err
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0


@pytest.mark.parametrize("name", ["Longest", "Gcd"])
def test_its_reducers_keep_the_law(installed: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(installed)
    import collatz_plugin  # type: ignore[import-not-found, unused-ignore]

    made: Reducer[object] = getattr(collatz_plugin, name)()
    if name == "Gcd":
        parts: list[object] = [0, 12, 18, 35, 1]
        with pytest.raises(BadValue, match=r"term 8 is float 1\.5"):
            made.fold(7, [3, 1.5])
    else:
        parts = [(-1, 0), (3, 8), (3, 7), (9, 1)]
    for a in parts:
        assert made.merge(made.zero(), a) == a == made.decode(made.encode(a))
        for b in parts:
            assert made.merge(a, b) == made.merge(b, a)
            for c in parts:
                assert made.merge(made.merge(a, b), c) == made.merge(a, made.merge(b, c))
    for bad in (b"\0", b"\0\1"):
        with pytest.raises(ValueError, match=r"\w"):
            made.decode(bad)
