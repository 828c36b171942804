"""The shuffle: the same value and digest as any other, however terms are cut and however many parts there are."""

from __future__ import annotations

import datetime as dt
import operator
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from typing import Any, ClassVar
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mapreduce_rq.core.outcome import Ask, Outcome
from mapreduce_rq.core.reducers import shuffle
from mapreduce_rq.core.reducers.base import Law
from mapreduce_rq.core.reducers.by_key import ByKey
from mapreduce_rq.core.reducers.catalogue import reducer
from mapreduce_rq.core.reducers.key_hash import BUCKETS, buckets_of
from mapreduce_rq.core.reducers.shuffle import Parts, Shuffle
from tests.properties.test_by_key import FEW_KEYS, INNER, KEYS, cut, shape, terms_of

PARTS = st.sampled_from([1, 2, 8, 64])


class Heap:
    """A place for pieces, which now and then has no room."""

    outlives: ClassVar[bool] = True

    def __init__(self, refuses: int = 0) -> None:
        self.laid: dict[bytes, list[bytes]] = {}
        self._refuses = refuses

    def lay(self, pieces: Sequence[bytes]) -> bytes | None:
        reference = b"@%d" % len(self.laid)
        self.laid[reference] = list(pieces)
        return None if self._refuses and len(self.laid) % self._refuses == 0 else reference

    def row(self, references: Sequence[bytes], number: int) -> Iterator[bytes]:
        return (self.laid[reference][number] for reference in references)


def shuffled(name: str, parts: int, spans: list[tuple[int, list[Any]]], heap: Heap) -> Outcome:
    """What comes of these terms, each span's partial made by a worker of its own and counted one after the other."""
    make, _ = INNER[name]
    worker, master = (Shuffle(ByKey({"": make()}), parts) for _ in range(2))
    worker.lay_in(heap)
    master.lay_in(heap)
    bodies = [worker.encode(worker.fold(*span)) for span in spans]
    total = master.decode(master.encode(master.merge_encoded(master.zero(), bodies)))
    found = master.finish(total)
    if isinstance(found, Ask):
        again = master.finish(total)  # of another master
        assert isinstance(again, Ask)
        assert again.bodies == found.bodies
        end = found.then([worker.work(body) for body in found.bodies])
        assert isinstance(end, Outcome)
        return end
    return found


def digested(outcome: Outcome) -> bytes:
    assert outcome.total is not None
    made: bytes = outcome.total.make()
    return made


@pytest.mark.parametrize("name", INNER)
@settings(max_examples=20)
@given(st.data(), PARTS, PARTS, st.integers(0, 3))
def test_neither_cuts_nor_parts_change_the_digest_or_a_result(
    name: str, data: st.DataObject, parts: int, others: int, refuses: int
) -> None:
    make, values = INNER[name]
    terms = data.draw(st.lists(terms_of(FEW_KEYS, values), max_size=20))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shuffle, "LEAST_BYTES", 40)  # so that of these few some are laid aside and some are not
        spans = [(lo, terms[lo:hi]) for lo, hi in cut(data, terms)]
        if make().law is not Law.ORDERED:
            spans = data.draw(st.permutations(spans))
        one = shuffled(name, parts, spans, Heap(refuses))
        other = shuffled(name, others, [(0, terms)], Heap())
    assert digested(one) == digested(other)
    assert len(digested(one)) % 16 == 0
    whole = ByKey({"": make()})
    expected = whole.rows(whole.fold(0, terms))
    for found in (one.native, other.native):
        assert isinstance(found, Parts)
        rows = list(found)
        assert len(found) == len(rows) == len(expected)
        assert sorted(map(repr, map(shape, rows))) == sorted(map(repr, map(shape, expected)))


