"""Data that cannot be mapped or folded: one line says where it is, nothing hangs, and the next job runs."""

from __future__ import annotations

import gzip
import math
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mapreduce_rq import Client, Files, MrqError, by_key
from mapreduce_rq.runtime.master.observer import Silent

LINES = b"".join(b"line %d\n" % k for k in range(2000))


@pytest.fixture(scope="module")
def private() -> Iterator[Client]:
    with Client(local=1) as client:
        yield client


@pytest.fixture(autouse=True)
def goes_on(private: Client) -> Iterator[None]:
    yield
    assert private.map_reduce(abs, range(10)) == 45


def refused(run: Callable[[], Any], says: str) -> None:
    """That it ends in one line which says this."""
    with pytest.raises(MrqError, match=says) as caught:
        run()
    assert "\n" not in str(caught.value)


def locked(k: int) -> Any:
    return threading.Lock() if k == 7 else k


def shaped(k: int) -> Any:
    return np.zeros(3 if k < 7 else 4)


def unhashable(k: int) -> tuple[Any, int]:
    return [k] if k == 7 else k, 1


def nan_key(k: int) -> tuple[float, int]:
    return math.nan if k == 7 else float(k), 1


def stops(k: int) -> Iterator[tuple[int, int]]:
    yield k, 1
    if k == 7:
        raise LookupError("no more")


def no_pair(k: int) -> Any:
    return (k, 1) if k != 7 else 7


def items() -> Iterator[int]:
    yield from range(7)
    raise LookupError("no more items")


def length(line: str) -> tuple[int, int]:
    return len(line), 1


def test_an_item_that_cannot_be_pickled(private: Client) -> None:
    refused(lambda: private.map_reduce(id, [1, 2, threading.Lock()]), "item 2, a _thread.lock, cannot travel")


def test_a_value_that_cannot_be_pickled(private: Client) -> None:
    refused(lambda: private.map_reduce(locked, range(20), reduce="list"), "term 7.*lock")


def test_arrays_of_two_shapes(private: Client) -> None:
    refused(lambda: private.map_reduce(shaped, range(20)), r"shape")


@pytest.mark.parametrize("parts", [None, 4])
@pytest.mark.parametrize(
    ("pairs", "says"),
    [
        (unhashable, "term 7.*unhashable"),
        (nan_key, "term 7.*nan"),
        (stops, "term 7.*no more"),
        (no_pair, "term 7.*a pair"),
    ],
)
def test_what_gives_no_pair_or_no_key(private: Client, pairs: Any, says: str, parts: int | None) -> None:
    refused(lambda: private.map_reduce(pairs, range(20), reduce=by_key("sum", parts=parts)), says)


def test_an_iterable_that_raises_raises_that_here(private: Client) -> None:
    with pytest.raises(LookupError, match="no more items"):
        private.map_reduce(abs, items())


@pytest.mark.parametrize("ship", [False, True])
@pytest.mark.parametrize(
    "case",
    [
        ("a.txt", LINES + b"\xff\n", "a.txt.*byte 18890|line 2001"),
        ("a.txt.gz", gzip.compress(LINES)[:-20], "a.txt.gz.* byte .*ended before"),
        ("a.jsonl", b'{"a": 1}\n{"a": \n', "a.jsonl.*byte 9|line 2"),
    ],
)
def test_files_that_hold_no_records(private: Client, tmp_path: Path, case: tuple[str, bytes, str], ship: bool) -> None:
    name, content, says = case
    (tmp_path / name).write_bytes(content)
    refused(lambda: private.map_reduce(str, Files(tmp_path / name, ship=ship), reduce="count"), says)


@pytest.mark.parametrize(
    ("change", "says"), [("vanish", "a.txt.*No such file|gone"), ("grow", "a.txt.*must not change")]
)
def test_a_file_that_changes_behind_the_plan(private: Client, tmp_path: Path, change: str, says: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(LINES)
    plan = private.planner.function(length, Files(path), reduce=by_key("count"))
    if change == "vanish":
        path.unlink()
    else:
        path.write_bytes(LINES + b"more\n")
    refused(lambda: private.result_of(private.leader.lead(private.leader.master(*plan[:2], Silent()))), says)  # type: ignore[arg-type]  # it was not told to stop
