"""What a function raises comes to the caller: the exception itself where that can be, else one that names it."""

from __future__ import annotations

import json
import re
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

from mapreduce_rq import BadParameter, Client, DeadlineReached, JobFailed, Limits, RemoteError, by_key
from tests.support.commands import KEY, mrq
from tests.support.servers import RealServer


class OutOfStock(Exception):
    """One with more than a text."""

    def __init__(self, article: str, *, left: int) -> None:
        super().__init__(article)
        self.article, self.left = article, left

    def __reduce__(self) -> Any:
        return _out_of_stock, (self.article, self.left)


def _out_of_stock(article: str, left: int) -> OutOfStock:
    return OutOfStock(article, left=left)


class Awkward(Exception):
    """One that a pickle cannot make again: it wants two arguments and hands on one."""

    def __init__(self, one: int, other: int) -> None:
        super().__init__(f"{one} and {other}")


def picky(k: int) -> int:
    if k % 10 == 3:
        raise OutOfStock(f"article {k}", left=k)
    if k % 10 == 7:
        raise Awkward(k, 1)
    return k


@pytest.fixture(scope="module")
def private() -> Iterator[Client]:
    with Client(local=2) as client:
        yield client


@pytest.mark.parametrize("on_error", ["fail", "skip"])
def test_a_mistake_of_ours_ends_a_job_at_once_under_its_name(
    monkeypatch: pytest.MonkeyPatch, on_error: Literal["fail", "skip"]
) -> None:
    monkeypatch.delattr("mapreduce_rq.core.reducers.histogram.is_array")
    said = (
        r"failed at terms 0 to 999 on \S+: NameError: .*is_array.*: a mistake in mapreduce_rq itself, please report it"
    )
    how: dict[str, Any] = {"reduce": "histogram", "options": {"low": 0, "high": 9, "bins": 3}}
    with Client(local=1) as client, pytest.raises(JobFailed, match=said):
        client.map_reduce(float, range(1000), limits=Limits(chunk=1000, on_error=on_error), **how)


@pytest.mark.parametrize("chunk", [None, 1, 1000])
def test_the_cause_of_a_failed_job_is_what_the_function_raised(private: Client, chunk: int | None) -> None:
    with pytest.raises(JobFailed, match=r"picky failed at term 3 .*OutOfStock: article 3") as caught:
        private.map_reduce(picky, range(5), limits=Limits(chunk=chunk))
    cause = caught.value.__cause__
    assert isinstance(cause, OutOfStock)
    assert (cause.article, cause.left) == ("article 3", 3)
    printed = "".join(traceback.format_exception(caught.value))
    assert "The traceback in the worker" in printed
    assert 'raise OutOfStock(f"article {k}", left=k)' in printed


def test_a_stand_in_names_what_cannot_be_made_again(private: Client) -> None:
    with pytest.raises(JobFailed) as caught:
        private.map_reduce(picky, [7])
    cause = caught.value.__cause__
    assert isinstance(cause, RemoteError)
    assert (cause.kind, cause.message, str(cause)) == ("Awkward", "7 and 1", "Awkward: 7 and 1")
    assert any("raise Awkward(k, 1)" in note for note in cause.__notes__)


