"""Tensors of torch as items, values and partials: where pickles are trusted they come back as they went.

Torch is no extra of ours, so these tests are skipped where it is not installed.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any

import pytest

from mapreduce_rq import BadFunction, Client, JobFailed
from tests.support.commands import KEY
from tests.support.servers import RealServer

torch: Any = pytest.importorskip("torch", reason="torch is not installed: pip install torch")


@pytest.fixture(scope="module")
def private() -> Iterator[Client]:
    with Client(local=2) as client:
        yield client


def same(tensor: Any) -> Any:
    return tensor


def filled(k: int) -> Any:
    return torch.full((3,), float(k))


def equal(found: Any, sent: Any) -> bool:
    return type(found) is type(sent) and found.dtype == sent.dtype and bool(torch.equal(found, sent))


def test_tensors_come_back_as_they_went(private: Client) -> None:
    sent = [
        *(torch.zeros(2, dtype=dtype) for dtype in (torch.float16, torch.bfloat16, torch.int8, torch.bool)),
        *(torch.ones(2, dtype=dtype) for dtype in (torch.complex64, torch.float64)),
        torch.tensor(3),
        torch.empty(0, 3),
        torch.arange(12).reshape(3, 4).t()[1:],
        torch.full((40_000,), 0.5),  # laid aside
        torch.ones(2, requires_grad=True),
    ]
    found = private.map_reduce(same, sent, reduce="list")
    assert all(map(equal, found, sent))
    assert [one.requires_grad for one in found] == [one.requires_grad for one in sent]
    found[-2].add_(1)  # it is writable


@pytest.mark.parametrize("chunk", [None, 1, 3])
def test_callables_fold_tensors(private: Client, chunk: int | None) -> None:
    for reduce in (operator.add, torch.add):
        found = private.map_reduce(filled, range(10), reduce=reduce, zero=0, chunksize=chunk)
        assert equal(found, torch.full((3,), 45.0))


def pair(k: int) -> tuple[int, Any]:
    return k % 2, filled(k)


def test_tensors_are_folded_by_key(private: Client) -> None:
    found = private.reduce_by_key(pair, range(6), operator.add, zero=0)
    assert equal(found[0], torch.full((3,), 6.0))
    assert equal(found[1], torch.full((3,), 9.0))


def test_what_cannot_take_a_tensor_says_so_in_one_line(private: Client) -> None:
    with pytest.raises(JobFailed, match="term 0 is Tensor") as failed:
        private.map_reduce(filled, range(1))  # of several, any may fail first
    assert "\n" not in str(failed.value)


def test_a_tensor_that_does_not_tell_its_size_is_a_value(private: Client) -> None:
    sparse = torch.eye(3).to_sparse()
    for found in (list(private.imap(same, [sparse])), private.pool().map(same, [sparse])):
        assert bool(torch.equal(found[0].to_dense(), torch.eye(3)))


def test_where_pickles_are_not_trusted_a_tensor_is_refused_before_it_is_queued() -> None:
    with RealServer("valkey") as server, Client(server.url, local=1, keys=[KEY]) as client:
        with pytest.raises(BadFunction, match="Tensor") as refused:
            client.map_reduce(f"{__name__}:same", [torch.ones(2)], reduce="list")
        assert "\n" not in str(refused.value)
        assert not client.verbs.listed()
