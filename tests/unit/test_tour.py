"""The tour, which is the docstring of the package, leads to places that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import mapreduce_rq

ROOT = Path(__file__).resolve().parents[2] / "mapreduce_rq"
TOUR = mapreduce_rq.__doc__ or ""
SEARCHED = "where it is raised: search for its words"


def section(title: str) -> str:
    """What stands under a heading, up to the next."""
    found = re.search(rf"^{title}\n-+\n(.*?)(?=^[^\n]+\n---|\Z)", TOUR, re.MULTILINE | re.DOTALL)
    assert found, f"the tour has no section {title!r}"
    return found[1]


def places() -> list[tuple[str, str]]:
    """Each thing that a reader may want to change, and where: (what, place)."""
    rows = [
        re.split(r"  +", line.strip(), maxsplit=1)
        for line in section("Where to change what").splitlines()
        if "  " in line
    ]
    return [(row[0], place) for row in rows for place in row[1].split("; ") if place != SEARCHED]


def defined(path: Path) -> set[str]:
    """The names that a file defines; those in a class also with the name of the class before them."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".lua":
        return set(re.findall(r"^ *local (\w+)", text, re.MULTILINE))
    names: set[str] = set()
    for node in ast.parse(text).body:
        for inner in [node, *(node.body if isinstance(node, ast.ClassDef) else [])]:
            before = f"{node.name}." if isinstance(node, ast.ClassDef) and inner is not node else ""
            if isinstance(inner, ast.ClassDef | ast.FunctionDef):
                names.add(before + inner.name)
            elif isinstance(inner, ast.AnnAssign | ast.Assign):
                targets = inner.targets if isinstance(inner, ast.Assign) else [inner.target]
                names |= {before + target.id for target in targets if isinstance(target, ast.Name)}
    return names


@pytest.mark.parametrize(("what", "place"), places())
def test_a_place_in_the_tour_exists(what: str, place: str) -> None:
    path, _, names = place.partition(" ")
    assert (ROOT / path).exists(), f"{what}: there is no {path}"
    missing = set(names.split(", ")) - defined(ROOT / path) if names else set()
    assert not missing, f"{what}: {path} does not define {missing}"


def test_the_tour_leads_to_many_places() -> None:
    assert len(places()) > 20


def test_the_layers_name_every_room() -> None:
    listed = re.findall(
        r"^ {4,6}(\w+)  ", section("The layers, each importing only what stands below it"), re.MULTILINE
    )
    rooms = {
        path.name
        for path in ROOT.rglob("*")
        if path.is_dir() and any(file.suffix in {".py", ".lua"} for file in path.iterdir())
    }
    assert rooms <= set(listed), rooms - set(listed)
    assert set(listed) <= rooms | {path.stem for path in ROOT.iterdir()}


def test_the_tour_names_every_room_of_tests() -> None:
    text = section("Where the tests are")
    tests = ROOT.parent / "tests"
    rooms = {path.name for path in tests.iterdir() if any(path.glob("*.py"))}
    assert set(re.findall(r"^    (\w+)  ", text, re.MULTILINE)) == rooms
    scripts = re.findall(r"scripts/(\w+)", text)
    assert {"test", "sim"} <= set(scripts)
    assert [script for script in scripts if not (ROOT.parent / "scripts" / script).exists()] == []
    asked = re.findall(r"``(\w+)``", text.split("conftest.py")[1])
    assert asked
    assert set(asked) <= defined(tests / "conftest.py")


def test_the_files_to_read_first_exist() -> None:
    paths = re.findall(r"``([a-z_/]+/[a-z_.]+)``", TOUR)
    assert len(paths) >= 5
    assert [path for path in paths if not (ROOT / path).exists()] == []
