"""Signals, and jobs that run already: let go of, watched, resumed, cancelled, looked up."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import redis

from mapreduce_rq import Client
from mapreduce_rq.broker.connection import parse_url
from mapreduce_rq.broker.keys import Keys
from mapreduce_rq.broker.redis_wire import RedisWire
from mapreduce_rq.broker.snapshot import MAX_JOBS, Snapshot, read_snapshot
from mapreduce_rq.cli.commands.status import watch_quiet
from mapreduce_rq.cli.connect import reach
from mapreduce_rq.core.messages import Beat
from mapreduce_rq.core.sealing import Codecs, Keyring
from mapreduce_rq.core.text import job_label
from mapreduce_rq.version import __version__
from tests.support.commands import KEY, Running, User
from tests.support.servers import ROOT, RealServer, free_port
from tests.support.stage import until
from tests.support.terms import total

TERMS = 40


@pytest.fixture(scope="module")
def server() -> Iterator[RealServer]:
    """One flavour is enough here: the verbs behind all this are tested on each."""
    with RealServer("valkey") as running:
        yield running


@pytest.fixture
def at(server: RealServer, queue: str, tmp_path: Path) -> Iterator[User]:
    """A user whose environment names a server, a queue and a key."""
    with User(tmp_path, MRQ_URL=server.url, MRQ_QUEUE=queue, MRQ_KEY=KEY) as made:
        yield made


def look(at: User) -> Snapshot:
    """What is on the queue, without a process for it."""
    codecs = Codecs(at.env["MRQ_QUEUE"], Keyring([bytes.fromhex(KEY)]))
    wire = RedisWire(parse_url(at.env["MRQ_URL"]))
    wire.connect()
    try:
        return read_snapshot(wire, Keys(at.env["MRQ_QUEUE"]), codecs)
    finally:
        wire.close()


def begin(at: User, terms: int = TERMS) -> tuple[Running, str]:
    """A job over so many terms, one of which waits for the stage to open; and its id."""
    at.stage.write("gated", "0")  # an idle worker takes one task: nothing else is in its hands
    at.start("worker", "-c", "2")
    master = at.start("compute", "staged", "--terms", str(terms), "--function", "gated", "--chunk", "1", "--json")
    at.stage.begun(0)

    def running() -> str:
        # all other terms are counted: nothing the master does from now on is a matter of luck
        return next((job.job for job in look(at).jobs if job.report.counted == terms - 1), "")

    return master, until(running, 10, "the others counted")


def check(record: dict[str, object]) -> None:
    assert record["value"] == hex(total(TERMS))
    assert record["skipped"] == []


# -- signals -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_lets_go_and_resume_goes_on_with_the_same_digest(at: User, number: int, code: int) -> None:
    master, job = begin(at)
    master.signal(number)
    said = master.hear("detached: ")
    assert f"mrq resume {job_label(job)} " in said
    assert f"mrq cancel {job_label(job)} " in said
    assert master.wait() == code
    assert master.out == []
    assert at.run("status", job, "--json").json["state"] == "waiting"
    at.stage.open()
    file = at.stage.folder / "value"
    resumed = at.run("resume", job[:12], "--json")
    assert resumed.code == 0
    assert at.run("resume", job, "--out", str(file)).code == 0  # ended long since: its value all the same
    assert file.read_text() == f"{hex(total(TERMS))}\n"
    assert f"leading {job} from its checkpoint: {TERMS - 1} terms counted" in resumed.err
    check(resumed.json)
    uninterrupted = at.run("compute", "staged", "--terms", str(TERMS), "--json").json
    assert resumed.json["digest"] == uninterrupted["digest"]
    assert at.run("result", job, "-o", "value").out == f"{hex(total(TERMS))}\n"


def test_a_second_ctrl_c_cancels(at: User) -> None:
    master, job = begin(at)
    master.signal(signal.SIGINT)
    master.hear("detached: ")
    master.signal(signal.SIGINT)
    assert master.wait() == 130
    master.hear(f"cancelled: {job}")
    assert at.run("status", job, "--json").json["state"] == "cancelled"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_cancels_a_job_whose_lines_nobody_else_has_even_while_none_comes(
    at: User, tmp_path: Path, number: int, code: int
) -> None:
    pipe = tmp_path / "lines"
    os.mkfifo(pipe)
    at.start("worker", "-c", "1")
    master = at.start("run", "os.path:basename", "--lines", str(pipe), "--reduce", "counter")
    with pipe.open("w") as writer:
        writer.write("a/one\n")
        writer.flush()
        job = until(lambda: next((job.job for job in look(at).jobs), ""), 10, "a job listed")
        master.signal(number)
        assert master.wait() == code
    master.hear(f"cancelled: {job}")
    assert at.run("status", job, "--json").json["state"] == "cancelled"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_private_server_and_all_its_workers(tmp_path: Path, number: int, code: int) -> None:
    with User(tmp_path, TMPDIR=str(tmp_path)) as user:
        user.stage.write("gated", "5")
        master = user.start("compute", "staged", "--terms", str(TERMS), "--function", "gated", "--chunk", "1")
        worker = user.stage.begun(5)
        master.signal(number)
        assert master.wait(5) == code
        until(lambda: not Path(f"/proc/{worker}").exists(), 5, "the worker gone")
        assert not list(tmp_path.glob("mrq-*"))


# -- jobs that run -----------------------------------------------------------------------------------------------------


def test_attach_watches_to_the_end_and_ctrl_c_ends_the_watching(at: User) -> None:
    master, job = begin(at)
    staying, leaving = at.start("attach", job, "--json"), at.start("attach", job[:15])
    for watcher in (staying, leaving):
        watcher.hear(f"watching {job}")
    leaving.signal(signal.SIGINT)
    assert leaving.wait() == 130
    at.stage.open()
    assert master.wait() == 0
    assert staying.wait() == 0
    check(json.loads(staying.out[0]))
    assert json.loads(staying.out[0]) == json.loads(master.out[0])


def test_resume_stands_by_and_takes_over_from_a_killed_master(at: User) -> None:
    master, job = begin(at)
    standby = at.start("resume", job, "--json")
    standby.hear(f"watching {job}")
    master.signal(signal.SIGKILL)
    assert master.wait() == -signal.SIGKILL
    standby.hear(f"leading {job}", seconds=16.0)
    at.stage.open()
    assert standby.wait() == 0
    check(json.loads(standby.out[0]))


def test_a_standby_takes_over_any_job(at: User) -> None:
    standby = at.start("master")
    standby.hear("leading the jobs")
    master, job = begin(at)
    master.signal(signal.SIGTERM)
    assert master.wait() == 143
    standby.hear(f"leading {job}", seconds=8.0)
    at.stage.open()
    standby.hear(f"{job} is done")
    standby.signal(signal.SIGTERM)
    assert standby.wait() == 0
    check(at.run("result", job, "--json").json)


def test_a_standby_that_cannot_lead_a_job_says_so_once(at: User, server: RealServer) -> None:
    master, job = begin(at)
    master.signal(signal.SIGTERM)
    assert master.wait() == 143
    elsewhere = {name: value for name, value in at.env.items() if name != "PYTHONPATH"}  # no `staged` there
    with Running("master", env=elsewhere | {"PYTHONPATH": str(ROOT)}) as standby, server.client() as client:
        standby.hear(f"{job}: ")

        def looks() -> int:
            return int(client.info("commandstats").get("cmdstat_zrange", {"calls": 0})["calls"])

        before = looks()
        until(lambda: looks() >= before + 3, 20, "it has looked three times more")
        standby.signal(signal.SIGTERM)
        assert standby.wait() == 0
        assert [job in line for line in standby.err] == [False, True]
    at.stage.open()


def test_a_job_whose_master_was_killed_has_none_in_every_view(at: User) -> None:
    master, job = begin(at)
    for look_at in ("status", "jobs"):
        assert "running" in at.run(look_at).out
    staying = at.start("resume", job)
    staying.hear("watching")
    staying.signal(signal.SIGINT)
    assert staying.wait() == 130
    assert f"{job} goes on as before" in staying.err[-1]

    master.signal(signal.SIGKILL)
    master.wait()
    for words in (("attach", job), ("resume", job)):  # they have not watched long enough to know that it is dead
        looking = at.start(*words)
        looking.hear("watching")
        looking.signal(signal.SIGINT)
        assert looking.wait() == 130
        assert f"{job} goes on as before: " not in looking.err[-1]
        assert "if its master lives" in looking.err[-1] or "has no master now" in looking.err[-1]
    killed = began = time.monotonic()
    while "no master" not in at.run("jobs").out:
        assert began - killed < 12, "a look that begins then says so, and takes some two seconds"
        began = time.monotonic()
    remedy = re.compile(rf"no sign of its master for [0-9:]+ ?s?: mrq resume {job_label(job)}\b")
    assert remedy.search(at.run("jobs").err)
    for view in (["status"], ["status", job], ["dashboard", "--once"]):
        shown = at.run(*view).out
        assert "no master" in shown
        assert remedy.search(shown), shown
        assert "left" not in shown
    data = at.run("status", job, "--json").json
    assert (data["state"], data["waits_for"]) == ("waiting", "master")
    assert data["silent_s"] > 8

    leaving = at.start("resume", job)
    assert re.search(r"for \d+ s; taking over in 10 s", leaving.hear("no sign of its master"))
    leaving.signal(signal.SIGINT)
    assert leaving.wait() == 130
    assert f"{job} has no master now and does not go on: mrq resume {job}" in leaving.err[-1]
    watching = at.start("attach", job)
    assert f"mrq resume {job}" in watching.hear("no sign of its master")
    watching.signal(signal.SIGINT)
    assert watching.wait() == 130
    assert f"{job} has no master now" in watching.err[-1]
    at.stage.open()
    assert at.run("resume", job, "-o", "value").out == f"{hex(total(TERMS))}\n"


def test_a_clock_that_is_wrong_makes_no_job_masterless(at: User, tmp_path: Path) -> None:
    master, job = begin(at)
    (tmp_path / "keys").write_text(KEY)
    place = reach(at.env["MRQ_URL"], at.env["MRQ_QUEUE"], str(tmp_path / "keys"))
    seen = place.snapshot()
    for hours in (-1, 1):
        report = msgspec.structs.replace(seen.jobs[0].report, at=time.time() + hours * 3600)
        odd = replace(seen, jobs=(replace(seen.jobs[0], report=report),))
        assert watch_quiet(place, odd) == {job: 0.0}, "its token moves"
    assert watch_quiet(place, place.snapshot()) == {}, "and where the clock is right one look is enough"
    place.wire.close()
    at.stage.open()
    assert master.wait() == 0


def test_a_job_without_workers_says_so(at: User) -> None:
    master = at.start("compute", "exp", "--x", "2")
    master.hear("0 workers")
    (job,) = (one["job"] for one in at.run("jobs", "--json").json)
    for view in (["status"], ["jobs"], ["status", job], ["dashboard", "--once"]):
        assert "no workers" in at.run(*view).out
    assert at.run("status", job, "--json").json["waits_for"] == "workers"
    master.signal(signal.SIGTERM)
    master.wait()


def test_workers_that_are_replaced_are_counted_as_often_as_they_work_at_one_time(at: User) -> None:
    at.start("worker", "-c", "1", "--max-tasks", "5").hear("1 worker")
    record = at.run("compute", "exp", "--x", "2", "--terms", "60", "--chunk", "1", "--json").json
    assert record["tasks"] == 60
    assert record["workers"] == 1
    details = at.run("status", record["job"]).out
    assert re.search(r"^workers +1$", details, re.MULTILINE)


def test_a_worker_that_was_killed_keeps_its_name_and_stands_last(at: User) -> None:
    master, _ = begin(at)
    at.start("worker", "-c", "1", "--name", "painter")

    def painter() -> str:
        return next((line for line in at.run("workers").out.splitlines() if line.startswith("painter:")), "")

    alive = until(painter, 10, "it is listed")
    pid = alive.split()[0].partition(":")[2]
    os.kill(int(pid), signal.SIGKILL)
    dead = until(
        lambda: next((line for line in at.run("workers").out.splitlines() if " dead " in line), ""), 10, "dead"
    )
    assert dead.split()[0] == f"painter:{pid}"
    assert at.run("workers").out.splitlines()[-1] == dead
    at.stage.open()
    assert master.wait() == 0


@pytest.mark.parametrize("now", [False, True])
def test_cancel_with_a_master_alive(at: User, now: bool) -> None:
    master, job = begin(at)
    ran = at.run("cancel", job, *["--now"] * now)
    assert (ran.code, ran.out, ran.err) == (0, "", f"mrq: cancelled: {job}\n")
    if now:
        until(lambda: not look(at).in_flight, 5, "hands empty")
    else:
        at.stage.open()
    assert master.wait() == 1
    assert "was cancelled" in master.err[-1]
    assert at.run("cancel", job).err == f"mrq: {job} has ended already: cancelled\n"
    assert at.run("result", job).code == 1


def test_cancel_with_no_master_alive(at: User) -> None:
    master, job = begin(at)
    master.signal(signal.SIGKILL)
    master.wait()
    assert at.run("cancel", job, "--now").code == 0
    assert at.run("status", job, "--json").json["state"] == "cancelled"


def test_the_result_of_a_running_job(at: User) -> None:
    master, job = begin(at)
    ran = at.run("result", job)
    assert (ran.code, ran.out) == (1, "")
    assert f"{job} is still running: wait for it with `mrq attach {job}`" in ran.err
    at.stage.open()
    master.wait()
    again = at.run("result", job, "--json")
    assert again.code == 0
    assert again.json == json.loads(master.out[0])


@pytest.mark.parametrize("command", ["result", "resume", "attach", "cancel", "status"])
def test_no_such_job(at: User, command: str) -> None:
    ran = at.run(command, "exp-nowhere")
    assert (ran.code, ran.out) == (4, "")
    assert "there is no job exp-nowhere on queue" in ran.err
    assert ran.err.count("\n") == 1


def test_a_beginning_that_is_not_unique(at: User) -> None:
    for x in "12":
        assert at.run("compute", "exp", "--x", x, "--local", "1").code == 0
    ran = at.run("result", "exp-")
    assert ran.code == 2
    assert "2 jobs have exp- in their id, so give more of it: exp-" in ran.err
    for command in ("cancel", "status", "result", "attach", "resume", "retry", "report", "trace", "events"):
        for empty in ("", " "):
            out = ("--out", os.devnull) if command in {"report", "trace"} else ()
            ran = at.run(command, empty, *out)
            assert (ran.code, ran.err) == (2, "mrq: the job's id is empty: `mrq jobs` lists them\n"), command
    first, second = at.run("jobs", "--json").json
    assert at.run("result", first["job"][:9], "-o", "value").out.strip() == first["record"]["value"]
    assert second["params"] == {"x": "1"}


# -- one look ----------------------------------------------------------------------------------------------------------


def test_status_jobs_and_workers_in_words(at: User) -> None:
    master, job = begin(at)
    status = at.run("status").out
    assert "0 tasks waiting, 1 in hand" in status
    assert "1 running" in status
    assert job in at.run("jobs").out
    assert len(at.run("workers").out.splitlines()) == 3
    details = at.run("status", job).out
    assert f"{TERMS - 1} of {TERMS} terms (97 %)" in details
    at.stage.open()
    assert master.wait() == 0
    assert "done" in at.run("jobs").out


def test_a_worker_in_a_burst_leaves_when_the_queue_is_empty(at: User) -> None:
    master = at.start("compute", "exp", "--x", "2", "--terms", "200", "--chunk", "1", "-o", "value")
    master.hear("0 workers")
    worker = at.start("worker", "-c", "1", "--burst", "--max-tasks", "1000", "--name", "quick")
    assert worker.wait() == 0
    assert master.wait() == 0
    assert master.out == ["7.38905609893065\n"]


def test_a_quiet_worker_says_nothing(at: User) -> None:
    worker = at.start("worker", "-c", "1", "-q")
    until(lambda: look(at).workers, 10, "it is there")
    worker.signal(signal.SIGINT)
    assert worker.wait() == 0
    assert (worker.out, worker.err) == ([], [])


def test_entries_of_somebody_without_the_key_are_left_out(at: User, server: RealServer, queue: str) -> None:
    with server.client() as client:
        client.hset(f"mrq1:{{{queue}}}:w", "evil:1:ab", b"\0\0garbage")
        client.hset(f"mrq1:{{{queue}}}:j:exp-forged", mapping={"tok": "1", "state": "running", "spec": b"\0\0x"})
        client.zadd(f"mrq1:{{{queue}}}:J", {"exp-forged": 1})
    ran = at.run("status", "--json")
    assert (ran.json["jobs"], ran.json["workers"], ran.json["dropped"]) == ([], [], 2)
    assert "2 entries cannot be read" in ran.err
    assert "exp-forged" not in at.run("jobs").out
    for command in ("status", "result"):
        ran = at.run(command, "exp-forged")
        assert (ran.code, ran.err.splitlines()[-1].count("job exp-forged cannot be read: ")) == (1, 1), command


def test_the_status_of_a_job_that_is_not_among_the_newest(at: User, server: RealServer, queue: str) -> None:
    with Client(server.url, queue=queue, keys=[KEY], local=1, allow_pickle=True) as client:
        first = client.submit("exp", x="2", terms=5)
        first.result(30)
        for _ in range(MAX_JOBS):
            client.map_reduce(abs, range(2))
    assert first.id not in at.run("jobs").out
    assert at.run("status", first.id, "--json").json["state"] == "done"


# -- the doctor --------------------------------------------------------------------------------------------------------


def findings(at: User) -> dict[str, list[dict[str, str]]]:
    found: dict[str, list[dict[str, str]]] = {}
    for finding in at.run("doctor", "--json").json:
        found.setdefault(finding["what"], []).append(finding)
    return found


def test_the_doctor_finds_nothing_wrong_with_a_job_that_runs(at: User) -> None:
    master, _ = begin(at, 1)  # beside others, it would be late after five seconds, and the idle worker would do it, too

    def states() -> list[str]:
        return sorted(one.beat.state for one in look(at).workers if one.beat is not None)

    until(lambda: states() == ["busy", "idle"], 10, "both workers' word of what they do")
    found = findings(at)
    assert {finding["level"] for what in found if what != "persistence" for finding in found[what]} == {"ok"}
    assert found["workers"][0]["text"] == "2 workers, 1 busy"
    at.stage.open()
    assert master.wait() == 0


def test_the_doctor_finds_what_is_wrong_and_says_what_helps(at: User, server: RealServer, queue: str) -> None:
    master, job = begin(at)
    master.signal(signal.SIGTERM)
    assert master.wait() == 143
    with server.client() as client:
        client.lpush(f"mrq1:{{{queue}}}:f:gone:1:ab", b"a task")
        client.xadd(f"mrq1:{{{queue}}}:r:exp-over", {"a": b"late"})
    found = findings(at)
    assert found["jobs"][0]["remedy"] == f"mrq resume {job}"
    assert {finding["level"] for finding in found["jobs"] + found["orphans"]} == {"warn"}
    assert any("gone:1" in finding["text"] for finding in found["orphans"])
    assert any("exp-over" in finding["text"] for finding in found["orphans"])


def test_the_doctors_exit_code(at: User, server: RealServer, queue: str) -> None:
    assert at.run("doctor").code == 0
    with server.client() as client:
        client.set(f"mrq1:{{{queue}}}:q", "mine")
        ran = at.run("doctor")
        client.delete(f"mrq1:{{{queue}}}:q")
    assert ran.code == 1
    assert "fail  keys" in ran.out


def test_the_doctor_says_so_when_the_server_does_not_answer(at: User, tmp_path: Path) -> None:
    ran = at.run("doctor", "-u", f"unix://{tmp_path}/nobody")
    assert ran.code == 69
    assert ran.out.startswith("fail  connection  cannot reach unix://")


def test_the_doctor_says_only_what_helps_where_the_server_has_no_such_database(at: User, server: RealServer) -> None:
    ran = at.run("doctor", "-u", f"{server.url}?db=99")
    assert ran.code == 69
    assert "correct the number at the end of the URL" in ran.out
    assert "check that the server runs" not in ran.out


def test_the_doctor_names_a_worker_that_goes_on_for_a_job_that_has_ended(
    at: User, server: RealServer, queue: str
) -> None:
    master, job = begin(at)
    at.run("cancel", job)
    assert master.wait() == 1
    beat = Beat(
        count=9,
        host="far",
        pid=77,
        name="far:77",
        state="busy",
        job=job,
        lo=0,
        hi=1,
        seconds=60.0,
        done=0,
        rate=0.0,
        rss=0,
        version=__version__,
        probe="",
        kid=0,
        at=time.time(),
    )
    with server.client() as client:
        client.hset(
            f"mrq1:{{{queue}}}:w",
            "far:77:ab",
            Codecs(queue, Keyring([bytes.fromhex(KEY)])).beat.at("far:77:ab").seal(beat),
        )
    (finding,) = [one for one in findings(at)["workers"] if "far:77" in one["text"]]
    assert (finding["level"], job in finding["text"], "kill -9 77 on far" in finding["remedy"]) == ("warn", True, True)
    at.stage.open()


# -- a server that answers and takes no writes -------------------------------------------------------------------------


def test_a_server_that_refuses_writes_is_not_called_back(at: User, server: RealServer) -> None:
    master, _ = begin(at)
    with server.client() as client:
        client.config_resetstat()
        client.replicaof("127.0.0.1", free_port())
        try:
            until(lambda: refusals(client) >= 25, 20, "refused again and again")
        finally:
            client.replicaof("NO", "ONE")
    master.hear("Redis is back after")
    at.stage.open()
    assert master.wait() == 0
    check(json.loads(master.out[-1]))
    assert [sum(word in line for line in master.err) for word in ("trying again", "is back after")] == [1, 1]


def refusals(client: redis.Redis) -> int:
    """How often a command was refused for want of a primary."""
    found = client.info("errorstats").get("errorstat_READONLY", {"count": 0})
    return int(found["count"])


def test_a_full_server_is_named_by_master_and_doctor(at: User, server: RealServer) -> None:
    master, _ = begin(at)
    with server.client() as client:
        client.config_set("maxmemory", 1)
        try:
            master.hear("is out of memory")
            ran = at.run("doctor")
        finally:
            client.config_set("maxmemory", 0)
    assert ran.code == 1
    assert "fail  memory" in ran.out
    master.hear("Redis takes answers again")
    at.stage.open()
    assert master.wait() == 0
    check(json.loads(master.out[-1]))
