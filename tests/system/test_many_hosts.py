"""Hosts with networks of their own: two with workers, one with a master, one with a client; over TLS, as ACL users."""

from __future__ import annotations

import json
import os
import shutil
import signal
from contextlib import ExitStack
from pathlib import Path

import pytest

from mapreduce_rq.core.job.ends import digest_of
from mapreduce_rq.core.reducers.sums import IntSum
from tests.broker.certificates import make_certificates
from tests.chaos.namespace import Namespace
from tests.support.commands import KEY, MRQ, Running, User
from tests.support.fleet import children_of
from tests.support.servers import RealServer, free_port, need_server
from tests.support.terms import MODULE, total

TERMS = 400
MIDDLE, LAST = TERMS // 2, TERMS - 1
SUM = ("--reduce", "int_sum")


class Host:
    """One host: what runs there reaches the server over its own wire, as one of the users that `mrq acl` prints."""

    def __init__(self, user: User, space: Namespace, port: int, authority: Path, role: str) -> None:
        self._user = user
        self._space = space
        url = f"rediss://mrq-{role}@{space.here}:{port}/0?ssl_ca_certs={authority}"
        self._env = user.env | {"MRQ_URL": url, "MRQ_PASSWORD": f"of-{role}"}

    def start(self, *words: str) -> Running:
        """Start `mrq` there."""
        return self._user.start(*words, env=self._env, program=[*self._space.prefix, *MRQ])

    def run(self, *words: str) -> str:
        """Run `mrq` there to its good end; its output."""
        running = self.start(*words)
        assert running.wait(60) == 0, running.err
        return "".join(running.out)


def test_a_host_is_cut_off_and_comes_back_and_each_term_counts_once(tmp_path: Path) -> None:
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root, and the program ip")
    need_server("redis")
    words = {f"MRQ_{role}_PASSWORD": f"of-{role.lower()}" for role in ("MASTER", "WORKER", "VIEWER")}
    with ExitStack() as stack:
        spaces = [stack.enter_context(Namespace()) for _ in range(4)]
        here = [space.here for space in spaces]
        certificates = tmp_path / "certificates"
        certificates.mkdir()
        make_certificates(certificates, addresses=here)
        port = free_port()
        server = stack.enter_context(
            RealServer(
                "redis",
                bind=" ".join(["127.0.0.1", *here]),
                tls_port=str(port),
                tls_cert_file=str(certificates / "server.pem"),
                tls_key_file=str(certificates / "server.key"),
                tls_ca_cert_file=str(certificates / "ca.pem"),
                tls_auth_clients="no",
            )
        )
        user = stack.enter_context(User(tmp_path, MRQ_KEY=KEY, **words))
        with server.client() as client:
            for line in user.run("acl").out.splitlines():
                client.execute_command("ACL", "SETUSER", *line.split()[1:])
        roles = ("worker", "worker", "master", "master")
        authority = certificates / "ca.pem"
        hosts = [Host(user, space, port, authority, role) for space, role in zip(spaces, roles, strict=True)]
        # Three: the last term is held, and its copy, as of a late task, holds another worker of the same host.
        workers = [host.start("worker", "-c", "3") for host in hosts[:2]]
        for worker in workers:
            worker.hear("3 workers on queue")
        master = hosts[2].start("master", "-c", "4")

        user.stage.write("gated", f"{MIDDLE} {LAST}")
        job = hosts[3].run("run", f"{MODULE}:gated", "--terms", str(TERMS), "--chunk", "1", *SUM, "--detach").strip()
        asked = hosts[3].start("result", job, "--wait", "--json")
        held = user.stage.begun(MIDDLE)
        lost = next(number for number, worker in enumerate(workers) if held in children_of(worker.pid))
        spaces[lost].pull()
        master.hear(f":{held} is gone", 40)
        assert user.stage.begun(MIDDLE, 40, but=held) in children_of(workers[1 - lost].pid)
        user.stage.begun(LAST)
        spaces[lost].plug()
        workers[lost].hear("Redis is back")
        user.stage.open()  # both hosts answer the term in the middle

        assert asked.wait(60) == 0, asked.err
        record = json.loads(asked.out[0])
        assert (record["value"], record["terms"]) == (str(total(TERMS)), TERMS)
        assert record["digest"] == digest_of(IntSum().encode(total(TERMS)))
        assert len(children_of(workers[lost].pid)) == 3, "who came back was not replaced"
        for running in (*workers, master):
            running.signal(signal.SIGTERM)
            assert running.wait() == 0
