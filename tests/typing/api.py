"""What a type checker makes of the public API. Checked by mypy with the rest of the tests, and never run.

A line that must be refused carries the error that it must be refused for: an ignore that is not needed is an error.
"""

from __future__ import annotations

import math
import operator
from typing import Any, Literal, assert_type

from mapreduce_rq import (
    BadParameter,
    Client,
    Job,
    JobFailed,
    Law,
    Limits,
    MrqError,
    Reducer,
    Result,
    UsageError,
    kernel,
)
from mapreduce_rq.extend import Computation, Outcome, Params


def square(k: int) -> int:
    return k * k


@kernel
def spans(lo: int, hi: int) -> list[float]:
    return [1 / k for k in range(lo + 1, hi + 1)]


@kernel(libm=True, whole=True)
def whole(lo: int, hi: int) -> float:
    return math.exp(lo) + hi


def declared_functions_keep_their_types() -> None:
    assert_type(spans(0, 3), list[float])
    assert_type(whole(0, 3), float)
    spans("0", 3)  # type: ignore[arg-type]
    kernel(exact=True)  # type: ignore[call-overload]


def clients() -> None:
    with Client() as here:
        assert_type(here, Client)
    with Client("redis://host", local=2, queue="sums", keys=[b"k" * 32, "6b" * 32], allow=["mine"], allow_pickle=True):
        pass
    Client(4)  # type: ignore[arg-type]
    Client("redis://host", "queue")  # type: ignore[call-arg, arg-type]
    Client(keys=[4])  # type: ignore[list-item]


def folding(mrq: Client) -> None:
    assert_type(mrq.map_reduce(square, range(9)), Any)
    mrq.map_reduce("package.module:function", range(9), reduce="topk", options={"k": 3})
    mrq.map_reduce(len, ["one", "two"], reduce=max, zero=0, law="commutative")
    mrq.map_reduce(str.split, (line for line in "ab"), reduce="counter")
    mrq.map_reduce(square, [1], reduce=operator.add, zero=0, law=Law.COMMUTATIVE, limits=Limits(deadline=60))
    mrq.map_reduce(pow, range(9), [2, 3], kwargs={"mod": 7}, chunksize=2, reduce="list")
    mrq.map_reduce(square, 9)  # type: ignore[arg-type]
    mrq.map_reduce(square, range(9), limits={"deadline": 60})  # type: ignore[arg-type]
    mrq.map_reduce(square, range(9), reduce=7)  # type: ignore[arg-type]


def streaming(mrq: Client) -> None:
    assert_type(next(mrq.imap(square, range(9), buffersize=4)), int)
    assert_type(list(mrq.imap_unordered(square, [3], chunksize=2)), list[int])
    assert_type(list(mrq.starmap(square, [(2,)])), list[int])
    mrq.imap(square, 9)  # type: ignore[arg-type]


def limits() -> None:
    assert_type(Limits(on_error="skip").on_error, Literal["fail", "skip"])
    assert_type(Limits().deadline, float | None)
    Limits(on_error="ignore")  # type: ignore[arg-type]
    Limits(60)  # type: ignore[call-arg]
    Limits().chunk = 3  # type: ignore[misc]


def jobs(mrq: Client) -> None:
    job = mrq.submit("exp", x="2", terms=50)
    assert_type(job, Job)
    assert_type(job.id, str)
    assert_type(job.status, str)
    assert_type(job.wait(1.0), bool)
    assert_type(job.done(), bool)
    assert_type(job.progress, dict[str, Any])
    assert_type(job.result(timeout=10), Result)
    assert_type(next(job.results()), tuple[int, Any])
    assert_type(job.cancel(now=True), str)
    assert_type(mrq.submit_function(square, range(9), reduce="mean", limits=Limits(rel_tol=1e-3)), Job)
    mrq.submit(computation="exp")  # type: ignore[call-arg]


def results(result: Result) -> None:
    assert_type(result.value, str)
    assert_type(result.float, float | None)
    assert_type(result.bound, str | None)
    assert_type(result.bound_kind, Literal["proven", "statistical", "estimated", "exact", "none"])
    assert_type(result.digest, str)
    assert_type(result.native, Any)
    assert_type(result.elapsed_s, float)
    assert_type(result.skipped, list[dict[str, Any]])
    result.valeu  # type: ignore[attr-defined]  # noqa: B018


def errors(mrq: Client) -> None:
    try:
        mrq.map_reduce(square, range(9))
    except JobFailed as failed:
        assert_type(failed.exit_code, int)
    except UsageError as wrong:
        caught: MrqError = wrong
        assert_type(caught.exit_code, int)
    known: type[UsageError] = BadParameter
    other: type[UsageError] = JobFailed  # type: ignore[assignment]
    del known, other


class Halves(Reducer[int]):
    name = "halves"

    def zero(self) -> int:
        return 0

    def merge(self, left: int, right: str) -> int:  # type: ignore[override]
        return left + len(right)

    def encode(self, partial: int) -> bytes:
        return bytes(partial)

    def decode(self, data: bytes) -> int:
        return len(data)


class Nothing(Computation[int]):
    name = "nothing"
    summary = "for the checker"
    Params = Params
    reducer = Halves()
    total = 0

    def map(self, lo: int, hi: int) -> int:
        return hi - lo

    def finish(self, partial: int, terms: int) -> Outcome:
        return Outcome(value=str(partial), bound_kind="sure")  # type: ignore[arg-type]
