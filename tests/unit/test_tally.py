"""The tally: whatever comes, in whatever order and cut, its fold is that of exactly the terms it has counted."""

from __future__ import annotations

from itertools import pairwise
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapreduce_rq.core.job import tally as tally_module
from mapreduce_rq.core.job.tally import Tally
from mapreduce_rq.core.reducers.base import Reducer
from tests.sim.computation import Partial, RowOfTerms, SumOfTerms, fold

TOP = 60
spans = st.tuples(st.integers(0, TOP - 1), st.integers(1, 12)).map(lambda drawn: (drawn[0], drawn[0] + drawn[1]))


def reducer(*, ordered: bool) -> Reducer[Any]:
    return RowOfTerms() if ordered else SumOfTerms()


def item(lo: int, hi: int, *, ordered: bool) -> tuple[int, int, bytes]:
    return lo, hi, reducer(ordered=ordered).encode(fold(range(lo, hi), ordered=ordered))


def counted_terms(tally: Tally) -> list[int]:
    return [k for lo, hi in tally.runs for k in range(lo, hi)]


def total(tally: Tally, *, ordered: bool) -> Any:
    """The fold of all parts in their order, decoded from what a checkpoint would hold; nothing merged is kept."""
    assert tally._ends == {hi: lo for lo, (hi, _) in tally._partials.items()}
    kind = reducer(ordered=ordered)
    whole = kind.zero()
    for _, _, body in tally.parts():
        whole = kind.merge(whole, kind.decode(body))
    return whole


@given(st.lists(st.lists(spans, max_size=5), max_size=12), st.booleans())
def test_each_term_counts_once_whatever_comes(batches: list[list[tuple[int, int]]], ordered: bool) -> None:
    tally, members = Tally(reducer(ordered=ordered)), set[int]()
    for batch in batches:
        fresh = set[int]()
        for lo, hi in batch:
            if not set(range(lo, hi)) & (members | fresh):
                fresh |= set(range(lo, hi))
        found = tally.count([item(lo, hi, ordered=ordered) for lo, hi in batch])
        assert {k for lo, hi in found for k in range(lo, hi)} == fresh
        members |= fresh
        assert counted_terms(tally) == sorted(members)
        assert total(tally, ordered=ordered) == fold(sorted(members), ordered=ordered)


@given(st.integers(0, 2**32), st.booleans())
def test_the_fold_of_all_terms_is_the_serial_one(seed: int, ordered: bool) -> None:
    chance = Random(seed)
    cuts = sorted({0, TOP, *(chance.randrange(TOP) for _ in range(15))})
    row = [item(lo, hi, ordered=ordered) for lo, hi in pairwise(cuts)]
    chance.shuffle(row)
    tally = Tally(reducer(ordered=ordered))
    for one in row:
        tally.count([one])
    assert tally.prefix() == (TOP, fold(range(TOP), ordered=ordered))
    assert tally.prefix() == (TOP, fold(range(TOP), ordered=ordered))  # asking changes nothing


@given(st.lists(spans, max_size=12), st.lists(spans, max_size=12), st.booleans())
def test_a_checkpoint_between_changes_nothing(
    before: list[tuple[int, int]], after: list[tuple[int, int]], ordered: bool
) -> None:
    kind = reducer(ordered=ordered)
    through, restored = Tally(kind), Tally(kind)
    for lo, hi in before:
        through.count([item(lo, hi, ordered=ordered)])
        restored.count([item(lo, hi, ordered=ordered)])
    restored = Tally.restore(kind, [(lo, hi) for lo, hi in restored.runs], restored.parts())
    for lo, hi in after:
        row = [item(lo, hi, ordered=ordered)]
        assert through.count(row) == restored.count(row)
    assert through.runs == restored.runs
    assert total(through, ordered=ordered) == total(restored, ordered=ordered)


@given(st.lists(spans, max_size=12), st.sets(st.integers(0, TOP), max_size=4), st.booleans())
def test_what_is_skipped_is_counted_and_adds_nothing(
    row: list[tuple[int, int]], skipped: set[int], ordered: bool
) -> None:
    tally = Tally(reducer(ordered=ordered))
    for k in sorted(skipped):
        tally.skip(k, k + 1)
    for lo, hi in row:
        tally.count([item(lo, hi, ordered=ordered)])
    with_value = [k for k in counted_terms(tally) if k not in skipped]
    assert total(tally, ordered=ordered) == fold(with_value, ordered=ordered)


@pytest.mark.parametrize("ordered", [False, True])
def test_a_part_that_cannot_be_read_is_left_out_and_its_neighbours_count(ordered: bool) -> None:
    tally = Tally(reducer(ordered=ordered))
    row = [item(0, 3, ordered=ordered), (3, 5, b"?"), item(5, 9, ordered=ordered)]  # one row of neighbours
    assert tally.count(row) == [(0, 3), (5, 9)]
    assert tally.malformed == 1
    assert total(tally, ordered=ordered) == fold([0, 1, 2, 5, 6, 7, 8], ordered=ordered)
    assert tally.count([item(3, 5, ordered=ordered)]) == [(3, 5)]
    assert tally.prefix() == (9, fold(range(9), ordered=ordered))


def test_the_prefix_of_an_ordered_row_ends_at_its_first_gap() -> None:
    tally = Tally(RowOfTerms())
    assert tally.prefix() == (0, RowOfTerms().zero())
    tally.count([item(3, 9, ordered=True)])
    assert tally.prefix() == (0, RowOfTerms().zero())
    tally.count([item(0, 2, ordered=True)])
    assert tally.prefix() == (2, fold(range(2), ordered=True))
    tally.count([item(2, 3, ordered=True)])
    assert tally.prefix() == (9, fold(range(9), ordered=True))


