"""Ctrl-C at the worst moments: a job has begun, and the call that began it has not returned an object to end it by."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mapreduce_rq import Client
from mapreduce_rq.client.pool import Pool
from tests.support.stage import until

SECONDS = 20.0

Function = Callable[[int], None]


def hang(began: Path, _: int) -> None:
    began.touch()
    time.sleep(600)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with Client(local=2) as made:
        yield made


def interrupt(monkeypatch: pytest.MonkeyPatch, name: str, then: Callable[[], object]) -> None:
    """Raise KeyboardInterrupt where a thread of this name was started, as a signal does while ``start`` waits for it:
    only after ``then``, as on a busy machine.
    """
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        start(thread)
        if thread.name.startswith(name):
            then()
            raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("mrq items of ", lambda client, _, f: client.imap(f, range(10))),
        ("mrq items of ", lambda _, pool, f: pool.imap(f, range(10))),
        ("mrq items of ", lambda client, _, f: client.imap_unordered(f, iter(int, 1))),
        ("mrq ", lambda client, _, f: client.submit_function(f, range(10))),
        ("mrq ", lambda client, _, f: client.submit_function(f, iter(range(10)))),
    ],
    ids=["imap", "pool.imap", "endless", "submit_function", "of an iterator"],
)
def test_workers_that_began_are_free_again(
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    name: str,
    call: Callable[[Client, Pool, Function], Any],
) -> None:
    began = tmp_path / "began"
    with client.pool() as pool:
        with monkeypatch.context() as patch:
            interrupt(patch, name, partial(until, began.exists, SECONDS, "a worker is at it"))
            with pytest.raises(KeyboardInterrupt) as held:
                call(client, pool, partial(hang, began))
        assert pool.map(abs, range(10)) == list(range(10))
    until(lambda: not some_run(client), SECONDS, "no job is running")
    assert held.traceback  # a notebook keeps it, and with it all objects that were being made


@pytest.mark.parametrize(
    "call",
    [
        lambda client, f: client.imap(f, range(10)),
        lambda client, _: client.executor(),
        lambda client, _: client.pool(),
    ],
    ids=["imap", "executor", "pool"],
)
def test_a_job_without_a_caller_ends(
    client: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, call: Callable[[Client, Function], Any]
) -> None:
    with monkeypatch.context() as patch:
        interrupt(patch, "mrq ", lambda: None)
        with pytest.raises(KeyboardInterrupt) as held:
            call(client, partial(hang, tmp_path / "began"))
    until(lambda: not some_run(client), SECONDS, "no job is running")
    assert held.traceback


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("mrq items of ", lambda client: client.imap(abs, range(10))),
        ("mrq ", lambda client: client.imap(abs, range(10))),
        ("mrq ", lambda client: client.submit_function(abs, iter(range(10)), progress=lambda _: None)),
        ("mrq ", lambda client: client.executor()),
    ],
    ids=["items of imap", "imap", "submit_function", "executor"],
)
def test_a_job_ends_for_which_no_thread_can_be_started(
    client: Client, monkeypatch: pytest.MonkeyPatch, name: str, call: Callable[[Client], Any]
) -> None:
    start = threading.Thread.start

    def refused(thread: threading.Thread) -> None:
        if thread.name.startswith(name):
            raise RuntimeError("can't start new thread")
        start(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refused)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            call(client)
    until(lambda: not some_run(client), SECONDS, "no job is running")
    assert client.map_reduce(abs, range(10)) == 45


def some_run(client: Client) -> bool:
    return any(job.state == "running" for job in client.snapshot().jobs)
