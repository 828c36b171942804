"""Commands as services: started before their server, and as users who may do only what is needed."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path

import pytest

from mapreduce_rq.cli.connect import wait_for
from mapreduce_rq.errors import BrokerRefused
from mapreduce_rq.runtime import demotion
from tests.support.commands import KEY, Running, User
from tests.support.servers import FLAVOURS, FreshServer
from tests.support.stage import allowed, until

LEAST = ("on", ">secret", "~mrq1:*", "+@all", "-info")


def test_a_worker_waits_for_its_server(fresh_server: FreshServer, tmp_path: Path) -> None:
    server = fresh_server("valkey")
    server.kill9()
    with User(tmp_path, MRQ_URL=server.url) as at:
        worker = at.start("worker", "-c", "1")
        assert "cannot reach unix://" in worker.hear("waiting for it")
        refused = at.run("worker", "-c", "1", "--burst")
        assert (refused.code, "cannot reach" in refused.err) == (69, True)
        server.start()
        worker.hear("1 worker on queue default")
        assert at.run("compute", "exp", "--x", "2", "-o", "value").out == "7.38905609893065\n"
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
        assert sum("cannot reach" in line for line in worker.err) == 1


def test_a_master_waits_for_its_server_too(fresh_server: FreshServer, tmp_path: Path) -> None:
    server = fresh_server("valkey")
    server.kill9()
    with User(tmp_path, MRQ_URL=server.url) as at:
        master = at.start("master")
        assert "cannot reach unix://" in master.hear("waiting for it")
        at.start("worker", "-c", "1").hear("waiting for it")
        server.start()
        master.hear("leading the jobs on queue default")
        job = at.run("compute", "exp", "--x", "2", "--detach").out.strip()
        assert at.run("attach", job, "-o", "value").out == "7.38905609893065\n"
        master.signal(signal.SIGTERM)
        assert master.wait() == 0
        assert sum("cannot reach" in line for line in master.err) == 1


def test_a_replica_that_has_lost_its_primary_is_not_waited_for_without_end(
    fresh_server: FreshServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers reads with MASTERDOWN: perhaps amid a failover, perhaps for ever."""
    server = fresh_server("valkey", tcp=True, replica_serve_stale_data="no")
    with server.client() as client:
        client.replicaof("127.0.0.1", 1)
    monkeypatch.setattr(demotion, "REPLICA_SECONDS", 1.0)
    with pytest.raises(BrokerRefused, match=r"is a replica, which takes no writes: .*; it has been one for \d s"):
        wait_for(server.url, "default", None, "waiting for it")


def test_an_outage_is_said_once_for_all_workers(fresh_server: FreshServer, tmp_path: Path) -> None:
    server = fresh_server("valkey")
    with User(tmp_path, MRQ_URL=server.url) as at:
        worker = at.start("worker", "-c", "4")
        worker.hear("4 workers on queue default")
        with server.client() as client:
            until(lambda: client.info("clients")["blocked_clients"] == 4, 20, "they wait for tasks")
        for _ in range(2):
            server.kill9()
            said = len(lines(worker, " Redis is back after ")) + 1
            until(lambda said=said: len(lines(worker, "; trying again")) == said, 20, "it is said")  # type: ignore[misc]
            server.start()
            until(lambda said=said: len(lines(worker, " is back after ")) == said, 20, "it is over")  # type: ignore[misc]
        assert at.run("compute", "exp", "--x", "2", "-o", "value").out == "7.38905609893065\n"
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
        assert len(lines(worker, "; trying again")) == len(lines(worker, " Redis is back after ")) == 2
        form = rf"\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d WARNING \S+:{worker.pid} cannot reach unix://"
        assert all(re.match(form, line) for line in lines(worker, "; trying again"))


def test_verbose_tells_jobs_and_tasks(fresh_server: FreshServer, tmp_path: Path) -> None:
    with User(tmp_path, MRQ_URL=fresh_server("valkey").url) as at:
        worker = at.start("worker", "-c", "1", "-v")
        worker.hear("1 worker on queue")
        at.stage.write("poison", "2:raise")
        ran = at.run(
            "compute", "staged", "--terms", "3", "--function", "poisoned", "--chunk", "1", "--on-error", "skip"
        )
        assert ran.code == 3
        begun = worker.hear("begins to work for it (staged)")
        assert re.search(r" DEBUG \S+:\d+ staged-", begun)
        for task in (r"\[0, 1\)", r"\[1, 2\)", r"\[2, 3\) failed"):
            pattern = re.compile(
                rf" DEBUG \S+:\d+ staged-\w+ {task} in \d+\.\d{{6}} s$"
            )  # on a busy machine the first one takes 2 s
            assert [line for line in worker.err if pattern.search(line)], task


