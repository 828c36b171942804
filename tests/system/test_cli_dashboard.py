"""`mrq dashboard` on a real terminal, and where there is none."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import User
from tests.support.servers import FreshServer, RealServer
from tests.support.terminal import Terminal

ENTER, LEAVE = "\x1b[?1049h", "\x1b[?1049l"
SHOW_CURSOR = "\x1b[?25h"


@pytest.fixture(scope="module")
def server() -> Iterator[RealServer]:
    with RealServer("valkey") as running:
        yield running


@pytest.fixture
def at(server: RealServer, queue: str, tmp_path: Path) -> Iterator[User]:
    """A user whose environment names a server and a queue."""
    with User(tmp_path, MRQ_URL=server.url, MRQ_QUEUE=queue) as made:
        yield made


def test_it_draws_jobs_and_workers_and_gives_the_terminal_back(at: User, queue: str) -> None:
    at.run("compute", "exp", "--x", "2", "--local", "1")
    at.start("worker", "-c", "1", "--name", "painter").hear("1 worker")
    with Terminal("dashboard", "-i", "0.2", env=at.env) as terminal:
        drawn = terminal.read_until("q quit")
        assert ENTER in drawn
        assert queue in drawn
        assert "7.38905609893065" in drawn
        terminal.read_until("painter")
        assert not terminal.as_before, "keys come one by one"
        terminal.press("q")
        terminal.read_until(LEAVE)
        assert terminal.wait() == 0
        assert SHOW_CURSOR in terminal.drawn
        assert terminal.as_before


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_gives_the_terminal_back(at: User, number: int, code: int) -> None:
    with Terminal("dashboard", env=at.env) as terminal:
        terminal.read_until("q quit")
        terminal.signal(number)
        terminal.read_until(LEAVE)
        assert terminal.wait() == code
        assert terminal.as_before


def test_it_follows_the_windows_size(at: User) -> None:
    with Terminal("dashboard", "-i", "60", env=at.env) as terminal:
        terminal.read_until("q quit")
        terminal.resize(16, 100)
        terminal.signal(signal.SIGWINCH)
        drawn = terminal.read_until("q quit")
        assert "─" * 90 in drawn
        assert drawn.count("\n") == 15
        terminal.press("q")
        assert terminal.wait() == 0


def test_keys_pause_and_change_the_interval(at: User) -> None:
    with Terminal("dashboard", env=at.env) as terminal:
        terminal.read_until("(every 1.0 s)")
        terminal.press("+")
        terminal.read_until("(every 0.5 s)")
        terminal.press("--")
        terminal.read_until("(every 2.0 s)")
        terminal.press("p")
        terminal.read_until("(paused)")
        terminal.press("xq")
        assert terminal.wait() == 0


def test_an_outage_is_said_and_ends(fresh_server: FreshServer, tmp_path: Path) -> None:
    server = fresh_server("valkey")
    with User(tmp_path, MRQ_URL=server.url) as at, Terminal("dashboard", "-i", "0.2", env=at.env) as terminal:
        terminal.read_until("q quit")
        server.kill9()
        terminal.read_until("no answer from Redis")
        server.start()
        while "no answer" in terminal.read_until("q quit"):
            pass
        terminal.press("q")
        assert terminal.wait() == 0


def test_without_a_terminal_it_is_one_picture_without_codes(at: User) -> None:
    for arguments in (["dashboard"], ["dashboard", "--once"]):
        ran = at.run(*arguments)
        assert ran.code == 0
        assert "\x1b" not in ran.out
        assert "no jobs" in ran.out
        assert max(map(len, ran.out.splitlines())) == 80


@pytest.mark.parametrize(("variables", "codes"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_colours_are_left_out_where_they_are_not_wanted(at: User, variables: dict[str, str], codes: bool) -> None:
    with Terminal("dashboard", "--once", env=at.env | variables) as terminal:
        assert terminal.wait() == 0
        drawn = terminal.read_until("no workers")
        assert (re.search(r"\x1b\[[0-9;]*(3[0-7]|9[0-7])", drawn) is not None) == codes


def test_a_dumb_terminal_gets_one_picture(at: User) -> None:
    with Terminal("dashboard", env=at.env | {"TERM": "dumb"}) as terminal:
        assert terminal.wait() == 0
        assert "\x1b" not in terminal.read_until("no workers")


def test_a_terminal_that_cannot_show_unicode(at: User) -> None:
    ran = at.run("dashboard", "--once")
    assert not ran.out.isascii()
    at.env["PYTHONIOENCODING"] = "latin-1"
    assert at.run("dashboard", "--once").out.isascii()


def test_json(at: User, queue: str) -> None:
    at.run("compute", "exp", "--x", "2", "--local", "1")
    found = at.run("dashboard", "--json").json
    assert found["queue"] == queue
    assert found["jobs"][0]["record"]["value"] == "7.38905609893065"
    assert found["server"]["product"] == "Valkey"
    assert "geheim" not in str(found)
    assert found["url"].startswith("unix://:***@")


def test_a_job_that_lasts_has_a_bar_and_leaves_only_its_result(at: User) -> None:
    at.stage.write("seconds", "0.02")
    at.stage.open()
    job = ["compute", "staged", "--terms", "60", "--function", "slow", "--chunk", "1", "--local", "1", "-o", "value"]
    with Terminal(*job, env=at.env) as terminal:
        terminal.read_until("staged")
        terminal.read_until("/60")
        terminal.read_until("00:0")  # the time that is left
        assert terminal.wait() == 0
        terminal.read_until("0x")


def test_without_a_terminal_progress_is_plain_lines(at: User) -> None:
    at.stage.write("seconds", "0.04")
    job = ["compute", "staged", "--terms", "60", "--function", "slow", "--chunk", "1", "--local", "1", "-o", "value"]
    ran = at.run(*job)
    assert ran.code == 0
    lines = [line for line in ran.err.splitlines() if "ETA" in line]
    assert 1 <= len(lines) <= 3, ran.err
    assert "/60 " in lines[0]
    assert "\x1b" not in ran.err
    assert at.run(*job, "-q").err == ""
