"""Folding by key over real workers: one value and one digest at any schedule, and what can go wrong on the way."""

from __future__ import annotations

import math
import operator
import os
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from mapreduce_rq import Client, Combine, JobFailed, Limits, by_key
from mapreduce_rq.core.reducers.counter import LISTED
from mapreduce_rq.errors import BadFunction, BadParameter, UsageError
from tests.support.commands import KEY, environment
from tests.support.servers import ROOT, RealServer

TERMS = 3000


def wild(k: int) -> tuple[int, float]:
    """Floats of all sizes, most of which cancel."""
    return k * 7919 % 50, math.ldexp((k * 2654435761 % 1000003) / 3.0, k % 300 - 150) * (-1) ** (k // 7)


def many(k: int) -> tuple[str, int]:
    """More keys than stand in a record."""
    return f"key {k * 31 % (LISTED + 7)}", k


def letters(k: int) -> Iterator[tuple[str, int]]:
    for letter in f"{k:b}":
        yield letter, k


def counts(k: int) -> dict[str, int]:
    return {"all": 1, "even": 1 - k % 2}


def row(k: int) -> tuple[str, dict[str, Any]]:
    return "abc"[k % 3], {"price": k / 10, "who": k % 17, "name": str(k)}


def raises_on_the_way(k: int) -> Iterator[tuple[str, int]]:
    yield "a", 1
    if k == 1234:
        raise LookupError("no more pairs")


def by_tens(k: int) -> tuple[int, int]:
    return k % 10, k


def picky(left: int, right: int) -> int:
    if left + right > 4000:
        raise RuntimeError("more than four thousand")
    return left + right


def longest(left: str, right: str) -> str:
    return max(left, right, key=len)


def texts(k: int) -> tuple[int, str]:
    return k % 3, "x" * (k % 40)


def empty() -> list[int]:
    return []


def appended(row: list[int], value: int) -> list[int]:
    row.append(value)
    return row


def joined(left: list[int], right: list[int]) -> list[int]:
    return left + right


def size(row: list[int]) -> int:
    return len(row)


@pytest.fixture(scope="module")
def private() -> Iterator[Client]:
    with Client(local=3) as client:
        yield client


@pytest.mark.parametrize("items", [range(TERMS), [*range(TERMS)]], ids=["range", "items"])
def test_every_schedule_has_one_digest_and_the_sums_of_fractions(private: Client, items: Any) -> None:
    found = [
        private.submit_function(wild, items, reduce=by_key("sum"), limits=Limits(chunk=chunk)).result()
        for chunk in (None, 1, 97, TERMS)
    ]
    exact: defaultdict[int, Fraction] = defaultdict(Fraction)
    for key, value in map(wild, range(TERMS)):
        exact[key] += Fraction(value)
    expected = {key: float(exact[key]) for key in sorted(exact)}
    assert [repr(each.native) for each in found] == [repr(expected)] * len(found)
    assert len({each.digest for each in found}) == 1
    assert len({each.value for each in found}) == 1


def test_a_result_too_large_for_a_record_has_its_digest_and_text_when_asked(private: Client) -> None:
    found = [
        private.submit_function(many, range(TERMS), reduce=by_key("sum"), limits=Limits(chunk=chunk)).result()
        for chunk in (None, 50)
    ]
    expected: defaultdict[str, int] = defaultdict(int)
    for key, value in map(many, range(TERMS)):
        expected[key] += value
    for each in found:
        assert each.record["value"] is None
        assert list(each.native.items()) == sorted(expected.items())
        assert each.value.splitlines() == [f"{key}\t{value}" for key, value in sorted(expected.items())]
        assert each.bound_kind == "exact"
    assert found[0].digest == found[1].digest != ""


def test_a_term_gives_a_pair_a_dictionary_or_pairs_on_the_way(private: Client) -> None:
    digits = "".join(f"{k:b}" for k in range(100))
    assert private.reduce_by_key(letters, range(100), "count") == {"0": digits.count("0"), "1": digits.count("1")}
    assert private.reduce_by_key(counts, range(101)) == {"all": 101, "even": 51}
    assert private.reduce_by_key(lambda k: [] if k % 2 else [("even", k)], range(10), "list") == {
        "even": [0, 2, 4, 6, 8]
    }


def test_a_form_without_files_is_a_mistake(private: Client) -> None:
    with pytest.raises(UsageError, match="form is 'parquet', and says how the files of out are written: give out, too"):
        private.reduce_by_key(counts, range(3), form="parquet")
    with pytest.raises(UsageError, match="form is 'x'"):
        private.reduce_by_key(counts, range(3), form="x")


def test_columns_are_folded_each_by_its_own_reducer(private: Client) -> None:
    found = private.reduce_by_key(
        row,
        range(300),
        {"price": "mean", "who": ("distinct", {"k": 16}), "name": (longest, "")},
        limits=Limits(chunk=7),
    )
    assert found == {
        "a": {"price": 14.85, "who": 17, "name": "102"},
        "b": {"price": 14.95, "who": 17, "name": "100"},
        "c": {"price": 15.05, "who": 17, "name": "101"},
    }


def test_top_and_sorted(private: Client) -> None:
    assert private.reduce_by_key(counts, range(101), top=1) == [("all", 101)]
    assert private.reduce_by_key(letters, range(9), "count", sorted=True) == [("0", 9), ("1", 13)]
    with pytest.raises(JobFailed, match="top needs results that have an order, and these are of type Counter"):
        private.reduce_by_key(letters, range(9), "counter", top=1)


def test_lists_and_foldings_keep_the_order_of_terms(private: Client) -> None:
    found = private.reduce_by_key(lambda k: (k % 3, k), range(1000), "list", limits=Limits(chunk=13))
    assert found == {rest: [*range(rest, 1000, 3)] for rest in range(3)}
    folded = private.reduce_by_key(lambda k: (k % 3, [k]), range(100), operator.add, zero=[], limits=Limits(chunk=3))
    assert folded == {rest: [*range(rest, 100, 3)] for rest in range(3)}


def test_by_key_of_by_key(private: Client) -> None:
    found = private.map_reduce(lambda k: (k % 2, (k % 3, 1)), range(60), reduce=by_key(by_key("count")))
    assert found == {half: dict.fromkeys(range(3), 10) for half in range(2)}


def test_a_combine_is_four_functions(private: Client) -> None:
    mean = Combine(
        lambda: (0, 0),
        lambda had, value: (had[0] + value, had[1] + 1),
        lambda one, other: (one[0] + other[0], one[1] + other[1]),
        lambda had: had[0] / had[1],
    )
    assert private.map_reduce(int, range(10), reduce=mean) == 4.5
    assert private.reduce_by_key(lambda k: (k % 2, k), range(10), mean) == {0: 4.0, 1: 5.0}


REFUSED: list[tuple[Any, str]] = [
    (lambda k: (k, []) if k != 777 else ([], 1), "term 777 is list .*unhashable"),
    (lambda k: (math.nan if k == 777 else 1, 1), "term 777 .*nan"),
    (lambda k: ("a", "b" if k == 777 else 1), "term 777 is str 'b', and the reducer takes numbers"),
    (lambda k: k if k == 777 else ("a", 1), "term 777 is int 777, and the reducer takes a pair"),
    (raises_on_the_way, "at term 1234 .*LookupError: no more pairs"),
]


@pytest.mark.parametrize(("function", "says"), REFUSED)
@pytest.mark.parametrize("items", [range(TERMS), [*range(TERMS)]], ids=["range", "items"])
def test_a_term_that_gives_no_pairs_is_named(private: Client, function: Any, says: str, items: Any) -> None:
    reduce = "list" if "unhashable" in says else "sum"
    with pytest.raises(JobFailed, match=says) as caught:
        private.reduce_by_key(function, items, reduce)
    assert "\n" not in str(caught.value)


def test_a_value_that_a_folding_function_refuses_fails_the_job_by_its_name(private: Client) -> None:
    with pytest.raises(JobFailed, match=r"MergeError: .*longest, which folds the values, raised TypeError"):
        private.reduce_by_key(lambda k: ("a", k), range(10), longest, zero="")


def test_terms_that_give_no_pairs_are_left_out_and_listed(private: Client) -> None:
    job = private.submit_function(REFUSED[2][0], range(TERMS), reduce=by_key("sum"), limits=Limits(on_error="skip"))
    found = job.result()
    assert found.native == {"a": TERMS - 1}
    assert [each["term"] for each in found.skipped] == [777]


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"reduce": "sums"}, "did you mean sum"),
        ({"top": 0}, "top is 0"),
        ({"top": 2.5}, "top is 2.5"),
        ({"reduce": {}}, "names of columns"),
        ({"reduce": {"": "sum"}}, "names of columns"),
        ({"reduce": {"a": ("sum", 1)}}, "a name with its options"),
        ({"reduce": {"a": "sum"}, "zero": 0}, "its own zero"),
        ({"reduce": "sum", "zero": 0}, "zero was given"),
        ({"reduce": operator.add}, "needs zero=..."),
        ({"reduce": "topk", "options": {"kk": 3}}, "not kk"),
    ],
)
def test_mistakes_are_told_before_anything_is_queued(private: Client, how: dict[str, Any], says: str) -> None:
    with pytest.raises(BadParameter, match=says):
        private.reduce_by_key(wild, range(3), **how)


