"""A server that copies another and takes no writes: named at once where a job begins, waited for with a bound later."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mapreduce_rq import BrokerRefused, Client, NoWorkers
from mapreduce_rq.errors import BrokerDown, ReadOnly
from mapreduce_rq.runtime import demotion
from mapreduce_rq.runtime.clock import Clock
from tests.support.commands import KEY, User
from tests.support.servers import FLAVOURS, FreshServer, RealServer
from tests.support.stage import allowed, until
from tests.support.terms import total

SAYS = "is a replica, which takes no writes: give the URL of the primary, or of the sentinels"


def copy_of(fresh_server: FreshServer, flavour: str) -> tuple[RealServer, RealServer]:
    """A server and its replica, in step."""
    first = fresh_server(flavour, tcp=True, repl_diskless_sync_delay="0")
    second = fresh_server(flavour, tcp=True, masterauth=first.password)
    with second.client() as client:
        client.replicaof("127.0.0.1", first.port)
        until(lambda: client.info("replication")["master_link_status"] == "up", 20, "replicated")
    return first, second


@pytest.fixture
def pair(fresh_server: FreshServer) -> tuple[RealServer, RealServer]:
    return copy_of(fresh_server, "valkey")


@pytest.fixture
def at(tmp_path: Path, queue: str) -> Iterator[User]:
    with User(tmp_path, MRQ_QUEUE=queue, MRQ_KEY=KEY) as made:
        yield made


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_each_command_that_writes_says_so_and_ends(fresh_server: FreshServer, at: User, flavour: str) -> None:
    _, replica = copy_of(fresh_server, flavour)
    for command in (
        ("compute", "exp", "--x", "2"),
        ("compute", "exp", "--x", "2", "--wait-workers", "1"),
        ("run", "math:sqrt", "--terms", "9", "--local", "1"),
        ("worker", "-c", "1"),
        ("worker", "-c", "1", "--burst"),
        ("master",),
    ):
        began = time.monotonic()
        ran = at.run(*command, "-u", replica.url)
        assert (ran.code, ran.out) == (69, ""), command
        assert ran.err.splitlines()[-1].endswith(SAYS), command
        assert replica.password not in ran.err
        assert time.monotonic() - began < allowed(10), command
    doctor = at.run("doctor", "-u", replica.url)
    assert (doctor.code, "this is a replica, which takes no writes" in doctor.out) == (1, True)
    jobs = at.run("jobs", "-u", replica.url, "--json")
    assert (jobs.code, jobs.json) == (0, []), "who only reads may read a replica"


def test_a_client_says_so(pair: tuple[RealServer, RealServer]) -> None:
    with pytest.raises(BrokerRefused, match=SAYS):
        Client(pair[1].url)


def test_a_client_whose_server_was_demoted_meanwhile_is_told_within_the_bound(
    pair: tuple[RealServer, RealServer], queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demotion, "REPLICA_SECONDS", 1.5)
    first, _ = pair
    notes = Notes()
    with Client(first.url, queue=queue, keys=[KEY]) as client, first.client() as raw:
        raw.replicaof("127.0.0.1", pair[1].port)
        began = time.monotonic()
        with pytest.raises(BrokerRefused, match=f"{SAYS}; it has been one for"):
            client.map_reduce("math:sqrt", range(9), observer=notes)
        assert 1.5 <= time.monotonic() - began < allowed(8)
        with pytest.raises(NoWorkers, match=r"no worker came to queue \S+ within 0.5 s: .* is a replica"):
            client.map_reduce("math:sqrt", range(9), observer=notes, wait_workers=0.5)
        raw.replicaof("NO", "ONE")
    assert not [note for note in notes.all if "gone from Redis" in note]
    assert len([note for note in notes.all if "trying again" in note]) <= 4


class Notes:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.all: list[str] = []

    def progressed(self, report: Any) -> None:
        pass

    def noticed(self, text: str) -> None:
        self.all.append(text)


def test_a_demotion_during_a_job_is_waited_out_and_one_without_end_is_not(
    pair: tuple[RealServer, RealServer], queue: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twice: a server that is promoted again, and one that is not."""
    first, _ = pair
    with Client(first.url, queue=queue, local=2, keys=[KEY]) as client, first.client() as raw:
        job = client.submit_function("tests.support.terms:slow_bytes", range(60), reduce="count")
        until(lambda: job.progress["counted"] > 5, 20, "under way")
        raw.replicaof("127.0.0.1", pair[1].port)
        until(lambda: refusals(raw) > 5, 20, "refused")
        raw.replicaof("NO", "ONE")
        assert job.result(30).native == 60
        monkeypatch.setattr(demotion, "REPLICA_SECONDS", 2.0)
        job = client.submit_function("tests.support.terms:slow_bytes", range(4000), reduce="count")
        until(lambda: job.progress["counted"] > 5, 20, "under way")
        raw.replicaof("127.0.0.1", pair[1].port)
        with pytest.raises(BrokerRefused, match=f"what is counted of {job.id} is kept"):
            job.result(20)
        raw.replicaof("NO", "ONE")


