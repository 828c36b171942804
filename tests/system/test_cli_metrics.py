"""`mrq metrics` and `--metrics-port`: what Prometheus reads, and whether a worker really works."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import get_args

from prometheus_client.parser import text_string_to_metric_families

from mapreduce_rq.core.messages import What
from tests.support.commands import Running, User
from tests.support.servers import ROOT, FreshServer, free_port
from tests.support.stage import allowed, until


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError:
        return 0, ""  # it does not listen yet


def values(port: int) -> dict[tuple[str, str], float]:
    """``(name, its label beside the queue) -> value``."""
    _, text = get(port, "/metrics")
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = {name: value for name, value in sample.labels.items() if name != "queue"}
            found[sample.name, ",".join(labels.values())] = sample.value
    return found


def shown(port: int, name: tuple[str, str], value: float) -> dict[tuple[str, str], float]:
    """All values, if this one is there; {} if not."""
    found = values(port)
    return found if found.get(name) == value else {}


def port_in(running: Running) -> int:
    found = re.search(r"at port (\d+)", running.hear("metrics of queue"))
    assert found
    return int(found[1])


def test_what_prometheus_reads_of_a_fleet(fresh_server: FreshServer, tmp_path: Path) -> None:
    server = fresh_server("valkey")
    with User(tmp_path, MRQ_URL=server.url) as at:
        exporter = at.start("metrics", "--port", "127.0.0.1:0")
        port = port_in(exporter)
        before = values(port)
        assert before["mrq_up", ""] == 1
        assert (before["mrq_backlog_tasks", ""], before["mrq_workers_wanted", ""]) == (0, 0)
        beside = free_port()
        worker = at.start("worker", "-c", "2", "--metrics-port", f"127.0.0.1:{beside}")
        until(lambda: values(port)["mrq_workers", "idle"] == 2, 20, "two workers beat")
        assert get(beside, "/healthz") == (200, "ok\n")
        at.stage.write("gated", "0 1")
        job = at.start("compute", "staged", "--terms", "8", "--function", "gated", "--chunk", "1")
        busy = until(lambda: shown(port, ("mrq_workers", "busy"), 2), 20, "both work")
        assert busy["mrq_backlog_tasks", ""] == 8
        assert 1 <= busy["mrq_workers_wanted", ""] <= 8
        at.stage.open()
        assert job.wait() == 0
        done = until(lambda: shown(port, ("mrq_tasks_total", ""), 8), 20, "all are counted")
        assert done["mrq_jobs", "done"] == 1
        assert done["mrq_task_seconds_count", ""] == 8
        assert done["mrq_task_seconds_bucket", "+Inf"] == 8
        assert done["mrq_events_total", "done"] == 1
        _, text = get(port, "/metrics")
        assert "staged-" not in text, "no job has a series of its own"
        assert get(port, "/else")[0] == 404

        # Redis dies: both say so, and come back with it.
        server.kill9()
        until(lambda: get(port, "/healthz")[0] == 503 and get(beside, "/healthz")[0] == 503, 20, "no health")
        assert values(port) == {("mrq_up", ""): 0}
        server.start()
        until(lambda: get(port, "/healthz")[0] == 200 and get(beside, "/healthz")[0] == 200, 30, "health again")

        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
        until(lambda: get(beside, "/healthz")[0] == 0, 20, "it ends with its supervisor")
        exporter.signal(signal.SIGTERM)
        assert exporter.wait() == 143


def test_a_server_that_hangs_is_told_of_before_a_scraper_gives_up(fresh_server: FreshServer, tmp_path: Path) -> None:
    server = fresh_server("valkey")
    with User(tmp_path, MRQ_URL=server.url) as at:
        ports = [port_in(at.start("metrics", "--port", "127.0.0.1:0")), free_port(), free_port()]
        for command, port in zip(("worker", "master"), ports[1:], strict=True):
            at.start(command, "--metrics-port", f"127.0.0.1:{port}")
        for port in ports:
            until(lambda port=port: get(port, "/healthz")[0] == 200, 20, "it is well")  # type: ignore[misc]
        took: list[float] = []

        def hangs(port: int) -> bool:
            """Whether it says so, after a read of its own: what was read in the last second is not read again."""
            began = time.monotonic()
            down = values(port) == {("mrq_up", ""): 0}
            took.append(time.monotonic() - began)
            return down and took[-1] > 1

        os.kill(server.pid, signal.SIGSTOP)
        try:
            for port in ports:
                for which in ("old", "new"):
                    until(lambda port=port: hangs(port), 20, f"it says so over its {which} connection")  # type: ignore[misc]
                status, text = get(port, "/healthz")
                assert (status, text.endswith(" does not answer in time\n")) == (503, True)
            assert max(took) < allowed(4)
        finally:
            os.kill(server.pid, signal.SIGCONT)
        for port in ports:
            until(lambda port=port: get(port, "/healthz")[0] == 200, 20, "it is well again")  # type: ignore[misc]
            assert values(port)["mrq_up", ""] == 1


def test_a_worker_that_does_not_consume_is_not_healthy(fresh_server: FreshServer, tmp_path: Path) -> None:
    server = fresh_server("valkey")
    with User(tmp_path, MRQ_URL=server.url) as at:
        port = free_port()
        worker = at.start("worker", "-c", "1", "--metrics-port", f"127.0.0.1:{port}")
        until(lambda: get(port, "/healthz")[0] == 200, 20, "it works")
        worker.signal(signal.SIGSTOP)
        try:
            until(lambda: get(port, "/healthz")[0] == 503, 40, "a stopped supervisor beats not")
            assert get(port, "/healthz")[1] == "none of its workers has given a sign of life\n"
        finally:
            worker.signal(signal.SIGCONT)
        until(lambda: get(port, "/healthz")[0] == 200, 20, "it goes on")


def test_a_master_that_stands_still_is_not_healthy(fresh_server: FreshServer, tmp_path: Path) -> None:
    server = fresh_server("valkey")
    with User(tmp_path, MRQ_URL=server.url) as at:
        at.stage.write("seconds", "0.02")
        at.stage.open()
        port = free_port()
        master = at.start("master", "--metrics-port", f"127.0.0.1:{port}")
        until(lambda: get(port, "/healthz")[0] == 200, 20, "it waits for jobs")
        at.start("worker", "-c", "1").hear("1 worker")
        at.run("compute", "staged", "--terms", "100000", "--function", "slow", "--detach")
        until(lambda: values(port).get(("mrq_tasks_total", "")), 20, "it leads the job")
        master.signal(signal.SIGSTOP)
        try:
            until(lambda: get(port, "/healthz")[0] == 503, 40, "a stopped master commits nothing")
            assert re.match("no sign of its master of staged-[0-9a-f]+ for [0-9]+ s\n", get(port, "/healthz")[1])
        finally:
            master.signal(signal.SIGCONT)
        until(lambda: get(port, "/healthz")[0] == 200, 20, "it goes on")


def series(port: int) -> set[tuple[str, str]]:
    """Every series: its name, and its labels with their values."""
    _, text = get(port, "/metrics")
    return {
        (sample.name, json.dumps(sample.labels, sort_keys=True))
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_no_number_of_jobs_and_workers_makes_more_series(fresh_server: FreshServer, tmp_path: Path) -> None:
    server = fresh_server("valkey")
    with User(tmp_path, MRQ_URL=server.url) as at:
        port = port_in(at.start("metrics", "--port", "127.0.0.1:0"))
        at.start("worker", "-c", "1", "--name", "first").hear("1 worker")
        assert at.run("compute", "exp", "--x", "2").code == 0
        until(lambda: values(port).get(("mrq_workers", "idle")) == 1, 20, "a worker is there")
        before = series(port)
        assert 20 < len(before) < 100
        for name in ("second", "third"):
            at.start("worker", "-c", "2", "--name", name).hear("2 workers")
        for words in ("exp --x 1", "exp --x 3", "primes --to 1e5", "montecarlo --samples 1e5", "sum zeta2 --terms 10"):
            assert at.run("compute", *words.split()).code == 0
        at.stage.write("poison", "1:raise")
        assert at.run("compute", "staged", "--terms", "2", "--function", "poisoned", "--quiet").code == 1
        until(lambda: values(port).get(("mrq_workers", "idle")) == 5, 20, "all workers are there")
        kinds = {json.dumps({"queue": "default", "what": kind}) for kind in get_args(What)}
        assert series(port) - before <= {(f"mrq_events_{end}", kind) for kind in kinds for end in ("total", "created")}
        assert before <= series(port)
        labels = {name for _, found in before for name in json.loads(found)}
        assert labels <= {"queue", "state", "le", "what", "product", "version"}, labels


def test_mistakes_are_one_line(fresh_server: FreshServer, tmp_path: Path) -> None:
    with User(tmp_path, MRQ_URL=fresh_server("valkey").url) as at, socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for command, option in (("metrics", "--port"), ("worker", "--metrics-port"), ("master", "--metrics-port")):
            ran = at.run(command, option, f"127.0.0.1:{port}")
            assert (ran.code, ran.err) == (
                74,
                f"mrq: {option}: cannot listen at 127.0.0.1:{port}: Address already in use\n",
            )
            ran = at.run(command, option, "99999")
            assert (ran.code, ran.err.count("\n")) == (2, 1)


def test_the_grafana_dashboard_asks_for_what_is_served(fresh_server: FreshServer, tmp_path: Path) -> None:
    board = json.loads((ROOT / "deploy" / "grafana.json").read_text(encoding="utf-8"))
    asked = {
        name for panel in board["panels"] for one in panel["targets"] for name in re.findall(r"mrq_\w+", one["expr"])
    }
    with User(tmp_path, MRQ_URL=fresh_server("valkey").url) as at:
        served = {name for name, _ in values(port_in(at.start("metrics", "--port", "127.0.0.1:0")))}
    assert asked - served == {"mrq_checkpoint_age_seconds"}, "which is there while a job runs"
