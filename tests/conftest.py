"""What every test may ask for: a real server, a queue name of its own, and the same examples in every CI run."""

from __future__ import annotations

import os
import secrets
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings

from mapreduce_rq.runtime.pool.cores import usable_cores
from tests.support.servers import FLAVOURS, IN_CI, FreshServer, RealServer, need_server
from tests.support.stage import until

for _name in [name for name in os.environ if name.startswith("MRQ_") or name == "REDIS_URL"]:
    del os.environ[_name]  # a developer's own server is none of the tests' business
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else each of thousands of processes compiles the package anew

# A shell's background, or nohup, has these ignored, and what we start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

settings.register_profile("ci", derandomize=True, max_examples=50, deadline=None, print_blob=True)
settings.register_profile("dev", max_examples=100, deadline=None, print_blob=True)
settings.register_profile("fuzz", max_examples=10_000, deadline=None, print_blob=True)  # --hypothesis-profile=fuzz
settings.load_profile("ci" if IN_CI else "dev")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """How many tests `-n auto` runs side by side: most of them wait, but not the processes that they start.

    `-n logical` is for tests that only compute: one for each core.
    """
    return usable_cores() if config.option.numprocesses == "logical" else min(usable_cores() + 1, 8)


@pytest.fixture(scope="session", params=FLAVOURS)
def server(request: pytest.FixtureRequest) -> Iterator[RealServer]:
    """A running server, one of each flavour for all tests: use keys under ``queue`` only, and leave it running."""
    need_server(request.param)
    with RealServer(request.param) as running:
        yield running


@pytest.fixture
def server_url(server: RealServer) -> str:
    """The URL of ``server``, password included."""
    return server.url


@pytest.fixture
def queue() -> str:
    """A queue name that no other test uses."""
    return f"test-{secrets.token_hex(6)}"


@pytest.fixture
def workers_are_forks() -> None:
    """For tests whose workers must have what the test has patched: beside another thread, workers are started anew."""
    until(lambda: threading.active_count() == 1, 10, f"the threads of other tests are over: {threading.enumerate()}")


@pytest.fixture
def fresh_server() -> Iterator[FreshServer]:
    """Makes servers for this test alone: ``fresh_server("redis", aof=True, tcp=True, maxmemory="1mb")``."""
    made: list[RealServer] = []

    def make(flavour: str = "valkey", **options: Any) -> RealServer:
        need_server(flavour)
        made.append(RealServer(flavour, **options))
        return made[-1]

    yield make
    for one in made:
        one.stop()