@given(KEYS, KEYS)
def test_equal_keys_lie_in_one_bucket_alone_or_among_others(one: Any, other: Any) -> None:
    together = buckets_of([one, other]).tolist()
    assert together == [*buckets_of([one]).tolist(), *buckets_of([other]).tolist()]
    assert all(0 <= each < BUCKETS for each in together)
    if one == other:
        assert together[0] == together[1]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, True),
        (1, 1.0),
        (0, -0.0),
        (2**70, 2.0**70),
        (-(2**70), -(2.0**70)),
        (0.5, Fraction(1, 2)),
        (Decimal("0.5"), 0.5),
        (Decimal("1.00"), 1),
        (Decimal("-1e30"), -(10**30)),
        (complex(3, 0), 3),
        (float("inf"), Decimal("Infinity")),
        ((1, ("a", 2.0)), (True, ("a", Decimal(2)))),
        (
            dt.datetime(2024, 1, 2, 12, tzinfo=dt.UTC),
            dt.datetime(2024, 1, 2, 14, tzinfo=dt.timezone(dt.timedelta(hours=2))),
        ),
        (dt.time(12, tzinfo=dt.UTC), dt.time(14, tzinfo=dt.timezone(dt.timedelta(hours=2)))),
    ],
)
def test_equal_keys_of_other_types_lie_in_one_bucket(one: Any, other: Any) -> None:
    assert one == other
    assert buckets_of([one]).tolist() == buckets_of([other]).tolist()


def test_buckets_are_these_everywhere() -> None:
    """Workers of other versions cut as we do: these numbers change with the wire version only."""
    keys = [
        *(0, 1, -1, 2**63, -(2**80), 1.5, 1e300, "", "a", "ключ", b"a", None, (1, "a"), ()),
        *(dt.date(2024, 1, 2), UUID(int=5), Decimal("0.1"), Fraction(1, 3), complex(1, 2)),
    ]
    expected = [0, 632, 398, 483, 207, 952, 662, 0, 719, 490, 719, 0, 592, 0, 978, 996, 69, 898, 311]
    assert [int(buckets_of([key])[0]) for key in keys] == expected
    assert buckets_of(keys).tolist() == expected


@pytest.mark.parametrize("make", [int, "user {}".format, lambda k: (k, "a"), lambda k: k * 1024.0])
def test_keys_are_spread_evenly(make: Callable[[int], Any]) -> None:
    keys = list(map(make, range(50_000)))
    counts = [buckets_of(keys).tolist().count(bucket) for bucket in range(0, BUCKETS, 97)]
    mean = len(keys) / BUCKETS
    assert all(0.4 * mean < count < 1.8 * mean for count in counts)


def test_a_part_is_cut_where_its_keys_are() -> None:
    made = Shuffle(ByKey({"": reducer("sum")}), 8)
    groups = made.inner.fold(0, [(key, 1) for key in range(1000)])
    pieces = [made.inner.decode(piece) for piece in made.cut(groups)]
    keys = [list(made.inner.keys(piece)) for piece in pieces]
    assert sorted(key for row in keys for key in row) == list(range(1000))
    assert all(bucket % 8 == number for number, row in enumerate(keys) for bucket in buckets_of(row).tolist())


def test_pairs_and_answers_of_another_shape_are_refused() -> None:
    made = Shuffle(ByKey({"": reducer("sum")}), 2)
    heap = Heap()
    made.lay_in(heap)
    total = made.fold(0, [(key, key) for key in range(60_000)])
    total = made.decode(made.encode(total))
    asked = made.finish(total)
    assert isinstance(asked, Ask)
    good = [made.work(body) for body in asked.bodies]
    for bad in ([b"", good[1]], [b"\xc1", good[1]], [good[1], good[0]], [good[0], good[0]]):
        with pytest.raises(ValueError, match="shuffle"):
            asked.then(bad)
    for rows in (b"", b"\xc1", b"\x91\x92\xc4\x00\xc4\x00"):
        with pytest.raises(ValueError, match="not what"):
            made.decode(rows)


def test_orders_of_terms_are_kept_where_the_law_is_ordered() -> None:
    heap = Heap()
    made = Shuffle(ByKey({"": reducer("list")}), 4)
    made.lay_in(heap)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shuffle, "LEAST_BYTES", 1)
        terms = [(k % 5, k) for k in range(100)]
        bodies = [made.encode(made.fold(lo, terms[lo:hi])) for lo, hi in pairwise(range(0, 101, 10))]
        total = made.merge_encoded(made.zero(), bodies)
        asked = made.finish(total)
        assert isinstance(asked, Ask)
        end = asked.then([made.work(body) for body in asked.bodies])
    assert isinstance(end, Outcome)
    assert sorted(end.native) == [(key, list(range(key, 100, 5))) for key in range(5)]
    assert operator.eq(end.details, {"keys": 5, "parts": 4})
