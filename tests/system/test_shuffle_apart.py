"""The shuffle on a shared Redis: pieces go from worker to worker, the master has none, and none is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mapreduce_rq import Client, JobFailed, Limits, by_key
from mapreduce_rq.broker.tasks import Tasks
from mapreduce_rq.core.reducers.shuffle import Parts, Shuffle
from mapreduce_rq.errors import JobCancelled
from mapreduce_rq.runtime.master.observer import Silent
from tests.support.commands import KEY, environment
from tests.support.servers import ROOT, RealServer
from tests.support.stage import allowed, until
from tests.system.test_shuffle import KEYS, TERMS, pair, sums

NAME = f"{pair.__module__}:pair"
LARGE = Limits(chunk=30_000)
"""Each fold has more keys than may travel as they are."""
ALONE = Limits(chunk=30_000, retries=1)
"""As `LARGE`, and no task joins another, so there are as many folds as tasks."""
LEFT = {"J", "e", "j", "v", "w"}
"""The kinds of keys that an ended job leaves for a while."""


@pytest.fixture(scope="module")
def server() -> Iterator[RealServer]:
    """One flavour: what is asked of it here is the same in both."""
    with RealServer("valkey") as started:
        yield started


def pieces_of(server: RealServer, queue: str) -> dict[bytes, bytes]:
    keys: Any = server.client().keys(f"mrq1:{{{queue}}}:p:*")
    found: Any = server.client().hgetall(keys[0]) if keys else {}
    return dict(found)


def nothing_is_left(server: RealServer, queue: str) -> bool:
    keys: Any = server.client().keys(f"mrq1:{{{queue}}}:*")
    return {key.decode().split(":")[2] for key in keys} <= LEFT


def slow_pair(k: int) -> tuple[int, int]:
    if k % 10_000 == 0:
        time.sleep(0.2)
    return pair(k)


def test_the_master_holds_references_and_others_can_fetch_the_value(
    server: RealServer, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    partials: list[Any] = []
    finish = Shuffle.finish

    def looked_at(self: Shuffle, partial: Any) -> Any:
        partials.append(self.encode(partial))
        assert len(pieces_of(server, queue)) == 4 * (TERMS // 30_000)
        return finish(self, partial)

    monkeypatch.setattr(Shuffle, "finish", looked_at)
    with Client(server.url, local=2, queue=queue, keys=[KEY]) as client:
        job = client.submit_function(NAME, range(TERMS), reduce=by_key("sum", parts=4), limits=ALONE)
        result = job.result(60)
        assert isinstance(result.native, Parts)
        assert dict(result.native) == sums()
        assert len(partials[0]) < 200
        assert nothing_is_left(server, queue)
    monkeypatch.undo()
    with Client(server.url, local=0, queue=queue, keys=[KEY]) as other:
        again = other.job(job.id).result(10)
        assert dict(again.native) == sums()
        assert again.digest == result.digest
    with Client(local=2) as private:
        elsewhere = private.submit_function(NAME, range(TERMS), reduce=by_key("sum", parts=8)).result(60)
        assert elsewhere.digest == result.digest


def test_a_folder_of_parts_is_written_and_its_value_is_nobody_elses(
    server: RealServer, queue: str, tmp_path: Path
) -> None:
    with Client(server.url, local=2, queue=queue, keys=[KEY]) as client:
        written = client.reduce_by_key(NAME, range(TERMS), out=tmp_path / "out", parts=4, limits=LARGE)
        assert written.keys == KEYS
        assert nothing_is_left(server, queue)


@pytest.mark.usefixtures("workers_are_forks")
@pytest.mark.parametrize("where", ["lay", "encode", "_merged"])
def test_a_worker_that_dies_between_pieces_and_answer_changes_nothing(
    where: str, server: RealServer, queue: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed where its pieces lie there and no message names them, and where it has merged and not answered."""
    owner: Any = Tasks if where == "lay" else Shuffle
    flag, done = tmp_path / "died", getattr(owner, where)
    master = os.getpid()

    def killed(self: Any, *arguments: Any) -> Any:
        found = done(self, *arguments)
        if os.getpid() != master and not flag.exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    monkeypatch.setattr(owner, where, killed)
    with Client(server.url, local=2, queue=queue, keys=[KEY]) as client:
        result = client.submit_function(NAME, range(TERMS), reduce=by_key("sum", parts=4), limits=LARGE).result(60)
        assert flag.exists()
        assert dict(result.native) == sums()
        assert nothing_is_left(server, queue)


