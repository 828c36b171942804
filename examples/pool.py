"""A pool as multiprocessing has it, on workers anywhere.

python3 examples/pool.py                          # local workers and a private server
MRQ_URL=redis://host MRQ_KEY=... python3 examples/pool.py     # the workers that run there
"""

from __future__ import annotations

from mapreduce_rq import Client


def collatz(n: int) -> int:
    steps = 0
    while n != 1:
        n, steps = (n // 2 if n % 2 == 0 else 3 * n + 1), steps + 1
    return steps


def main() -> None:
    with Client().pool() as pool:  # in the place of multiprocessing.Pool()
        steps = pool.map(collatz, range(1, 10_000))
        print("longest:", max(steps), "steps, from", steps.index(max(steps)) + 1)
        print("powers:", pool.starmap(pow, [(2, 10), (3, 5)]))
        print("first values:", [value for value, _ in zip(pool.imap(collatz, range(1, 1000)), range(6), strict=False)])
        pool.apply_async(collatz, (27,), callback=lambda value: print("27 takes", value)).wait()


if __name__ == "__main__":
    main()
