"""Jobs that outlive their submitter: queued, led by `mrq master`, waited for, looked up, tried again, purged."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from mapreduce_rq import (
    AsyncClient,
    BadFunction,
    Client,
    JobCancelled,
    JobFailed,
    Limits,
    NoSuchJob,
    TooLarge,
    UsageError,
)
from mapreduce_rq.broker.keys import Keys
from mapreduce_rq.core.messages import Spec
from mapreduce_rq.core.sealing import Codecs, Keyring
from mapreduce_rq.core.text import job_label
from mapreduce_rq.version import __version__
from tests.support.commands import KEY, User
from tests.support.fleet import Fleet
from tests.support.servers import RealServer
from tests.support.stage import allowed, until
from tests.support.terms import total


@pytest.fixture(scope="module")
def server() -> Iterator[RealServer]:
    with RealServer("valkey") as running:
        yield running


@pytest.fixture
def client(server: RealServer, queue: str) -> Iterator[Client]:
    with Client(server.url, queue=queue, keys=[KEY], local=0) as made:
        yield made


@pytest.fixture
def at(server: RealServer, queue: str, tmp_path: Path) -> Iterator[User]:
    with User(tmp_path, MRQ_URL=server.url, MRQ_QUEUE=queue, MRQ_KEY=KEY) as made:
        yield made


def test_a_job_is_submitted_led_and_found_by_any_part_of_its_id(at: User) -> None:
    file = at.stage.folder / "lines"
    file.write_text("a/one\nb/one\nc/two\n")
    ranged = at.run("compute", "staged", "--terms", "40", "--detach")
    lined = at.run("run", "os.path:basename", "--lines", str(file), "--reduce", "counter", "--detach")
    assert (ranged.code, lined.code) == (0, 0)
    (job, word) = ranged.out.split()[0], lined.out.strip()
    said = at.run("result", job)
    assert said.code != 0
    assert "--wait" in said.err
    assert "has no master: mrq master leads all such jobs" in said.err
    waits = at.start("result", job, "--wait", "-o", "value")
    waits.hear("has no master: mrq master leads all such jobs, mrq resume ")
    listed = at.run("jobs")
    assert "no master" in listed.out
    assert "mrq master" in listed.err
    assert f":{os.getpid()}" not in listed.out  # submitted by another process of this user and host
    at.start("worker", "-c", "2")
    master = at.start("master", "-c", "4")
    master.hear("leading the jobs on queue")
    waited = at.run("result", job[-9:], "--wait", "--json")
    assert waited.json["value"] == hex(total(40))
    assert (waits.wait(), waits.out) == (0, [f"{hex(total(40))}\n"])
    assert len(waits.err) == 1, waits.err  # it is told once
    assert at.run("result", word, "--wait", "-o", "value").out == "2\tone\n1\ttwo\n"
    rows = at.run("jobs", "--state", "done", "--sort", "name", "--limit", "1").out.splitlines()
    assert rows[0].split()[:3] == ["JOB", "WHAT", "STATE"]
    assert rows[1].split()[:3] == [word, "os.path:basename", "done"]
    assert at.run("jobs", "--state", "failed").out == ""
    told = [json.loads(line) for line in at.run("events", job_label(job)).out.splitlines()]
    assert [one["what"] for one in told] == ["submitted", "taken over", "done"]
    assert {one["job"] for one in told} == {job}
    assert all("@" in one["by"] for one in told)
    master.signal(signal.SIGTERM)
    assert master.wait() == 0


def test_the_id_is_json_where_json_is_asked_for(at: User, queue: str) -> None:
    """As `kubectl create -o json`: a program reads it as it reads `mrq status JOB --json`."""
    for asked in (("--json",), ("-o", "json")):
        told = at.run("compute", "exp", "2", "--detach", *asked)
        assert (told.code, told.out.count("\n")) == (0, 1)
        assert told.json == {"job": told.json["job"], "queue": queue}
        assert at.run("status", told.json["job"], "--json").json["job"] == told.json["job"]
    plain: list[tuple[str, ...]] = [(), ("-o", "text"), ("-o", "value")]
    for words in plain:
        assert at.run("status", at.run("compute", "exp", "2", "--detach", *words).out.strip()).code == 0


def test_what_cannot_be_detached_is_refused_in_one_line(at: User) -> None:
    for arguments, why in (
        (("submit", "exp", "2"), "--detach"),
        (("compute", "exp", "2", "--detach", "-u", ""), "needs a Redis"),
        (("compute", "exp", "2", "--detach", "--out", "x"), "--out"),
        (("compute", "exp", "2", "--detach", "--local", "2"), "--local"),
        (("run", "os.path:basename", "--lines", "-", "--detach"), "stream"),
        (("run", "os.path:basename", "--lines", "/dev/null", "--detach"), "stream"),
    ):
        ran = at.run(*arguments)
        assert ran.code == 2, ran
        assert len(ran.err.splitlines()) == 1
        assert why in ran.err


def test_only_a_job_that_nobody_waits_for_is_remembered_longer(client: Client, server: RealServer, queue: str) -> None:
    def marked(job: str) -> bool:
        return client.verbs.wire.call("HGET", client.verbs.keys.job(job), "detached") is not None

    with Fleet(server.url, queue, 1):
        job = client.submit_function("math:factorial", range(3))
        assert job.result().native == 4
        assert client.map_reduce(math.factorial, range(3)) == 4
        assert [marked(job) for job in client.verbs.listed()] == [False, False]
    assert marked(client.submit_function_detached("math:factorial", range(3)).id)


def test_many_small_jobs_have_one_master_and_all_end(client: Client, server: RealServer, queue: str) -> None:
    jobs = [client.submit_function_detached("math:factorial", range(k), reduce="count") for k in range(200)]
    stop = threading.Event()
    leading = threading.Thread(target=lambda: _leader(server, queue, stop))
    leading.start()
    try:
        with Fleet(server.url, queue, 2):
            assert [job.result(60).native for job in jobs] == list(range(200))
    finally:
        stop.set()
        leading.join()


def _leader(server: RealServer, queue: str, stop: threading.Event) -> None:
    from mapreduce_rq.runtime.master.observer import Silent

    with Client(server.url, queue=queue, keys=[KEY], local=0) as mine:
        mine.stand_by(Silent(), stop, at_once=8)


def test_items_travel_with_the_job_and_it_outlives_its_client(server: RealServer, queue: str, at: User) -> None:
    with Client(server.url, queue=queue, keys=[KEY], local=0) as submitter:
        job = submitter.submit_function_detached("os.path:basename", ("a/one", "b/two", "c/one"), reduce="list").id
        empty = submitter.submit_function_detached("os.path:basename", [], reduce="list").id
        with pytest.raises(BadFunction, match="item 1, a object, cannot travel"):
            submitter.submit_function_detached("os.path:basename", ["x", object()], reduce="list")
        with pytest.raises(TooLarge, match="put the items into files"):
            submitter.submit_function_detached("os.path:basename", ("x" * 1_000_000 for _ in range(40)), reduce="list")
    at.start("worker", "-c", "1")
    at.start("master")
    with Client(server.url, queue=queue, keys=[KEY], local=0) as finder:
        assert finder.job(job).result(30).native == ["one", "two", "one"]
        assert finder.job(empty).result(30).native == []
        assert finder.job(job).status == "done"
        assert finder.job(job).progress["counted"] == 3
        with pytest.raises(NoSuchJob):
            finder.job("no-such-job")
    with Client(local=1) as private, pytest.raises(UsageError, match="private server"):
        private.submit_detached("exp", x="2")


def test_the_end_is_heard_of_at_once_and_a_lost_word_only_delays(client: Client, server: RealServer, at: User) -> None:
    at.start("worker", "-c", "1")
    at.start("master").hear("leading the jobs")
    client.submit_detached("exp", x="2", terms=20).result(30)
    began = time.monotonic()
    for _ in range(10):
        client.submit_detached("exp", x="2", terms=20).result(30)
    assert time.monotonic() - began < allowed(5)
    job = client.submit_function_detached("math:factorial", range(3), reduce="count", limits=Limits(chunk=1))
    with server.client() as raw:  # its place in the line is lost: masters find it when they look around
        raw.delete(Keys(client.keys.name).unled)
        assert job.result(30).native == 3


GATED = "tests.support.terms:gated"
ONE_BY_ONE = Limits(chunk=1)


def test_a_job_that_failed_or_was_cancelled_goes_on_from_its_checkpoint(at: User, client: Client) -> None:
    at.start("worker", "-c", "1")
    at.start("master")
    at.stage.write("gated", "5")
    job = client.submit_function_detached(GATED, range(20), reduce="int_sum", limits=ONE_BY_ONE)
    with pytest.raises(UsageError, match="is running"):
        job.retry()
    until(lambda: job.progress["counted"] >= 5, 20, "some counted")
    job.cancel(now=True)
    with pytest.raises(JobCancelled):
        job.result(10)
    at.stage.open()
    again = at.run("retry", job.id[-8:])
    assert again.code == 0, again
    new = client.job(again.out.strip())
    assert new.result(30).native == total(20)
    assert at.run("retry", new.id).code == 2  # it is done
    told = [json.loads(line) for line in at.run("events").out.splitlines()]
    assert next(one["text"] for one in told if one["what"] == "retried") == new.id
    assert next(one["text"] for one in told if one["job"] == new.id and one["what"] == "taken over")[0] == "5"


def test_what_a_failed_job_has_counted_since_its_checkpoint_is_computed_again_and_counted_once(
    at: User, client: Client
) -> None:
    """It ends within its first second, so it has no checkpoint yet: nothing but time is lost."""
    at.stage.write("poison", "9:raise")
    at.start("worker", "-c", "1")
    at.start("master")
    job = client.submit_function_detached(
        "tests.support.terms:poisoned", range(30), reduce="int_sum", limits=Limits(chunk=1)
    )
    with pytest.raises(JobFailed, match="term 9"):
        job.result(30)
    at.stage.write("poison", "")
    result = job.retry().result(30)
    assert (result.native, result.terms_used) == (total(30), 30)


def test_a_failed_job_tells_why_and_purge_deletes_what_has_ended(at: User, client: Client) -> None:
    at.start("worker", "-c", "1")
    at.start("master")
    job = client.submit_function_detached("math:sqrt", [4.0, -1.0], reduce="sum")
    with pytest.raises(JobFailed, match="term 1"):
        job.result(30)
    assert [json.loads(line)["what"] for line in at.run("events", job.id).out.splitlines()][-1] == "failed"
    at.run("compute", "exp", "2", "--detach")
    done = client.submit_detached("exp", x="2", terms=20)
    done.wait(30)
    assert at.run("purge").code == 2
    dry = at.run("purge", "--dry-run", "--state", "failed")
    assert dry.out == f"{job.id}\n"
    assert at.run("purge", "--yes", "--older", "1h").err == "mrq: deleted: 0 records\n"
    assert at.run("purge", "--yes", "--state", "failed").err == "mrq: deleted: 1 record\n"
    with pytest.raises(NoSuchJob):
        client.job(job.id)
    assert client.job(done.id).status == "done"


def test_a_killed_masters_jobs_go_on_under_another(at: User, client: Client) -> None:
    at.stage.write("gated", "3")
    at.start("worker", "-c", "1")
    first = at.start("master")
    first.hear("leading the jobs")
    jobs = [client.submit_function_detached(GATED, range(8), reduce="int_sum", limits=ONE_BY_ONE) for _ in range(2)]
    for job in jobs:
        first.hear(f"leading {job.id}")
    second = at.start("master")
    second.hear("leading the jobs")
    first.signal(signal.SIGKILL)
    began = time.monotonic()
    for job in jobs:
        second.hear(f"leading {job.id}", seconds=16.0)
    assert time.monotonic() - began < allowed(14)
    at.stage.open()
    for job in jobs:
        assert job.result(30).native == total(8)


BROKEN: list[tuple[str, dict[str, object]]] = [
    ("function", {"function": "builtins:abs", "terms": 5, "by_key": {"folds": {}}}),
    ("function", {"function": "builtins:abs", "terms": 5, "reduce": "histogram", "reduce_options": {"bins": "x"}}),
    ("function", {"function": "builtins:abs", "terms": 5, "carried": b"\xff"}),
    ("exp", {"x": "1e999999999", "terms": 5}),
    ("wordcount", {"files": [None]}),
    ("\x1b[2J", {}),
]


def test_a_job_that_cannot_be_led_ends_no_master(at: User, client: Client, server: RealServer, queue: str) -> None:
    """A spec without a column for its keys ended `mrq master` with a traceback, and the jobs of all others waited."""
    keys, codecs = Keys(queue), Codecs(queue, Keyring([bytes.fromhex(KEY)]))
    with server.client() as raw:
        for number, (name, params) in enumerate(BROKEN):
            job = f"broken{number}-{number:032x}"
            spec = Spec(
                job=job, computation=name, params=params, total=5, limits=Limits(), created=1.0, version=__version__
            )
            sealed = codecs.spec.at(job).seal(spec)
            raw.hset(keys.job(job), mapping={"tok": "1:a:1", "state": "running", "spec": sealed, "master": ""})
            raw.zadd(keys.jobs, {job: 1})
            raw.lpush(keys.unled, job)
    at.start("worker", "-c", "1")
    master = at.start("master")
    master.hear("broken0-00000000000000000000000000000000: ")
    good = client.submit_function_detached("tests.support.terms:noted", range(8), reduce="int_sum")
    assert good.result(30).native == total(8)
    ran = at.run("resume", "broken0-")
    assert (ran.code, ran.err.count("Traceback")) == (1, 0)
    assert "cannot be led here: what its spec asks for raised ValueError: there must be a column at least" in ran.err
    master.signal(signal.SIGTERM)
    assert master.wait() == 0  # it was there to be told, and shows no traceback


def test_an_urgent_jobs_tasks_go_before_those_that_wait(at: User, client: Client) -> None:
    at.start("worker", "-c", "1")
    at.start("master")
    at.stage.write("gated", "0")
    long = client.submit_function_detached(GATED, range(40), reduce="int_sum", limits=ONE_BY_ONE)
    at.stage.begun(0)
    urgent = Limits(urgent=True)
    short = client.submit_function_detached("tests.support.terms:noted", [1000], reduce="int_sum", limits=urgent)
    at.stage.open()
    assert short.result(30).native
    assert long.result(30).native == total(40)
    order = [term for _, term in at.stage.runs()]
    assert order.index(1000) < 5, order


def test_a_loop_submits_waits_finds_and_retries(at: User, server: RealServer, queue: str) -> None:
    at.start("worker", "-c", "1")
    at.start("master", "-c", "4").hear("leading the jobs on queue")

    async def items() -> AsyncIterator[int]:
        for item in range(10):
            yield item

    async def main() -> None:
        async with AsyncClient(server.url, queue=queue, keys=[KEY], local=0) as mrq:
            jobs = [await mrq.submit_detached("exp", x="2", terms=50), await mrq.submit_function_detached(abs, items())]
            found = [await mrq.job(job.id) for job in jobs]
            values = [(await job.result()).value for job in found]
            assert values == ["7.38905609893065", "45"]
            assert [await job.status() for job in found] == ["done", "done"]
            assert [await job.done() for job in found] == [True, True]
            assert (await found[1].progress())["counted"] == 10
            slow = await mrq.submit_function_detached("tests.support.models:quite_slow", range(100))
            waiting = asyncio.create_task(slow.result())
            await asyncio.sleep(0)
            waiting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await waiting
            assert await slow.status() == "running"  # it goes on without us
            assert await slow.cancel() == "cancelled"
            with pytest.raises(JobCancelled):
                await slow.result()
            again = await slow.retry()
            assert (await again.result()).value == "4950"
            with pytest.raises(NoSuchJob):
                await mrq.job("none")

    asyncio.run(main())