def lines(running: Running, words: str) -> list[str]:
    return [line for line in running.err if words in line]


@pytest.mark.parametrize("command", ["worker", "master"])
def test_a_service_that_waits_ends_when_told_to(tmp_path: Path, command: str) -> None:
    with User(tmp_path, MRQ_URL=f"unix://{tmp_path}/s") as at:
        worker = at.start(command, "-c", "1")
        worker.hear("waiting for it")
        worker.signal(signal.SIGINT)
        assert worker.wait() == 130


def test_a_worker_that_is_refused_does_not_wait(fresh_server: FreshServer, tmp_path: Path) -> None:
    server = fresh_server("valkey")
    with User(tmp_path, MRQ_URL=f"unix://:wrong@{server.socket}") as at:
        began = time.monotonic()
        ran = at.run("worker", "-c", "1")
        assert (ran.code, ran.err.count("\n")) == (69, 1)
        assert time.monotonic() - began < allowed(10)


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("more", ["", "-hello"])
def test_info_is_not_needed(fresh_server: FreshServer, tmp_path: Path, flavour: str, more: str) -> None:
    server = fresh_server(flavour)
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "clerk", *LEAST, *more.split())
    with User(tmp_path, MRQ_URL=f"unix://clerk:secret@{server.socket}") as at:
        ran = at.run("compute", "exp", "--x", "2", "--local", "1", "-o", "value", "-q")
        assert ran == (0, "7.38905609893065\n", "")
        worker = at.start("worker", "-c", "1")
        worker.hear("1 worker on queue")
        for command in ("status", "jobs", "workers", "dashboard"):
            looked = at.run(command)
            assert (looked.code, looked.err) == (0, "")
            assert "0 B" not in looked.out
        ran = at.run("doctor")
        assert ran.code == 0
        assert "warn  server" in ran.out
        assert "this user may not use INFO" in ran.out


def test_what_is_needed_and_not_allowed_is_no_wrong_password(fresh_server: FreshServer, tmp_path: Path) -> None:
    server = fresh_server("valkey")
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "clerk", "on", ">secret", "~*", "+@all", "-@scripting")
    with User(tmp_path, MRQ_URL=f"unix://clerk:secret@{server.socket}") as at:
        ran = at.run("compute", "exp", "--x", "2", "--local", "1", "-q")
        assert ran.code == 69
        assert "does not let user clerk use a command" in ran.err
        assert "password" not in ran.err


def test_the_log_is_lines_with_date_and_host_or_json(fresh_server: FreshServer, tmp_path: Path) -> None:
    server = fresh_server("valkey")
    with User(tmp_path, MRQ_URL=server.url) as at:
        text, data = (
            at.start("worker", "-c", "1", "--name", "alpha", "--log-format", form) for form in ("text", "json")
        )
        for worker in (text, data):
            worker.hear("1 worker on queue")
            worker.signal(signal.SIGTTIN)
        assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d INFO \S+:\d+ alpha TTIN: one", text.hear("TTIN"))
        found = json.loads(data.hear("TTIN"))
        assert (found["level"], found["worker"], found["pid"]) == ("info", "alpha", data.pid)
        assert found["at"].startswith("20")
        assert found["host"]
        idle = at.run("worker", "-c", "1", "--max-idle-time", "0.2s")
        assert (idle.code, "no task for 0.2 s: leaving" in idle.err) == (0, True)


@pytest.mark.parametrize("how", [("--reduce", "counter"), ("--stream",)])
def test_a_job_is_not_called_cancelled_where_its_server_did_not_hear_of_it(
    fresh_server: FreshServer, tmp_path: Path, how: tuple[str, ...]
) -> None:
    server = fresh_server("valkey")
    pipe = tmp_path / "lines"
    os.mkfifo(pipe)
    with User(tmp_path, MRQ_URL=server.url, MRQ_KEY=KEY) as at:
        at.start("worker", "-c", "1")
        master = at.start("run", "os.path:basename", "--lines", str(pipe), *how)
        with pipe.open("w") as writer, server.client() as raw:
            writer.write("a/one\n")
            writer.flush()
            until(lambda: master.out if "--stream" in how else raw.keys("mrq1:*j:*"), 20, "its value, or the job")
            server.kill9()
            master.signal(signal.SIGTERM)
            assert master.wait() == 143
    said = master.hear("may not be cancelled, because Redis did not answer")
    assert re.search(r": mrq cancel (function|files)-[0-9a-f]+$", said.rstrip())
    assert not [line for line in master.err if " cancelled: " in line]
