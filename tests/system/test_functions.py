"""Functions of users' own: how they travel, what they may be called with, and all that they can do wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.commands import Ran, environment, mrq


def run(folder: Path, source: str, *arguments: str) -> Ran:
    """`mrq run own:f` with a module ``own`` of this source."""
    (folder / "own.py").write_text(source)
    return mrq("run", "own:f", "-q", *arguments, env=environment(path=[folder]), seconds=30)


DEADLY_TERM = """
import os, signal
def f(k):
    if k == 7:
        {deed}
    return 1
"""

DEADLY_IMPORT = """
import os, pathlib, signal
flag = pathlib.Path(__file__).with_suffix(".flag")
if flag.exists():
    {deed}
flag.touch()  # whoever imports it first, the master, survives
def f(k):
    return 1
"""


@pytest.mark.parametrize(
    ("deed", "how"),
    [
        ("os._exit(0)", "WorkerDied: exit code 0"),
        ("os._exit(3)", "WorkerDied: exit code 3"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "WorkerDied: killed by SIGSEGV"),
        ("raise SystemExit(0)", "SystemExit: 0"),
    ],
)
def test_a_term_that_ends_its_worker_ends_the_job(tmp_path: Path, deed: str, how: str) -> None:
    ran = run(tmp_path, DEADLY_TERM.format(deed=deed), "--terms", "20", "--chunk", "1")
    assert ran.code == 1
    assert "own:f failed at term 7" in ran.err
    assert how in ran.err


@pytest.mark.parametrize(
    ("deed", "how"),
    [
        ("os._exit(0)", "WorkerDied: exit code 0"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "WorkerDied: killed by SIGSEGV"),
        ("raise SystemExit(4)", "BadFunction: own:f: importing own failed: SystemExit: 4"),
    ],
)
def test_a_module_that_ends_whoever_imports_it_ends_the_job(tmp_path: Path, deed: str, how: str) -> None:
    ran = run(tmp_path, DEADLY_IMPORT.format(deed=deed), "--terms", "4", "--chunk", "1")
    assert ran.code == 1
    assert "own:f failed at term " in ran.err
    assert how in ran.err


def test_a_module_that_exits_is_a_mistake(tmp_path: Path) -> None:
    ran = run(tmp_path, "raise SystemExit(9)", "--terms", "4")
    assert ran == (2, "", "mrq: own:f: importing own failed: SystemExit: 9\n")
