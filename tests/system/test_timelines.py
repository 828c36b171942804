"""Every ended job has its timeline, however it ended: cancelled, failed, out of time, or under a second master."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mapreduce_rq.client.client import Client
from mapreduce_rq.client.identity import process_name
from mapreduce_rq.core.job.timeline import MAX_TIMELINE_BYTES
from tests.support.commands import Running, User
from tests.support.servers import RealServer
from tests.support.stage import allowed, until


@pytest.fixture(scope="module")
def server() -> Iterator[RealServer]:
    with RealServer("valkey") as running:
        yield running


@pytest.fixture
def at(server: RealServer, queue: str, tmp_path: Path) -> Iterator[User]:
    with User(tmp_path, MRQ_URL=server.url, MRQ_QUEUE=queue) as made:
        made.stage.write("seconds", "0.02")
        made.stage.open()
        yield made


def slow(at: User, terms: int = 100_000) -> Running:
    at.start("worker", "-c", "2").hear("2 workers")
    return at.start("compute", "staged", "--terms", str(terms), "--function", "slow", "--chunk", "5")


def kept_for(server: RealServer, queue: str, seconds: float) -> str:
    """Wait until so many seconds of the running job's timeline are kept; its id."""
    with Client(server.url, queue=queue) as client:

        def found() -> str:
            for job in client.snapshot().jobs:
                timeline = client.verbs.timeline(job.job)
                if timeline is not None and timeline.seconds >= seconds and timeline.rows:
                    return job.job
            return ""

        return until(found, 30, "its timeline is kept")


def since_of(server: RealServer, queue: str, job: str) -> int:
    """The terms that were answered since the timeline of this running job was kept, as its last checkpoint has it."""
    with Client(server.url, queue=queue) as client:
        verbs = client.verbs
        sealed = verbs.wire.call("HGET", verbs.keys.job(job), "since")
        return sum(terms for _, _, terms, _ in verbs.codecs.since.at(job).open(sealed).rows) if sealed else 0


def shown(at: User, tmp_path: Path, state: str, job: str = "staged") -> dict[str, Any]:
    """The timeline as each command gives it."""
    page, trace = tmp_path / "report.html", tmp_path / "trace.json"
    done = at.run("report", job, "--out", str(page))
    assert done.code == 0, done.err
    assert f": {state}</h1>" in page.read_text()
    assert "Workers over time" in page.read_text()
    assert at.run("trace", job, "--out", str(trace)).code == 0
    data = json.loads(at.run("report", job, "--json").out)
    assert data["record"]["state"].partition("-")[0] == state
    timeline: dict[str, Any] = data["timeline"]
    events = json.loads(trace.read_text())["traceEvents"]
    assert [one["name"] for one in events if one["ph"] == "i"] == [mark["text"] for mark in timeline["marks"]]
    return timeline


def terms_of(timeline: dict[str, Any]) -> int:
    return sum(cell["terms"] for row in timeline["rows"] for cell in row["cells"])


@pytest.mark.parametrize("how", [[], ["--now"]])
def test_of_a_cancelled_job(at: User, server: RealServer, queue: str, tmp_path: Path, how: list[str]) -> None:
    leader = slow(at)
    job = kept_for(server, queue, 2.0)
    assert at.run("cancel", job, *how).code == 0
    assert leader.wait() == 1
    found = shown(at, tmp_path, "cancelled")
    assert terms_of(found) > 0
    assert found["seconds"] >= 2.0
    assert re.match("cancelled by .*:[0-9]+", found["marks"][-1]["text"])
    assert found["marks"][-1]["at"] == pytest.approx(found["seconds"], abs=0.01)


def test_of_a_job_that_was_cancelled_before_anybody_led_it(at: User, tmp_path: Path) -> None:
    job = at.run("compute", "staged", "--terms", "10", "--detach").out.strip()
    assert at.run("cancel", job).code == 0
    found = shown(at, tmp_path, "cancelled")
    assert found["rows"] == []
    assert [mark["text"].partition(" by ")[0] for mark in found["marks"]] == ["cancelled"]


def test_of_a_failed_job(at: User, tmp_path: Path) -> None:
    at.stage.write("poison", "37:kill")
    at.start("worker", "-c", "2").hear("2 workers")
    ended = at.run("compute", "staged", "--terms", "40", "--function", "poisoned", "--chunk", "1")
    assert ended.code == 1, ended.err
    found = shown(at, tmp_path, "failed")
    assert terms_of(found) > 0
    assert [mark for mark in found["marks"] if mark["text"].startswith("poison: workers die of term 37")]


