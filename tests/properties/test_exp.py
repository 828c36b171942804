"""e^x against flint's ball arithmetic, for any x, any cuts and any order of arrival."""

from __future__ import annotations

import random
from fractions import Fraction
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mapreduce_rq.computations.exp import Exp
from mapreduce_rq.core.computation import More, Outcome
from mapreduce_rq.core.reducers.series import EMPTY, Piece
from tests.support.oracles import arb, enclosure, nearest

EXPONENTS = st.one_of(
    st.floats(-746, 710).map(float.hex),
    st.fractions(-750, 712, max_denominator=10**9).map(str),
    st.floats(-1e-9, 1e-9).map(float.hex),
    st.integers(-750, 715).map(str),
)


def compute(job: Any, cuts: list[int], seed: int) -> tuple[Outcome, Piece]:
    """The job with its terms cut at ``cuts``; partials arrive as bytes, twice, in any order, and neighbours merge."""
    rng = random.Random(seed)
    reducer, total, counted = job.reducer, job.total, 0
    whole = EMPTY
    while True:
        edges = sorted({counted, total, *(cut for cut in cuts if counted < cut < total)})
        replies = [reducer.encode(job.map(lo, hi)) for lo, hi in pairwise(edges)]
        arrivals = replies * 2
        rng.shuffle(arrivals)
        runs: dict[int, Piece] = {}  # lo -> the merged run that begins there
        seen: set[int] = set()
        for data in arrivals:
            piece = reducer.decode(data)
            if piece.lo in seen:
                continue
            seen.add(piece.lo)
            runs[piece.lo] = piece
            for lo in sorted(runs):
                while lo in runs and runs[lo].hi in runs:
                    runs[lo] = reducer.merge(runs[lo], runs.pop(runs[lo].hi))
        if total > counted:
            (run,) = runs.values()
            whole = reducer.merge(whole, run)
        counted = total
        found = job.finish(whole, counted)
        if isinstance(found, Outcome):
            return found, whole
        assert isinstance(found, More)
        total = found.total


@given(EXPONENTS, st.lists(st.integers(1, 3000), max_size=20), st.integers())
def test_the_value_is_the_double_nearest_to_the_exponential(x: str, cuts: list[int], seed: int) -> None:
    job = Exp.create({"x": x})
    assert isinstance(job, Exp)
    outcome, _ = compute(job, cuts, seed)
    exact = Fraction(*job.x)
    assert outcome.number == nearest(lambda: arb(exact).exp())


@given(EXPONENTS, st.integers(1, 1200), st.lists(st.integers(1, 1200), max_size=20), st.integers())
def test_cuts_and_order_change_no_byte(x: str, terms: int, cuts: list[int], seed: int) -> None:
    job = Exp.create({"x": x, "terms": terms})
    first, whole = compute(job, [], 0)
    second, other = compute(job, cuts, seed)
    assert job.reducer.encode(whole) == job.reducer.encode(other)
    assert first == second


@given(st.fractions(-20, 20, max_denominator=1000), st.integers(1, 120))
def test_the_bound_is_no_smaller_than_the_true_error(x: Fraction, terms: int) -> None:
    job = Exp.create({"x": x, "terms": terms})
    assert job.total is not None
    partial = job.map(0, job.total)
    outcome = job.finish(partial, job.total)
    assert isinstance(outcome, Outcome)
    if outcome.bound is None:
        assert terms + 1 <= abs(x)
        return
    low, high = enclosure(lambda: arb(x).exp(), 4000)
    exact = Fraction(partial.t, partial.q)
    assert max(high - exact, exact - low) <= Fraction(outcome.bound) + Fraction(1, 1 << 3900)


@given(st.binary(max_size=200))
def test_bytes_that_are_no_piece_are_refused_or_are_one(data: bytes) -> None:
    reducer = Exp.create({"x": "2"}).reducer
    try:
        piece = reducer.decode(data)
    except ValueError:
        return
    assert reducer.encode(piece) == data


@given(st.integers(0, 10**6), st.integers(1, 40), st.data())
def test_flipped_bits_never_crash(lo: int, size: int, data: st.DataObject) -> None:
    job = Exp.create({"x": "1/3"})
    body = bytearray(job.reducer.encode(job.map(lo, lo + size)))
    bit = data.draw(st.integers(0, 8 * len(body) - 1))
    body[bit // 8] ^= 1 << bit % 8
    try:
        piece = job.reducer.decode(bytes(body))
    except ValueError:
        return
    assert job.reducer.encode(piece) == bytes(body)
