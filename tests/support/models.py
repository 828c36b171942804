"""Setups as users write them, and functions that begin with what these have made; each setup notes where it ran."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mapreduce_rq


def _folder() -> Path:
    return Path(os.environ["MODELS_OPENED"])


def opened() -> list[int]:
    """The processes in which a setup ran, one entry for each run."""
    return [int(path.name.partition("-")[0]) for path in _folder().iterdir()]


def open_model(factor: int = 3) -> Callable[[int], int]:
    """A model that multiplies."""
    (_folder() / f"{os.getpid()}-{time.monotonic_ns()}").touch()
    return lambda item: factor * item


def predict(model: Callable[[int], int], item: int) -> int:
    time.sleep(0.001)  # so that each worker has some
    return model(item)


def predict_line(model: Callable[[int], int], line: str) -> int:
    return model(int(line))


@mapreduce_rq.kernel
def predict_all(model: Callable[[int], int], lo: int, hi: int) -> list[int]:
    return [model(item) for item in range(lo, hi)]


def both(model: Callable[[int], int], shared: Any, item: int, add: int = 0) -> int:
    return model(item) + len(shared) + add


def with_shared(shared: bytes, item: int) -> int:
    return shared[item] + len(shared)


def element(shared: Any, item: int) -> float:
    return float(shared[item])


def lost_file() -> Any:
    """A setup that fails wherever it is called."""
    raise FileNotFoundError("no model.bin here")


def first_fails() -> int:
    """A setup that fails in the first process that calls it."""
    try:
        (_folder() / "0-first").touch(exist_ok=False)
    except FileExistsError:
        return 1
    raise OSError("no GPU here")


def plus(one: int, item: int) -> int:
    return one + item


def last_when_told(one: int, item: int) -> int:
    """Item 9 waits until the file ``told`` is there."""
    ends = time.monotonic() + 60
    while item == 9 and not (_folder() / "told").exists():
        assert time.monotonic() < ends, "it was not told within a minute"
        time.sleep(0.005)
    return one + item


def quite_slow(item: int) -> int:
    time.sleep(0.05)
    return item


def many_keys(item: int) -> tuple[int, int]:
    return item % 10_000, 1
