"""Whoever can write to the Redis writes escape sequences wherever text stands, and each command is run on a terminal.

None of them reaches it: no title is set, nothing blinks, no direction is turned, no line is faked.
"""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mapreduce_rq.broker.keys import Keys
from mapreduce_rq.core.messages import Beat, Checkpoint, Limits, Spec, Task
from mapreduce_rq.core.sealing import Codecs
from mapreduce_rq.version import __version__
from tests.support.commands import User
from tests.support.servers import RealServer
from tests.support.terminal import Terminal

HOSTILE = "\x1b]0;owned\x07\x9b5m\x1b[5m\u202e\nFAKED\r"
DONE, FAILED, RUNNING, CANCELLED = (f"{name}-1{HOSTILE}" for name in ("done", "failed", "running", "cancelled"))


@pytest.fixture(scope="module")
def server() -> Iterator[RealServer]:
    with RealServer("valkey") as running:
        yield running


@pytest.fixture
def at(server: RealServer, queue: str, tmp_path: Path) -> Iterator[User]:
    """A user of a queue without a key, to which somebody else has written."""
    write_hostile(server, queue)
    with User(tmp_path, MRQ_URL=server.url, MRQ_QUEUE=queue) as made:
        yield made


def write_hostile(server: RealServer, queue: str) -> None:
    keys, codecs = Keys(queue), Codecs(queue)
    now = time.time()

    def job(name: str, state: str, record: dict[str, Any] | None, master: str = "") -> dict[str, bytes | str]:
        spec = Spec(
            job=name,
            computation="function",
            params={"function": f"evil{HOSTILE}:f", "label": f"label{HOSTILE}", "reduce": f"sum{HOSTILE}", "terms": 9},
            total=9,
            limits=Limits(),
            created=now,
            version=__version__,
        )
        progress = {"counted": 3, "total": 9, "value": f"7{HOSTILE}", "error": 0.5, "rate": 1.0, "elapsed_s": 1.0}
        checkpoint = Checkpoint(name, [], [], 0, 9, None, 0, [], 0.0)
        fields: dict[str, bytes | str] = {
            "tok": "1:abcdef:1",
            "state": state,
            "master": master,
            "spec": codecs.spec.at(name).seal(spec),
            "ck": codecs.checkpoint.at(name).seal(checkpoint),
            "progress": codecs.report.at(name).seal(progress),
        }
        if record is not None:
            fields["record"] = codecs.record.at(name).seal(
                {"schema": 1, "job": name, "computation": "function", "state": state} | record
            )
        return fields

    done = {
        "params": {}, "value": f"value{HOSTILE}", "float": None, "bound": f"1{HOSTILE}", "bound_kind": "proven",
        "terms": 9, "terms_used": 9, "tasks": 1, "workers": 1, "elapsed_s": 1.0, "digest": f"d{HOSTILE}",
        "ended": f"by{HOSTILE}", "details": {f"detail{HOSTILE}": HOSTILE}, "notes": [f"note{HOSTILE}"],
        "skipped": [{"term": 1, "kind": f"Kind{HOSTILE}", "message": HOSTILE, "where": HOSTILE}],
    }  # fmt: skip
    failed = {
        "params": {"label": f"label{HOSTILE}"}, "term": 1, "span": [1, 2], "kind": f"Kind{HOSTILE}",
        "message": f"message{HOSTILE}", "traceback": f"Traceback:\n  file{HOSTILE}", "where": f"host{HOSTILE}:1",
    }  # fmt: skip
    hashes = {
        DONE: job(DONE, "done", done),
        FAILED: job(FAILED, "failed", failed),
        CANCELLED: job(CANCELLED, "cancelled", {"kind": "Cancelled", "message": f"why{HOSTILE}"}),
        RUNNING: job(RUNNING, "running", None, master=f"master:{HOSTILE}"),
        f"broken-1{HOSTILE}": {"tok": HOSTILE, "state": "done"},
    }
    beat = Beat(
        count=1, host=f"host{HOSTILE}", pid=7, name=f"name{HOSTILE}", state="busy", job=RUNNING, lo=0, hi=1,
        seconds=99.0, done=1, rate=1.0, rss=0, version=f"0{HOSTILE}", probe=HOSTILE, kid=0, at=now,
    )  # fmt: skip
    with server.client() as client:
        for name, fields in hashes.items():
            client.hset(keys.job(name), mapping=fields)
            client.zadd(keys.jobs, {name: now})
        client.xadd(keys.replies(RUNNING), {"a": b"x"})
        client.xadd(keys.replies(f"orphan{HOSTILE}"), {"a": b"x"})
        client.lpush(keys.in_flight(f"lost{HOSTILE}:1:ab"), b"a task")
        client.hset(keys.workers, f"host{HOSTILE}:7:ab", codecs.beat.at(f"host{HOSTILE}:7:ab").seal(beat))
        client.hset(keys.workers, f"dead{HOSTILE}:8:ab", f"X:killed{HOSTILE} (gone{HOSTILE}:8)")
        client.hset(keys.workers, f"noise{HOSTILE}:9:ab", b"\0\0" + HOSTILE.encode())