def test_the_prefix_of_a_sum_is_all_that_is_counted() -> None:
    tally = Tally(SumOfTerms())
    tally.count([item(3, 9, ordered=False)])
    assert tally.prefix() == tally.first() == (6, fold(range(3, 9), ordered=False))


class Counting(RowOfTerms):
    """Counts the terms that merging moves; nothing is too heavy."""

    moved = 0

    def weight(self, partial: Partial) -> int:
        return 0

    def merge(self, left: Partial, right: Partial) -> Partial:
        self.moved += left[0] + right[0]
        return super().merge(left, right)


def test_neighbours_merge_as_they_grow() -> None:
    """As in a binary counter: few segments, and no long one is merged again for each short one."""
    kind = Counting()
    tally = Tally(kind)
    for k in range(1024):
        tally.count([item(k, k + 1, ordered=True)])
    assert len(tally.parts()) <= 11
    assert kind.moved <= 1024 * 11  # n log n, where merging each into one run would move n squared halves


def test_a_checkpoint_whose_parts_and_runs_differ_is_refused() -> None:
    part = item(0, 5, ordered=True)
    with pytest.raises(ValueError, match="differ"):
        Tally.restore(RowOfTerms(), [(0, 6)], [part])
    with pytest.raises(ValueError, match="overlap"):
        Tally.restore(RowOfTerms(), [(0, 8)], [part, item(4, 8, ordered=True)])


@given(st.integers(0, 2**32))
def test_heavy_pairs_are_asked_for_once_and_may_be_merged_anywhere(seed: int) -> None:
    chance = Random(seed)
    order = list(range(0, 64, 2))
    chance.shuffle(order)
    heavy = tally_module.HEAVY_BYTES
    kind = RowOfTerms()
    kind.weight = lambda partial: heavy if partial[0] >= 4 else 0  # type: ignore[method-assign]
    tally = Tally(kind)
    asked: list[tuple[int, int, int]] = []
    times = 0
    for lo in order:
        tally.count([item(lo, lo + 2, ordered=True)])
        times += len(tally.wishes)
        asked += tally.wishes
        tally.wishes.clear()
        while asked and chance.random() < 0.5:
            start, middle, stop = asked.pop(chance.randrange(len(asked)))
            tally.pair(start, middle)
            merged = kind.encode(fold(range(start, stop), ordered=True)) if chance.random() < 0.5 else None
            tally.join(start, middle, stop, merged)
            asked += tally.wishes
            tally.wishes.clear()
        taken = [end for start, middle, stop in asked for end in (start, middle)]
        assert len(taken) == len(set(taken)), "a segment is in two pairs"
        assert total(tally, ordered=True) == fold(counted_terms(tally), ordered=True)
    assert times, "of 64 terms in pairs some neighbours of four or more meet"
    assert tally.prefix() == (64, fold(range(64), ordered=True))


def test_a_light_neighbour_of_a_heavy_segment_is_merged_in_passing() -> None:
    kind = RowOfTerms()
    kind.weight = lambda partial: tally_module.HEAVY_BYTES if partial[0] >= 4 else 0  # type: ignore[method-assign]
    tally = Tally(kind)
    tally.count([item(0, 4, ordered=True)])
    tally.count([item(4, 7, ordered=True)])
    assert tally.wishes == []
    assert [(lo, hi) for lo, hi, _ in tally.parts()] == [(0, 7)]
    tally.count([item(7, 14, ordered=True)])
    assert tally.wishes == [(0, 7, 14)]


def test_who_watches_is_told_of_each_partial_that_is_new() -> None:
    tally, told = Tally(RowOfTerms()), list[Partial]()
    tally.watch = told.append
    tally.count([item(0, 3, ordered=True), item(3, 5, ordered=True)])
    tally.count([item(3, 5, ordered=True), item(8, 9, ordered=True)])
    tally.skip(5, 8)
    assert told == [fold(range(lo, hi), ordered=True) for lo, hi in [(0, 3), (3, 5), (8, 9)]]


def test_a_joint_answer_counts_whole_or_not_at_all() -> None:
    tally = Tally(SumOfTerms())
    body = SumOfTerms().encode(fold([0, 1, 7, 8, 9], ordered=False))
    assert tally.count_joint([(7, 10), (0, 2)], body) == [(7, 10), (0, 2)]
    assert counted_terms(tally) == [0, 1, 7, 8, 9]
    assert tally.prefix() == (5, fold([0, 1, 7, 8, 9], ordered=False))
    assert tally.count_joint([(7, 10), (0, 2)], body) == []  # a second copy
    overlapping = SumOfTerms().encode(fold([3, 4, 9, 10], ordered=False))
    assert tally.count_joint([(3, 5), (9, 11)], overlapping) == []
    twice = SumOfTerms().encode(fold([3, 4, 4, 5], ordered=False))
    assert tally.count_joint([(3, 5), (4, 6)], twice) == []
    assert tally.count_joint([(3, 5)], b"no partial") == []
    assert tally.malformed == 1
    assert counted_terms(tally) == [0, 1, 7, 8, 9]
    assert tally.prefix() == (5, fold([0, 1, 7, 8, 9], ordered=False))


def test_a_joint_answer_has_no_order_and_counts_under_no_law_that_needs_one() -> None:
    tally = Tally(RowOfTerms())
    assert tally.count_joint([(0, 2), (5, 6)], RowOfTerms().encode(fold([0, 1, 5], ordered=True))) == []
    assert not tally.runs
