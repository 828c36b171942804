"""What a function is called with, and how it is given: rows, several iterables, names, partials, methods, instances."""

from __future__ import annotations

import itertools
import operator
import time
from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from typing import Any

import pytest

from mapreduce_rq import BadFunction, BadParameter, Client, JobCancelled, JobFailed, Limits, UsageError, by_key, kernel
from tests.support.commands import KEY
from tests.support.servers import FreshServer


def scaled(x: int, y: int = 1, *, times: int = 1) -> int:
    return (10 * x + y) * times


class Scale:
    factor = 7

    def __init__(self, factor: int) -> None:
        self.by = factor

    def __call__(self, x: int) -> int:
        return self.by * x

    def plus(self, x: int, more: int = 0) -> int:
        return self.by * x + more

    @classmethod
    def of_class(cls, x: int) -> int:
        return cls.factor * x

    @staticmethod
    def of_none(x: int) -> int:
        return -x


class Whole(int):
    """Nothing that a plain message carries."""


@kernel
def spans(lo: int, hi: int, *, times: int = 1) -> list[int]:
    return [k * times for k in range(lo, hi)]


@pytest.fixture(scope="module")
def private() -> Iterator[Client]:
    with Client(local=2) as client:
        yield client


@pytest.fixture
def plain(fresh_server: FreshServer, queue: str) -> Iterator[Client]:
    """Signed, and no pickles."""
    with Client(fresh_server().url, local=1, queue=queue, keys=[KEY]) as client:
        yield client


def listed(client: Client, *call: Any, **how: Any) -> list[Any]:
    """By both ways, which must agree."""
    found: list[Any] = client.map_reduce(*call, reduce="list", **how)
    assert list(client.imap(*call, **how)) == found
    return found


@pytest.mark.parametrize("which", ["private", "plain"])
def test_calls_are_those_that_map_and_starmap_would_make(which: str, request: pytest.FixtureRequest) -> None:
    client: Client = request.getfixturevalue(which)
    rows = [(1, 2), [3, 4], (5,)]
    assert listed(client, scaled, [1, 2, 3], range(4, 9)) == list(map(scaled, [1, 2, 3], range(4, 9)))
    assert listed(client, scaled, rows, star=True) == [12, 34, 51]
    assert listed(client, scaled, rows, star=True, kwargs={"times": 2}) == [24, 68, 102]
    assert listed(client, scaled, range(3), kwargs={"times": 3, "y": 0}) == [0, 30, 60]
    assert listed(client, partial(scaled, 4), range(3)) == [40, 41, 42]
    assert listed(client, partial(partial(scaled, times=2), 4), [1], kwargs={"times": 5}) == [205]
    assert listed(client, "tests.system.test_arguments:scaled", range(2), kwargs={"y": 5}) == [5, 15]
    assert listed(client, partial(operator.add, Fraction(1, 3)), [1, 2]) == [Fraction(4, 3), Fraction(7, 3)]
    assert listed(client, Scale.of_class, [3]) == [21]
    assert listed(client, Scale.of_none, [3]) == [-3]
    assert list(client.starmap(scaled, rows, chunksize=2)) == [12, 34, 51]
    assert sorted(client.imap_unordered(scaled, [1, 2], [3, 4])) == [13, 24]
    assert client.map_reduce(partial(spans, times=2), range(10)) == 90
    assert client.map_reduce(spans, range(10), kwargs={"times": 3}) == 135
    assert client.reduce_by_key(divmod, [(7, 2), (8, 2), (9, 2)], star=True) == {3: 1, 4: 1}


def test_methods_instances_and_classes_are_functions_too(private: Client) -> None:
    scale = Scale(3)
    assert listed(private, scale, range(3)) == [0, 3, 6]
    assert listed(private, scale.plus, range(3), kwargs={"more": 1}) == [1, 4, 7]
    assert listed(private, partial(scale.plus, more=2), range(3)) == [2, 5, 8]
    assert listed(private, Fraction, [1, 2], [3, 5]) == [Fraction(1, 3), Fraction(2, 5)]
    assert listed(private, [3, 4].__contains__, [3, 5]) == [True, False]
    assert listed(private, partial(lambda x, y: x - y, 10), [1, 2]) == [9, 8]
    assert listed(private, scaled, [1], kwargs={"times": Fraction(1, 2), "y": Whole(3)}) == [Fraction(13, 2)]


