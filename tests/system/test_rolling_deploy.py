"""Two versions side by side: workers of the next one do the jobs of this one, where their code is the same."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from mapreduce_rq import Client
from mapreduce_rq.errors import JobFailed
from tests.support.commands import KEY, Running, environment
from tests.support.servers import ROOT, RealServer

Start = Callable[[Path], Running]


@pytest.fixture
def next_version(tmp_path: Path) -> Path:
    """A copy of the package that says it is another version."""
    shutil.copytree(ROOT / "mapreduce_rq", tmp_path / "mapreduce_rq", ignore=shutil.ignore_patterns("__pycache__"))
    file = tmp_path / "mapreduce_rq" / "version.py"
    text = file.read_text()
    file.write_text(text.replace('__version__ = "', '__version__ = "9.'))
    assert file.read_text() != text
    return tmp_path


@pytest.fixture
def worker(server: RealServer, queue: str) -> Iterator[Start]:
    """Starts a worker of the package in a folder."""
    with ExitStack() as stack:

        def start(folder: Path) -> Running:
            env = environment({"MRQ_KEY": KEY}) | {"PYTHONPATH": str(folder), "PYTHONSAFEPATH": "1"}
            running = Running("worker", "-u", server.url, "--queue", queue, "-c", "1", env=env)
            return stack.enter_context(running)

        yield start


def test_a_worker_of_the_next_version_does_the_jobs_of_this_one(
    server: RealServer, queue: str, worker: Start, next_version: Path
) -> None:
    worker(next_version)
    with Client(server.url, queue=queue, keys=[KEY]) as client:
        assert client.submit("primes", to=1000).result(30).native == 168
        assert client.map_reduce("builtins:abs", range(-9, 0)) == 45
        (beat,) = [view.beat for view in client.snapshot().workers]
        assert beat is not None
        assert beat.version.startswith("9.")


@pytest.mark.parametrize("edited", ["computations/primes.py", "core/reducers/sums.py"])
def test_it_refuses_those_whose_code_has_changed_and_says_which_versions_they_are(
    server: RealServer, queue: str, worker: Start, next_version: Path, edited: str
) -> None:
    with (next_version / "mapreduce_rq" / edited).open("a") as file:
        file.write("\n# Another way to count.\n")
    worker(next_version)
    said = r"submitted by mrq 0\..*this worker is 9\..*primes differs .*deploy one version"
    with Client(server.url, queue=queue, keys=[KEY]) as client, pytest.raises(JobFailed, match=said):
        client.submit("primes", to=1000).result(30)
