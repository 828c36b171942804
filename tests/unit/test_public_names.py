"""The public names are all there, found lazily, and every error is one of them."""

from __future__ import annotations

import subprocess
import sys

import pytest

import mapreduce_rq
from mapreduce_rq import errors, extend


def all_errors() -> set[str]:
    found, level = set(), [errors.MrqError]
    while level:
        kind = level.pop()
        found.add(kind.__name__)
        level += kind.__subclasses__()
    return found


def test_every_error_is_exported_and_stands_in_the_tree() -> None:
    here = {name for name in vars(errors) if isinstance(getattr(errors, name), type)}
    assert here == all_errors()
    assert here <= set(mapreduce_rq.__all__)
    tree = errors.__doc__ or ""
    assert [name for name in here if name not in tree.split()] == []


@pytest.mark.parametrize("package", [mapreduce_rq, extend])
def test_every_name_is_there(package: object) -> None:
    names = package.__all__  # type: ignore[attr-defined]
    assert len(set(names)) == len(names)
    for name in names:
        assert getattr(package, name) is not None


def test_other_names_are_not() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Clinet'"):
        _ = mapreduce_rq.Clinet


def test_importing_the_package_imports_none_of_its_modules() -> None:
    code = "import sys, mapreduce_rq; print([name for name in sys.modules if name.startswith('mapreduce_rq.')])"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout == "['mapreduce_rq.version']\n"