class Verbose(ValueError):
    """One that keeps what it was given."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text, code)
        self.text, self.code = text, code


class Hoarder(Exception):
    """One whose size is in no text."""

    def __init__(self, rows: list[int]) -> None:
        super().__init__(rows)


MEGABYTE = 1 << 20


def large(case: tuple[int, int]) -> None:
    """Raise an exception of this kind and size."""
    kind, size = case
    if kind == 0:
        raise ValueError("x" * size)
    if kind == 1:
        b"\xff".join([b"a" * size] * 2).decode()
    if kind == 2:
        raise Verbose("y" * size, 7)
    if kind == 3:
        raise Hoarder(list(range(size)))
    raise KeyError(b"z" * size)


LARGE: tuple[Any, ...] = (ValueError, UnicodeDecodeError, Verbose, Hoarder, KeyError)


@pytest.mark.parametrize("kind", range(5))
def test_a_large_exception_comes_with_its_class(private: Client, kind: int) -> None:
    """Whole where it is a value, as that of a pool; in a failed job with its texts cut, if that is enough."""
    case = (kind, MEGABYTE)
    with pytest.raises(LARGE[kind]) as theirs:
        large(case)
    with pytest.raises(JobFailed) as caught:
        private.map_reduce(large, [case])
    cause = caught.value.__cause__
    assert type(cause) is (RemoteError if LARGE[kind] is Hoarder else LARGE[kind])
    assert len(str(cause)) < 10_000
    (value,) = private.map_reduce(large, [case], reduce="list", return_exceptions=True)
    with private.executor() as executor:
        answered = executor.submit(large, case).exception(30)
    with private.pool() as pool, pytest.raises(LARGE[kind]) as pooled:
        pool.map(large, [case])
    error: Any
    for error in (value, answered, pooled.value):
        assert type(error) is LARGE[kind]
        assert error.args == theirs.value.args
    for error in (cause, value, answered, pooled.value):
        assert any("in large" in note for note in error.__notes__)


@pytest.mark.parametrize("kind", [0, 1, 2, 4])
def test_what_is_cut_is_told(private: Client, kind: int) -> None:
    case = (kind, 9 * MEGABYTE)
    (value,) = private.map_reduce(large, [case], reduce="list", return_exceptions=True)
    assert type(value) is LARGE[kind]
    assert len(repr(value.args)) < 10_000
    size = case[1] * 2 + 1 if kind == 1 else case[1]
    text = value.object.decode() if kind == 1 else str(value)
    assert f"({size} {'characters' if kind in {0, 2} else 'bytes'}, and here the first 2000)" in text
    if kind == 2:
        assert (value.code, value.text) == (7, value.args[0])


def test_where_pickles_are_not_trusted_the_cause_is_a_stand_in(server: RealServer, queue: str) -> None:
    with Client(server.url, local=1, queue=queue, keys=[KEY]) as client:
        with pytest.raises(JobFailed) as caught:
            client.map_reduce("builtins:int", ["1", "two"])
        cause = caught.value.__cause__
        assert isinstance(cause, RemoteError)
        assert cause.kind == "ValueError"
        assert "'two'" in cause.message
        with pytest.raises(BadParameter, match=r"return_exceptions: exceptions travel as pickles: .*allow_pickle=True"):
            client.map_reduce("builtins:int", ["1"], reduce="list", return_exceptions=True)


def test_a_job_that_another_master_has_ended_has_its_cause_from_the_record(server: RealServer, queue: str) -> None:
    with (
        Client(server.url, local=1, queue=queue, keys=[KEY]) as client,
        Client(server.url, queue=queue, keys=[KEY]) as other,
    ):
        job = client.submit_function("builtins:int", ["two"])
        assert job.wait(20)
        state = other.job_state(job.id)
        assert state is not None
        ended = other.leader.follow(job.id, job)
        assert ended is not None
        with pytest.raises(JobFailed, match="'two'") as caught:
            other.result_of(ended)
        assert isinstance(caught.value.__cause__, RemoteError)


@pytest.mark.parametrize("chunk", [None, 1, 7, 1000])
def test_exceptions_may_be_values(private: Client, chunk: int | None) -> None:
    found = private.map_reduce(picky, range(100), reduce="list", return_exceptions=True, limits=Limits(chunk=chunk))
    for k, value in enumerate(found):
        if k % 10 == 3:
            assert type(value) is OutOfStock
            assert value.left == k
            assert any("in picky" in note for note in value.__notes__)
        elif k % 10 == 7:
            assert type(value) is RemoteError
            assert value.kind == "Awkward"
        else:
            assert value == k
    for reduce in ("sum", "counter"):
        with pytest.raises(BadParameter, match=f"{reduce} cannot fold exceptions"):
            private.map_reduce(picky, range(3), reduce=reduce, return_exceptions=True)


def test_terms_that_are_left_out_have_their_exceptions_in_the_result(private: Client) -> None:
    result = private.submit_function(picky, range(20), limits=Limits(on_error="skip")).result(30)
    assert result.native == sum(range(20)) - 3 - 7 - 13 - 17
    found = {entry["term"]: entry["exception"] for entry in result.skipped}
    assert {term: type(error) for term, error in found.items()} == {
        3: OutOfStock,
        13: OutOfStock,
        7: RemoteError,
        17: RemoteError,
    }
    assert found[13].left == 13
    json.dumps(result.record)  # which holds their names and texts


def test_a_deadline_with_nothing_to_show_is_an_error_of_its_own(private: Client) -> None:
    with pytest.raises(DeadlineReached, match="the deadline passed with 0 terms counted"):
        private.map_reduce("time:sleep", [60], reduce="list", limits=Limits(deadline=0.2))


def test_an_exception_of_that_name_is_not_taken_for_one() -> None:
    class Deadline(Exception):
        pass

    def late(_: int) -> None:
        raise Deadline("of the user's own")

    with Client(local=1) as client, pytest.raises(JobFailed) as caught:
        client.map_reduce(late, [1])
    assert type(caught.value) is JobFailed
    assert type(caught.value.__cause__) is Deadline


def broken(left: int, right: int) -> int:
    return dict[int, int]()[left + right]


def late_broken(left: int, right: int) -> int:
    if left + right > 20:
        raise OutOfStock("the fold", left=left)
    return left + right


def as_text(k: int) -> str:
    return str(k)


def keyed_text(k: int) -> tuple[int, str]:
    return k % 3, str(k)


def lock(_k: int) -> Any:
    return threading.Lock()


def endless(_left: int, _right: int) -> Any:
    return (each for each in (1, 2))


NUMBERS = r"term \d is str '\d', and the reducer takes numbers \(int or float\): have the function return such "
CALLED = r"it is called with its zero, with values of the terms and with what it has returned \(job"

REFUSED: dict[str, tuple[tuple[Any, Any, dict[str, Any]], str]] = {
    "a value": (
        (as_text, range(3), {}),
        rf"as_text failed at term \d on \S+: BadValue: {NUMBERS}values, or fold them with another reducer than sum: ",
    ),
    "a key's value": ((keyed_text, range(3), {"reduce": by_key("sum")}), NUMBERS),
    "a value that cannot travel": (
        (lock, range(3), {"reduce": "list"}),
        r"BadValue: term \d .*have the function return such values \(job",
    ),
    "a fold in a worker": (
        (abs, range(3), {"reduce": broken, "zero": 0}),
        rf"abs failed at term \d on \S+: MergeError: .*broken, which folds the values, raised KeyError: \d: {CALLED}",
    ),
    "a fold in the master": (
        (abs, range(30), {"reduce": late_broken, "zero": 0, "chunksize": 1}),
        r"^builtins:abs failed on the master: MergeError: .*late_broken, which folds the values, raised OutOfStock",
    ),
    "what a fold returns": (
        (abs, range(3), {"reduce": endless, "zero": 0}),
        r"abs failed at term \d on \S+: CannotTravel: .*endless gave a generator, which cannot travel",
    ),
    "a function without a frame of its own": (
        (int, ["1", "x"], {}),
        r"int failed at term 1 on \S+: ValueError: invalid literal for int\(\) with base 10: 'x' \(job",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_no_frame_of_ours_is_shown_of_what_is_not_our_fault(private: Client, case: str) -> None:
    (function, items, how), says = REFUSED[case]
    with pytest.raises(JobFailed, match=says) as caught:
        private.map_reduce(function, items, **how)
    notes = "".join(getattr(caught.value.__cause__, "__notes__", []))
    assert f"{Path('mapreduce_rq') / ''}" not in notes, notes
    assert ("test_exceptions.py" in notes) is case.startswith("a fold"), notes
    if case.startswith("a fold"):
        assert isinstance(caught.value.__cause__, (KeyError, OutOfStock))
        where = "in the master:" if "master" in case else "in the worker "
        assert f"The traceback {where}" in notes


def test_a_deadline_is_told_once() -> None:
    with Client(local=1) as client, pytest.raises(DeadlineReached) as caught:
        client.map_reduce(time.sleep, [30], limits=Limits(deadline=0.2))
    assert re.match(r"^time:sleep failed: the deadline passed with 0 terms counted \(job ", str(caught.value))


def test_mrq_run_says_in_one_line_that_the_reducer_cannot_take_a_value() -> None:
    ran = mrq("run", "json:dumps", "--terms", "3", "--local", "1")
    assert (ran.code, ran.out) == (1, "")
    assert re.fullmatch(
        r"mrq: json:dumps failed at term \d on \S+: BadValue: term \d is str '\d', and the reducer takes numbers .*\n",
        ran.err,
    )
