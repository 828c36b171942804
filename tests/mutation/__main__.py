"""Makes mutants of files and says which of them the tests do not notice. It works in a copy of the tree.

    scripts/mutants mapreduce_rq/runtime/worker/hand.py -n 20 --tests tests/sim/test_mechanisms.py tests/sim/test_sim.py

Several ``--tests``, each with tests that run together, are tried one after another: the next ones on what survives.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.mutation.mutator import Mutant, mutants
from tests.support.servers import ROOT

KILLED, TIMED_OUT, SURVIVED = "killed", "killed by time", "SURVIVED"


def say(line: str) -> None:
    """One line, at once: it takes long."""
    sys.stdout.write(line.replace("\n", "; ") + "\n")
    sys.stdout.flush()


def copy_of_the_tree(folder: Path) -> None:
    """What tests need, in this folder."""
    for name in ("mapreduce_rq", "tests", "scripts", "docs", "examples", "deploy"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in ROOT.glob("*.*"):
        if path.is_file():
            shutil.copy(path, folder)


def verdict(folder: Path, tests: Sequence[str], seconds: float) -> str:
    """What these tests say of the tree in this folder."""
    command = [sys.executable, "-m", "pytest", "-n", "0", "-q", "-x", "-p", "no:cacheprovider", *tests]
    environment = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "CI": "true"}
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as ran:
        try:
            return SURVIVED if ran.wait(seconds) == 0 else KILLED
        except subprocess.TimeoutExpired:
            os.killpg(ran.pid, signal.SIGKILL)
            return TIMED_OUT


def judged(folder: Path, path: str, mutant: Mutant, rounds: Sequence[Sequence[str]], seconds: float) -> str:
    """What the rounds of tests say of a mutant."""
    (folder / path).write_text(mutant.source)
    try:
        for tests in rounds:
            found = verdict(folder, tests, seconds)
            if found != SURVIVED:
                return found
        return SURVIVED
    finally:
        shutil.copy(ROOT / path, folder / path)


def main() -> int:
    """The exit code: 0 if each mutant was noticed, 1 if some survive, 2 if the tests fail without any."""
    parser = argparse.ArgumentParser(prog="scripts/mutants", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("files", nargs="+", help="sources, from the root of the tree")
    parser.add_argument("-n", type=int, default=10, help="mutants of each file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--seconds", type=float, default=120.0, help="of a round of tests: a mutant that hangs is noticed"
    )
    parser.add_argument("--tests", nargs="+", action="append", required=True, help="tests; may be given several times")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mrq-mutants-") as made:
        folder = Path(made)
        copy_of_the_tree(folder)
        if any(verdict(folder, tests, 5 * given.seconds) != SURVIVED for tests in given.tests):
            say("the tests fail without any mutant")
            return 2
        counts = dict.fromkeys((KILLED, TIMED_OUT, SURVIVED), 0)
        for path in given.files:
            for mutant in mutants((ROOT / path).read_text(), given.n, given.seed):
                started = time.monotonic()
                found = judged(folder, path, mutant, given.tests, given.seconds)
                counts[found] += 1
                took = time.monotonic() - started
                say(f"{found:<15} {took:5.1f} s  {path}:{mutant.line}  {mutant.what}")
        say(f"{', '.join(f'{count} {word}' for word, count in counts.items())} of {sum(counts.values())} mutants")
    return int(counts[SURVIVED] > 0)


if __name__ == "__main__":
    raise SystemExit(main())
