"""Without a server: everything that one command starts goes with it, also when it is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.fleet import children_of
from tests.support.servers import ROOT, wait_gone
from tests.support.stage import Stage, until
from tests.support.terms import STAGE, total

PROGRAM = """
import sys
from mapreduce_rq.client.client import Client
from tests.support.terms import slow
with Client(local=2) as mrq:
    print(mrq.site.server.directory, flush=True)
    print(mrq.map_reduce(slow, range(int(sys.argv[1])), reduce="int_sum"), flush=True)
"""


class Program:
    """A Python program that maps ``slow`` over some terms on a private server with two workers."""

    def __init__(self, stage: Stage, terms: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(terms)],
            cwd=ROOT,
            env=os.environ | {STAGE: str(stage.folder)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            text=True,
        )
        assert self.process.stdout
        self.directory = Path(self.process.stdout.readline().strip())
        stage.begun(0)
        self.family = descendants(self.process.pid)

    def all_gone(self) -> None:
        """Not a process is left and not a file."""
        for pid in self.family:
            assert wait_gone(pid), f"process {pid} is left"
        until(lambda: not self.directory.exists(), 5, "no files left")
        self.process.communicate()

    def ended(self) -> tuple[int, str]:
        """The exit code and what it said last on standard error."""
        _, errors = self.process.communicate(timeout=20)
        return self.process.returncode, errors.splitlines()[-1]


def descendants(pid: int) -> list[int]:
    found = children_of(pid)
    return found + [below for child in found for below in descendants(child)]


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    made = Stage(tmp_path)
    made.write("seconds", "0.01")
    return made


def test_it_computes_and_leaves_nothing(stage: Stage) -> None:
    program = Program(stage, 100)
    out, errors = program.process.communicate(timeout=30)
    assert (int(out), errors) == (total(100), "")
    assert program.process.returncode == 0
    program.all_gone()
    assert stage.count() == dict.fromkeys(range(100), 1)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_at_any_moment_leaves_nothing(stage: Stage, number: int) -> None:
    program = Program(stage, 100_000)
    assert len(program.family) >= 4  # the guardian, the server, the supervisor, a worker at least
    program.process.send_signal(number)
    program.process.wait(10)
    program.all_gone()


def test_the_server_killed_under_it_is_one_clear_error(stage: Stage) -> None:
    program = Program(stage, 100_000)
    server = next(pid for pid in program.family if "valkey" in command_of(pid) or "redis" in command_of(pid))
    os.kill(server, signal.SIGKILL)
    code, error = program.ended()
    assert code == 1
    assert error.endswith(": the private server died (killed by signal 9), and the job with it: run it again")
    program.all_gone()


def command_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text().partition("\0")[0]
