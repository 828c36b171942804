"""What a person at a shell expects of any command: help by every name, pipes that end early, TAB."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mapreduce_rq.version import __version__
from tests.support.commands import MRQ, Ran, User, environment, mrq
from tests.support.servers import ROOT, RealServer
from tests.support.stage import until


@pytest.fixture(scope="module")
def server() -> Iterator[RealServer]:
    with RealServer("valkey") as running:
        yield running


@pytest.fixture
def at(server: RealServer, queue: str, tmp_path: Path) -> Iterator[User]:
    with User(tmp_path, MRQ_URL=server.url, MRQ_QUEUE=queue) as made:
        yield made


def shell(line: str, env: dict[str, str] | None = None) -> Ran:
    """A line of bash that fails where any of its commands does; ``mrq`` is ours."""
    done = subprocess.run(
        ["bash", "-c", f'set -o pipefail; mrq() {{ {" ".join(MRQ)} "$@"; }}; {line}'],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=env or environment(),
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("word", ["--version", "-V", "version"])
def test_the_version_by_every_name(word: str) -> None:
    assert mrq(word) == (0, f"mrq {__version__}\n", "")


@pytest.mark.parametrize("command", [(), ("compute",), ("compute", "exp"), ("worker",)])
def test_help_by_every_name(command: tuple[str, ...]) -> None:
    first = mrq("help", *command)
    assert first.code == 0
    assert "Usage: mrq" in first.out
    assert first == mrq(*command, "--help") == mrq(*command, "-h") if not command else first == mrq(*command, "--help")


def test_a_lone_argument_is_the_one_parameter_that_must_be() -> None:
    assert mrq("compute", "exp", "2", "-o", "value", "--local", "1").out == "7.38905609893065\n"
    assert mrq("compute", "exp", "--terms", "2", "2", "-o", "value", "--local", "1").out == "3.0\n"
    assert mrq("compute", "primes", "1e3", "-o", "value", "--local", "1").out == "168\n"


@pytest.mark.parametrize(
    "command", ["--help", "--version", "compute exp --help", "compute exp --x 2", "key", "compute exp --x 2 --json"]
)
@pytest.mark.parametrize("reader", ["true", "head -1"])
def test_a_reader_that_ends_early_is_no_failure(command: str, reader: str) -> None:
    ran = shell(f"mrq {command} | {reader}")
    assert (ran.code, ran.err) == (0, "")


def test_so_it_is_with_views_of_a_queue(at: User) -> None:
    for command in ("status", "jobs", "workers", "dashboard", "doctor"):
        ran = shell(f"mrq {command} | true", at.env)
        assert (ran.code, "Error" in ran.err) == (0, False)


def test_a_job_that_fails_fails_whether_or_not_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("def f(term):\n    return 1 / 0\n")
    ran = shell("mrq run own:f --terms 3 --local 1 --json | true", environment(path=[tmp_path]))
    assert ran.code == 1


def test_ctrl_c_on_a_private_run_is_said_in_one_line(tmp_path: Path) -> None:
    with User(tmp_path) as user:
        user.stage.write("gated", "5")
        master = user.start("compute", "staged", "--terms", "9", "--function", "gated", "--chunk", "1", "--local", "1")
        user.stage.begun(5)
        master.signal(signal.SIGINT)
        assert master.wait(5) == 130
        (line,) = master.err
        assert line.startswith("mrq: stopped: staged-")
        assert line.endswith("for its private server has ended with this command\n")


def complete(words: str, env: dict[str, str]) -> list[str]:
    """What bash offers behind these words."""
    asked = {"_MRQ_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1)}
    done = subprocess.run(
        [sys.executable, "-m", "mapreduce_rq"], capture_output=True, text=True, cwd=ROOT, env=env | asked, check=False
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_tab_offers_jobs_reducers_commands_and_options(at: User, server: RealServer, queue: str) -> None:
    for x in "12":
        at.run("compute", "exp", "--x", x, "--local", "1")
    with server.client() as client:
        client.zadd(f"mrq1:{{{queue}}}:J", {"exp-$(touch evil)": 1, "exp-\x1b]0;x\x07": 2})
    jobs = {one["job"] for one in at.run("jobs", "--json").json}
    for command in ("result", "attach", "resume", "cancel", "status"):
        assert set(complete(f"mrq {command} ", at.env)) == jobs
    one = min(jobs)
    assert complete(f"mrq result {one[:9]}", at.env) == [one]
    assert complete("mrq run own:f --reduce in", at.env) == ["int_sum"]
    assert complete("mrq run own:f --reduce to", at.env) == ["topk"]
    assert "compute" in complete("mrq ", at.env)
    assert "exp" in complete("mrq compute ", at.env)
    assert "--digits" in complete("mrq compute exp --d", at.env)
    assert "compute" in complete("mrq nonsense ", at.env), "and no complaint"


@pytest.mark.parametrize("url", ["unix:///nowhere", "nonsense", ""])
def test_tab_is_silent_without_a_server(at: User, url: str) -> None:
    assert complete(f"mrq result -u {url or chr(39) * 2} ", at.env) == []


def test_a_reader_that_ends_in_the_middle_of_a_large_value() -> None:
    reader, writer = os.pipe()
    with subprocess.Popen(
        [*MRQ, "compute", "exp", "--x", "2", "--digits", "300000", "-o", "value"],
        stdout=writer,
        stderr=subprocess.PIPE,
        env=environment(),
        cwd=ROOT,
    ) as process:
        os.close(writer)
        until(lambda: os.read(reader, 100), 30, "the value begun")
        os.close(reader)
        assert process.wait(30) == 0
        assert process.stderr
        assert process.stderr.read() == b""


@pytest.mark.parametrize("name", ["COLUMNS", "LINES", "TERMINAL_WIDTH"])
@pytest.mark.parametrize("value", ["1000000000", "abc", ""])
def test_a_width_that_no_terminal_has_is_no_width(name: str, value: str, server: RealServer) -> None:
    """Rich filled lines of 10^9 columns until it was killed, and `TERMINAL_WIDTH=abc` ended in a traceback."""
    for words in (("compute", "exp", "--help"), ("dashboard", "--once", "-u", server.url)):
        ran = mrq(*words, env=environment({name: value}))
        assert ran.code == 0, ran
        assert ran.out
        assert max(map(len, ran.out.splitlines())) <= 200
