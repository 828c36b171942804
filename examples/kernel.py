"""A kernel: a function of a whole span of terms, vectorised with numpy, folded exactly.

    python3 examples/kernel.py

A plain function is called once a term. A kernel is called once a task, with the span ``lo <= k < hi``, and gives the
values of all its terms as one array. The sum of them is exact and rounded once, so it has the same bits for any number
of workers; a loop of ``+`` has other bits for each way to cut it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mapreduce_rq import Client, kernel

TERMS = 10_000_000


@kernel
def basel(lo: int, hi: int) -> Any:
    k = np.arange(lo + 1, hi + 1, dtype=float)
    return 1.0 / (k * k)


def main() -> None:
    with Client() as mrq:
        total = mrq.map_reduce(basel, range(TERMS))
    print(f"the sum of 1/k^2 for k = 1 to {TERMS} is {total!r}")
    print(f"pi^2/6 is greater by {math.pi**2 / 6 - total:.3e}, and 1/{TERMS} is {1 / TERMS:.3e}")


if __name__ == "__main__":
    main()
