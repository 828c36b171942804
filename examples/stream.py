"""Values as they come, of items that never end.

python3 examples/stream.py                          # local workers and a private server
MRQ_URL=redis://host MRQ_KEY=... python3 examples/stream.py     # the workers that run there
"""

from __future__ import annotations

import itertools
import math

from mapreduce_rq import Client


def largest_factor(n: int) -> int:
    return next((n // k for k in range(2, math.isqrt(n) + 1) if n % k == 0), n)


def main() -> None:
    with Client() as mrq:
        with mrq.imap(largest_factor, itertools.count(10**9)) as values:  # read no further than there is room
            for n, factor in zip(itertools.count(10**9), values, strict=False):
                if factor == n:
                    print("the first prime from 10^9 on:", n)
                    break
        # In any order, each as soon as it is there; several iterables, and an argument with a name.
        print("residues:", sorted(mrq.imap_unordered(pow, [2, 3, 5], [10, 11, 12], kwargs={"mod": 97})))


if __name__ == "__main__":
    main()
