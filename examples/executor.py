"""An executor of the standard library's kind on workers anywhere.

python3 examples/executor.py                          # local workers and a private server
MRQ_URL=redis://host MRQ_KEY=... python3 examples/executor.py     # the workers that run there
"""

from __future__ import annotations

import math
from concurrent.futures import as_completed

from mapreduce_rq import executor

NUMBERS = [112272535095293, 112582705942171, 115280095190773, 115797848077099, 1099726899285419]


def is_prime(n: int) -> bool:
    return n % 2 == 1 and all(n % k for k in range(3, math.isqrt(n) + 1, 2))


def main() -> None:
    with executor() as ex:  # in the place of ProcessPoolExecutor()
        for number, prime in zip(NUMBERS, ex.map(is_prime, NUMBERS), strict=True):
            print(number, "is prime" if prime else "is not prime")
        futures = {ex.submit(pow, 2, k): k for k in range(5)}
        print("sum of powers:", sum(future.result() for future in as_completed(futures)))


if __name__ == "__main__":
    main()