def refusals(client: Any) -> int:
    found = client.info("errorstats").get("errorstat_READONLY", {"count": 0})
    return int(found["count"])


def test_workers_wait_for_a_demoted_server_and_not_without_end(pair: tuple[RealServer, RealServer], at: User) -> None:
    at.env["MRQ_URL"] = pair[0].url
    (at.stage.folder / "sitecustomize.py").write_text(
        "from mapreduce_rq.runtime import demotion\ndemotion.REPLICA_SECONDS = 3.0\n"
    )
    worker = at.start("worker", "-c", "2")
    worker.hear("2 workers on queue")
    with pair[0].client() as client:
        until(lambda: client.info("clients")["blocked_clients"] == 2, 20, "workers that wait")
        client.replicaof("127.0.0.1", pair[1].port)
        worker.hear("trying again")
        until(lambda: refusals(client) > 3, 20, "refused")
        client.replicaof("NO", "ONE")
        worker.hear("Redis is back")
        assert at.run("compute", "staged", "--terms", "9", "-o", "value").out == f"{total(9):#x}\n"
        client.replicaof("127.0.0.1", pair[1].port)
        assert worker.wait(30) == 69
        assert any("it has been one for" in line for line in worker.err)


@pytest.mark.parametrize("leads", [False, True])
def test_mrq_master_waits_for_a_demoted_server_and_not_without_end(
    pair: tuple[RealServer, RealServer], at: User, queue: str, leads: bool
) -> None:
    at.env["MRQ_URL"] = pair[0].url
    (at.stage.folder / "sitecustomize.py").write_text(
        "from mapreduce_rq.runtime import demotion\ndemotion.REPLICA_SECONDS = 3.0\n"
    )
    master = at.start("master")
    master.hear("leading the jobs")
    with pair[0].client() as client:
        if leads:
            job = at.run("compute", "exp", "--x", "2", "--detach").out.strip()
            until(lambda: client.hget(f"mrq1:{{{queue}}}:j:{job}", "master"), 20, "led")
        client.replicaof("127.0.0.1", pair[1].port)
        master.hear("trying again")
        until(lambda: refusals(client) > 3, 20, "refused")
        client.replicaof("NO", "ONE")
        master.hear("Redis is back")
        client.replicaof("127.0.0.1", pair[1].port)
        assert master.wait(30) == 69
        assert sum("Redis is back" in line for line in master.err) <= 2
        assert any("it has been one for" in line for line in master.err)


def test_the_patience_with_a_replica_ends_and_begins_anew_with_each_write() -> None:
    class Hands(Clock):
        at = 0.0

        def now(self) -> float:
            return self.at

    clock = Hands()
    patience = demotion.Demotion(clock)
    refused = ReadOnly("no")
    for clock.at in (0.0, 30.0, 59.0):
        patience.met(refused)
    patience.met(BrokerDown("something else"))
    clock.at = 60.0
    with pytest.raises(BrokerRefused, match="no; it has been one for 60 s"):
        patience.met(refused)
    patience.over()
    patience.met(refused)
