"""Which server is used: one rule for the command line and the Python API, and both say it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from mapreduce_rq import Client
from mapreduce_rq.errors import BrokerDown, UsageError
from tests.support.commands import KEY, User
from tests.support.servers import RealServer

DEAD = "unix:///nowhere/at/all"


@pytest.fixture(scope="module")
def server() -> Iterator[RealServer]:
    with RealServer("valkey") as running:
        yield running


@pytest.mark.parametrize("variable", ["MRQ_URL", "REDIS_URL"])
def test_a_client_without_a_url_obeys_the_environment(
    server: RealServer, monkeypatch: pytest.MonkeyPatch, variable: str, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(variable, server.url)
    monkeypatch.setenv("MRQ_QUEUE", "elsewhere")
    monkeypatch.setenv("MRQ_KEY", KEY)
    with caplog.at_level(logging.INFO, "mapreduce_rq.client"), Client() as client:
        assert not client.embedded
        assert client.keys.name == "elsewhere"
        assert client.keyring.secrets() == [bytes.fromhex(KEY)]
        assert repr(client) == f"<Client of queue elsewhere on {client.endpoint}>"
        assert server.password not in repr(client)
        assert [record.getMessage() for record in caplog.records] == [
            f"queue elsewhere of {client.endpoint}, as {variable} says"
        ]


def test_what_is_given_goes_before_it(server: RealServer, queue: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"MRQ_URL": DEAD, "MRQ_QUEUE": "wrong", "MRQ_KEY": "no hexadecimal"}.items():
        monkeypatch.setenv(name, value)
    with Client(server.url, queue=queue, keys=[]) as client:
        assert (client.embedded, client.keys.name, client.keyring.kid) == (False, queue, 0)
    with pytest.raises(BrokerDown):
        Client(keys=[])
    with pytest.raises(UsageError, match="MRQ_KEY is not hexadecimal"):
        Client(server.url)


def test_an_empty_url_means_a_private_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MRQ_URL", DEAD)
    with Client("", local=1) as client:
        assert client.embedded
        assert repr(client) == "<Client of queue default on a private server>"
    monkeypatch.setenv("MRQ_URL", "")
    with Client(local=1) as client:
        assert client.embedded


def test_the_command_line_does_the_same(server: RealServer, queue: str, tmp_path: Path) -> None:
    with User(tmp_path, MRQ_QUEUE=queue, REDIS_URL=server.url) as at:
        job = ("compute", "exp", "--x", "0", "-o", "value", "--local", "1")
        ran = at.run(*job)
        assert (ran.out, f"mrq: on unix://:***@{server.socket}, as REDIS_URL says\n" in ran.err) == ("1.0\n", True)
        assert "says" not in at.run(*job, "-u", server.url + "?db=1").err
        assert "says" not in at.run(*job, "-q").err
        at.env["MRQ_URL"] = DEAD
        assert at.run(*job, "-u", "") == (0, "1.0\n", "")
        assert at.run(*job).code == 69
        assert "`mrq status` needs a Redis" in at.run("status", "-u", "").err
