"""What can be wrong with a server, and which of our errors it becomes. Every message is one line without a password."""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import redis

from mapreduce_rq.broker import connection
from mapreduce_rq.broker.connection import Endpoint, parse_url
from mapreduce_rq.broker.inspect import inspect
from mapreduce_rq.broker.jobs import Jobs
from mapreduce_rq.broker.keys import Keys
from mapreduce_rq.broker.redis_wire import RedisWire
from mapreduce_rq.broker.tasks import Tasks
from mapreduce_rq.core.sealing import Codecs
from mapreduce_rq.errors import BrokerDown, BrokerError, BrokerFull, BrokerRefused, ForeignKey, NoPermission, ReadOnly
from tests.support.servers import FLAVOURS, FreshServer, RealServer, free_port

SECRET = "hunter2-hunter2"


def failure(url: str, *command: str) -> BrokerError:
    """The error of connecting to this URL and sending a command."""
    wire = RedisWire(parse_url(url))

    def reach() -> None:
        wire.connect()
        wire.call(*(command or ("PING",)))

    with pytest.raises(BrokerError) as caught:
        reach()
    wire.close()
    text = str(caught.value)
    assert "\n" not in text
    assert SECRET not in text + repr(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None, "a traceback would show the cause"
    return caught.value


@contextmanager
def talker(answer: Callable[[bytes], bytes]) -> Iterator[str]:
    """A TCP server that answers each piece it hears with ``answer`` of it; its URL."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                heard, _ = listener.accept()
            except OSError:
                return
            with heard:
                while data := heard.recv(65536):
                    heard.sendall(answer(data))

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def bulk(text: str) -> bytes:
    return f"${len(text)}\r\n{text}\r\n".encode()


# -- nobody there, or somebody else ------------------------------------------------------------------------------------


STARTED = " (no server listens there: start it, or correct the URL)"


def test_nobody_listens() -> None:
    port = free_port()
    error = failure(f"redis://:{SECRET}@127.0.0.1:{port}")
    assert type(error) is BrokerDown
    assert str(error) == f"cannot reach redis://:***@127.0.0.1:{port}: Connection refused{STARTED}"
    assert error.exit_code == 69


def test_no_such_socket(tmp_path: Path) -> None:
    error = failure(f"unix://{tmp_path}/s")
    assert type(error) is BrokerDown
    assert str(error) == f"cannot reach unix://{tmp_path}/s: No such file or directory{STARTED}"


def test_no_such_host() -> None:
    error = failure("redis://no-such-host.invalid")
    assert type(error) is BrokerDown
    assert str(error).startswith("cannot reach redis://no-such-host.invalid:6379: ")
    assert str(error).endswith(" (correct the host in the URL)")


def test_a_web_server() -> None:
    class Quiet(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    web = HTTPServer(("127.0.0.1", 0), Quiet)
    thread = threading.Thread(target=web.serve_forever)
    thread.start()
    try:
        for url in (f"redis://127.0.0.1:{web.server_port}", f"redis://:{SECRET}@127.0.0.1:{web.server_port}/3"):
            error = failure(url)
            assert type(error) is BrokerRefused
            assert str(error).endswith("answers, but it is not a Redis: check host and port")
    finally:
        web.shutdown()
        web.server_close()
        thread.join()


def test_one_that_accepts_and_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "ANSWER_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        for password in ("", f":{SECRET}@"):
            error = failure(f"redis://{password}127.0.0.1:{listener.getsockname()[1]}")
            assert type(error) is BrokerDown
            assert str(error).endswith("does not answer in time")


def test_one_that_accepts_and_hangs_up() -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def hang_up() -> None:
        heard, _ = listener.accept()
        heard.recv(100)
        heard.close()

    thread = threading.Thread(target=hang_up)
    thread.start()
    with listener:
        assert type(failure(f"redis://127.0.0.1:{listener.getsockname()[1]}")) is BrokerDown
    thread.join()


@pytest.mark.parametrize("version", ["6.2.14", "5.0.0", "2.8.19", "6.999.999"])
def test_one_that_is_too_old(version: str) -> None:
    with talker(lambda _: bulk(f"# Server\r\nredis_version:{version}\r\nrole:master\r\n")) as url:
        wire = RedisWire(parse_url(url))
        wire.connect()
        with pytest.raises(BrokerRefused, match=f"Redis {version} is too old: mrq needs Redis 7.0 or newer, or Valkey"):
            inspect(wire)
        wire.close()


@pytest.mark.parametrize("answer", ["", "hello", "# Server\r\nnginx_version:1\r\n"])
def test_one_that_speaks_the_protocol_and_is_no_redis(answer: str) -> None:
    with talker(lambda _: bulk(answer)) as url:
        wire = RedisWire(parse_url(url))
        wire.connect()
        with pytest.raises(BrokerRefused, match="it is not a Redis"):
            inspect(wire)
        wire.close()


# -- no admittance -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_passwords_and_permissions(fresh_server: FreshServer, flavour: str) -> None:
    server = fresh_server(flavour, tcp=True)
    path = server.socket
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "reader", "on", f">{SECRET}", "~*", "+@read", "+@connection")
    for url in (f"unix://:{SECRET}@{path}", f"unix://nobody:{SECRET}@{path}", f"unix://{path}"):
        error = failure(url)
        assert type(error) is BrokerRefused
        assert "refuses us: " in str(error)
        assert "NOAUTH" not in str(error)
        assert "MRQ_PASSWORD_FILE" in str(error)
    error = failure(f"unix://reader:{SECRET}@{path}", "HSET", "a", "b", "c")
    assert type(error) is NoPermission
    assert "does not let user reader use a command" in str(error)
    assert "hset" in str(error)
    assert "password" not in str(error)
    with server.client() as client:
        client.config_set("requirepass", "")
    for url in (f"unix://:{SECRET}@{path}", f"redis://:{SECRET}@127.0.0.1:{server.port}"):
        error = failure(url)
        assert type(error) is BrokerRefused
        assert str(error) == (
            f"{parse_url(url)} has no password, and one was given: take it out of the URL, MRQ_PASSWORD or "
            "MRQ_PASSWORD_FILE"
        )


def with_database(server: RealServer, number: int) -> list[str]:
    """The URLs of a database of a server, over its port and over its socket."""
    return [f"{server.tcp_url.removesuffix('/0')}/{number}", f"{server.url}?db={number}"]


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_database_that_the_server_has_not(fresh_server: FreshServer, flavour: str) -> None:
    server = fresh_server(flavour, tcp=True, databases="4")
    for url in with_database(server, 4):
        error = failure(url)
        assert type(error) is BrokerRefused
        assert str(error) == (
            f"{parse_url(url)} has no database 4: correct the number at the end of the URL (most servers have 0 to "
            "15), or raise `databases` in the server's configuration"
        )
    for url in with_database(server, 3):
        wire = RedisWire(parse_url(url))
        wire.connect()
        wire.close()


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_server_that_does_not_let_choose_a_database(fresh_server: FreshServer, flavour: str) -> None:
    server = fresh_server(flavour, tcp=True, rename_command='SELECT ""')
    for url in with_database(server, 3):
        error = failure(url)
        assert type(error) is BrokerRefused
        assert str(error).endswith("does not let us choose a database: leave out the number at the end of the URL")


def test_a_database_of_a_node_of_a_cluster(fresh_server: FreshServer) -> None:
    server = fresh_server("redis", tcp=True, cluster_enabled="yes", cluster_port=str(free_port()))
    for url in with_database(server, 3):
        error = failure(url)
        assert type(error) is BrokerRefused
        assert "write redis+cluster://" in str(error)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_no_room_for_another_client(fresh_server: FreshServer, flavour: str) -> None:
    server = fresh_server(flavour)
    with server.client() as client:
        client.ping()
        client.config_set("maxclients", 1)
        assert type(failure(server.url)) is BrokerDown


# -- it passes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_server_that_loads(fresh_server: FreshServer, flavour: str) -> None:
    server = fresh_server(flavour, key_load_delay="500", loading_process_events_interval_bytes="1024")
    with server.client() as client:
        client.mset({f"key:{n}": "x" * 50 for n in range(2000)})
        client.save()
    server.kill9()
    wire = RedisWire(Endpoint(path=str(server.socket), password=server.password))
    said: list[str] = []
    started = threading.Event()

    def ask() -> None:
        while not started.is_set():
            try:
                wire.connect()
                inspect(wire)
            except BrokerDown as error:
                said.append(str(error))

    asking = threading.Thread(target=ask)
    asking.start()
    server.start()
    started.set()
    asking.join()
    assert any("loading" in text.lower() for text in said)
    wire.connect()
    assert wire.call("DBSIZE") == 2000
    wire.close()


@pytest.fixture
def pair(fresh_server: FreshServer) -> tuple[RealServer, RealServer]:
    """A master and its replica."""
    master = fresh_server("valkey", tcp=True, repl_diskless_sync_delay="0")
    replica = fresh_server("valkey", masterauth=master.password)
    with replica.client() as client:
        client.replicaof("127.0.0.1", master.port)
        while client.info("replication")["master_link_status"] != "up":
            pass
    return master, replica


def connected(server: RealServer) -> RedisWire:
    wire = RedisWire(parse_url(server.url))
    wire.connect()
    return wire


def test_a_replica_takes_no_writes(pair: tuple[RealServer, RealServer], queue: str) -> None:
    wire = connected(pair[1])
    jobs = Jobs(wire, Keys(queue), Codecs(queue))
    tasks = Tasks(wire, Keys(queue), Codecs(queue))
    for verb in (
        lambda: jobs.commit("job", "", "1:a:1"),
        lambda: jobs.survey("job", 1),
        lambda: tasks.settle("w", [("job", b"r")], 0, 0, 1),
        lambda: tasks.take("w", 1),
        lambda: tasks.beat({"w": b"beat"}),
    ):
        wire.connect()
        with pytest.raises(ReadOnly, match="is a replica, which takes no writes: give the URL of the primary"):
            verb()
        with pytest.raises(BrokerDown, match="not connected"):  # it may not be the master any more: ask again who is
            wire.call("PING")


def test_a_replica_that_lost_its_master(pair: tuple[RealServer, RealServer]) -> None:
    master, replica = pair
    with replica.client() as client:
        client.config_set("replica-serve-stale-data", "no")
        master.kill9()
        while client.info("replication")["master_link_status"] == "up":
            pass
    error = failure(replica.url, "HGETALL", "x")
    assert type(error) is ReadOnly


def test_a_master_that_is_demoted_while_one_waits(pair: tuple[RealServer, RealServer], queue: str) -> None:
    master, _ = pair
    wire = connected(master)
    caught: list[BrokerError] = []

    def take() -> None:
        try:
            Tasks(wire, Keys(queue), Codecs(queue)).take("w", 5)
        except BrokerError as error:
            caught.append(error)

    waiting = threading.Thread(target=take)
    waiting.start()
    with master.client() as client:
        while not client.info("clients")["blocked_clients"]:
            pass
        client.replicaof("127.0.0.1", 1)
    waiting.join()
    assert [type(error) for error in caught] == [BrokerDown]
    wire.close()


def test_too_few_replicas(fresh_server: FreshServer, queue: str) -> None:
    wire = connected(fresh_server("valkey", min_replicas_to_write="1"))
    with pytest.raises(BrokerDown, match=r"(?i)not enough good replicas"):
        Jobs(wire, Keys(queue), Codecs(queue)).commit("job", "", "1:a:1")
    wire.close()


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_disk_that_is_full(fresh_server: FreshServer, flavour: str, tmp_path: Path, queue: str) -> None:
    server = fresh_server(flavour, enable_protected_configs="yes")
    gone = tmp_path / "gone"
    gone.mkdir()
    wire = connected(server)
    with server.client() as client:
        client.config_set("dir", str(gone))
        client.config_set("save", "3600 1")
        shutil.rmtree(gone)
        client.bgsave()
        while client.info("persistence")["rdb_last_bgsave_status"] == "ok":
            pass
        with pytest.raises(BrokerDown, match="is not ready: MISCONF"):
            Jobs(wire, Keys(queue), Codecs(queue)).commit("job", "", "1:a:1")
        client.config_set("dir", str(server.directory))
        client.config_set("save", "")
    wire.close()


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_server_busy_with_somebody_elses_script(fresh_server: FreshServer, flavour: str) -> None:
    server = fresh_server(flavour, busy_reply_threshold="1")
    wire = connected(server)

    def loop() -> None:
        with server.client() as client, pytest.raises(redis.ResponseError):
            client.eval("while true do end", 0)

    busy = threading.Thread(target=loop)
    busy.start()
    try:
        error = None
        while error is None:
            try:
                wire.call("ECHO", "x")
            except BrokerError as caught:
                error = caught
        assert type(error) is BrokerDown
        assert "BUSY" in str(error)
    finally:
        with server.client() as client:
            client.script_kill()
        busy.join()
    wire.close()


def test_a_connection_that_is_cut(wire: RedisWire, raw: redis.Redis) -> None:
    name = wire.call("CLIENT", "ID")
    raw.client_kill_filter(_id=name)
    with pytest.raises(BrokerDown):
        wire.call("PING")
    with pytest.raises(BrokerDown, match="not connected"):
        wire.call("PING")
    wire.connect()
    assert wire.call("PING") == b"PONG"


def test_a_server_that_stands_still(fresh_server: FreshServer, monkeypatch: pytest.MonkeyPatch, queue: str) -> None:
    monkeypatch.setattr(connection, "ANSWER_SECONDS", 0.2)
    server = fresh_server("valkey")
    wire = connected(server)
    with server.client() as client:
        client.execute_command("CLIENT", "PAUSE", "60000", "ALL")
    with pytest.raises(BrokerDown, match="does not answer in time"):
        Jobs(wire, Keys(queue), Codecs(queue)).commit("job", "", "1:a:1")


# -- it does not pass, and the wire goes on ----------------------------------------------------------------------------


def test_full(fresh_server: FreshServer, queue: str) -> None:
    server = fresh_server("valkey", maxmemory="1")
    wire = connected(server)
    tasks = Tasks(wire, Keys(queue), Codecs(queue))
    for verb in (
        lambda: tasks.beat({"w": b"beat"}),
        lambda: tasks.take("w", 1),
        lambda: tasks.give_back("w", [b"t"]),
        lambda: tasks.settle("w", [], 0, 0, 1),
    ):
        with pytest.raises(BrokerFull, match=r"is out of memory \(maxmemory\)"):
            verb()
    assert wire.call("PING") == b"PONG"
    wire.close()


@pytest.mark.parametrize("verb", ["settle", "commit", "survey", "take", "load"])
def test_foreign_keys(wire: RedisWire, raw: redis.Redis, keys: Keys, codecs: Codecs, verb: str) -> None:
    jobs, tasks = Jobs(wire, keys, codecs), Tasks(wire, keys, codecs)
    for key in (keys.queue, keys.job("job"), keys.replies("job"), keys.in_flight("w")):
        raw.set(key, "of another program")
    verbs: dict[str, Callable[[], object]] = {
        "settle": lambda: tasks.settle("w", [("job", b"r")], 0, 0, 1),
        "commit": lambda: jobs.commit("job", "", "1:a:1"),
        "survey": lambda: jobs.survey("job", 1),
        "take": lambda: tasks.take("w", 1),
        "load": lambda: jobs.load("job"),
    }
    with pytest.raises(ForeignKey, match=r"is not ours|holds no job"):
        verbs[verb]()
    assert wire.call("PING") == b"PONG"


# -- what the server says of itself ------------------------------------------------------------------------------------


def test_a_good_server(wire: RedisWire, server: RealServer) -> None:
    found = inspect(wire)
    assert found.product == {"valkey": "Valkey", "redis": "Redis"}[server.flavour]
    assert found.role == "master"
    assert found.eviction_policy == "noeviction"
    assert found.warning is None
    assert not found.aof
    assert found.clients >= 1
    assert found.used_memory > 100_000


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_an_evicting_server_is_warned_of(fresh_server: FreshServer, flavour: str) -> None:
    server = fresh_server(flavour, aof=True, maxmemory_policy="allkeys-lru")
    wire = connected(server)
    found = inspect(wire)
    assert found.aof
    assert found.warning == "maxmemory-policy is allkeys-lru: set it to noeviction before setting maxmemory"
    with server.client() as client:
        client.config_set("maxmemory", "100mb")
    found = inspect(wire)
    assert found.maxmemory == 100 * 2**20
    assert found.warning is not None
    assert "may drop jobs" in found.warning
    wire.close()
