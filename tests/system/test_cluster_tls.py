"""A cluster whose nodes speak TLS and know three users: each process has no more than it needs."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

from mapreduce_rq import BrokerError, Client
from tests.broker.certificates import make_certificates
from tests.support.clusters import RealCluster
from tests.support.commands import KEY, User
from tests.support.servers import need_server

PASSWORDS = {"MRQ_MASTER_PASSWORD": "m-secret", "MRQ_WORKER_PASSWORD": "w-secret", "MRQ_VIEWER_PASSWORD": "v-secret"}


def test_masters_workers_and_viewers_of_a_cluster_over_tls(tmp_path: Path, queue: str) -> None:
    need_server("redis")
    folder = tmp_path / "certificates"
    folder.mkdir()
    make_certificates(folder)
    with RealCluster("redis", replicas=False, tls=folder) as cluster:
        (first, *_, last) = cluster.queues(queue)
        with User(tmp_path, MRQ_KEY=KEY, **PASSWORDS) as at:
            printed = at.run("acl", "--queue", first, "--queue", last)
            assert printed.code == 0
            for line in printed.out.splitlines():
                cluster.define(line)

            def url(role: str) -> str:
                there = f"127.0.0.1:{cluster.tls_ports[0]},127.0.0.1:{cluster.tls_ports[1]}"
                options = (
                    f"ssl_ca_certs={folder}/ca.pem&ssl_certfile={folder}/client.pem&ssl_keyfile={folder}/client.key"
                )
                return f"rediss+cluster://mrq-{role}:{role[0]}-secret@{there}?{options}"

            worker = at.start("worker", "-c", "2", "-u", url("worker"), "--queue", first, "--queue", last)
            assert "secret" not in worker.hear("2 workers on queue")
            at.start("master", "-u", url("master"), "--queue", last).hear("leading the jobs")
            for name in (first, last):
                done = at.run("compute", "exp", "2", "-o", "value", "-q", "-u", url("master"), "--queue", name)
                assert done == (0, "7.38905609893065\n", "")
            with Client(url("master"), queue=last, keys=[KEY], local=0) as client:
                assert client.submit_function_detached("math:sqrt", range(5), reduce="count").result(30).native == 5
            looked = at.run("jobs", "-u", url("viewer"), "--queue", last)
            assert (looked.code, looked.out.count("done")) == (0, 2)
            refused = at.run("compute", "exp", "2", "-u", url("viewer"), "--queue", last)
            assert refused.code != 0
            assert refused.err.count("\n") == 1
            assert "secret" not in refused.err
            bare = url("master").replace("rediss+cluster", "redis+cluster").partition("?")[0]
            with pytest.raises(BrokerError), Client(bare, queue=last, keys=[KEY], local=0) as client:
                client.map_reduce(abs, range(3))
        owner = cluster.owner(last)
        with (
            redis.Redis(port=owner.port, username="mrq-worker", password="w-secret") as raw,
            pytest.raises(redis.exceptions.NoPermissionError),
        ):
            raw.hset(f"mrq1:{{{last}}}:j:x", "state", "done")