def check(drawn: str, *, lines: bool = False) -> None:
    """Nothing of HOSTILE is obeyed. ``lines``: a value is shown, which may have several."""
    assert not re.search(r"\x1b\]|\x07|\x9b|\x1b\[5m|\u202e", drawn), repr(drawn)
    assert lines or not re.search(r"^FAKED|\rFAKED", drawn, re.MULTILINE), repr(drawn)


@pytest.mark.parametrize(
    "arguments",
    [
        ["status"],
        ["status", "running-1"],
        ["status", "failed-1"],
        ["status", "done-1"],
        ["jobs"],
        ["workers"],
        ["dashboard", "--once"],
        ["doctor", "--watch", "0.1"],
        ["result", "done-1"],
        ["result", "done-1", "-o", "value"],
        ["result", "failed-1"],
        ["result", "cancelled-1"],
        ["attach", "failed-1"],
        ["resume", "failed-1"],
        ["cancel", "done-1"],
        ["cancel", "running-1"],
        ["result", f"nowhere{HOSTILE}"],
        ["status", "--queue", HOSTILE],
        ["status", "-u", f"redis://{HOSTILE}"],
        ["compute", HOSTILE],
        [HOSTILE],
    ],
    ids=lambda arguments: " ".join(arguments).encode("unicode_escape").decode()[:30],
)
def test_a_command_shows_it_and_obeys_nothing(at: User, arguments: list[str]) -> None:
    with Terminal(*arguments, env=at.env, columns=200, rows=50) as terminal:
        drawn = terminal.read_all()
        check(drawn, lines=arguments[:2] == ["result", "done-1"])
        assert "Traceback (most" not in drawn
        assert ("owned" in drawn) != ("-u" in arguments), "it is there to be seen, but for what is in a URL"


@pytest.mark.parametrize("command", ["attach", "resume"])
def test_a_job_that_is_watched(at: User, command: str) -> None:
    with Terminal(command, "running-1", env=at.env, columns=200, rows=50) as terminal:
        terminal.read_until("watching running-1")
        terminal.signal(signal.SIGINT)
        check(terminal.read_all())


def test_the_live_dashboard(at: User) -> None:
    with Terminal("dashboard", env=at.env, columns=200, rows=50) as terminal:
        terminal.read_until("q quit")
        terminal.press("q")
        drawn = terminal.read_all()
        check(drawn)
        assert "owned" in drawn


def test_a_standby_and_a_worker_say_what_they_refuse(at: User, server: RealServer, queue: str) -> None:
    keys, codecs = Keys(queue), Codecs(queue)
    with server.client() as client:
        client.hset(keys.job(RUNNING), "master", "")
    with Terminal("master", env=at.env, columns=200) as terminal:
        terminal.read_until("owned")
        terminal.signal(signal.SIGTERM)
        check(terminal.read_all())
    with server.client() as client:
        client.lpush(keys.queue, codecs.task.seal(Task(RUNNING, 0, 1)))
    with Terminal("worker", "-c", "1", env=at.env, columns=200) as terminal:
        terminal.read_until("refuses")
        terminal.signal(signal.SIGTERM)
        check(terminal.read_all())


def test_the_error_and_the_traceback_of_a_function(at: User, tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text(f"def f(term):\n    raise ValueError({HOSTILE!r})\n")
    for hidden in ("", "MRQ_URL"):
        env = {name: value for name, value in at.env.items() if name != hidden}
        with Terminal("run", "evil:f", "--terms", "3", "--local", "1", env=env, columns=200) as terminal:
            drawn = terminal.read_all()
            check(drawn)
            assert "ValueError: ␛]0;owned" in drawn
            assert terminal.wait() == 1


def test_a_value_on_a_pipe_is_as_it_is(at: User) -> None:
    assert at.run("result", "done-1", "-o", "value").out.replace("\n", "") == f"value{HOSTILE}".replace(
        "\n", ""
    ).replace("\r", "")
