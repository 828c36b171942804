"""Three ways to fold values as you like: an associative function, its ordered kind, and a Reducer of your own.

    python3 examples/own_reducer.py

What makes a fold right is its law. Workers fold parts and the master folds the parts, in whatever groups they come:
the function must be associative, and its ``zero`` must change no value. Under the law "commutative" the order may
change, too; "ordered", the default, keeps the order of the terms.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from mapreduce_rq import Client, Reducer


def widest(left: list[int], right: list[int]) -> list[int]:
    """Of two intervals the one that holds both."""
    return [min(left[0], right[0]), max(left[1], right[1])] if left and right else left or right


def join(left: str, right: str) -> str:
    return left + right


class Longest(Reducer[str]):
    """The longest text, of equally long ones the first in the alphabet."""

    name = "longest"

    def zero(self) -> str:
        return ""

    def merge(self, left: str, right: str) -> str:
        return min(left, right, key=lambda text: (-len(text), text))

    def encode(self, partial: str) -> bytes:
        return json.dumps(partial).encode()

    def decode(self, data: bytes) -> str:
        found = json.loads(data)  # raises ValueError for what is no JSON
        if not isinstance(found, str):
            raise ValueError("not a text")  # what decode promises to raise
        return found

    def fold(self, lo: int, values: Iterable[Any]) -> str:
        total = self.zero()
        for value in values:
            total = self.merge(total, value)
        return total


def interval(k: int) -> list[int]:
    return [k * k % 101, k * k % 101 + k]


def main() -> None:
    with Client() as mrq:
        print(mrq.map_reduce(interval, range(1, 100), reduce=widest, zero=[], law="commutative"))
        print(mrq.map_reduce(str.upper, "in the order of the terms", reduce=join, zero=""))
        print(mrq.map_reduce(str.strip, ["a", "  longer ", "longest", "shorter"], reduce=Longest()))


if __name__ == "__main__":
    main()
