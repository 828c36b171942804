"""Standard output on a full disk, for every command: one line says so, exit 74, and nothing of a job is lost."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mapreduce_rq.cli.registry import COMMANDS
from mapreduce_rq.client.client import Client
from tests.support.commands import environment
from tests.support.servers import ROOT, RealServer

FULL = "mrq: cannot write to standard output: No space left on device"


def full(*words: str) -> tuple[int, list[str]]:
    """The exit code and the lines on standard error."""
    with Path("/dev/full").open("w") as disk:
        command = [sys.executable, "-X", "dev", "-m", "mapreduce_rq", *words]
        ran = subprocess.run(
            command,
            stdout=disk,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=environment(),
            timeout=60,
            check=False,
        )
    return ran.returncode, ran.stderr.splitlines()


@pytest.fixture(scope="module")
def place() -> Iterator[tuple[str, str]]:
    """The URL of a server, and a job that has ended there."""
    with RealServer("valkey") as server, Client(server.url, local=1) as client:
        job = client.submit("exp", x="2", terms=50)
        job.result(30)
        yield server.url, job.id


@pytest.mark.parametrize("words", [(), ("--help",), ("help",), ("--version",), ("-V",), ("--show-completion", "bash")])
def test_of_mrq_itself(words: tuple[str, ...]) -> None:
    assert full(*words) == (74, [FULL])


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command(name: str) -> None:
    assert full(name, "--help") == (74, [FULL])


@pytest.mark.parametrize(
    "words", [("key",), ("term", "exp", "--x", "2", "--k", "7"), ("compute", "--help"), ("compute", "exp", "--help")]
)
def test_what_needs_no_server(words: tuple[str, ...]) -> None:
    assert full(*words) == (74, [FULL])


@pytest.mark.parametrize(
    "words",
    [
        ("dashboard", "--once"),
        ("dashboard", "--json"),
        ("dashboard",),
        ("status",),
        ("status", "JOB"),
        ("status", "--json"),
        ("jobs",),
        ("jobs", "--json"),
        ("workers",),
        ("workers", "--json"),
        ("queues",),
        ("queues", "--json"),
        ("events",),
        ("result", "JOB"),
        ("result", "JOB", "-o", "json"),
        ("attach", "JOB"),
        ("purge", "--dry-run"),
        ("doctor",),
        ("doctor", "--json"),
    ],
    ids=" ".join,
)
def test_what_is_read_from_a_server(place: tuple[str, str], words: tuple[str, ...]) -> None:
    url, job = place
    code, said = full(*(job if word == "JOB" else word for word in words), "-u", url)
    assert (code, said[-1][: len(FULL)]) == (74, FULL)
    assert not [line for line in said if "Traceback" in line]


@pytest.mark.parametrize("out", [(), ("--out", "/dev/stdout")])
def test_a_private_run_has_to_be_run_again(out: tuple[str, ...]) -> None:
    assert full("compute", "exp", "--x", "2", "-q", *out) == (74, [f"{FULL}; run it again"])


def test_a_shared_server_keeps_the_result(place: tuple[str, str]) -> None:
    code, said = full("compute", "exp", "--x", "2", "--local", "1", "-q", "-u", place[0])
    job = said[-1].split()[-1]
    assert (code, said[-1]) == (74, f"{FULL}; {job} keeps its result for now: mrq result {job}")
    with Client(place[0]) as client:
        assert client.job(job).result(10).value.startswith("7.38905609893065")


def test_a_detached_job_is_queued(place: tuple[str, str]) -> None:
    code, said = full("compute", "exp", "--x", "2", "--detach", "-u", place[0])
    job = said[-1].split()[-1]
    assert (code, said[-1]) == (74, f"{FULL}; {job} is queued: mrq result {job} --wait | mrq cancel {job}")
    with Client(place[0]) as client:
        assert client.job_state(job) is not None
        client.cancel(job)
