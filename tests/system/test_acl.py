"""`mrq acl`: its users can do what they are for, and nothing else."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
import redis

from mapreduce_rq import Client
from tests.support import models
from tests.support.commands import User
from tests.support.servers import FLAVOURS, FreshServer

KEY = "6b" * 32


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_each_user_can_do_what_it_is_for_and_no_more(fresh_server: FreshServer, tmp_path: Path, flavour: str) -> None:
    server = fresh_server(flavour)
    words = {f"MRQ_{role}_PASSWORD": f"of-{role.lower()}" for role in ("MASTER", "WORKER", "VIEWER")}
    with User(tmp_path, MRQ_KEY=KEY, **words) as at:
        ran = at.run("acl")
        assert (ran.code, ran.err) == (0, "")
        assert "of-worker" not in ran.out
        assert hashlib.sha256(b"of-worker").hexdigest() in ran.out
        with server.client() as client:
            for line in ran.out.splitlines():
                client.execute_command("ACL", "SETUSER", *line.split()[1:])
        urls = {role: f"unix://mrq-{role}:of-{role}@{server.socket}" for role in ("master", "worker", "viewer")}
        worker = at.start("worker", "-c", "1", "-u", urls["worker"])
        worker.hear("1 worker on queue")
        done = at.run("compute", "exp", "--x", "2", "-o", "value", "-q", "-u", urls["master"])
        assert (done.code, done.out) == (0, "7.38905609893065\n")
        body = os.urandom(100)  # no host has it yet
        with Client(urls["master"], keys=[bytes.fromhex(KEY)], local=0) as client:
            found = client.map_reduce(models.with_shared, range(3), shared=body, wait_workers=20)
            summed = client.reduce_by_key(f"{models.__name__}:many_keys", range(40_000), parts=4, chunksize=20_000)
            assert dict(summed) == {(k % 10_000): 4 for k in range(10_000)}
        assert found == sum(body[:3]) + 3 * len(body)
        for command in ("dashboard", "jobs", "status", "workers", "result"):
            more = ["exp"] if command == "result" else []
            looked = at.run(command, *more, "-u", urls["viewer"])
            assert (looked.code, looked.err) == (0, ""), command
        purged = at.run("purge", "--yes", "-u", urls["viewer"])
        assert (purged.code, purged.err.count("\n")) == (69, 1)
        refused = at.run("compute", "exp", "--x", "2", "-q", "-u", urls["worker"])
        assert (refused.code, refused.err.count("\n")) == (69, 1)
        with server.client() as client:
            prefix = "mrq1:{default}:"
            before = {key: client.dump(key) for key in client.keys(f"{prefix}[jJmd]*")}
            assert before
        for role, keys in (("worker", "jJmd"), ("viewer", "jJmdqwe")):
            with redis.Redis(
                unix_socket_path=str(server.socket), username=f"mrq-{role}", password=f"of-{role}"
            ) as client:
                for key in keys:
                    name = f"{prefix}{key}:x" if key == "j" else prefix + key
                    for words_ in (["DEL", name], ["HSET", name, "a", "1"], ["RENAME", name, name + "2"]):
                        with pytest.raises(redis.exceptions.NoPermissionError):
                            client.execute_command(*words_)
                    with pytest.raises(redis.exceptions.NoPermissionError):
                        client.execute_command("EVAL", f"return redis.call('DEL', '{name}')", 1, name)
                with pytest.raises(redis.exceptions.NoPermissionError):
                    client.execute_command("FLUSHALL")
                with pytest.raises(redis.exceptions.NoPermissionError):
                    client.execute_command("GET", "somebody-elses")
        with server.client() as client:
            assert {key: client.dump(key) for key in client.keys(f"{prefix}[jJmd]*")} == before


def test_a_user_without_a_password_cannot_log_in(tmp_path: Path) -> None:
    with User(tmp_path) as at:
        ran = at.run("acl", "--queue", "a,b")
        assert ran.code == 0
        assert "mrq-worker has no password, so no client can log in as it: set MRQ_WORKER_PASSWORD" in ran.err
        assert "nopass" not in ran.out
        assert "~mrq1:{b}:q" in ran.out
        assert at.run("acl", "--queue", "no/name").code == 2
