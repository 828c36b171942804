"""A folder through which a test and the functions that its workers run (tests/terms.py) tell each other things."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from mapreduce_rq.runtime.pool.cores import usable_cores
from tests.support.terms import STAGE

T = TypeVar("T")


LOOPS, LOOPS_SECONDS = 1_000_000, 0.03
"""An idle machine goes through this loop in 0.016 s (Python 3.11) to 0.026 s (3.13)."""


def allowed(seconds: float) -> float:
    """The seconds to wait for something that takes an idle machine this long: more if this machine is busy, or slow.

    The load tells of other processes here. What other machines take from the one below all of them shows only in the
    time that something takes.
    """
    return seconds * max(1.0, os.getloadavg()[0] / usable_cores(), _slowness())


def _slowness() -> float:
    began = time.monotonic()
    for _ in range(LOOPS):
        pass
    return (time.monotonic() - began) / LOOPS_SECONDS


def until(seen: Callable[[], T], seconds: float, what: str) -> T:
    """Call ``seen`` until its answer is true, and return that. AssertionError naming ``what`` after ``seconds``.

    How busy the machine is counts at the end of these seconds: at their beginning its load may not have come yet.
    """
    began = time.monotonic()
    granted = seconds
    while not (found := seen()):
        took = time.monotonic() - began
        if took > granted:
            granted = allowed(seconds)
            assert took < granted, f"not within {granted:.3g} s: {what}"
        time.sleep(0.002)
    return found


class Stage:
    """The test's side of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._before = 0  # what had been begun when the last job began
        self.environment = os.environ | {STAGE: str(folder)}
        """To start workers with."""
        for name in ("log", "gated", "poison"):
            (folder / name).touch()

    def write(self, name: str, text: str) -> None:
        """Set what functions read, in one step."""
        new = self.folder / f"{name}.new"
        new.write_text(text)
        new.rename(self.folder / name)

    def forget(self) -> None:
        """Let what has been begun so far not have been."""
        (self.folder / "log").write_text("")
        self._before = 0

    def next_job(self) -> None:
        """What is waited for from here on is not what an earlier job has begun."""
        self._before = self.begun_terms()

    def runs(self) -> list[tuple[int, int]]:
        """(pid, term) of everything begun so far, in order."""
        lines = (self.folder / "log").read_text().splitlines()
        return [(int(pid), int(term)) for pid, term in map(str.split, lines)]

    def begun_terms(self) -> int:
        """How many of them there are."""
        return (self.folder / "log").read_bytes().count(b"\n")

    def count(self) -> Counter[int]:
        """How often each term was begun."""
        return Counter(term for _, term in self.runs())

    def begun(self, term: int, seconds: float = 20.0, *, but: int = 0) -> int:
        """The process that began this term of the last job, waiting for it; ``but``: not this one."""
        return until(
            lambda: next((pid for pid, at in self.runs()[self._before :] if at == term and pid != but), 0),
            seconds,
            f"term {term} begun",
        )

    def open(self) -> None:
        """Let gated terms go on."""
        (self.folder / "open").touch()