LEADS = """
import sys
from mapreduce_rq import Client, Limits, by_key
with Client(sys.argv[1], queue=sys.argv[2], keys=[sys.argv[3]]) as client:
    limits = Limits(chunk=30_000)
    client.submit_function("tests.system.test_shuffle_apart:slow_pair", range(120_000), reduce=by_key("sum", parts=4),
                           limits=limits).result()
"""


def test_another_master_merges_what_a_killed_one_had_counted(server: RealServer, queue: str) -> None:
    with Client(server.url, local=1, queue=queue, keys=[KEY]) as client:
        command = [sys.executable, "-c", LEADS, server.url, queue, KEY]
        with subprocess.Popen(command, cwd=ROOT, env=environment(path=[ROOT])) as process:
            until(lambda: len(pieces_of(server, queue)) >= 8, 30, "two folds are laid aside")
            process.kill()
        (job,) = client.verbs.listed()
        ended = client.leader.follow(job, Silent())
        assert ended is not None
        assert dict(client.result_of(ended).native) == sums()
        assert nothing_is_left(server, queue)


@pytest.mark.parametrize("change", ["delete", "overwrite", "exchange"])
def test_pieces_that_somebody_changed_are_not_taken(
    change: str, server: RealServer, queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = Shuffle.finish

    def tampered(self: Shuffle, partial: Any) -> Any:
        raw = server.client()
        (key,) = raw.keys(f"mrq1:{{{queue}}}:p:*")
        names = sorted(pieces_of(server, queue))
        if change == "delete":
            raw.hdel(key, names[0])
        elif change == "overwrite":
            raw.hset(key, names[0], b"garbage of somebody who has no key")
        else:
            raw.hset(key, names[0], raw.hget(key, names[1]))
        return finish(self, partial)

    monkeypatch.setattr(Shuffle, "finish", tampered)
    with Client(server.url, local=1, queue=queue, keys=[KEY]) as client:
        with pytest.raises(JobFailed) as failed:
            client.reduce_by_key(NAME, range(TERMS), parts=4, limits=LARGE)
        said = str(failed.value)
        assert "\n" not in said
        assert ("not in Redis any more" if change == "delete" else "piece") in said
        assert "run the job again" in said
        assert nothing_is_left(server, queue)


def test_a_full_server_delays_and_loses_nothing(server: RealServer, queue: str) -> None:
    raw = server.client()
    with Client(server.url, local=2, queue=queue, keys=[KEY]) as client:
        job = client.submit_function(
            "tests.system.test_shuffle_apart:slow_pair", range(TERMS), reduce=by_key("sum", parts=4), limits=LARGE
        )
        until(lambda: bool(pieces_of(server, queue)), 30, "a fold is laid aside")
        raw.config_set("maxmemory", 1)
        threading.Timer(1.5, lambda: raw.config_set("maxmemory", 0)).start()
        assert dict(job.result(60).native) == sums()
        assert nothing_is_left(server, queue)


def test_a_cancelled_job_leaves_no_piece_though_its_worker_is_late(server: RealServer, queue: str) -> None:
    with Client(server.url, local=1, queue=queue, keys=[KEY]) as client:
        job = client.submit_function(
            "tests.system.test_shuffle_apart:slow_pair", range(TERMS), reduce=by_key("sum", parts=4), limits=LARGE
        )
        until(lambda: bool(pieces_of(server, queue)), 30, "a fold is laid aside")
        job.cancel()
        with pytest.raises(JobCancelled):
            job.result(10)
        late = Tasks(client.verbs.wire, client.verbs.keys, client.verbs.codecs)
        assert not late.lay(job.id, "late-1", [b"one", b"two"])
        until(lambda: nothing_is_left(server, queue), 10, "no key of it is left")


def test_at_its_deadline_the_master_folds_what_is_laid_aside(server: RealServer, queue: str) -> None:
    with Client(server.url, local=1, queue=queue, keys=[KEY]) as client:
        limits = Limits(chunk=30_000, deadline=allowed(2.0))
        job = client.submit_function(
            "tests.system.test_shuffle_apart:slow_pair",
            range(100 * TERMS),
            reduce=by_key("sum", parts=4),
            limits=limits,
        )
        found = job.result(60)
        assert 0 < len(found.native) <= KEYS
        until(lambda: nothing_is_left(server, queue), 20, "the worker has dropped its tasks, too")
