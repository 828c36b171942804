"""TLS against a real Redis with certificates of our own; the Valkey of the wheel is built without it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mapreduce_rq.broker import connection
from mapreduce_rq.broker.connection import parse_url
from mapreduce_rq.broker.inspect import inspect
from mapreduce_rq.broker.redis_wire import RedisWire
from mapreduce_rq.errors import BadURL, BrokerDown, BrokerError, BrokerRefused
from tests.broker.certificates import make_certificates
from tests.support.servers import RealServer, free_port, need_server


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("tls")
    make_certificates(made)
    return made


@pytest.fixture(scope="module")
def tls(folder: Path) -> Iterator[tuple[RealServer, str]]:
    """A server that speaks TLS, and its address with the password, ``:PASSWORD@127.0.0.1:PORT``."""
    need_server("redis")
    port = free_port()
    files = {"tls_cert_file": "server.pem", "tls_key_file": "server.key", "tls_ca_cert_file": "ca.pem"}
    options: dict[str, Any] = {name: str(folder / file) for name, file in files.items()}
    with RealServer("redis", tls_port=str(port), tls_auth_clients="optional", **options) as server:
        yield server, f":{server.password}@127.0.0.1:{port}"


def ping(url: str) -> None:
    wire = RedisWire(parse_url(url))
    try:
        wire.connect()
        assert inspect(wire).product == "Redis"
    finally:
        wire.close()


@pytest.mark.parametrize("scheme", ["rediss", "valkeys"])
def test_the_authority_named_in_the_url(tls: tuple[RealServer, str], folder: Path, scheme: str) -> None:
    ping(f"{scheme}://{tls[1]}/0?ssl_ca_certs={folder}/ca.pem")


def test_a_client_certificate(tls: tuple[RealServer, str], folder: Path) -> None:
    server, address = tls
    with server.client() as client:
        client.config_set("tls-auth-clients", "yes")
        try:
            with pytest.raises(BrokerError):
                ping(f"rediss://{address}?ssl_ca_certs={folder}/ca.pem")
            ping(
                f"rediss://{address}?ssl_ca_certs={folder}/ca.pem"
                f"&ssl_certfile={folder}/client.pem&ssl_keyfile={folder}/client.key"
            )
        finally:
            client.config_set("tls-auth-clients", "optional")


@pytest.mark.parametrize("options", ["", "?ssl_ca_certs={folder}/stranger.pem"])
def test_a_server_of_an_unknown_authority(tls: tuple[RealServer, str], folder: Path, options: str) -> None:
    with pytest.raises(BrokerRefused, match=r"do not trust: .* certificate .*ssl_ca_certs=FILE") as caught:
        ping(f"rediss://{tls[1]}{options.format(folder=folder)}")
    assert tls[0].password not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_name_that_is_not_on_the_certificate(tls: tuple[RealServer, str], folder: Path) -> None:
    other = tls[1].replace("127.0.0.1", "127.0.0.2")
    with tls[0].client() as client:
        client.config_set("bind", "127.0.0.1 127.0.0.2")
    with pytest.raises(BrokerRefused, match="IP address mismatch"):
        ping(f"rediss://{other}?ssl_ca_certs={folder}/ca.pem")
    ping(f"rediss://{other}?ssl_ca_certs={folder}/ca.pem&ssl_check_hostname=false")


def test_no_check_at_all_if_asked_for(tls: tuple[RealServer, str]) -> None:
    for word in ("none", "CERT_NONE"):
        ping(f"rediss://{tls[1]}?ssl_cert_reqs={word}")
        ping(f"rediss://{tls[1]}?ssl_cert_reqs={word}&ssl_check_hostname=false")


def test_files_that_are_not_there(tls: tuple[RealServer, str]) -> None:
    for option in ("ssl_ca_certs", "ssl_certfile"):
        with pytest.raises(BadURL, match=f"^{option} in the URL: the file.*No such file") as caught:
            ping(f"rediss://{tls[1]}?{option}=/no/such/file.pem")
        assert "/no/such" not in str(caught.value)


def test_files_that_are_no_certificates(tls: tuple[RealServer, str]) -> None:
    for option in ("ssl_ca_certs", "ssl_certfile"):
        with pytest.raises(BadURL, match=f"^{option} in the URL: the file.* must be PEM"):
            ping(f"rediss://{tls[1]}?{option}={__file__}")


def test_plain_to_a_tls_port(tls: tuple[RealServer, str]) -> None:
    with pytest.raises(BrokerDown) as caught:
        ping(f"redis://{tls[1]}")
    assert "\n" not in str(caught.value)


def test_tls_to_a_plain_port(tls: tuple[RealServer, str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "ANSWER_SECONDS", 0.2)
    port = free_port()
    with tls[0].client() as client:
        client.config_set("port", port)
    with pytest.raises(BrokerDown, match="does not answer in time"):
        ping(f"rediss://:{tls[0].password}@127.0.0.1:{port}?ssl_ca_certs={folder}/ca.pem")
