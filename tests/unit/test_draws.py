"""Random numbers of a term: the same for whoever computes it, and others for any other term or seed."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapreduce_rq import BadParameter, random_for
from mapreduce_rq.computations.montecarlo import unit_points

TERMS = st.integers(-(2**127), 2**127 - 1)
SEEDS = st.integers(0, 2**64 - 1)


@given(TERMS, SEEDS)
def test_a_term_begins_where_one_generator_has_come_after_all_terms_before_it(term: int, seed: int) -> None:
    whole = np.random.Philox(key=(1 << 64) | seed)
    whole.advance(term % 2**128 << 128)
    assert (random_for(term, seed).bit_generator.random_raw(9) == whole.random_raw(9)).all()


@given(st.sets(st.tuples(TERMS, SEEDS), min_size=2, max_size=20))
def test_different_terms_and_seeds_have_different_numbers(pairs: set[tuple[int, int]]) -> None:
    assert len({random_for(*pair).random(3).tobytes() for pair in pairs}) == len(pairs)


def test_its_numbers_are_those_of_today_for_ever() -> None:
    """Of the reference implementation's words: a change here changes the results of others."""
    assert (
        random_for(0).integers(0, 100, 6).tolist() == random_for(np.int64(0), np.uint64(0)).integers(0, 100, 6).tolist()
    )
    words = random_for(5, seed=3).bit_generator.random_raw(2).tolist()
    assert words == np.random.Philox(key=[3, 1], counter=[0, 0, 5, 0]).random_raw(2).tolist()


def test_montecarlo_has_numbers_of_its_own() -> None:
    points = set(unit_points(1, 1, 0, 4000).ravel().tolist())
    assert not points & set(random_for(0, seed=1).random(4000).tolist())


@pytest.mark.parametrize(
    ("term", "seed", "told"),
    [
        (0.5, 0, "0.5 and 0: a term and a seed must be integers"),
        (0, "x", "0 and 'x': a term and a seed must be integers"),
        (2**127, 0, "the term 1701"),
        (-(2**127) - 1, 0, "the term -1701"),
        (0, -1, "the seed -1 must be from 0"),
        (0, 2**64, "the seed 18446744073709551616 must be from 0"),
    ],
)
def test_what_is_no_term_or_seed_is_told(term: Any, seed: Any, told: str) -> None:
    with pytest.raises(BadParameter, match=f"^random_for: {told}"):
        random_for(term, seed)


SCRIPT = """
import random
import numpy as np
import time
from mapreduce_rq import Client, Limits, random_for
{before}
def drawn(term):
    time.sleep(0.005)
    import os
    import numpy
    return os.getpid(), numpy.random.random(), random.random()
if __name__ == "__main__":
    with Client(local=4) as mrq:
        found = mrq.map_reduce(drawn, range(200), reduce="list", limits=Limits(chunk=1))
        for value in (0, 1, 2):
            print(len({{each[value] for each in found}}))
        def own(chunk):
            return mrq.map_reduce(lambda k: random_for(k).random(), range(200), limits=Limits(chunk=chunk))
        indexed = mrq.map_reduce(lambda pair: random_for(pair[0]).random(), enumerate("x" * 200))
        print(len({{own(1), own(7), own(200), indexed}}))
"""


@pytest.mark.parametrize(
    "before",
    [
        "np.random.seed(1); random.seed(1); np.random.random()",
        "np.random.seed(1); np.random.set_state(np.random.get_state())",
        "np.random.set_bit_generator(np.random.PCG64(5))",
        "",
    ],
)
def test_no_two_workers_draw_the_same_numbers_from_what_they_inherit(before: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(before=before)], capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.stderr == ""
    workers, numpys, pythons, own = ran.stdout.splitlines()
    assert int(workers) > 1
    assert (numpys, pythons, own) == ("200", "200", "1")


def test_a_generator_that_cannot_be_made_anew_ends_no_worker() -> None:
    before = """
class Mine(np.random.PCG64):
    def __init__(self, needed):
        super().__init__(needed)
np.random.set_bit_generator(Mine(5))
"""
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(before=before)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.splitlines()[-1] == "1"
