"""Items on their way into tasks: all of them, in order, and never so many that a master is lost in them."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
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


class Length:
    """Its items would have to be read to count them."""

    def __len__(self) -> int:
        raise AssertionError

    def __iter__(self) -> Iterator[int]:
        return iter([1])


class OwnList(list[int]):
    """A list whose author may count otherwise."""


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


@pytest.mark.parametrize("share", [0.05, 0.4, 3.0])
@pytest.mark.parametrize("size", [1, 2, 5])
def test_of_a_slow_iterable_small_tasks_are_taken_no_longer_than_large_ones(share: float, size: int) -> None:
    clock = Clock()
    source = source_of(slowly(clock, share * TAKE_SECONDS), codec=PlainCodec(), clock=clock)
    found: list[int] = []
    for _ in range(20):
        before, count = clock.now, size
        while count == size:  # as a ledger asks that has room for more tasks
            body, count, over = source(size)
            found += PlainCodec().decode(body) if count else []
            assert not over
        assert TAKE_SECONDS < clock.now - before <= (1 + 2 * share) * TAKE_SECONDS
        clock.now += 1.0  # the master does something else, which counts for nothing
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


@pytest.mark.parametrize("size", [10, 50_000, 3 << 17])
def test_an_iterator_may_use_the_memory_of_an_item_again_for_the_next(size: int) -> None:
    """As one that reads frames into one buffer, if items are taken one by one."""
    np = pytest.importorskip("numpy")
    buffer = np.zeros(size)

    def frames() -> Iterator[Any]:
        for k in range(4):
            buffer[:] = k
            yield buffer

    codec = PickleCodec(Pickles())
    take = source_of(frames(), codec=codec, clock=Clock())
    found: list[float] = []
    while True:
        body, got, over = take(1 if size < 1 << 17 else 4)
        found += [float(each[-1]) for each in codec.decode(body)] if got else []
        if over:
            break
    assert found == [0.0, 1.0, 2.0, 3.0]


def test_a_large_item_is_sent_alone_and_not_copied_first() -> None:
    np = pytest.importorskip("numpy")
    items = [np.full(1 << 17, float(k)) for k in range(3)]

    class Aside:
        def put(self, *pieces: Any) -> bytes:
            mine.append(
                any(
                    np.shares_memory(np.frombuffer(piece, np.uint8), items[len(mine)]) for piece in pieces if len(piece)
                )
            )
            return b"@" + bytes(8)

    mine: list[bool] = []
    take = source_of(items, codec=PickleCodec(Pickles()), clock=Clock(), aside=Aside())  # type: ignore[arg-type]
    assert [take(9)[1] for _ in range(3)] == [1, 1, 1]
    assert mine == [True] * 3


@pytest.mark.parametrize("kind", [list, tuple, dict.fromkeys, set, frozenset, deque])
def test_of_items_that_are_counted_it_is_known_how_many_are_left(kind: Callable[[Iterable[int]], Any]) -> None:
    source: Any = source_of(kind(range(100)), codec=PlainCodec(), clock=Clock())
    assert source.ready() == 100
    source(30)
    assert source.ready() == 70
    source(70)
    assert source.ready() == 0
    assert source(1) == (b"", 0, True)


def test_a_list_that_grows_or_shrinks_meanwhile_is_counted_anew() -> None:
    row = list(range(10))
    source: Any = source_of(row, codec=PlainCodec(), clock=Clock())
    source(5)
    row += range(90)
    assert source.ready() == 95
    del row[2:]
    assert source.ready() == 0
    assert source(5) == (b"", 0, True)


@pytest.mark.parametrize("items", [iter([1]), (k for k in [1]), Length(), OwnList([1]), {}.keys(), "text"])
def test_other_iterables_are_not_asked_for_their_length(items: Iterable[Any]) -> None:
    assert not hasattr(source_of(items, codec=PlainCodec(), clock=Clock()), "ready")
