"""The place of large bodies beside a private server: it is made when there is one, and gone with the job."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mapreduce_rq import Client, JobFailed
from mapreduce_rq.core.bodies import size_of
from mapreduce_rq.runtime.server.shelf import ASIDE_BYTES, Shelf
from tests.support.stage import until

LARGE = bytes(ASIDE_BYTES)


def large(_: int) -> bytes:
    return LARGE


def folders(client: Client) -> list[Path]:
    return [path for path in Path(client.site.shelf).iterdir() if path.is_dir()]


@pytest.fixture(params=["", "pipes:"])
def client(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    monkeypatch.delenv("MRQ_URL", raising=False)
    with Client(request.param, local=2) as made:
        yield made


def test_a_body_in_pieces_is_one_body(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the system writes less than it was given."""
    pieces = [bytes([k % 251]) * (k % 400) for k in range(1500)]
    whole = b"".join(pieces)
    writev = os.writev
    monkeypatch.setattr(
        os, "writev", lambda file, rest: writev(file, rest[:3] if len(rest[0]) <= 150 else [rest[0][:150]])
    )
    shelf = Shelf(str(tmp_path), "job")
    reference = shelf.put(*pieces)
    assert reference is not None
    assert shelf.get(reference) == whole
    assert size_of(reference) == len(whole)


def test_a_small_job_makes_no_place(client: Client) -> None:
    shelf = client.site.shelf

    def made(_: int) -> int:
        return sum(entry.is_dir() for entry in os.scandir(shelf))

    assert client.map_reduce(made, range(3)) == 0
    assert folders(client) == []


def test_nothing_is_left_of_a_job_with_large_values(client: Client) -> None:
    assert client.map_reduce(large, range(3), reduce="list") == [LARGE] * 3
    assert client.map_reduce(len, [LARGE] * 3) == 3 * len(LARGE)
    assert folders(client) == []


def test_nothing_is_left_by_a_worker_that_is_late(client: Client, tmp_path: Path) -> None:
    """The first term fails, and so does the job, before the value of the second one is there."""
    begun, go_on = tmp_path / "begun", tmp_path / "go on"

    def late(k: int) -> bytes:
        if k:
            begun.touch()
            while not go_on.exists():
                time.sleep(0.01)
            return LARGE
        while not begun.exists():
            time.sleep(0.01)
        raise ValueError

    with pytest.raises(JobFailed):
        client.map_reduce(late, range(2), reduce="list", chunksize=1)
    go_on.touch()
    verbs = client.verbs
    until(lambda: not any(verbs.hand(wid) for wid in verbs.registry()), 20, "the second term is answered")
    until(lambda: not folders(client), 10, "its value is removed")


def test_two_workers_may_be_the_first(tmp_path: Path) -> None:
    one, other = Shelf(str(tmp_path), "job"), Shelf(str(tmp_path), "job")
    references = [each.put(LARGE) for each in (one, other)]
    assert None not in references
    assert all(bytes(Shelf(str(tmp_path), "job").get(reference or b"")) == LARGE for reference in references)
