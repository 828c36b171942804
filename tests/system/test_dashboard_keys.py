"""The dashboard's keys on a real terminal, with a real fleet, while a worker is killed."""

from __future__ import annotations

import gc
import os
import signal
import time
import tracemalloc
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest

from mapreduce_rq.cli.connect import connect
from mapreduce_rq.cli.watching import Watching
from mapreduce_rq.client.client import Client
from mapreduce_rq.runtime.server.lookout import NOTE, found_servers
from tests.support.commands import User
from tests.support.servers import RealServer
from tests.support.stage import allowed, until
from tests.support.terminal import Terminal

DOWN, ESCAPE, TAB, ENTER = "\x1b[B", "\x1b", "\t", "\r"


@pytest.fixture(scope="module")
def server() -> Iterator[RealServer]:
    with RealServer("valkey") as running:
        yield running


@pytest.fixture
def at(server: RealServer, queue: str, tmp_path: Path) -> Iterator[User]:
    """A user whose environment names a server and a queue."""
    with User(tmp_path, MRQ_URL=server.url, MRQ_QUEUE=queue) as made:
        yield made


def slow(at: User) -> None:
    """A job that lasts is led by a process of its own."""
    at.stage.write("seconds", "0.05")
    at.stage.open()
    at.start("compute", "staged", "--terms", "100000", "--function", "slow", "--chunk", "10")


def test_a_job_is_opened_and_cancelled_and_a_worker_is_seen_to_die(at: User, server: RealServer, queue: str) -> None:
    at.start("worker", "-c", "2", "--name", "painter").hear("2 workers")
    slow(at)
    with Client(server.url, queue=queue) as client, Terminal("dashboard", "-i", "0.2", env=at.env, rows=40) as terminal:
        terminal.read_until("2 workers, ")  # it runs
        terminal.press(ENTER)
        for words in ("submitted", "led by", "100,000", "checkpoint", "the terms 0 to 99,999", "a painter:"):
            terminal.read_until(words)
        terminal.press(ESCAPE)
        terminal.read_until("Tab pane")
        terminal.press(TAB + ENTER)
        for words in ("process", "computes", "last beat"):
            terminal.read_until(words)
        terminal.press(ESCAPE)
        victim = next(one for one in client.snapshot().workers if one.beat is not None)
        assert victim.beat is not None
        os.kill(victim.beat.pid, signal.SIGKILL)
        terminal.read_until("died")
        terminal.read_until(f"painter:{victim.beat.pid}: killed by SIGKILL")
        terminal.read_until("joined")  # in its place
        terminal.press("1C")
        terminal.read_until("y cancels it")
        terminal.press("n")
        terminal.read_until("Tab pane")
        terminal.press("Cy")
        terminal.read_until("is cancelled")
        terminal.press("q")
        assert terminal.wait() == 0
        assert terminal.as_before
        (job,) = client.snapshot().jobs
        assert job.state.word == "cancelled"


def test_everything_is_reached_by_scrolling_and_found_by_the_filter(at: User, server: RealServer, queue: str) -> None:
    with Client(server.url, queue=queue, local=1) as client:
        ids = [client.submit("exp", x=str(k), terms=5).result(20).job for k in range(30)]
    with Terminal("dashboard", "-i", "0.2", env=at.env, rows=24) as terminal:
        terminal.read_until("of 30")
        assert ids[0][:10] not in terminal.drawn
        terminal.press("G")
        terminal.read_until(ids[0][:10])
        terminal.press(f"/{ids[7][4:10]}{ENTER}")
        drawn = terminal.read_until(f"/{ids[7][4:10]}  ")
        assert ids[7][:10] in drawn
        terminal.press(ENTER)
        terminal.read_until("digest")
        terminal.press("q")
        assert terminal.wait() == 0


