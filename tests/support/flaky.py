"""Functions that raise for a while, as those do that ask a server; and what each of their calls left behind."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import mapreduce_rq


def calls() -> Path:
    """The folder in which calls are noted, one line each."""
    return Path(os.environ["FLAKY_CALLS"])


def seen() -> Counter[int]:
    """How often each term was called."""
    return Counter(int(line) for path in calls().iterdir() for line in path.read_text().split())


def _call(term: int) -> int:
    """Note the call, and say how many this process has made for the term."""
    path = calls() / str(os.getpid())
    with path.open("a") as file:
        file.write(f"{term}\n")
    return path.read_text().split().count(str(term))


def third_time(term: int) -> int:
    """Every tenth term gives its value at the third call."""
    if term % 10 == 3 and _call(term) < 3:
        raise ConnectionError(f"no answer for {term}")
    return term


def never(term: int) -> int:
    """Term 7 never gives a value."""
    if term == 7:
        _call(term)
        raise ConnectionError("no answer")
    return term


def stops(term: int) -> int:
    """Term 2 lets a StopIteration out, three times."""
    if term == 2 and _call(term) < 4:
        raise StopIteration
    return term


def by_line(line: str) -> int:
    """As ``third_time``, for lines."""
    return third_time(int(line))


@mapreduce_rq.kernel
def span(lo: int, hi: int) -> list[int]:
    """A kernel whose second call gives its values."""
    if _call(lo) < 2:
        raise TimeoutError("too late")
    return list(range(lo, hi))


async def later(term: int) -> int:
    """As ``third_time``, async."""
    return third_time(term)


def pair(a: int, b: int) -> int:
    """As ``third_time``, of two arguments."""
    return third_time(a) + b


def always(_: Any) -> int:
    """No value at all."""
    raise ConnectionError("no answer")
