"""Figures, contenders and rows; and how much to measure."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial


@dataclass(frozen=True)
class Figure:
    """Something to be measured. ``target`` is what mrq is to reach, in ``unit``; ``drawn``: it is in the picture."""

    name: str
    title: str
    unit: str
    target: float | None = None
    more_is_better: bool = True
    drawn: bool = False


@dataclass
class Row:
    """What one contender (or one setting of ours) reached in one figure: a sample a round."""

    figure: str
    subject: str
    samples: list[float]
    note: str = ""
    ours: bool = False  # this row is what the figure's target is for
    target: float | None = None  # of this row alone, where it has one of its own

    @property
    def median(self) -> float:
        """The middle of the samples."""
        return statistics.median(self.samples)


@dataclass(frozen=True)
class Settings:
    """How much to measure."""

    quick: bool
    rounds: int
    peers: bool
    workers: int = 2
    wanted: frozenset[str] = frozenset()

    @property
    def seconds(self) -> float:
        """How long one sample should take at least."""
        return 0.2 if self.quick else 2.0

    def wants(self, figure: str) -> bool:
        """Whether this figure was asked for."""
        return figure in self.wanted


@dataclass
class Group:
    """Figures that are measured together. ``measure`` gives the rows of those that are wanted.

    ``name``: what asks for all of them; '' where each has to be named.
    """

    figures: tuple[Figure, ...]
    measure: Callable[[Settings], Iterable[Row]]
    name: str = ""


@dataclass
class Table:
    """Rows under construction, by figure and subject."""

    rows: dict[tuple[str, str], Row] = field(default_factory=dict)

    def add(self, figure: str, subject: str, sample: float, *, note: str = "", ours: bool = False) -> None:
        """One more sample."""
        row = self.rows.setdefault((figure, subject), Row(figure, subject, [], note, ours))
        row.samples.append(sample)

    def extend(self, rows: Iterable[Row]) -> None:
        """The samples of another table."""
        for row in rows:
            self.rows.setdefault((row.figure, row.subject), replace(row, samples=[])).samples.extend(row.samples)


def timed(action: Callable[[], object]) -> float:
    """Seconds that an action takes."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def rate(action: Callable[[int], object], seconds: float, most: int, start: int = 32) -> float:
    """Items a second of ``action(n)``, with n large enough that it takes so many seconds, but at most ``most``.

    The better of two runs: a hiccup of the machine is not the contender's.
    """
    n = min(start, most)
    best = 0.0
    while True:
        took = timed(partial(action, n))
        if took >= seconds * 0.8 or n >= most:
            if best:
                return max(best, n / took)
            best = n / took
            n = min(most, max(n, int(n * min(16.0, seconds / took))))
        else:
            n = min(most, max(2 * n, int(n * min(16.0, seconds / took))))


def typical(action: Callable[[], object], seconds: float, least: int = 20, most: int = 500) -> float:
    """The median seconds of an action repeated for a while."""
    for _ in range(3):
        action()
    samples: list[float] = []
    end = time.perf_counter() + seconds
    while len(samples) < least or (time.perf_counter() < end and len(samples) < most):
        samples.append(timed(action))
        if len(samples) >= 3 and time.perf_counter() > end + seconds:
            break
    return statistics.median(samples)


def say(text: str) -> None:
    """What is being measured, for who waits."""
    print(text, file=sys.stderr, flush=True)
