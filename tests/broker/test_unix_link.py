"""A connection over a unix socket, which is our own: it does what one of redis-py does, and fails in the same words."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from mapreduce_rq.broker import connection as by_redis_py
from mapreduce_rq.broker import redis_wire, refusals
from mapreduce_rq.broker.connection import Endpoint, parse_url
from mapreduce_rq.broker.redis_wire import RedisWire
from mapreduce_rq.errors import BrokerDown, BrokerError, BrokerRefused
from mapreduce_rq.runtime.server.embedded import EmbeddedServer

PASSWORD = "correct horse"


@pytest.fixture(scope="module")
def server() -> Iterator[Endpoint]:
    """A private server, which has a password."""
    with EmbeddedServer.start() as server:
        server.wait_ready()
        yield parse_url(server.url)


@contextmanager
def answering(path: Path, answer: bytes) -> Iterator[str]:
    """A socket at which something answers once, and hangs up."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(os.fspath(path))
    listener.listen()

    def serve() -> None:
        heard, _ = listener.accept()
        with heard:
            heard.recv(65536)
            heard.sendall(answer)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield os.fspath(path)
    thread.join(5)
    listener.close()


def said(endpoint: Endpoint, *command: str, own: bool) -> tuple[type, str]:
    """The class and the words of the error of a command, over our own connection or one of redis-py."""
    wire = RedisWire(endpoint)

    def reach() -> None:
        wire.connect()
        wire.call(*command)

    with pytest.MonkeyPatch.context() as patch:
        if not own:
            patch.setattr(redis_wire, "UnixLink", by_redis_py.connection)
        with pytest.raises(BrokerError) as caught:
            reach()
        wire.close()
    return type(caught.value), str(caught.value)


@pytest.mark.parametrize(
    "command",
    [
        ("NONSENSE",),
        ("EVALSHA", "0" * 40, "0"),
        ("EVAL", "return redis.call('LPUSH', 'a', 'b', redis.call('SET', 'a', 1))", "0"),
        ("EVAL", "return redis.error_reply('OOM command not allowed')", "0"),
        ("EVAL", "return redis.error_reply('LOADING the dataset')", "0"),
        ("EVAL", "return redis.error_reply('READONLY replica')", "0"),
        ("EVAL", "return redis.error_reply('NOPERM this user has no permissions')", "0"),
    ],
)
def test_refusals_have_the_words_that_they_have_over_redis_py(server: Endpoint, command: tuple[str, ...]) -> None:
    kind, text = said(server, *command, own=True)
    other, expected = said(server, *command, own=False)
    assert kind is other
    code = command[1].partition("'")[2].partition(" ")[0] if "error_reply" in "".join(command) else "NOSCRIPT"
    assert text.replace(f"{code} ", "") == expected.replace(f"{code} ", "")


@pytest.mark.parametrize("endpoint", [Endpoint(path="/none/here"), Endpoint(path="/dev/null")])
def test_what_is_not_there_is_told_in_the_same_words(endpoint: Endpoint) -> None:
    assert said(endpoint, "PING", own=True) == said(endpoint, "PING", own=False)


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b""])
def test_what_is_no_redis_is_told_in_the_same_words(tmp_path: Path, answer: bytes) -> None:
    said_by = []
    for own in (True, False):
        with answering(tmp_path / f"{own}.sock", answer) as path:
            kind, text = said(Endpoint(path=path), "PING", own=own)
            said_by.append((kind, text.replace(path, "it")))
    assert said_by[0] == said_by[1]
    assert said_by[0][0] is (BrokerRefused if answer else BrokerDown)


def test_a_user_a_password_and_a_database_are_given(server: Endpoint) -> None:
    first = RedisWire(server)
    first.connect()
    first.call("ACL", "SETUSER", "ann", "on", f">{PASSWORD}", "allcommands", "allkeys")
    wire = RedisWire(Endpoint(path=server.path, username="ann", password=PASSWORD, db=3))
    wire.connect()
    info = wire.call("CLIENT", "INFO")
    assert b" db=3 " in info
    assert b" user=ann " in info


def test_a_server_that_is_full_is_told_in_the_same_words(tmp_path: Path) -> None:
    said_by = []
    for own in (True, False):
        with answering(tmp_path / f"{own}.sock", b"-ERR max number of clients reached\r\n") as path:
            kind, text = said(Endpoint(path=path, password=PASSWORD), "PING", own=own)
            said_by.append((kind, text.replace(path, "it")))
    assert said_by[0] == said_by[1]
    assert said_by[0][0] is BrokerDown


@pytest.mark.parametrize("wrong", [{}, {"password": "wrong"}, {"username": "bob", "password": "wrong"}])
def test_a_wrong_password_is_told_in_the_same_words(server: Endpoint, wrong: dict[str, str]) -> None:
    kind, text = said(Endpoint(path=server.path, **wrong), "PING", own=True)  # type: ignore[arg-type]  # all are text
    other, expected = said(Endpoint(path=server.path, **wrong), "PING", own=False)  # type: ignore[arg-type]  # as above
    assert kind is other is BrokerRefused
    assert text.replace("NOAUTH ", "") == expected.replace("NOAUTH ", "")


def test_large_answers_and_refusals_within_answers_come_whole(server: Endpoint) -> None:
    wire = RedisWire(server)
    wire.connect()
    large = bytes(5_000_000)
    wire.call("SET", "large", large)
    assert wire.call("GET", "large") == large
    found = wire.pipeline([("GET", "large"), ("LPUSH", "large", "x"), ("STRLEN", "large")], refusals=True)
    assert found[0] == large
    assert isinstance(found[1], BrokerError)
    assert found[2] == len(large)
    with pytest.raises(BrokerError):
        wire.transaction([("SET", "small", "x"), ("LPUSH", "small", "y")])
    assert wire.call("PING") == b"PONG"  # refusals break nothing


def test_the_names_of_errors_are_those_of_redis_py() -> None:
    names = refusals._TRANSIENT | refusals._REPLICA | refusals._REFUSED
    names |= {"ResponseError", "RedisError", "NoScriptError", "NoPermissionError", "OutOfMemoryError", "AskError"}
    names |= {"InvalidResponse", "TimeoutError", "ConnectionError"}
    assert [name for name in sorted(names) if getattr(redis.exceptions, name).__module__ != "redis.exceptions"] == []


def test_a_private_server_needs_no_redis_py() -> None:
    program = """
import sys
from mapreduce_rq import Client
with Client(local=1) as mrq:
    assert mrq.map_reduce(abs, range(-5, 5)) == 25
print(sorted(name for name in sys.modules if name.partition(".")[0] in ("redis", "asyncio", "ssl")))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
