"""``scripts/sim``: worlds by the thousand, or one of them with its trace."""

# ruff: noqa: T201  # a command prints

from __future__ import annotations

import argparse
import gc
import hashlib
import multiprocessing
import sys
import time
from collections import Counter

from tests.sim.world import Verdict, run_seed


def main() -> int:
    """The exit code: 0 if every seed went well."""
    parser = argparse.ArgumentParser(prog="scripts/sim", description=__doc__)
    parser.add_argument("--seeds", type=int, default=2000, metavar="N", help="how many (default 2000)")
    parser.add_argument("--start", type=int, default=0, metavar="S", help="the first one (default 0)")
    parser.add_argument("--seed", type=int, metavar="S", help="this one alone")
    parser.add_argument("--trace", action="store_true", help="with --seed: print all that happened")
    parser.add_argument("-j", "--jobs", type=int, default=multiprocessing.cpu_count(), metavar="N", help="processes")
    options = parser.parse_args()
    if options.seed is not None:
        return one(options.seed, trace=options.trace)
    return many(range(options.start, options.start + options.seeds), options.jobs)


def one(seed: int, *, trace: bool) -> int:
    """Run a seed, and print its trace if wanted or if it failed."""
    verdict = run_seed(seed, listen=True)
    if trace or verdict.failure:
        print("\n".join(verdict.trace))
    digest = hashlib.sha256("\n".join(verdict.trace).encode()).hexdigest()[:16]
    print(
        f"seed {seed}: {verdict.failure or 'well'}; jobs {', '.join(verdict.ends)}; {verdict.steps} steps, "
        f"{verdict.seconds:.0f} virtual s, healed in {verdict.healed:.0f} s, trace {digest}"
    )
    return 1 if verdict.failure else 0


def collect_seldom() -> None:
    """A world makes much that lives as long as it, and what has loops is little: look for that in longer intervals."""
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)


def many(seeds: range, processes: int) -> int:
    """Run many seeds, and print those that failed."""
    began = time.monotonic()
    failures: list[Verdict] = []
    ends: Counter[str] = Counter()
    steps = 0
    longest = 0.0
    with multiprocessing.Pool(processes, initializer=collect_seldom) as pool:
        for done, verdict in enumerate(pool.imap_unordered(run_seed, seeds, chunksize=8), 1):
            steps += verdict.steps
            ends.update(verdict.ends)
            longest = max(longest, verdict.healed)
            if verdict.failure:
                failures.append(verdict)
                print(f"seed {verdict.seed}: {verdict.failure}", flush=True)
            if sys.stderr.isatty() and done % 50 == 0:
                print(f"\r{done}/{len(seeds)}", end="", file=sys.stderr, flush=True)
            elif done % 1000 == 0:  # into a log
                print(
                    f"{done} of {len(seeds)} seeds, {len(failures)} failed, {time.monotonic() - began:.0f} s",
                    flush=True,
                )
    seconds = time.monotonic() - began
    print(
        f"{len(seeds)} seeds, {len(failures)} failed; {len(seeds) / seconds:.1f} seeds/s, "
        f"{steps / seconds:.0f} steps/s; jobs: {', '.join(f'{count} {end}' for end, count in sorted(ends.items()))}; "
        f"slowest healing {longest:.0f} s"
    )
    if failures:
        print(f"\nto see one: scripts/sim --seed {failures[0].seed} --trace")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
