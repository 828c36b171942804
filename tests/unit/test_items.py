"""Items on their way into tasks: all of them, in order, and never so many that a master is lost in them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapreduce_rq.core.bodies import PlainCodec
from mapreduce_rq.errors import BadFunction
from mapreduce_rq.functions.items import TAKE_BYTES, TAKE_SECONDS, source_of
from mapreduce_rq.functions.pickle_codec import PickleCodec
from mapreduce_rq.functions.pickling import Pickles

ITEMS = st.one_of(st.integers(), st.text(), st.floats(allow_nan=False), st.complex_numbers(allow_nan=False))


class Clock:
    """Goes on when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def slowly(clock: Clock, seconds: float) -> Iterator[int]:
    """An endless iterator, each item of which takes so long."""
    for k in itertools.count():
        clock.now += seconds
        yield k


@given(st.lists(ITEMS, max_size=400), st.lists(st.integers(1, 300), min_size=1, max_size=9))
def test_every_item_is_given_once_and_in_order(row: list[Any], sizes: list[int]) -> None:
    source = source_of(iter(row), codec=PickleCodec(Pickles()), clock=Clock())
    found: list[Any] = []
    for size in itertools.cycle(sizes):
        body, count, over = source(size)
        items = PickleCodec(Pickles()).decode(body) if count else []
        assert len(items) == count <= size
        found += items
        if over:
            break
        assert count == size  # nothing here takes any time
    assert found == row
    assert source(5) == (b"", 0, True)


@pytest.mark.parametrize("share", [0.01, 0.4, 3.0])
def test_of_a_slow_iterable_what_there_is_in_time_is_taken(share: float) -> None:
    clock = Clock()
    source = source_of(slowly(clock, share * TAKE_SECONDS), codec=PlainCodec(), clock=clock)
    found = []
    for _ in range(20):
        before = clock.now
        body, count, over = source(10**6)
        assert 0 < count < 10**6
        assert not over
        assert clock.now - before <= 2 * TAKE_SECONDS + share * TAKE_SECONDS
        found += PlainCodec().decode(body)
    assert found == list(range(len(found)))


def test_large_items_are_taken_a_few_at_once() -> None:
    source = source_of(itertools.repeat("x" * 100_000), codec=PlainCodec(), clock=Clock())
    body, count, over = source(10**6)
    assert TAKE_BYTES < len(body) < 4 * TAKE_BYTES
    assert (count, over) == (len(PlainCodec().decode(body)), False)


def test_what_cannot_travel_as_data_is_refused_or_pickled_with_what_came_before() -> None:
    row = [1, "two", 3j, object]
    with pytest.raises(BadFunction, match="item 3, a type, cannot travel to the workers"):
        source_of(row, codec=PlainCodec(), clock=Clock())(4)
    body, count, over = source_of(row, codec=PickleCodec(Pickles()), clock=Clock())(9)
    assert (PickleCodec(Pickles()).decode(body), count, over) == (row, 4, True)
