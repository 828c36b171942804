"""Whatever a user's exception does when it is asked, it fails its term under its name, and the worker lives."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mapreduce_rq import Client, Limits
from mapreduce_rq.core.foreign_errors import Interruption, is_our_fault, kind_of, message_of, shown, told, traceback_of
from mapreduce_rq.core.job.failures import failure_of
from mapreduce_rq.core.messages import decode_failure, encode_failure
from mapreduce_rq.core.numbers.rational import parse_rational
from mapreduce_rq.core.text import duration
from mapreduce_rq.errors import JobFailed
from mapreduce_rq.functions.trust import well_named
from tests.support.hostile import LONG, SURROGATE, TRICKS, Mute, Text, fails, made_of

SOME = st.lists(st.sampled_from(sorted(TRICKS)), max_size=5, unique=True)


def makeable(tricks: list[str]) -> bool:
    try:
        made_of(tricks)
    except BaseException:
        return False
    return True


@pytest.mark.parametrize("trick", sorted(TRICKS))
def test_each_trick_alone_makes_a_failure(trick: str) -> None:
    check([trick])


@given(SOME.filter(makeable))
@example(["its class raises", "str raises itself"])
def test_every_exception_makes_a_failure_of_bounded_size(tricks: list[str]) -> None:
    check(tricks)


def check(tricks: list[str]) -> None:
    error: BaseException | None = None
    try:
        fails(tricks)
    except BaseException as raised:
        error = raised
    assert error is not None
    failure = failure_of(error, "here", 7)
    body = encode_failure(failure)
    assert len(body) < 50_000
    assert decode_failure(body) == failure
    assert failure.kind == "Hostile"
    assert failure.traceback
    if not tricks:
        assert failure.message == "told"
        assert failure.traceback.endswith("Hostile: told\n")
    assert kind_of(error) in told(error)


def test_a_plain_exception_is_shown_as_python_shows_it() -> None:
    def rise() -> None:
        try:
            raise KeyError("first")
        except KeyError as error:
            error.add_note("a note")
            raise ExceptionGroup("both", [ValueError("one"), TypeError("two")]) from error

    with pytest.raises(ExceptionGroup) as raised:
        rise()
    text = traceback_of(raised.value)
    assert "KeyError: 'first'\na note\n" in text
    assert "The above exception was the direct cause of the following exception" in text
    assert "ValueError: one" in text
    assert "TypeError: two" in text
    assert message_of(ValueError("é\ud800")) == "é\\ud800"


def test_a_mistake_is_ours_only_without_a_frame_of_others() -> None:
    class Theirs:
        def __ge__(self, _: object) -> NoReturn:
            raise TypeError("their own")

    def raised(call: Callable[[Any], object], value: object) -> BaseException:
        with pytest.raises((TypeError, AttributeError, ValueError)) as caught:
            call(value)
        frames = caught.value.__traceback__
        assert frames is not None
        return caught.value.with_traceback(frames.tb_next)  # without the frame of this test

    assert is_our_fault(raised(duration, None))
    assert not is_our_fault(raised(duration, Theirs()))
    assert not is_our_fault(raised(parse_rational, "two")), "it says that a value is wrong, and no mistake"
    assert not is_our_fault(raised(well_named, 5)), "where functions are called, a function in C may be at fault"
    assert not is_our_fault(KeyError("no frame at all"))


def test_an_interruption_is_no_answer() -> None:
    class Interrupts(Exception):
        def __str__(self) -> str:
            raise Interruption

    with pytest.raises(Interruption):
        message_of(Interrupts())


@pytest.mark.parametrize("value", [Mute(), Text("x"), SURROGATE, LONG, [LONG], [[[]]], None, 10**5000], ids=type)
def test_any_value_can_be_named(value: object) -> None:
    text = shown(value)
    assert len(text) < 2300
    text.encode()


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with Client(local=1) as made:
        yield made


def pid(_: int) -> int:
    return os.getpid()


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [1, None])
def test_a_real_worker_outlives_them_all(client: Client, chunk: int | None) -> None:
    """Each trick alone, and 400 combinations: {TRICKS} + 400 terms that fail, each under its name."""
    draw = random.Random(5)
    cases = [[name] for name in TRICKS]
    while len(cases) < len(TRICKS) + 400:
        tricks = draw.sample(sorted(TRICKS), draw.randrange(2, 6))
        if makeable(tricks):
            cases.append(tricks)
    before = client.map_reduce(pid, range(1))
    found = client.submit_function(fails, cases, limits=Limits(on_error="skip", chunk=chunk)).result(110)
    assert [one["term"] for one in sorted(found.skipped, key=lambda one: one["term"])] == list(range(len(cases)))
    assert {one["kind"] for one in found.skipped} == {"Hostile"}
    assert max(len(one["message"]) for one in found.skipped) <= 4 * 2000
    assert client.map_reduce(pid, range(1)) == before


@pytest.mark.slow
def test_each_reaches_its_caller_as_the_failure_of_its_term(client: Client) -> None:
    """Also where the exception itself comes back, to be the cause of the failure."""
    before = client.map_reduce(pid, range(1))
    for trick in TRICKS:
        with pytest.raises(JobFailed, match=r"fails failed at term 0 on .*: Hostile: "):
            client.map_reduce(fails, [[trick]])
    assert client.map_reduce(pid, range(1)) == before


class Unread:
    """An item that fails where it is read."""

    def __init__(self, deed: str) -> None:
        self.deed = deed

    def __setstate__(self, state: dict[str, str]) -> None:
        if state["deed"] == "exit":
            raise SystemExit("no item")
        if state["deed"] == "hostile":
            raise made_of(["its class raises", "str raises itself"])
        self.__dict__ = state


class Unsent:
    """A value that fails where it is sent."""

    def __reduce__(self) -> NoReturn:
        raise made_of(["is a SystemExit", "str raises"])

    __float__ = __repr__ = __reduce__  # they fail, too


def one(_: object) -> int:
    return 1


def unsent(_: int) -> Unsent:
    return Unsent()


def unfolded(*_: int) -> NoReturn:
    raise made_of(["is a SystemExit", "str raises itself"])


def much(_: int) -> NoReturn:
    raise ValueError("much " * 20_000_000)


@pytest.mark.parametrize("chunk", [1, 7, None])
def test_it_may_come_of_an_item_a_value_or_a_merge(client: Client, chunk: int | None) -> None:
    before = client.map_reduce(pid, range(1))
    limits = Limits(chunk=chunk)
    for deed in ("exit", "hostile"):
        items = [Unread(deed if k == 13 else "") for k in range(20)]
        with pytest.raises(JobFailed, match=r"failed at terms? .*: BadFunction: an item cannot be read on \S+: "):
            client.map_reduce(one, items, limits=limits)
    for reduce in ("list", "sum", "max", "counter"):
        with pytest.raises(JobFailed, match=r"unsent failed at term \d+ on .*: (BadValue|Hostile)"):
            client.map_reduce(unsent, range(20), reduce=reduce, limits=limits)
    with pytest.raises(JobFailed, match=r"failed at term .*Hostile: .its text cannot be had: Hostile"):
        client.map_reduce(abs, range(20), reduce=unfolded, zero=0, limits=limits)
    with pytest.raises(JobFailed, match=r"much failed at term 0 on .*: ValueError: (much ){400} .job"):
        client.map_reduce(much, range(1), limits=limits)
    assert client.map_reduce(pid, range(1)) == before
