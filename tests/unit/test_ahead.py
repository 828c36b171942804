"""Values that a master reads while it waits: each once, for its caller alone, within bounds, and none is lost."""

from __future__ import annotations

from typing import Any

import pytest

from mapreduce_rq.core.bodies import PLAIN, Buffer, PlainCodec, join
from mapreduce_rq.core.reducers import ahead
from mapreduce_rq.core.reducers.ahead import Ahead
from mapreduce_rq.core.reducers.sequence import ListReducer, Stretch
from mapreduce_rq.functions.pickle_codec import PickleCodec
from mapreduce_rq.functions.pickling import Pickles

LARGE = [f"{k:01000}" for k in range(8)]


class Counting(PlainCodec):
    """Counts the bodies that it reads."""

    def __init__(self) -> None:
        self.read = 0

    def decode(self, body: Buffer) -> list[Any]:
        self.read += 1
        return super().decode(body)


class Touchy:
    """Cannot be read as often as it was told."""

    failures = 0

    def __setstate__(self, state: dict[str, Any]) -> None:
        if Touchy.failures:
            Touchy.failures -= 1
            raise ValueError("not now")
        self.__dict__.update(state)


def answers(reducer: ListReducer, rows: list[list[Any]]) -> Stretch:
    """The partial of a job whose answers hold these rows, as its master makes it."""
    partial, at = reducer.zero(), 0
    for row in rows:
        partial = reducer.merge(partial, reducer.decode(reducer.encode(reducer.fold(at, row))))
        at += len(row)
    return partial


def read_all(reducer: ListReducer) -> int:
    """Read all that may be read ahead; returns the number of steps."""
    steps = 0
    while reducer.ahead:
        reducer.ahead.step()
        steps += 1
    return steps


def hasty(codec: Any) -> ListReducer:
    reducer = ListReducer()
    reducer.travel_by(codec)
    reducer.hasten()
    return reducer


def test_without_a_caller_nothing_is_read_ahead() -> None:
    reducer = ListReducer()
    answers(reducer, [LARGE])
    assert reducer.ahead is None


@pytest.mark.parametrize("steps", [0, 1, 2, 5])
def test_each_body_is_read_once_whenever_that_is(steps: int) -> None:
    codec = Counting()
    reducer = hasty(codec)
    partial = answers(reducer, [LARGE, LARGE[::-1], LARGE])
    assert codec.read == 0
    assert reducer.ahead
    for _ in range(steps):
        reducer.ahead.step()
    assert codec.read == (steps + 1) // 2  # a step finds that there is no more in a body
    assert reducer.finish_native(partial) == LARGE + LARGE[::-1] + LARGE
    assert codec.read == 3


def test_what_was_read_is_given_to_one_caller_alone() -> None:
    reducer = hasty(PlainCodec())
    partial = answers(reducer, [[[k] for k in LARGE]])
    read_all(reducer)
    first, second = reducer.finish_native(partial), reducer.finish_native(partial)
    first[0].append("changed")
    assert second == [[k] for k in LARGE]
    assert all(one is not other for one, other in zip(first, second, strict=True))


def test_small_bodies_are_left_to_the_end_for_they_are_joined() -> None:
    reducer = hasty(PlainCodec())
    partial = answers(reducer, [[k] for k in range(100)])
    assert not reducer.ahead
    assert reducer.finish_native(partial) == list(range(100))


def test_no_more_is_held_twice_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "ROOM_BYTES", 3 * 8300)
    codec = Counting()
    reducer = hasty(codec)
    partial = answers(reducer, [LARGE] * 10)
    read_all(reducer)
    assert codec.read == 3
    assert reducer.finish_native(partial) == LARGE * 10
    assert codec.read == 10


def test_a_master_is_not_kept_from_listening_by_a_very_large_body() -> None:
    ready = Ahead(PlainCodec().parts)
    ready.offer(PLAIN + bytes(ahead.MOST_BYTES))
    assert not ready
    ready.offer(PLAIN + bytes(ahead.MOST_BYTES - 1))
    assert ready


def test_of_a_body_of_many_frames_it_reads_one_at_a_time() -> None:
    codec = PickleCodec(Pickles())
    rows = [[f"{k:0500} {at}" for at in range(9)] for k in range(20)]
    body = join([codec.encode(row) for row in rows])
    reducer = hasty(codec)
    partial = reducer.decode(reducer.encode(Stretch(0, 180, 180, 0, (body,))))
    assert read_all(reducer) == 21
    expected = [value for row in rows for value in row]
    assert reducer.finish_native(partial) == expected
    half = reducer.decode(reducer.encode(Stretch(0, 180, 180, 0, (body,))))
    assert reducer.ahead is not None
    for _ in range(10):
        reducer.ahead.step()
    assert reducer.finish_native(half) == expected
    assert not reducer.ahead
    assert reducer.finish_native(half) == expected


def test_what_cannot_be_read_is_told_to_the_caller_and_not_to_the_master() -> None:
    reducer = hasty(PickleCodec(Pickles()))
    one = Touchy()
    one.__dict__["text"] = "x" * 9000
    partial = answers(reducer, [[one], LARGE])
    Touchy.failures = 2
    read_all(reducer)
    with pytest.raises(Exception, match="not now"):
        reducer.finish_native(partial)
    found = reducer.finish_native(partial)
    assert found[0].text == "x" * 9000
    assert found[1:] == LARGE


def test_a_signal_while_it_reads_loses_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    codec = Counting()
    reducer = hasty(codec)
    partial = answers(reducer, [LARGE])
    decode = PlainCodec.decode

    def interrupted(*_: Any) -> list[Any]:
        raise KeyboardInterrupt

    monkeypatch.setattr(PlainCodec, "decode", interrupted)
    assert reducer.ahead is not None
    with pytest.raises(KeyboardInterrupt):
        reducer.ahead.step()
    monkeypatch.setattr(PlainCodec, "decode", decode)
    assert reducer.finish_native(partial) == LARGE
