"""A range drawn at random: each place once, the same for any cuts, and as a sample should be."""

from __future__ import annotations

import math
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from mapreduce_rq.core.draw import drawn

sizes = st.integers(1, 3000)
keys = st.integers(0, 2**64 - 1)


@given(sizes, keys)
def test_each_place_comes_once(size: int, key: int) -> None:
    assert sorted(drawn(0, size, size, key)) == list(range(size))


@given(st.integers(1, 10**15), keys, st.data())
def test_it_depends_on_the_index_alone(size: int, key: int, data: st.DataObject) -> None:
    lo = data.draw(st.integers(0, size - 1))
    hi = data.draw(st.integers(lo, min(size, lo + 50)))
    row = drawn(lo, hi, size, key)
    assert row == [place for k in range(lo, hi) for place in drawn(k, k + 1, size, key)]
    assert all(0 <= place < size for place in row)
    assert len(set(row)) == hi - lo


def test_every_place_is_as_likely_to_come_early_and_no_two_come_together() -> None:
    size, first, seeds = 1000, 100, 2000
    times = [0] * size
    neighbours = 0
    for key in range(seeds):
        row = drawn(0, first, size, key)
        for place in row:
            times[place] += 1
        neighbours += sum(abs(one - other) == 1 for one, other in pairwise(row))
    expected = seeds * first / size
    chi = sum((count - expected) ** 2 / expected for count in times) / (1 - first / size)
    assert abs(chi - size) < 5 * math.sqrt(2 * size)
    likely = seeds * (first - 1) * 2 / size
    assert abs(neighbours - likely) < 5 * math.sqrt(likely)
