"""What other processes are told of a call whose caller waits, such as `Client.map_reduce`: see telling.py."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from mapreduce_rq import Client, JobFailed, Limits
from mapreduce_rq.broker.keys import Keys
from mapreduce_rq.client.client import Client as AClient
from mapreduce_rq.runtime.master.observer import Silent
from tests.support import terms
from tests.support.commands import KEY, User
from tests.support.fleet import kill9
from tests.support.servers import FreshServer, RealServer
from tests.support.stage import until
from tests.support.terminal import Terminal
from tests.system.test_cli_metrics import port_in, shown, values

GATED, SLOW = "tests.support.terms:gated", "tests.support.terms:slow"


@pytest.fixture
def server(fresh_server: FreshServer) -> RealServer:
    return fresh_server("valkey")


@pytest.fixture
def at(server: RealServer, tmp_path: Path) -> Iterator[User]:
    with User(tmp_path, MRQ_URL=server.url, MRQ_KEY=KEY) as made:
        yield made


def told(at: User) -> list[tuple[str, str]]:
    """What `mrq events` has, and the text of each."""
    return [(one["what"], one["text"]) for one in map(json.loads, at.run("events").out.splitlines())]


class Call:
    """A call in a thread of its own: its result, or its error."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self.found: Any = None
        self._thread = threading.Thread(target=self._run, args=(call,))
        self._thread.start()

    def _run(self, call: Callable[[], Any]) -> None:
        try:
            self.found = call()
        except BaseException as error:  # it is what is looked at
            self.found = error

    def result(self) -> Any:
        self._thread.join(60)
        assert not self._thread.is_alive()
        return self.found


def gated_call(client: AClient, at: User, count: int) -> Call:
    at.stage.write("gated", "0 1")
    limits = Limits(chunk=1)
    return Call(lambda: client.map_reduce(GATED, range(count), reduce="int_sum", limits=limits))


def test_all_windows_show_the_worker_that_a_call_has_lost(at: User, server: RealServer) -> None:
    port = port_in(at.start("metrics", "--port", "127.0.0.1:0"))
    assert values(port)["mrq_workers_lost_total", ""] == 0
    at.start("worker", "-c", "2", "--name", "painter").hear("2 workers")
    with (
        Client(server.url, keys=[KEY]) as client,
        Terminal("dashboard", "-i", "0.2", env=at.env, rows=40, columns=160) as terminal,
    ):
        terminal.read_until("q quit")
        call = gated_call(client, at, 8)
        victim = at.stage.begun(0)
        with server.client() as looks:  # as below
            until(lambda: looks.hlen(client.keys.masters), 20, "the master has looked around once")
        kill9(victim)
        until(lambda: shown(port, ("mrq_workers_lost_total", ""), 1), 20, "it is counted while the call goes on")
        terminal.read_until(f"painter:{victim}: killed by SIGKILL")
        drawn = terminal.read_until("reclaimed")
        assert "worker lost" in terminal.drawn + drawn
        at.stage.open()
        assert call.result() == sum(map(terms.fingerprint, range(8)))
    found = told(at)
    assert found[0] == ("submitted", GATED)
    assert sorted(what for what, _ in found) == ["done", "reclaimed", "submitted", "worker lost"]
    assert f"killed by SIGKILL (painter:{victim} on " in dict(found)["worker lost"]
    assert dict(found)["done"].startswith("8 terms counted in ")
    assert values(port)["mrq_workers_lost_total", ""] == 1


def test_a_loss_just_before_the_end_is_told_too(at: User, server: RealServer) -> None:
    at.start("worker", "-c", "2").hear("2 workers")
    with Client(server.url, keys=[KEY]) as client:
        call = gated_call(client, at, 3)
        victim = at.stage.begun(0)
        with server.client() as looks:
            until(lambda: looks.hlen(client.keys.masters), 20, "the first look is done; the next one is 3 s away")
        kill9(victim)
        at.stage.open()
        assert call.result() == sum(map(terms.fingerprint, range(3)))
    lost = [text for what, text in told(at) if what == "worker lost"]
    assert len(lost) == 1
    assert re.fullmatch(rf".*:{victim}: killed by SIGKILL \(.*:{victim}\)", lost[0])


@pytest.mark.parametrize("function", ["poisoned", "tardy"])
def test_a_worker_that_dies_before_the_first_look_is_told_of(at: User, server: RealServer, function: str) -> None:
    port = port_in(at.start("metrics", "--port", "127.0.0.1:0"))
    assert values(port)["mrq_workers_lost_total", ""] == 0
    at.start("worker", "-c", "2").hear("2 workers")
    lost: list[str] = []
    with Client(server.url, keys=[KEY]) as client:
        for round_ in range(3):  # the first term kills the first process that calls it; `tardy` outlasts the first look
            at.stage.write("poison", f"0:once-kill-{round_}")
            before = len(at.stage.runs())
            call = Call(lambda: client.map_reduce(f"tests.support.terms:{function}", range(8), reduce="int_sum"))
            assert call.result() == sum(map(terms.fingerprint, range(8)))
            victim = next(pid for pid, term in at.stage.runs()[before:] if term == 0)
            lost.append(f":{victim}: killed by SIGKILL (")
            found = [text for what, text in told(at) if what == "worker lost"]
            assert [part in text for part, text in zip(lost, found, strict=True)] == [True] * len(lost), found
    until(lambda: shown(port, ("mrq_workers_lost_total", ""), 3), 20, "each is counted, at the next look")


