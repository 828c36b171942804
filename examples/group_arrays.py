"""Group arrays: the mean spectrum of each kind of sample, element by element and exact, then a sum over all.

    python3 examples/group_arrays.py

Arrays travel as arrays: f gives numpy's, and what comes back is numpy's, the same bits for any number of workers.
"""

from __future__ import annotations

import numpy as np

from mapreduce_rq import Client

KINDS = ("granite", "basalt", "slate")


def spectrum(sample: int) -> tuple[str, np.ndarray]:
    rng = np.random.default_rng(sample)
    kind = sample % len(KINDS)
    return KINDS[kind], np.sin(np.arange(256) * (kind + 1) / 40) + rng.normal(0, 0.1, 256)


if __name__ == "__main__":
    with Client() as mrq:
        means = mrq.reduce_by_key(spectrum, range(600), "mean")
        for kind, mean in means.items():
            print(f"{kind:8} {mean.dtype} {mean.shape}, largest at {int(mean.argmax())}")
        print(f"{mrq.map_reduce(lambda k: spectrum(k)[1], range(600)).sum():.6f}")
