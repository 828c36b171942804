"""What tests map over the records of files."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

growing: list[Path] = []
"""Files that grow by a line with each record that ``appending`` is given."""


def same(record: Any) -> Any:
    return record


def size(line: str) -> int:
    return len(line)


def appending(line: str) -> str:
    for path in growing:
        with path.open("ab") as file:
            file.write(b"++\n")
    return line


def by_length(line: str) -> tuple[int, int]:
    return len(line), 1


def price(row: dict[str, Any]) -> tuple[str, float]:
    return row["key"], float(row["price"])


def columns(row: dict[str, str]) -> tuple[str, dict[str, Any]]:
    return row["key"], {"price": float(row["price"]), "n": row["n"]}


def no_multiple_of_seven(k: int) -> int:
    """Raises for these."""
    if k % 7 == 0:
        raise ValueError(k)
    time.sleep(0.002)
    return -k


def even_or_odd(line: str) -> tuple[int, int]:
    number = int(line)
    return number % 2, number