def test_a_worker_that_two_calls_lose_is_counted_once(at: User, server: RealServer) -> None:
    port = port_in(at.start("metrics", "--port", "127.0.0.1:0"))
    assert values(port)["mrq_workers_lost_total", ""] == 0
    at.start("worker", "-c", "2").hear("2 workers")
    with Client(server.url, keys=[KEY]) as first, Client(server.url, keys=[KEY]) as second:
        calls = [gated_call(client, at, 4) for client in (first, second)]
        with server.client() as looks:  # a master tells only of workers that died after its first look
            until(lambda: looks.hlen(first.keys.masters) == 2, 20, "both masters have looked around once")
        kill9(at.stage.begun(0))
        lost = ("mrq_events_total", "worker_lost")
        until(lambda: shown(port, lost, 2), 20, "both masters tell of it")
        at.stage.open()
        assert [call.result() for call in calls] == [sum(map(terms.fingerprint, range(4)))] * 2
    assert values(port)["mrq_workers_lost_total", ""] == 1


def test_short_calls_write_no_events(at: User, server: RealServer) -> None:
    with Client(server.url, keys=[KEY], local=1) as client:
        for _ in range(20):
            assert client.map_reduce(abs, range(3)) == 3
    assert told(at) == []
    with Client(server.url, keys=[KEY], local=1) as client:
        client.submit_function(abs, range(3)).result(20)
    assert [what for what, _ in told(at)] == ["submitted", "done"]


def test_a_call_that_lasts_is_told_of_while_it_lasts(at: User, server: RealServer) -> None:
    at.start("worker", "-c", "1").hear("1 worker")
    with Client(server.url, keys=[KEY]) as client:
        call = gated_call(client, at, 2)
        until(lambda: told(at) == [("submitted", GATED)], 20, "it is told of")
        at.stage.open()
        call.result()
    (_, (what, text)) = told(at)
    assert what == "done"
    assert text.startswith("2 terms counted in ")


def test_a_call_that_fails_is_told_of(at: User, server: RealServer) -> None:
    with Client(server.url, keys=[KEY], local=1) as client, pytest.raises(JobFailed):
        client.map_reduce("math:log", [0.0])
    assert [what for what, _ in told(at)] == ["submitted", "failed"]


def test_a_call_that_is_interrupted_is_told_of(at: User, server: RealServer) -> None:
    class Stop(Exception):
        pass

    def stop(_: object) -> None:
        raise Stop

    at.start("worker", "-c", "1").hear("1 worker")
    at.stage.write("seconds", "0.01")
    at.stage.open()
    with Client(server.url, keys=[KEY]) as client, pytest.raises(Stop):
        client.map_reduce(SLOW, range(1000), limits=Limits(chunk=1), progress=stop)
    assert told(at) == [("submitted", SLOW), ("cancelled", "its client ended: Stop")]


def two_commits(setup: redis.Redis) -> None:
    """Wait until the only job's master has committed twice: what it had to tell it has tried to."""
    keys = Keys("default")
    (job,) = setup.execute_command("ZRANGE", keys.jobs, 0, -1)

    def token() -> object:
        return setup.execute_command("HGET", keys.job(job.decode()), "tok")

    for _ in range(2):
        before = token()
        until(lambda before=before: token() != before, 20, "a commit")  # type: ignore[misc]


def test_a_full_redis_is_told_of_by_mrq_master_too(at: User, server: RealServer) -> None:
    at.start("worker", "-c", "1").hear("1 worker")
    master = at.start("master")
    at.stage.write("gated", "0")
    at.run("compute", "staged", "--terms", "2", "--function", "gated", "--chunk", "1", "--detach")
    at.stage.begun(0)
    with server.client() as setup:
        setup.config_set("maxmemory", "1mb")
        master.hear("until then no worker can answer")
        two_commits(setup)
        setup.config_set("maxmemory", "0")
        master.hear("Redis takes answers again")
    at.stage.open()
    until(lambda: {"done", "full"} <= {what for what, _ in told(at)}, 20, "both are told")


def test_a_full_redis_is_told_of_once_it_takes_events_again(at: User, server: RealServer) -> None:
    at.start("worker", "-c", "1").hear("1 worker")
    notices: list[str] = []

    class Heard(Silent):
        def noticed(self, text: str) -> None:
            notices.append(text)

    with Client(server.url, keys=[KEY]) as client, server.client() as setup:
        at.stage.write("gated", "0")
        limits = Limits(chunk=1)
        call = Call(lambda: client.map_reduce(GATED, range(2), reduce="int_sum", limits=limits, observer=Heard()))
        at.stage.begun(0)
        setup.config_set("maxmemory", "1mb")
        until(lambda: any("until then no worker can answer" in text for text in notices), 20, "it is noticed")
        two_commits(setup)
        setup.config_set("maxmemory", "0")
        until(lambda: "Redis takes answers again" in notices, 20, "it is over")
        at.stage.open()
        call.result()
    found = [what for what, _ in told(at)]
    assert found[0] == "submitted"
    assert sorted(found) == ["done", "full", "submitted"]
