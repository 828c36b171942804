"""Spans, and runs of them: a set of terms, against Python's own sets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapreduce_rq.core.span import Runs, Span

TOP = 40
spans = st.tuples(st.integers(0, TOP - 1), st.integers(1, 8)).map(lambda drawn: (drawn[0], drawn[0] + drawn[1]))


def terms(lo: int, hi: int) -> set[int]:
    return set(range(lo, hi))


def maximal(members: set[int]) -> list[tuple[int, int]]:
    """The maximal spans of a set, the slow way."""
    found: list[tuple[int, int]] = []
    for k in sorted(members):
        if found and found[-1][1] == k:
            found[-1] = (found[-1][0], k + 1)
        else:
            found.append((k, k + 1))
    return found


@given(st.lists(spans, max_size=30))
def test_runs_are_the_set_of_what_entered(row: list[tuple[int, int]]) -> None:
    runs, members = Runs(), set[int]()
    for lo, hi in row:
        new = not terms(lo, hi) & members
        assert runs.add(lo, hi) == new
        if new:
            members |= terms(lo, hi)
        assert list(runs) == maximal(members)
        assert runs.count == len(members)
        assert len(runs) == len(maximal(members))


@given(st.lists(spans, max_size=15), spans)
def test_what_is_asked_of_runs_is_true_of_the_set(row: list[tuple[int, int]], asked: tuple[int, int]) -> None:
    runs, members = Runs(), set[int]()
    for lo, hi in row:
        if runs.add(lo, hi):
            members |= terms(lo, hi)
    lo, hi = asked
    assert runs.touches(lo, hi) == bool(terms(lo, hi) & members)
    assert runs.covers(lo, hi) == (terms(lo, hi) <= members)
    assert list(runs.gaps(lo, hi)) == maximal(terms(lo, hi) - members)


@given(st.sets(st.integers(0, TOP)), st.randoms(use_true_random=False))
def test_equal_sets_are_equal_runs_whatever_the_order(members: set[int], chance: object) -> None:
    row = [(k, k + 1) for k in members]
    chance.shuffle(row)  # type: ignore[attr-defined]
    assert Runs(row) == Runs(maximal(members))


def test_the_gaps_of_nothing_are_nothing() -> None:
    assert list(Runs([(3, 5)]).gaps(4, 4)) == []
    assert list(Runs().gaps(2, 5)) == [Span(2, 5)]


def test_spans_that_overlap_make_no_runs() -> None:
    with pytest.raises(ValueError, match=r"overlap at \[4, 9\)"):
        Runs([(0, 5), (4, 9)])


@pytest.mark.parametrize(("lo", "hi"), [(3, 3), (5, 2)])
def test_an_empty_span_is_a_mistake(lo: int, hi: int) -> None:
    with pytest.raises(ValueError, match="empty"):
        Runs().add(lo, hi)


@given(st.integers(0, 10**15), st.integers(2, 10**15))
def test_halves_are_the_whole_and_as_equal_as_can_be(lo: int, size: int) -> None:
    first, second = Span(lo, lo + size).halves()
    assert (first.lo, first.hi, second.hi) == (lo, second.lo, lo + size)
    assert 0 <= first.size - second.size <= 1
    assert second.size >= 1


def test_runs_are_mutable_and_have_no_hash() -> None:
    with pytest.raises(TypeError):
        hash(Runs())
    assert Runs() != [Span(0, 1)]
    assert repr(Runs([(0, 3), (5, 6)])) == "Runs([[0, 3), [5, 6)])"
