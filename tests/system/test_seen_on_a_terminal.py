"""`mrq run` and `mrq compute` on a real terminal, while workers come and die, terms fail, and Redis goes away."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mapreduce_rq.client.client import Client
from tests.support.commands import User
from tests.support.servers import RealServer
from tests.support.stage import until
from tests.support.terminal import Terminal

SOURCE = """
import os, time

tried = set()

def touchy(k):
    time.sleep(0.02)
    if k == 30:
        raise ValueError("never")
    if k == 60 and k not in tried:
        tried.add(k)
        raise OSError("not yet")
    return k
"""
PLAIN = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture
def server() -> Iterator[RealServer]:
    with RealServer("valkey", aof=True) as running:
        yield running


@pytest.fixture
def at(server: RealServer, queue: str, tmp_path: Path) -> Iterator[User]:
    (tmp_path / "touchy_theirs.py").write_text(SOURCE)
    with User(tmp_path, MRQ_URL=server.url, MRQ_QUEUE=queue, MRQ_KEY="6b" * 32) as made:
        yield made


def pids(server: RealServer, queue: str, few: int) -> list[int]:
    with Client(server.url, queue=queue, keys=["6b" * 32]) as client:

        def alive() -> list[int]:
            return [one.beat.pid for one in client.snapshot().workers if one.beat is not None]

        return until(lambda: alive() if len(alive()) >= few else [], 20, f"{few} workers")


def test_what_happens_is_told_above_the_bar(at: User, server: RealServer, queue: str) -> None:
    at.start("worker", "-c", "2").hear("2 workers")
    victim = pids(server, queue, 2)[0]
    command = ("run", "touchy_theirs:touchy", "--terms", "900", "--chunk", "5", "--on-error", "skip")
    with Terminal(*command, "--retries", "1", "--backoff", "0", env=at.env, columns=200) as terminal:
        terminal.read_until("tasks out")
        os.kill(victim, signal.SIGKILL)
        terminal.read_until("worker lost: ")
        at.start("worker", "-c", "1", "--name", "late")
        terminal.read_until("worker joined: ")
        server.kill9()
        terminal.read_until("trying again")
        server.start()
        terminal.read_until("Redis is back")
        drawn = PLAIN.sub("", terminal.read_all(60) or terminal.drawn)
        assert terminal.wait() == 3  # a term was left out
    assert "killed by SIGKILL" in drawn
    assert "term skipped: 30: ValueError: never" in drawn
    assert "term retried: 60: 2 calls: OSError: not yet" in drawn
    assert "reclaimed: terms" in drawn
    assert drawn.count("worker lost: ") == 1
    assert str(sum(range(900)) - 30) in drawn


def test_a_pipe_has_what_it_had(at: User) -> None:
    at.start("worker", "-c", "1").hear("1 worker")
    done = at.run("run", "touchy_theirs:touchy", "--terms", "100", "--chunk", "5", "--on-error", "skip")
    assert done.code == 3
    assert "term skipped" not in done.err
    assert "~" not in done.err


@pytest.mark.parametrize("colour", [True, False])
def test_certain_digits_are_set_apart(at: User, colour: bool) -> None:
    env = at.env if colour else at.env | {"NO_COLOR": "1"}
    words = ("compute", "montecarlo", "--samples", "1e9", "--local", "2")
    with Terminal(*words, env=env, columns=160) as terminal:
        terminal.read_until("(statistical)", 30)
        found = re.search("\x1b\\[1;32m(3\\.1[0-9]*)\x1b\\[0m\x1b\\[2m[0-9]+\x1b\\[0m", terminal.drawn)
        marked = re.search(r"(3\.1[0-9]*)~[0-9]+ ± ", PLAIN.sub("", terminal.drawn))
        assert bool(found) == colour
        assert bool(marked) != colour
        terminal.signal(signal.SIGINT)
        time.sleep(0.5)
        terminal.signal(signal.SIGINT)
        terminal.read_all()
