"""Each error of the tree reaches a caller: a real situation for each, through the Python API or the command line.

A new class of errors.py without a row here fails the last test: an error that nobody can meet, or that no test makes,
is none.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from mapreduce_rq import Client, Limits, errors
from mapreduce_rq.computations import load
from mapreduce_rq.core.plugins import REDUCERS
from mapreduce_rq.errors import MrqError
from mapreduce_rq.runtime.master.observer import Silent
from mapreduce_rq.runtime.server.embedded import EmbeddedServer
from tests.support.commands import KEY, Running, environment, mrq
from tests.support.servers import FreshServer, RealServer, free_port

OTHER_KEY = "6c" * 32
OLDER = """
import mapreduce_rq.version as version
version.__version__ = "0.0.1"
import mapreduce_rq.runtime.worker.prepare as prepare
prepare.code_of = lambda made: "older"
from mapreduce_rq.cli.app import main
raise SystemExit(main())
"""


class Setting:
    """What a situation may use. All of it ends with the test."""

    def __init__(
        self, server: RealServer, queue: str, folder: Path, fresh: FreshServer, patch: pytest.MonkeyPatch
    ) -> None:
        self.server = server
        self.queue = queue
        self.folder = folder
        self.fresh = fresh
        self.patch = patch
        self.stack = ExitStack()

    def client(self, server: RealServer | None = None, *, key: str = KEY, **how: Any) -> Client:
        """A client of the queue."""
        url = (server or self.server).url
        return self.stack.enter_context(Client(url, queue=self.queue, keys=[key], **how))

    def write(self, *command: str) -> None:
        """A command by somebody who has Redis and no key."""
        with self.server.client() as raw:
            raw.execute_command(*command)

    def worker(self, *arguments: str, program: list[str] | None = None) -> None:
        """`mrq worker` on the queue, heard to be there."""
        env = environment({"MRQ_URL": self.server.url, "MRQ_QUEUE": self.queue, "MRQ_KEY": KEY})
        how = {"program": program} if program else {}
        self.stack.enter_context(Running("worker", "-c", "1", *arguments, env=env, **how)).hear("1 worker on queue")


@pytest.fixture
def at(
    running: Callable[[str], RealServer],
    queue: str,
    tmp_path: Path,
    fresh_server: FreshServer,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Setting]:
    made = Setting(running("valkey"), queue, tmp_path, fresh_server, monkeypatch)
    with made.stack:
        yield made


def no_number(at: Setting) -> None:
    at.client().submit("exp", x="two", terms=50)


def no_text(_: Setting) -> None:
    Client(6379)  # type: ignore[arg-type]


def no_such_computation(at: Setting) -> None:
    at.client().submit("expp", x="2")


def no_url(_: Setting) -> None:
    Client("redis//host")


def a_plugin_that_is_no_reducer(at: Setting) -> None:
    info = at.folder / "bad_giver-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bad_giver\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[{REDUCERS}]\nbad_sum = math:pi\n")
    at.patch.syspath_prepend(at.folder)
    importlib.invalidate_caches()
    at.client().map_reduce("math:sqrt", range(9), reduce="bad_sum")


def no_such_function(at: Setting) -> None:
    at.client().map_reduce("math:squirt", range(9))


def nobody_listens(_: Setting) -> None:
    Client(f"redis://127.0.0.1:{free_port()}")


def demoted(at: Setting) -> None:
    server = at.fresh("valkey")
    client = at.client(server)
    with server.client() as raw:
        raw.replicaof("127.0.0.1", free_port())
    client.submit_detached("exp", x="2", terms=50)


def full(at: Setting) -> None:
    server = at.fresh("valkey")
    client = at.client(server)
    with server.client() as raw:
        raw.config_set("maxmemory", "1")
    client.map_reduce("math:sqrt", range(9), wait_workers=0.2)


def wrong_password(at: Setting) -> None:
    Client(at.server.url.replace(at.server.password, "guess"))


def may_only_read(at: Setting) -> None:
    server = at.fresh("valkey")
    with server.client() as raw:
        raw.execute_command("ACL", "SETUSER", "reader", "on", ">secret", "~*", "+@read", "+@connection", "+info")
    Client(f"unix://reader:secret@{server.socket}", queue=at.queue).map_reduce("math:sqrt", range(9))


def anothers_key(at: Setting) -> None:
    client = at.client()
    at.write("SET", client.keys.queue, "mine")
    client.map_reduce("math:sqrt", range(9))


def the_private_server_dies(at: Setting) -> None:
    server = at.stack.enter_context(EmbeddedServer.start())
    client = at.stack.enter_context(Client(server=server, local=1))
    assert client.map_reduce("math:sqrt", [4]) == 2
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    client.map_reduce("math:sqrt", [4])


def a_term_raises(at: Setting) -> None:
    at.client(local=1).map_reduce("math:sqrt", [4, -1])


def an_older_worker(at: Setting) -> None:
    at.worker(program=[sys.executable, "-c", OLDER])
    at.client().submit("exp", x="2", terms=50).result(20)


def cancelled(at: Setting) -> None:
    job = at.client().submit("exp", x="2", terms=50)
    at.client().cancel(job.id)
    job.result(20)


def no_such_job(at: Setting) -> None:
    at.client().cancel("exp-0")


def nobody_comes(at: Setting) -> None:
    at.client().map_reduce("math:sqrt", range(9), wait_workers=0.2)


def out_of_time(at: Setting) -> None:
    at.client().map_reduce("math:sqrt", range(9), limits=Limits(deadline=0.2))


def led_by_another(at: Setting) -> None:
    """Another master claims a job whose items only this process has, and which it cannot follow."""
    first, second = at.client(), at.client()
    values = first.imap(abs, iter(range(3)))
    state = second.job_state(second.verbs.listed()[0])
    assert state is not None
    computation = load("function").to_lead(state.spec.params, second.trust)
    second.leader.master(state.spec, computation, Silent()).take_over(state)
    next(values)


def an_item_over_the_servers_limit(at: Setting) -> None:
    at.client(at.fresh("valkey", proto_max_bulk_len="1mb")).map_reduce("builtins:len", [bytes(3_000_000)])


def a_full_disk(_: Setting) -> None:
    ran = mrq("compute", "exp", "--x", "2", "--terms", "50", "--out", "/dev/full")
    assert "cannot write" in ran.err
    raise as_exit(ran.code)


def a_hash_that_is_no_job(at: Setting) -> None:
    client = at.client()
    at.write("HSET", client.keys.job("exp-1"), "state", "running", "tok", "1:a:1")
    client.cancel("exp-1")


def signed_with_another_key(at: Setting) -> None:
    job = at.client().submit("exp", x="2", terms=50)
    at.client(key=OTHER_KEY).job_state(job.id)


def as_exit(code: int) -> MrqError:
    """The error of an exit code that only one class has."""
    (kind,) = [kind for kind in raised() if kind.exit_code == code]
    return kind()


SITUATIONS: dict[type[MrqError], Callable[[Setting], object]] = {
    errors.BadParameter: no_number,
    errors.WrongType: no_text,
    errors.UnknownComputation: no_such_computation,
    errors.BadURL: no_url,
    errors.BadPlugin: a_plugin_that_is_no_reducer,
    errors.BadFunction: no_such_function,
    errors.BrokerDown: nobody_listens,
    errors.ReadOnly: demoted,
    errors.BrokerFull: full,
    errors.BrokerRefused: wrong_password,
    errors.NoPermission: may_only_read,
    errors.ForeignKey: anothers_key,
    errors.ServerFailed: the_private_server_dies,
    errors.JobFailed: a_term_raises,
    errors.VersionSkew: an_older_worker,
    errors.JobCancelled: cancelled,
    errors.NoSuchJob: no_such_job,
    errors.NoWorkers: nobody_comes,
    errors.DeadlineReached: out_of_time,
    errors.Superseded: led_by_another,
    errors.TooLarge: an_item_over_the_servers_limit,
    errors.CannotWrite: a_full_disk,
    errors.BadMessage: a_hash_that_is_no_job,
    errors.OtherKey: signed_with_another_key,
}
"""What is raised there; of BrokerFull, which is waited out, the cause of what is raised when the wait is over."""
GROUPS = {errors.MrqError, errors.UsageError, errors.BrokerError, errors.JobError}


def raised() -> set[type[MrqError]]:
    """Every class of the tree but those that only stand for others."""
    found, level = set[type[MrqError]](), [errors.MrqError]
    while level:
        kind = level.pop()
        found.add(kind)
        level += [one for one in kind.__subclasses__() if one.__module__ == errors.__name__]
    return found - GROUPS


@pytest.mark.parametrize("kind", SITUATIONS, ids=lambda kind: kind.__name__)
def test_it_reaches_a_caller(at: Setting, kind: type[MrqError]) -> None:
    with pytest.raises(MrqError) as caught:
        SITUATIONS[kind](at)
    error: BaseException | None = caught.value
    if kind is errors.BrokerFull:
        assert type(error) is errors.NoWorkers
        assert "out of memory" in str(error)
        error = error.__cause__
    assert type(error) is kind
    assert "\n" not in str(error)


def test_each_error_has_its_situation() -> None:
    assert raised() == set(SITUATIONS)
