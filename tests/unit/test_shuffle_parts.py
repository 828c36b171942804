"""What of a shuffle is laid aside and what travels, who merges its parts, and what its digest is made of."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from mapreduce_rq.core.outcome import Ask, Outcome
from mapreduce_rq.core.reducers.by_key import ByKey
from mapreduce_rq.core.reducers.catalogue import reducer
from mapreduce_rq.core.reducers.key_hash import BUCKETS, buckets_of
from mapreduce_rq.core.reducers.shuffle import FEW_KEYS, LEAST_BYTES, MANY_KEYS, Laid, Packed, Parts, Shuffle, dealt


class Place:
    """Where pieces are laid. ``outlives``: it is there as long as the caller. ``room``: it takes them."""

    def __init__(self, *, outlives: bool = False, room: bool = True) -> None:
        self.outlives = outlives
        self.room = room
        self.laid: list[list[bytes]] = []

    def lay(self, pieces: Sequence[bytes]) -> bytes | None:
        if not self.room:
            return None
        self.laid.append(list(pieces))
        return b"%d" % (len(self.laid) - 1)

    def row(self, references: Sequence[bytes], number: int) -> Iterator[bytes]:
        return (self.laid[int(reference)][number] for reference in references)


def made(parts: int = 4, place: Any = None, form: str = "", reduce: str = "sum") -> Shuffle:
    found = Shuffle(ByKey({"": reducer(reduce)}), parts, form)
    found.lay_in(place)
    return found


def pairs(number: int, value: Any = 1) -> list[tuple[int, Any]]:
    return [(key, value) for key in range(number)]


def ended(shuffle: Shuffle, number: int, value: Any = 1) -> Outcome:
    """The outcome of this number of keys, whoever merges the parts."""
    found: Any = shuffle.finish(shuffle.decode(shuffle.encode(shuffle.fold(0, pairs(number, value)))))
    if isinstance(found, Ask):
        found = found.then([shuffle.work(body) for body in found.bodies])
    assert isinstance(found, Outcome)
    return found


@pytest.mark.parametrize("parts", [0, -1, 3, 12, 2 * BUCKETS])
def test_parts_are_a_power_of_two(parts: int) -> None:
    with pytest.raises(ValueError, match=f"parts is {parts}, and must be a power of two, at most {BUCKETS}"):
        made(parts)
    for good in (1, 2, BUCKETS):
        assert made(good).parts == good


# -- what travels ------------------------------------------------------------------------------------------------------


def test_a_small_fold_travels_as_it_is() -> None:
    place = Place()
    shuffle = made(place=place)
    body = shuffle.encode(shuffle.fold(0, pairs(100)))
    assert place.laid == []
    assert shuffle.refers_to(body) == []
    (groups,) = shuffle.decode(body)
    assert shuffle.inner.finish_native(groups) == dict(pairs(100))  # type: ignore[arg-type]


@pytest.mark.parametrize("of", [pairs(100, "x" * 1000), pairs(MANY_KEYS)], ids=["of many bytes", "of many keys"])
def test_a_large_fold_is_laid_aside_in_parts(of: list[Any]) -> None:
    place = Place()
    shuffle = made(place=place, reduce="list")
    body = shuffle.encode(shuffle.fold(0, of))
    assert shuffle.refers_to(body) == [b"0"]
    assert len(body) < 100
    assert shuffle.decode(body) == [Laid(b"0")]
    assert shuffle.encode([Laid(b"0")]) == body
    (pieces,) = place.laid
    found = [key for piece in pieces for key in shuffle.inner.keys(shuffle.inner.decode(piece))]
    assert len(pieces) == 4
    assert sorted(found) == [key for key, _ in of]


def test_from_64_kib_on_or_8192_keys_it_is_laid_aside() -> None:
    assert (LEAST_BYTES, MANY_KEYS) == (65_536, 8192)
    shuffle = made(1, Place(), reduce="list")
    spare = len(shuffle.inner.encode(shuffle.inner.fold(0, [("k", "x" * 65_000)]))) - 65_000
    for size, laid in ((LEAST_BYTES - 1, []), (LEAST_BYTES, [b"0"])):
        body = shuffle.encode(shuffle.fold(0, [("k", "x" * (size - spare))]))
        assert shuffle.refers_to(body) == laid
    few = made(1, Place())
    for number, laid in ((MANY_KEYS - 1, []), (MANY_KEYS, [b"0"])):  # which have fewer bytes
        assert few.refers_to(few.encode(few.fold(0, [(str(key), 1) for key in range(number)]))) == laid


@pytest.mark.parametrize("place", [None, Place(room=False)])
def test_where_there_is_no_room_a_large_fold_travels_too(place: Place | None) -> None:
    shuffle = made(place=place)
    for number in (100, MANY_KEYS):
        (groups,) = shuffle.decode(shuffle.encode(shuffle.fold(0, pairs(number))))
        assert shuffle.inner.finish_native(groups) == dict(pairs(number))  # type: ignore[arg-type]


@pytest.mark.parametrize("body", [b"", b"\xc1", b"\x91\x91", b"\x91" * 100_000])
def test_bytes_that_are_no_fold_refer_to_nothing(body: bytes) -> None:
    assert made().refers_to(body) == []
    with pytest.raises(ValueError, match="not what was laid aside"):
        made().decode(body)


def test_values_are_folded_into_what_was_folded_here() -> None:
    shuffle = made()
    for partial in (shuffle.zero(), shuffle.fold(0, pairs(2))):
        before = 1 if partial else 0
        found = shuffle.fold_into(partial, 2, pairs(3))
        found = shuffle.fold_at([5], [(9, 1)], found)
        assert len(found) == 1
        expected = {0: 1 + before, 1: 1 + before, 2: 1, 9: 1}
        assert shuffle.inner.finish_native(found[0]) == expected  # type: ignore[arg-type]
        assert shuffle.breadth(found) == 4
    assert shuffle.inner.finish_native(shuffle.fold_at([5], [(9, 1)])[0]) == {9: 1}  # type: ignore[arg-type]
    assert shuffle.breadth([]) == shuffle.breadth([Laid(b"0")]) == shuffle.breadth([*found, Laid(b"0")]) == 0


# -- the end -----------------------------------------------------------------------------------------------------------


def test_workers_merge_what_is_laid_aside_and_what_has_many_keys() -> None:
    for number, place, asked in ((100, None, False), (FEW_KEYS, None, False), (FEW_KEYS + 1, None, True)):
        shuffle = made(place=place)
        assert isinstance(shuffle.finish(shuffle.fold(0, pairs(number))), Ask) is asked
    shuffle = made(place=Place())
    assert isinstance(shuffle.finish([Laid(b"0")]), Ask)


@pytest.mark.parametrize(("outlives", "number", "laid"), [(True, 20_000, 5), (False, 20_000, 1), (True, 9000, 1)])
def test_a_parts_result_is_laid_aside_if_it_is_large_and_the_place_stays(
    outlives: bool, number: int, laid: int
) -> None:
    place = Place(outlives=outlives)
    found = ended(made(place=place), number)
    assert len(place.laid) == laid  # the fold, and each part's result
    assert isinstance(found.native, Parts)
    assert sorted(found.native) == pairs(number)
    assert len(found.native) == number
    assert found.native.parts == 4
    assert repr(found.native) == f"<Parts: {number} keys in 4>"


def test_a_part_of_a_place_that_this_process_cannot_read_is_an_error() -> None:
    asked = made().finish([Laid(b"0")])
    assert isinstance(asked, Ask)
    with pytest.raises(ValueError, match="where this process cannot read it"):
        made().work(asked.bodies[0])


def test_the_digest_is_made_of_the_keys_and_results_of_each_bucket() -> None:
    keys = list(range(300))
    buckets = buckets_of(keys).tolist()
    expected = b""
    for number in range(BUCKETS):
        mine = [(key, 1) for key, bucket in zip(keys, buckets, strict=True) if bucket == number]
        inner = ByKey({"": reducer("sum")})
        if mine:
            expected += hashlib.blake2b(inner.canonical(inner.fold(0, mine)), digest_size=16).digest()
    for parts in (1, 4, 64):
        total = ended(made(parts), 300).total
        assert total is not None
        assert total.make() == expected
    for other in (ended(made(), 300, 2).total, ended(made(), 299).total):
        assert other is not None
        assert other.make() != expected


def test_others_make_the_value_from_the_parts_as_they_came() -> None:
    shuffle = made(place=Place())
    outcome = ended(shuffle, 9000)
    lasting = shuffle.lasting(outcome)
    assert lasting == [Packed(bytes(body)) for body in outcome.native.bodies]
    assert lasting is not None
    other = made()
    found = other.describe(other.decode(other.encode(lasting)))
    assert sorted(found.native) == pairs(9000)
    assert found.total is not None
    assert outcome.total is not None
    assert found.total.make() == outcome.total.make()
    files = made(form="jsonl")
    assert files.lasting(ended(files, 100)) is None  # its caller alone has the files


def test_parts_that_are_files_are_read_as_files() -> None:
    found = ended(made(form="jsonl"), 100).native
    assert isinstance(found, Parts)
    assert found.form == "jsonl"
    with pytest.raises(ValueError, match="written as jsonl: read the files"):
        found.part(0)
    plain = ended(made(), 100).native
    assert isinstance(plain, Parts)
    assert plain.form == ""
    assert [(keys, bytes(content)) for keys, content in found.files()] == [
        (keys, bytes(content)) for keys, content in plain.files()
    ]
    assert sum(keys for keys, _ in found.files()) == 100


def test_keys_are_dealt_by_their_buckets_in_their_order() -> None:
    assert dealt([], 3) == [[], [], []]
    keys = list(range(50, 0, -1))
    rows = dealt(keys, 8)
    assert [list(filter(row.__contains__, keys)) for row in rows] == rows
    assert [bucket % 8 for row in rows for bucket in (buckets_of(row).tolist() if row else [])] == [
        number for number, row in enumerate(rows) for _ in row
    ]


def test_its_law_is_that_of_the_values() -> None:
    for reduce in ("sum", "list", "quantiles"):
        inner = ByKey({"": reducer(reduce)})
        assert (made(reduce=reduce).law, made(reduce=reduce).joins) == (inner.law, inner.joins)
    assert made().joins
    assert not made(reduce="list").joins


def test_an_outcome_says_what_without_a_shuffle_is_said() -> None:
    """Of the exactness of all parts, the columns, and what is approximate."""
    columns = {"n": reducer("count"), "q": reducer("quantiles")}
    for inner, values in (
        (ByKey({"": reducer("sum")}), pairs(100)),
        (ByKey({"": reducer("sum")}), [*pairs(100), (7, 0.1), (7, 0.2)]),
        (ByKey(columns), [(key, {"n": 1, "q": 0.5}) for key in range(100)]),
    ):
        whole = inner.describe(inner.fold(0, values))
        shuffle = Shuffle(inner, 4)
        found = shuffle.describe(shuffle.fold(0, values))
        assert (found.bound, found.bound_kind, found.notes) == (whole.bound, whole.bound_kind, whole.notes)
        assert found.details == whole.details | {"parts": 4}
        assert found.text is not None
        assert sorted("".join(found.text.make()).splitlines()) == sorted(whole.value.splitlines())
