"""What a command imports: nothing beyond what it needs, because people and scripts wait for it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.commands import MRQ, User, environment, mrq
from tests.support.servers import ROOT, RealServer
from tests.support.stage import until

HEAVY = {"numpy", "gmpy2", "rq", "rich", "pydantic", "cloudpickle", "multiprocessing", "starlette", "uvicorn"}
"""None of these is needed to compute e^2."""


PROBE = """
import sys
from mapreduce_rq.cli.app import main
code = main(sys.argv[2:])
with open(sys.argv[1], "w") as file:
    file.write("\\n".join(sys.modules))
sys.exit(code)
"""


def imported(folder: Path, *arguments: str, env: dict[str, str] | None = None, code: int = 0) -> set[str]:
    """The modules that a command has imported by its end."""
    listing = folder / "modules"
    done = subprocess.run(
        [sys.executable, "-c", PROBE, str(listing), *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=env or environment(),
        cwd=ROOT,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return set(listing.read_text().split())


def tops(modules: set[str]) -> set[str]:
    return {module.partition(".")[0] for module in modules}


@pytest.fixture
def at(tmp_path: Path) -> Iterator[User]:
    with RealServer("valkey") as server, User(tmp_path, MRQ_URL=server.url) as made:
        yield made


def test_the_version_needs_next_to_nothing(tmp_path: Path) -> None:
    modules = imported(tmp_path, "--version")
    assert {module for module in modules if module.startswith("mapreduce_rq")} == {
        "mapreduce_rq",
        "mapreduce_rq.cli",
        "mapreduce_rq.cli.app",
        "mapreduce_rq.version",
    }
    assert not tops(modules) & (HEAVY | {"typer", "redis", "asyncio", "dataclasses", "inspect", "importlib.metadata"})


RARE = (
    "client.executor",
    "client.streams",
    "client.detached",
    "client.loops",
    "client.pool",
    "client.pool_results",
    "client.values",
    "client.aio",
    "pipes.hub",
)
"""What few programs use, and a client imports where it is used: of some milliseconds each."""


def test_the_main_job_needs_no_numbers_no_rq_and_no_rich(tmp_path: Path) -> None:
    modules = imported(tmp_path, "compute", "exp", "--x", "2", "--terms", "50")
    assert not tops(modules) & (HEAVY | {"redis", "asyncio", "ssl", "importlib.metadata", "email"})
    names = [f"mapreduce_rq.{name}" for name in RARE]
    assert all(map(find_spec, names))
    assert [name for name in names if name in modules] == []
    assert "mapreduce_rq.functions.computation" not in modules  # with 17 more, for functions of users


def test_workers_over_pipes_need_no_redis(tmp_path: Path) -> None:
    modules = imported(tmp_path, "compute", "exp", "--x", "2", "--terms", "50", "-u", "pipes:")
    assert not tops(modules) & (HEAVY | {"redis", "hiredis", "asyncio", "ssl"})


def test_a_mistake_needs_no_redis(tmp_path: Path) -> None:
    modules = imported(tmp_path, "compute", "exp", "--x", "nan", code=2)
    assert "mapreduce_rq.computations.exp" in modules
    assert not tops(modules) & (HEAVY | {"redis"})


def test_the_list_of_computations_imports_none_of_them(tmp_path: Path) -> None:
    modules = imported(tmp_path, "compute", "--help")
    listed = {module for module in modules if module.startswith("mapreduce_rq.computations.")}
    assert not listed
    assert not tops(modules) & {"numpy", "gmpy2", "redis", "rq"}


def test_the_help_of_one_computation_imports_no_other(tmp_path: Path) -> None:
    modules = imported(tmp_path, "compute", "exp", "--help")
    assert "mapreduce_rq.computations.exp" in modules
    assert "mapreduce_rq.computations.const" not in modules
    assert not tops(modules) & {"numpy", "gmpy2", "redis", "rq"}


def test_a_look_needs_no_more_than_the_wire(at: User, tmp_path: Path) -> None:
    modules = imported(tmp_path, "status", env=at.env)
    assert not tops(modules) & HEAVY
    assert not {"mapreduce_rq.client.client", "mapreduce_rq.runtime.worker.worker"} & modules


def test_what_runs_at_exit_and_threads_come_to_their_end(tmp_path: Path) -> None:
    """A process of ours leaves without freeing its objects, and not before what others have asked for is done."""
    (tmp_path / "late.py").write_text(
        "import atexit, sys, threading, time\n"
        "atexit.register(lambda: print('at exit', file=sys.stderr))\n"
        "def slowly():\n    time.sleep(0.3); print('thread', file=sys.stderr)\n"
        "threading.Thread(target=slowly).start()\n"
        "def f(k):\n    return k\n"
    )
    ran = mrq("run", "late:f", "--terms", "3", "--local", "1", "-q", "-o", "value", env=environment(path=[tmp_path]))
    assert (ran.code, ran.out) == (0, "3\n")
    assert ran.err.splitlines()[-2:] == ["thread", "at exit"]


ALONE = """
import os, sys
os.setsid()
os.fork() and os._exit(0)
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.mark.parametrize(
    "words", [("--show-completion", "bash"), ("--show-completion=zsh",), ("--show-completion", "fish")]
)
def test_the_completion_of_a_named_shell_is_shown_without_a_shell_above(words: tuple[str, ...]) -> None:
    """As in a container: no process above this one is a shell."""
    with tempfile.TemporaryFile() as out:
        command = [sys.executable, "-c", ALONE, *MRQ, *words]
        subprocess.run(command, stdout=out, stderr=out, env=environment({"SHELL": ""}), check=True)
        until(lambda: os.fstat(out.fileno()).st_size > 100, 20, "the script")
        out.seek(0)
        text = out.read().decode()
    assert "_MRQ_COMPLETE" in text
    assert "_mrq_completion" in text or "fish" in words


def test_an_unknown_shell_is_told_as_such(tmp_path: Path) -> None:
    for words, said in (
        (("--show-completion", "tcsh"), "'tcsh' is none of bash, zsh, fish, powershell, pwsh"),
        (("--show-completion", "bash", "zsh"), "'bash zsh' is none of "),
    ):
        ran = mrq(*words)
        assert (ran.code, ran.out) == (2, "")
        assert said in ran.err
    env = environment({"HOME": str(tmp_path), "SHELL": ""})
    done = mrq("--install-completion", "bash", env=env)
    assert done.code == 0, done.err
    assert "_MRQ_COMPLETE" in (tmp_path / ".bash_completions" / "mrq.sh").read_text()
    (tmp_path / "file").touch()
    refused = mrq("--install-completion", "bash", env=env | {"HOME": str(tmp_path / "file")})
    assert refused.code == 74
    assert refused.err.startswith("mrq: --install-completion: cannot write ")