def test_keys_are_heard_while_redis_hangs(at: User, server: RealServer, queue: str) -> None:
    queues = ("--queue", queue, "--queue", f"{queue}-2", "--queue", f"{queue}-3")
    with Terminal("dashboard", "-i", "0.2", *queues, env=at.env) as terminal:
        terminal.read_until("q quit")
        os.kill(server.pid, signal.SIGSTOP)
        try:
            terminal.read_until("no answer from Redis for ", allowed(8))
            terminal.press("?")
            terminal.read_until("this page", allowed(4))
            began = time.monotonic()
            terminal.press("q")
            terminal.press("q")
            assert terminal.wait() == 0
            assert time.monotonic() - began < allowed(4), "one wait for all queues of a server"
        finally:
            os.kill(server.pid, signal.SIGCONT)


def calm(drawn: str) -> bool:
    """Whether the last whole picture has nothing of an outage but its end."""
    pictures = drawn.split("\x1b[H")[1:-1]
    return (
        bool(pictures)
        and "Redis answers again, after " in pictures[-1]
        and not any(words in pictures[-1] for words in ("no answer from Redis", "not cancelled"))
    )


def test_redis_dies_and_comes_back_while_keys_are_pressed(tmp_path: Path, queue: str) -> None:
    with (
        RealServer("valkey", aof=True, appendfsync="always") as own,
        User(tmp_path, MRQ_URL=own.url, MRQ_QUEUE=queue) as at,
    ):
        at.start("worker", "-c", "2", "--name", "painter").hear("2 workers")
        slow(at)
        with Terminal("dashboard", "-i", "0.2", env=at.env, rows=40, columns=120) as terminal:
            terminal.read_until("2 workers, ")
            for _ in range(2):
                own.kill9()
                terminal.read_until("no answer from Redis for")
                terminal.press(ENTER)  # the page of the job is that of the last look
                terminal.read_until("submitted")
                terminal.press("jk?" + ESCAPE)
                terminal.read_until("Tab pane")
                terminal.press(TAB + "s" + ENTER)
                terminal.read_until("process")
                terminal.press(ESCAPE + "/paint" + ENTER)
                terminal.read_until("/paint  ")
                terminal.press(ESCAPE)
                terminal.press("1C")
                terminal.read_until("y cancels it")
                terminal.press("y")
                terminal.read_until("not cancelled: ")
                own.start()
                terminal.press("3")
                until(lambda: calm(terminal.read_for(0.5)), 30, "it says that Redis is back, and no more of the outage")
                terminal.press("1")
                terminal.read_until("2 workers, ", 30)  # it runs on
            terminal.press("Cy")
            terminal.read_until("is cancelled")
            terminal.press("q")
            assert terminal.wait() == 0
            assert terminal.as_before


def test_a_worker_with_other_code_says_so(at: User, tmp_path: Path) -> None:
    folders = []
    for name, body in (("old", "return k"), ("new", "import time; time.sleep(0.02); return k")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "mine_theirs.py").write_text(f"def f(k):\n    {body}\n")
        folders.append({**at.env, "PYTHONPATH": f"{at.env['PYTHONPATH']}:{folder}", "MRQ_KEY": "6b" * 32})
    at.start("worker", "-c", "1", "--name", "stale", env=folders[0]).hear("1 worker")
    at.start("worker", "-c", "1", "--name", "fresh", env=folders[1]).hear("1 worker")
    job = ("run", "mine_theirs:f", "--terms", "100000", "--chunk", "1", "--wait-workers", "60")
    at.start(*job, env=folders[1])
    with Terminal("dashboard", "-i", "0.2", env=folders[1], rows=40, columns=200) as terminal:
        terminal.read_until("refuses function-", 30)
        terminal.press(TAB + "/stale" + ENTER)
        terminal.read_until("/stale  ")
        terminal.press(ENTER)
        terminal.read_until("differs from the submitter's")
        terminal.press("q")
        assert terminal.wait() == 0


