"""What other packages add: found, or refused in one line that says whose fault it is."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mapreduce_rq.computations import load
from mapreduce_rq.core.plugins import COMPUTATIONS, REDUCERS, load_plugin, offered
from mapreduce_rq.core.reducers.catalogue import reducer
from mapreduce_rq.errors import BadParameter, BadPlugin, UnknownComputation

MODULE = """
from mapreduce_rq.core.reducers.sums import IntSum
from mapreduce_rq.computations.nqueens import NQueens
class {prefix}Sum(IntSum):
    pass
class {prefix}Queens(NQueens):
    pass
number = 7
"""


def install(folder: Path, package: str, *, group: str, points: dict[str, str], module: str = "") -> None:
    """A distribution as pip leaves it, in a folder of the path."""
    info = folder / f"{package}-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n" + "".join(f"{n} = {v}\n" for n, v in points.items()))
    (folder / f"{package}.py").write_text(module or MODULE.format(prefix="My"))
    importlib.invalidate_caches()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("giver_")]:
        del sys.modules[name]


def test_a_computation_and_a_reducer_of_another_package(folder: Path) -> None:
    install(folder, "giver_a", group=COMPUTATIONS, points={"my_queens": "giver_a:MyQueens"})
    install(folder, "giver_b", group=REDUCERS, points={"my_sum": "giver_b:MySum"})
    assert load("my_queens").__name__ == "MyQueens"
    made = reducer("my_sum")
    assert made.finish_native(made.fold(0, [1, 2, 3])) == 6
    assert offered(REDUCERS) == {"my_sum": "giver_b"}


def test_ours_cannot_be_replaced(folder: Path) -> None:
    install(folder, "giver_c", group=REDUCERS, points={"sum": "giver_c:number"})
    made = reducer("sum")
    assert made.finish_native(made.fold(0, [1, 2, 3])) == 6.0


def test_the_options_of_a_reducer_are_checked_as_ours_are(folder: Path) -> None:
    install(folder, "giver_d", group=REDUCERS, points={"sum_d": "giver_d:MySum"})
    with pytest.raises(BadParameter, match="sum_d takes no options, not depth"):
        reducer("sum_d", depth=1)


def test_a_wrong_name_is_told_the_right_one_of_another_package(folder: Path) -> None:
    install(folder, "giver_e", group=REDUCERS, points={"harmonic_mean": "giver_e:MySum"})
    install(folder, "giver_f", group=COMPUTATIONS, points={"knights_tour": "giver_f:MyQueens"})
    with pytest.raises(BadParameter, match="did you mean harmonic_mean"):
        reducer("harmonic_maen")
    with pytest.raises(UnknownComputation, match="did you mean knights_tour"):
        load("knight_tour")


@pytest.mark.parametrize(
    ("value", "module", "text"),
    [
        ("giver_g:number", "", "is not a Reducer"),
        ("giver_g:MyQueens", "", "is not a Reducer"),
        ("giver_g:absent", "", "cannot be imported"),
        ("giver_g:Any", "import not_there_at_all", "No module named 'not_there_at_all'"),
        ("giver_g:Any", "raise SystemExit(3)", "SystemExit: 3"),
        ("giver_g:Any", "1 / 0", "ZeroDivisionError"),
    ],
)
def test_what_cannot_be_used_names_the_package(folder: Path, value: str, module: str, text: str) -> None:
    install(folder, "giver_g", group=REDUCERS, points={"broken": value}, module=module)
    with pytest.raises(BadPlugin, match=text) as caught:
        reducer("broken")
    assert "giver_g" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_two_packages_that_offer_one_name(folder: Path) -> None:
    install(folder, "giver_h", group=REDUCERS, points={"both": "giver_h:MySum"})
    install(folder, "giver_i", group=REDUCERS, points={"both": "giver_i:MySum"})
    with pytest.raises(BadPlugin, match="giver_h and giver_i both offer 'both'"):
        load_plugin(REDUCERS, "both", object)
