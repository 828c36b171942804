"""The shuffle when somebody dies in it: the same value and digest, and no file or key is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mapreduce_rq import Client, JobFailed, Limits, by_key
from mapreduce_rq.core.reducers.shuffle import Shuffle
from mapreduce_rq.runtime.master.observer import Silent
from mapreduce_rq.runtime.server.shelf import Shelf
from tests.support.commands import KEY
from tests.support.servers import ROOT, RealServer
from tests.support.stage import until
from tests.system.test_shuffle import TERMS, laid, pair, sums

KEPT = """
import os, signal, sys
from mapreduce_rq import Client, Limits
from mapreduce_rq.core.reducers.shuffle import Shuffle
from mapreduce_rq.runtime.server.embedded import EmbeddedServer
from tests.system.test_shuffle import TERMS, pair

server = EmbeddedServer.start()

def stuck(self, number, row):
    (job,) = os.listdir(server.shelf)
    print(server.shelf, len(os.listdir(f"{server.shelf}/{job}")), file=sys.stderr, flush=True)
    signal.pause()

Shuffle._merged = stuck
client = Client(local=1, server=server)
client.reduce_by_key(pair, range(TERMS), parts=4, limits=Limits(chunk=30_000, retries=1))  # so no task joins another
"""


def test_what_a_killed_run_has_cut_goes_with_its_server() -> None:
    command = [sys.executable, "-c", KEPT]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        shelf, count = process.stderr.readline().split()
        assert int(count) == 4  # a file for each task
        process.kill()
        until(lambda: not os.path.exists(shelf), 10, "the shelf is gone")


@pytest.mark.usefixtures("workers_are_forks")
@pytest.mark.parametrize("where", ["encode", "_merged"])
def test_a_worker_that_dies_where_it_cuts_or_merges_changes_nothing(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed behind its work and before its answer: what it has laid aside nobody has a reference to."""
    flag, done = tmp_path / "died", getattr(Shuffle, where)
    master = os.getpid()

    def killed(self: Shuffle, *arguments: Any) -> Any:
        found = done(self, *arguments)
        if os.getpid() != master and not flag.exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    monkeypatch.setattr(Shuffle, where, killed)
    with Client(local=2) as client:
        job = client.submit_function(pair, range(TERMS), reduce=by_key("sum", parts=4), limits=Limits(chunk=30_000))
        result = job.result(60)
        assert flag.exists()
        assert dict(result.native) == sums()
        assert laid(client) == []
        again = client.submit_function(pair, range(TERMS), reduce=by_key("sum", parts=16)).result(60)
        assert again.digest == result.digest


@pytest.mark.usefixtures("workers_are_forks")
def test_what_was_cut_and_is_gone_ends_the_job_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def swept(self: Shuffle, body: bytes) -> bytes:
        _, row = msgspec.msgpack.decode(body)
        assert isinstance(self.pieces, Shelf)
        for reference, _ in row:
            self.pieces.drop(reference)
        return work(self, body)

    work = Shuffle.work
    monkeypatch.setattr(Shuffle, "work", swept)
    with Client(local=2) as client, pytest.raises(JobFailed, match="laid aside is gone: No such file") as failed:
        client.reduce_by_key(pair, range(TERMS), parts=4, limits=Limits(chunk=30_000))
    assert "\n" not in str(failed.value)


def test_another_master_goes_on_and_merges() -> None:
    name = f"{pair.__module__}:pair"
    with RealServer("valkey") as server:
        with Client(server.url, keys=[KEY]) as first:
            job = first.submit_function(name, range(TERMS), reduce=by_key("sum", parts=8), limits=Limits(chunk=5000))
            with Client(server.url, keys=[KEY], local=1):
                until(lambda: job.progress["counted"] >= 20_000, 20, "some of it is counted")
                job.let_go()
                job.wait(10)
        with Client(server.url, keys=[KEY], local=2) as second:
            ended = second.leader.follow(job.id, Silent())
            assert ended is not None
            result = second.result_of(ended)
            assert dict(result.native) == sums()
            whole = second.submit_function(name, range(TERMS), reduce=by_key("sum", parts=2)).result(60)
            assert result.digest == whole.digest
            redis_keys = second.verbs.wire.call("KEYS", "*")
            assert not [key for key in redis_keys if b"}:r:" in key]