def test_arguments_that_no_plain_message_carries_need_pickles(plain: Client) -> None:
    with pytest.raises(BadFunction, match=r"the arguments of .*scaled cannot travel.*allow_pickle"):
        plain.map_reduce(scaled, [1], kwargs={"times": Scale(1)})
    with pytest.raises(
        BadFunction, match=r"Scale has no importable name: put it .*, or allow pickles: .*--allow-pickle"
    ):
        plain.map_reduce(Scale(1), [1])


def test_the_size_of_tasks_has_one_word(private: Client) -> None:
    result = private.submit_function(scaled, range(100), reduce="int_sum", chunksize=10).result()
    assert (result.native, result.tasks) == (sum(map(scaled, range(100))), 10)
    for how in ({"chunksize": 0}, {"chunksize": 3, "limits": Limits(chunk=4)}):
        with pytest.raises(BadParameter, match="chunk"):
            private.map_reduce(scaled, range(3), **how)
        with pytest.raises(BadParameter, match="chunk"):
            private.imap(scaled, range(3), **how)


@pytest.mark.parametrize(
    ("call", "how", "what"),
    [
        ((scaled, 3), {}, "items is 3, and must be an iterable"),
        ((scaled, [1], 3), {}, "items is 3, and must be an iterable"),
        ((scaled, [1], [2]), {"star": True}, "star: several iterables"),
        ((spans, [1], [2]), {}, "a kernel of spans takes a range"),
    ],
)
def test_a_call_that_is_none_is_refused(private: Client, call: Any, how: Any, what: str) -> None:
    with pytest.raises(UsageError, match=what):
        private.map_reduce(*call, **how)
    with pytest.raises(UsageError, match=what):
        private.imap(*call, **how)
    with pytest.raises(BadFunction, match="int 3 is not a function"):
        private.map_reduce(3, [1])  # type: ignore[arg-type]


@pytest.mark.parametrize("reduce", ["sum", by_key("sum"), operator.add])
def test_a_law_that_there_is_none_of_is_refused_beside_any_reducer(private: Client, reduce: Any) -> None:
    with pytest.raises(BadParameter, match="law: 'fast' is not one of ordered, commutative"):
        private.map_reduce(scaled, range(3), reduce=reduce, zero=... if reduce != operator.add else 0, law="fast")


def slowly(k: int) -> int:
    time.sleep(0.005)
    return scaled(k)


def test_results_of_a_job_come_with_their_terms(private: Client) -> None:
    job = private.submit_function(slowly, range(200), reduce="list", chunksize=5)
    results = job.results()
    first = [next(results) for _ in range(20)]
    assert not job.done()
    assert sorted([*first, *results]) == [(k, scaled(k)) for k in range(200)]
    assert sorted(job.results()) == [(k, scaled(k)) for k in range(200)]  # again, when all is over


def picky(k: int) -> int:
    if k % 10 == 3:
        raise LookupError(k)
    return k


def test_results_lack_what_was_left_out_and_end_as_the_job_does(private: Client) -> None:
    job = private.submit_function(picky, range(100), reduce="list", limits=Limits(on_error="skip"))
    assert sorted(job.results()) == [(k, k) for k in range(100) if k % 10 != 3]
    failing = private.submit_function(picky, range(100), reduce="list")
    with pytest.raises(JobFailed, match="at term"):
        list(failing.results())
    cancelled = private.submit_function(scaled, itertools.count(), reduce="list")
    cancelled.cancel(now=True)
    with pytest.raises(JobCancelled):
        list(cancelled.results())
    with pytest.raises(UsageError, match="reduce='list'"):
        private.submit_function(scaled, range(3)).results()
