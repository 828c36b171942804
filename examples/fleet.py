"""Jobs on workers that run elsewhere: one in the background, watched; one of your own, by its name.

    export MRQ_KEY=$(mrq key)                                  # the same on every host
    (cd examples && mrq worker -u redis://host -c 4) &         # where ``fleet`` can be imported, on each host
    python3 examples/fleet.py redis://host

A function travels by its name with a hash of its module's source, so workers need the same file. With a key, only
programs that have it can give them work.
"""

from __future__ import annotations

import os
import sys

from mapreduce_rq import Client, JobFailed, Limits


def divisors(n: int) -> int:
    """How many numbers divide n: a slow function, so that there is something to watch."""
    return sum(2 if k * k < n else 1 for k in range(1, int(n**0.5) + 1) if n % k == 0) if n else 0


def touchy(k: int) -> int:
    if k == 1234:
        raise ValueError("I do not like this one")
    return 1


def main() -> None:
    url = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("MRQ_URL")
    if not url:
        sys.exit("give the URL of the Redis that your hosts share: python3 examples/fleet.py redis://host")
    with Client(url) as mrq:  # the key is that in MRQ_KEY
        job = mrq.submit("primes", to=10**8)
        while not job.wait(0.5):
            print(f"{job.progress['counted']} of {job.progress['total']} terms, {job.progress['value']}")
        result = job.result()
        print(f"{result.value} primes up to 10^8, bound {result.bound} ({result.bound_kind}), digest {result.digest}")

        print(mrq.map_reduce("fleet:divisors", range(20_000), reduce="argmax"), "has the most divisors")

        try:
            mrq.map_reduce("fleet:touchy", range(5000))
        except JobFailed as failed:
            print(failed)
        lenient = mrq.submit_function("fleet:touchy", range(5000), limits=Limits(on_error="skip")).result()
        print(lenient.value, "terms are well;", [term["term"] for term in lenient.skipped], "is left out")


if __name__ == "__main__":
    main()