def test_of_a_job_out_of_time(at: User, tmp_path: Path) -> None:
    at.start("worker", "-c", "2").hear("2 workers")
    seconds = round(allowed(2), 1)  # by then something is counted, otherwise the job has failed
    words = ("compute", "staged", "--terms", "100000", "--function", "slow", "--chunk", "5", "--deadline", str(seconds))
    assert at.run(*words).code == 124
    found = shown(at, tmp_path, "done")
    assert terms_of(found) > 0
    assert found["seconds"] == pytest.approx(seconds, abs=1.5)


def test_of_a_job_whose_master_was_killed(at: User, server: RealServer, queue: str, tmp_path: Path) -> None:
    at.stage.write("seconds", "0.01")
    at.start("worker", "-c", "2").hear("2 workers")
    leader = at.start("compute", "staged", "--terms", "1500", "--function", "slow")  # so few tasks are out at a time
    job = kept_for(server, queue, 2.0)
    until(lambda: since_of(server, queue, job) > 100, 30, "more is counted since then")
    leader.signal(signal.SIGKILL)
    leader.wait()
    resumed = at.start("resume", job)
    assert resumed.wait(60) == 0, resumed.err
    found = shown(at, tmp_path, "done")
    taken = next(mark for mark in found["marks"] if mark["text"].startswith("taken over: "))
    assert re.search("[0-9]+ terms counted; nothing was heard for ", taken["text"])
    at_bins = [cell["bin"] * found["width"] for row in found["rows"] for cell in row["cells"]]
    assert min(at_bins) < 2.0 < taken["at"] < max(at_bins) <= found["seconds"]
    assert found["before"] == 0.0
    assert 1500 <= terms_of(found) < 1600, "all that was counted is in it, once"
    assert len(json.dumps(found)) < 4 * MAX_TIMELINE_BYTES


def test_of_a_job_whose_values_are_kept_and_whose_master_was_killed(
    at: User, server: RealServer, queue: str, tmp_path: Path
) -> None:
    """Its next master reads all answers again, from the first on."""
    at.stage.write("seconds", "0.01")
    at.start("worker", "-c", "2", "--allow", "tests.support.terms").hear("2 workers")
    words = ("run", "tests.support.terms:slow", "--terms", "1000", "--chunk", "3", "--reduce", "list")
    leader = at.start(*words)
    job = kept_for(server, queue, 2.0)
    leader.signal(signal.SIGKILL)
    leader.wait()
    resumed = at.start("resume", job)
    assert resumed.wait(60) == 0, resumed.err
    found = shown(at, tmp_path, "done", "function")
    assert 1000 <= terms_of(found) < 1100, "all that was counted is in it, once"
    assert [mark for mark in found["marks"] if mark["text"].startswith("taken over: ")]


def test_of_a_job_whose_master_was_killed_and_that_was_cancelled(
    at: User, server: RealServer, queue: str, tmp_path: Path
) -> None:
    leader = slow(at)
    job = kept_for(server, queue, 2.0)
    leader.signal(signal.SIGKILL)
    leader.wait()
    assert at.run("cancel", job).code == 0
    found = shown(at, tmp_path, "cancelled")
    assert terms_of(found) > 0


def test_of_a_job_that_was_let_go_and_resumed(at: User, server: RealServer, queue: str, tmp_path: Path) -> None:
    leader = slow(at, terms=700)
    job = kept_for(server, queue, 2.0)
    leader.signal(signal.SIGTERM)
    assert leader.wait() == 143
    assert at.run("resume", job).code == 0
    found = shown(at, tmp_path, "done")
    assert terms_of(found) >= 700  # what is let go of is kept to the last answer
    assert [mark for mark in found["marks"] if mark["text"].startswith("taken over: ")]


def test_whoever_leads_a_job_is_named(at: User, server: RealServer, queue: str, tmp_path: Path) -> None:
    at.start("worker", "-c", "1", "--allow", "builtins").hear("1 worker")
    with Client(server.url, queue=queue) as client:
        client.map_reduce(abs, range(3))  # its master waits for the value alone
        client.submit_function(abs, range(3)).result()
        jobs = client.snapshot().jobs
        assert len(jobs) == 2
        for job in jobs:
            timeline = client.verbs.timeline(job.job)
            assert timeline is not None
            assert timeline.master.rpartition(":")[0] == process_name()
            page = at.run("report", job.job, "-o", str(tmp_path / "page.html"))
            assert page.code == 0, page.err
            assert f"<td>{process_name()} with mrq " in (tmp_path / "page.html").read_text()
