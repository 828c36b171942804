"""A computation from beginning to end in this process, its terms cut as a test likes, its partials sent as bytes."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

from mapreduce_rq.core.computation import Computation, More, Outcome
from mapreduce_rq.core.reducers.base import Law


def fold(job: Computation[Any], chunk: int | None = None, seed: int | None = None) -> tuple[Outcome, bytes, int]:
    """The outcome, the encoded total and the terms used; with a ``seed`` chunks are uneven and come in any order."""
    reducer, counted, total = job.reducer, 0, job.total
    assert total is not None
    whole = reducer.zero()
    rng = random.Random(seed)
    while True:
        edges = [counted]
        while edges[-1] < total:
            step = chunk or total
            edges.append(min(total, edges[-1] + (step if seed is None else rng.randint(1, step))))
        spans = list(pairwise(edges))
        if seed is not None and reducer.law is not Law.ORDERED:
            rng.shuffle(spans)
        for lo, hi in spans:
            whole = reducer.merge(whole, reducer.decode(job.map_encoded(lo, hi)))
        counted = total
        found = job.finish(whole, counted)
        if isinstance(found, Outcome):
            return found, reducer.encode(whole), counted
        assert isinstance(found, More)
        assert found.total > total
        total = found.total
