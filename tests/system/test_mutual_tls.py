"""Worker, master, viewer and client over TLS, where the server asks for a certificate of theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mapreduce_rq import Client
from tests.broker.certificates import make_certificates
from tests.support.commands import User
from tests.support.servers import RealServer, free_port, need_server


def test_a_job_over_mutual_tls(tmp_path: Path) -> None:
    need_server("redis")
    folder = tmp_path / "certificates"
    folder.mkdir()
    make_certificates(folder)
    port = free_port()
    files = {"tls_cert_file": "server.pem", "tls_key_file": "server.key", "tls_ca_cert_file": "ca.pem"}
    options: dict[str, Any] = {name: str(folder / file) for name, file in files.items()}
    with RealServer("redis", tls_port=str(port), tls_auth_clients="yes", **options) as server:
        bare = f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={folder}/ca.pem"
        url = f"{bare}&ssl_certfile={folder}/client.pem&ssl_keyfile={folder}/client.key"
        with User(tmp_path, MRQ_URL=url, MRQ_PASSWORD=server.password) as at:
            worker = at.start("worker", "-c", "1")
            assert server.password not in worker.hear("1 worker on queue")
            done = at.run("compute", "exp", "--x", "2", "-o", "value", "-q")
            assert done == (0, "7.38905609893065\n", "")
            for command in ("dashboard", "jobs", "status"):
                looked = at.run(command)
                assert (looked.code, looked.err) == (0, ""), command
            refused = at.run("status", "-u", bare)  # it shows no certificate
            assert (refused.code, refused.out, refused.err.count("\n")) == (69, "", 1)
        with Client(url.replace("rediss://", f"rediss://:{server.password}@"), local=1, keys=["6b" * 32]) as client:
            assert client.map_reduce(abs, range(-3, 3), reduce="int_sum") == 9
