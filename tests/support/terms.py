"""Functions that the tests have computed by workers, and what their sums must be.

``fingerprint`` packs a one, a hash of the term and a polynomial of it into separate bits of one integer: in a sum of
them any term that is missing or counted twice shows. The others do the same and misbehave on the way, as the folder
named by MRQ_TEST_STAGE tells them to (see tests/stage.py).
"""

from __future__ import annotations

import ctypes
import os
import time
from functools import lru_cache
from hashlib import blake2b
from itertools import repeat
from pathlib import Path
from typing import Any

PRIME = (1 << 61) - 1
STAGE = "MRQ_TEST_STAGE"
MODULE = "tests.support.terms"


def fingerprint(term: int) -> int:
    """A value whose sums over different multisets of terms differ, as far as we know."""
    hashed = int.from_bytes(blake2b(term.to_bytes(8, "little"), digest_size=16).digest(), "little")
    polynomial = (((term * 31 + 7) * term + 11) * term + 3) % PRIME
    return 1 << 400 | hashed << 200 | polynomial


def fingerprint_by_key(term: int) -> tuple[int, int]:
    """The same for one of three keys."""
    return term % 3, fingerprint(term)


def totals_by_key(terms: int) -> dict[int, int]:
    """The sum of each key's fingerprints."""
    return {key: sum(map(fingerprint, range(key, terms, 3))) for key in range(min(3, terms))}


@lru_cache(maxsize=64)
def total(terms: int) -> int:
    """The sum of the fingerprints of terms 0 to ``terms`` - 1."""
    return sum(map(fingerprint, range(terms)))


def total_without(terms: int, *missing: int) -> int:
    """As :func:`total`, without these."""
    return total(terms) - sum(map(fingerprint, missing))


def _stage(name: str) -> Path:
    return Path(os.environ[STAGE]) / name


def _note(term: int) -> None:
    with open(_stage("log"), "ab", buffering=0) as file:
        file.write(b"%d %d\n" % (os.getpid(), term))


def noted(term: int) -> int:
    """Writes down which process computes which term."""
    _note(term)
    return fingerprint(term)


def a_number() -> int:
    return 7


def once_refused(number: int, term: int) -> int:
    """Term 3 raises at its first call."""
    if term == 3 and not _stage("refused").exists():
        _stage("refused").touch()
        raise ConnectionError("no answer")
    return number * term


def with_table(table: list[int], term: int) -> int:
    """What is shared comes first."""
    return table[term % len(table)] * term


def slow(term: int) -> int:
    """Takes as many seconds as the file ``seconds`` says, asleep."""
    _note(term)
    time.sleep(float(_stage("seconds").read_text()))
    return fingerprint(term)


def brief(term: int) -> int:
    """Takes two milliseconds, asleep."""
    time.sleep(0.002)
    return fingerprint(term)


def slow_bytes(term: int) -> bytes:
    """Twenty kilobytes, after a while."""
    time.sleep(0.02)
    return bytes([term]) * 20_000


def by_two(term: int) -> int:
    """Waits until another process has begun a term, too."""
    _note(term)
    ends = time.monotonic() + 60
    while len({line.split()[0] for line in _stage("log").read_text().splitlines()}) < 2:
        assert time.monotonic() < ends, "no other process began a term within a minute"
        time.sleep(0.005)
    return fingerprint(term)


def gated(term: int) -> int:
    """Terms listed in the file ``gated`` wait until the file ``open`` is there."""
    _note(term)
    if str(term) in _stage("gated").read_text().split():
        while not _stage("open").exists():
            time.sleep(0.005)
    return fingerprint(term)


def busy(term: int) -> int:
    """Never asleep until the file ``open`` is there."""
    _note(term)
    opened = str(_stage("open"))
    while not os.path.exists(opened):
        pass
    return fingerprint(term)


def poisoned(term: int) -> int:
    """Terms listed in the file ``poison``, as ``term:how``, kill their worker, hang it in C, or raise."""
    _note(term)
    for entry in _stage("poison").read_text().split():
        poison, _, how = entry.partition(":")
        if int(poison) == term:
            _misbehave(how)
    return fingerprint(term)


def tardy(term: int) -> int:
    """As ``poisoned``, and each term takes a while."""
    time.sleep(0.02)
    return poisoned(term)


def _misbehave(how: str) -> None:
    if how == "raise":
        raise ValueError("a poisoned term")
    if how == "segfault":
        ctypes.string_at(0)
    if how.startswith("kill"):
        os.kill(os.getpid(), 9)
    if how == "exit":
        os._exit(3)
    if how == "hang":
        sum(repeat(0))  # a loop in C that holds the interpreter: no signal handler of Python's ever runs
    if how.startswith("sending-"):
        _break_sending(how.removeprefix("sending-"))
    if how.startswith("once-"):
        flag = _stage(f"done-{how}")
        if not flag.exists():
            flag.touch()
            _misbehave(how.removeprefix("once-"))


def _break_sending(how: str) -> None:
    """From here on this worker misbehaves when it seals an answer that is good: outside of any task."""
    from mapreduce_rq.core.messages import OK, Reply  # only for this function
    from mapreduce_rq.core.sealing import Codec

    seal = Codec.seal

    def broken(self: Codec, message: Any) -> bytes:
        if isinstance(message, Reply) and any(answer.status == OK for answer in message.answers):
            _misbehave(how)
        return seal(self, message)

    Codec.seal = broken  # type: ignore[method-assign]


def megabyte(term: int) -> Any:
    """An array of a megabyte."""
    import numpy as np  # heavy, and only here

    return np.full(131_072, float(term))


def gated_sum(left: int, right: int) -> int:
    """Adds, once the file ``merge`` is there: a merge that takes long. A worker of single terms only adds to zero."""
    while left and right and not _stage("merge").exists():
        time.sleep(0.005)
    return left + right