def test_by_name_on_queues_of_others(server: RealServer, queue: str) -> None:
    combine = Combine(empty, appended, joined, size)
    with Client(server.url, local=1, queue=queue, keys=[KEY]) as client:
        assert client.reduce_by_key(texts, range(90), longest, zero="", top=1) == [(0, "x" * 39)]
        assert client.reduce_by_key(wild, range(100), combine) == dict.fromkeys(range(50), 2)
        assert client.reduce_by_key(row, range(9), {"price": "max", "name": (longest, "")})["a"]["price"] == 0.6
        with pytest.raises(BadFunction, match="no importable name"):
            client.reduce_by_key(row, range(9), {"price": (lambda one, other: one + other, 0)})
    with Client(server.url, local=1, queue=queue, allow=[f"{__name__}:wild"]) as client:
        assert client.reduce_by_key(wild, range(100), "count", top=1) == [(0, 2)]
        with pytest.raises(JobFailed, match="--allow"):
            client.reduce_by_key(wild, range(100), combine)
        with pytest.raises(JobFailed, match="--allow"):
            client.reduce_by_key(wild, range(100), {"a": (longest, "")})


# -- tasks that are answered together ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "reduce"),
    [(by_tens, by_key("sum")), (counts, by_key("mean")), (letters, by_key("max")), (math.isqrt, "counter")],
    ids=["sum", "mean", "max", "counter"],
)
def test_a_joint_answer_counts_each_of_its_tasks_once(private: Client, function: Any, reduce: Any) -> None:
    found = [
        private.submit_function(function, range(TERMS), reduce=reduce, limits=Limits(chunk=chunk)).result()
        for chunk in (1, 40, TERMS)
    ]
    assert len({repr(each.native) for each in found}) == 1
    assert len({each.digest for each in found}) == 1
    assert [each.record["tasks"] for each in found] == [TERMS, TERMS // 40, 1]


def test_a_worker_that_dies_with_tasks_that_it_has_not_answered_changes_nothing(
    private: Client, tmp_path: Path
) -> None:
    flag = str(tmp_path / "died")

    def dies_once(k: int) -> tuple[int, int]:
        if k == TERMS // 2 and not os.path.exists(flag):
            os.mknod(flag)
            os.kill(os.getpid(), signal.SIGKILL)
        return k % 10, k

    expected = {key: sum(range(key, TERMS, 10)) for key in range(10)}
    assert private.reduce_by_key(dies_once, range(TERMS), limits=Limits(chunk=1)) == expected
    assert os.path.exists(flag)


@pytest.mark.parametrize("chunk", [1, 7, TERMS])
def test_what_a_merge_by_key_raises_fails_the_job_and_names_it(private: Client, chunk: int) -> None:
    with pytest.raises(JobFailed, match=r"picky, which folds the values, raised RuntimeError: more than four thousand"):
        private.reduce_by_key(by_tens, range(TERMS), picky, zero=0, law="commutative", limits=Limits(chunk=chunk))


def test_tasks_whose_merge_raises_in_a_worker_are_answered_one_by_one(private: Client) -> None:
    us = os.getpid()

    def only_here(left: int, right: int) -> int:
        if os.getpid() != us and left and right > 2:
            raise RuntimeError("not in a worker")
        return left + right

    def pair(k: int) -> tuple[int, int]:
        return k, k

    def both(k: int) -> list[tuple[int, int]]:
        return [(0, k)]

    assert private.reduce_by_key(pair, range(40), only_here, zero=0, law="commutative") == {k: k for k in range(40)}
    found = private.reduce_by_key(both, range(40), only_here, zero=0, law="commutative", limits=Limits(chunk=1))
    assert found == {0: sum(range(40))}


def bulky(k: int) -> tuple[int, bytes]:
    return k % 3, bytes([k % 256]) * 200_000


def test_large_values_by_key_do_not_stay_where_their_caller_has_them(server: RealServer, queue: str) -> None:
    with Client(server.url, local=2, queue=queue, keys=[KEY]) as client:
        for reduce, length in (("list", 20), ("concat", 20 * 200_000)):
            found = client.reduce_by_key(f"{__name__}:bulky", range(60), reduce)
            assert [len(found[key]) for key in range(3)] == [length] * 3
        redis = server.client()
        sizes = {name: redis.memory_usage(name) or 0 for name in redis.keys(f"mrq1:{{{queue}}}:*")}
        assert sum(sizes.values()) < 200_000, sizes


PEAK = """
import resource
from mapreduce_rq import Client
def pair(k):
    return k % 50, bytes(1_000_000)
with Client(local=2) as client:
    client.map_reduce(abs, range(4))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = client.reduce_by_key(pair, range(200), "REDUCE")
    assert sum(map(len, found.values())) == LENGTH
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.mark.parametrize(("reduce", "length"), [("list", 200), ("concat", 200_000_000)])
def test_a_master_has_large_values_by_key_once_in_memory(tmp_path: Path, reduce: str, length: int) -> None:
    script = tmp_path / "peak.py"
    script.write_text(PEAK.replace("REDUCE", reduce).replace("LENGTH", str(length)))
    ran = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=100, check=True, env=environment(path=[ROOT])
    )
    assert int(ran.stdout) < 1.5 * 200_000_000