def test_several_queues_at_once(at: User, server: RealServer, queue: str) -> None:
    for name in (queue, f"{queue}-2"):
        with Client(server.url, queue=name, local=1) as client:
            client.submit("exp", x="2", terms=5).result(20)
    ran = at.run("dashboard", "--once", "--queue", queue, "--queue", f"{queue}-2")
    assert ran.code == 0
    assert f"{queue}, {queue}-2" in ran.out
    assert "2 done" in ran.out


def test_stills_are_files(at: User, tmp_path: Path) -> None:
    at.run("compute", "exp", "--x", "2", "--local", "1")
    ran = at.run("dashboard", "--svg", str(tmp_path / "a.svg"), "--html", str(tmp_path / "a.html"))
    assert ran.code == 0
    assert ran.out == ""
    assert ET.parse(tmp_path / "a.svg").getroot().tag.endswith("svg")
    for name in ("a.svg", "a.html"):
        text = (tmp_path / name).read_text().replace("&#160;", " ")
        assert "7.38905609893065" in text
        assert "geheim" not in text
    assert at.run("dashboard", "--svg", str(tmp_path / "no" / "a.svg")).err.startswith("mrq: --svg: cannot write ")


def test_a_terminal_that_is_closed_ends_it(at: User) -> None:
    with Terminal("dashboard", "-i", "0.2", env=at.env) as terminal:
        terminal.read_until("q quit")
        terminal.close()
        assert terminal.wait() in {0, 129}


def test_a_private_run_lets_its_own_user_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with User(tmp_path, TMPDIR=str(tmp_path), MRQ_URL="") as at:
        none = at.run("dashboard")
        assert none.code == 2
        assert none.err.startswith("mrq: no private server of yours runs now")
        at.stage.write("seconds", "0.05")
        at.stage.open()
        at.start("compute", "staged", "--terms", "100000", "--function", "slow", "--chunk", "1", "--local", "2")
        until(lambda: list(tmp_path.glob(f"mrq-*/{NOTE}")), 20, "the server can be found")
        (note,) = tmp_path.glob(f"mrq-*/{NOTE}")
        assert note.stat().st_mode & 0o077 == note.parent.stat().st_mode & 0o077 == 0
        with Terminal("dashboard", "-i", "0.2", env=at.env) as terminal:
            terminal.read_until("2 workers, ")
            terminal.press(TAB + TAB)
            terminal.read_until("submitted")
            (private,) = found_servers()
            with Client(private.url, queue=private.queue, keys=[private.key]) as client:
                worker = client.snapshot().workers[0].beat
                assert worker is not None
                os.kill(worker.pid, signal.SIGKILL)
            terminal.read_until("reclaimed")  # its master tells of it
            terminal.press("q")
            assert terminal.wait() == 0


def test_a_note_that_others_could_have_written_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with Client(local=1):
        assert found_servers()
    mine = {one.url for one in found_servers()}
    forged = tmp_path / "mrq-forged"
    forged.mkdir(mode=0o700)
    (forged / NOTE).write_text('["redis://elsewhere", "default", "", 1, "x"]')
    (forged / NOTE).chmod(0o644)
    assert {one.url for one in found_servers()} == mine
    (forged / NOTE).chmod(0o600)
    assert "redis://elsewhere" in {one.url for one in found_servers()}
    forged.chmod(0o755)
    assert {one.url for one in found_servers()} == mine
    forged.chmod(0o700)
    (forged / NOTE).unlink()
    os.mkfifo(forged / NOTE, 0o600)
    assert {one.url for one in found_servers()} == mine


def test_many_looks_do_not_add_up(server: RealServer, queue: str) -> None:
    with Client(server.url, queue=queue, local=2) as client:
        job = client.submit("exp", x="2", terms=50).result(20).job
        watching = Watching([connect(server.url, queue, None)])
        for _ in range(20):
            watching.look(job)
        gc.collect()
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            for _ in range(300):
                watching.look(job)
            gc.collect()
            grown = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
        watching.close()
    assert grown < 64_000, f"{grown} bytes in 300 looks"
