"""Terms that are folded into a partial of others: however they are cut, and even if that partial is taken away."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapreduce_rq.client.planning import Planner
from mapreduce_rq.computations.wordcount import WordCount
from mapreduce_rq.core.computation import Computation
from mapreduce_rq.core.reducers.combine import Combine
from mapreduce_rq.core.reducers.counter import CounterReducer
from mapreduce_rq.core.reducers.keyed import by_key
from mapreduce_rq.core.reducers.sums import ExactSum
from mapreduce_rq.files.files import Files
from mapreduce_rq.functions.blocks import BLOCK, LEAST_BLOCK, WIDE_BLOCK, block_after
from mapreduce_rq.functions.trust import Trust
from mapreduce_rq.runtime.clock import Clock

LINES = "".join(f"{' '.join(f'w{k * j % 13}' for j in range(k % 6))}\n" for k in range(300))


def pair(k: int) -> tuple[int, float]:
    """One of 700 keys, and a value whose sums need rounding."""
    return k % 700, 0.1 * k


held = False  # whether the partial of others is being changed


def pairs(k: int) -> Iterator[tuple[int, int]]:
    """Two pairs. While others may wait for the partial, no function of the user's runs."""
    assert not held
    yield k % 7, 1
    yield k % 3, k


def in_pairs(line: str) -> Iterator[tuple[str, int]]:
    """The words of a line, as ``pairs``."""
    for word in line.split():
        assert not held
        yield word, 1


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Computation[Any]]:
    """Jobs whose partials join."""
    path = Path(tmp_path_factory.mktemp("words"), "words.txt")
    path.write_text(LINES, encoding="utf-8")
    planner = Planner(Clock(), Trust(private=True), None, lambda _name, _body: None)
    return {
        "by key": planner.function(pair, range(9000), reduce=by_key("sum"))[1],
        "generators": planner.function(pairs, range(5000), reduce=by_key("sum"))[1],
        "generators of lines": planner.function(in_pairs, Files(str(path)), reduce=by_key("sum"))[1],
        "lines": planner.function(str.split, Files(str(path)), reduce="counter")[1],
        "words": WordCount.create({"files": [str(path)]}),
    }


@pytest.mark.parametrize("name", ["by key", "generators", "generators of lines", "lines", "words"])
@given(cuts=st.lists(st.floats(0, 1), max_size=5), calls=st.integers(0, 12))
def test_terms_fold_into_a_partial_of_others_as_if_they_were_merged(
    jobs: dict[str, Computation[Any]], name: str, cuts: list[float], calls: int
) -> None:
    job = jobs[name]
    assert job.maps_onto
    assert job.total is not None
    reducer, total = job.reducer, job.total
    left = calls  # of grow, until the partial is taken away
    kept: Any = reducer.zero()

    def grow(fold: Callable[[Any], Any]) -> bool:
        global held  # noqa: PLW0603
        nonlocal kept, left
        left -= 1
        if left >= 0:
            held = True
            try:
                kept = fold(kept)
            finally:
                held = False
        return left >= 0

    for lo, hi in pairwise(sorted({0, total, *(int(cut * total) for cut in cuts)})):
        own, begin = job.map_onto(grow, lo, hi, b"")
        if own is not None:
            assert reducer.canonical(kept) == reducer.canonical(job.map(0, begin) if begin else reducer.zero())
            assert reducer.canonical(own) == reducer.canonical(job.map(begin, hi))
            return
        assert reducer.canonical(kept) == reducer.canonical(job.map(0, hi))


def test_a_fold_of_the_users_own_is_not_done_while_others_may_wait_for_the_partial() -> None:
    planner = Planner(Clock(), Trust(private=True), None, lambda _name, _body: None)
    for reduce, onto in (
        (by_key("sum"), True),
        (by_key(add, zero=0, law="commutative"), False),
        (by_key(Combine(int, add, add)), False),
    ):
        assert planner.function(pair, range(9), reduce=reduce)[1].maps_onto == onto


@pytest.mark.parametrize("calls", [0, 1, 2])
def test_the_words_of_a_piece_go_into_the_partial_of_others_once_they_are_read(tmp_path: Path, calls: int) -> None:
    path = Path(tmp_path, "words.txt")
    path.write_text(LINES * 300, encoding="utf-8")  # 720 kB: three pieces
    job = WordCount.create({"files": [str(path)]})
    assert job.total is not None
    kept: Any = {}
    grown = 0

    def grow(fold: Callable[[Any], Any]) -> bool:
        nonlocal kept, grown
        grown += 1
        if grown <= calls:
            kept = fold(kept)
        return grown <= calls

    # Nobody must wait for the whole file to have the partial.
    assert job.map_onto(grow, 0, job.total, b"") == (
        job.map(0, job.total),
        0,
    )  # from the beginning, if it is taken away
    assert grown == calls + 1


def test_values_with_many_things_are_held_in_small_blocks() -> None:
    wide, narrow = CounterReducer(), ExactSum()
    assert block_after(wide, ("a", 1)) == block_after(wide, "text") == block_after(wide, []) == WIDE_BLOCK
    assert block_after(wide, ["word"] * 10) == WIDE_BLOCK // 20
    assert block_after(wide, ["word"] * WIDE_BLOCK) == LEAST_BLOCK
    assert block_after(narrow, ["word"] * 10) == BLOCK
    assert block_after(narrow, np.zeros(1 << 20)) == 8
    assert block_after(narrow, np.empty(9 << 20)) == 1, "a single array may have more than is held else"
