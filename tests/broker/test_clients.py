"""Where another program's client of redis-py leads, read from it; and one of ours to the same place."""

from __future__ import annotations

import ssl
from typing import Any
from urllib.parse import quote

import pytest
import redis
from redis.sentinel import Sentinel

from mapreduce_rq.broker.clients import asking, client_of, endpoint_of
from mapreduce_rq.broker.connection import ANSWER_SECONDS, Endpoint, parse_url
from mapreduce_rq.broker.redis_wire import RedisWire
from mapreduce_rq.errors import BrokerDown, UsageError
from tests.support.servers import RealServer, free_port


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost:6379",
        "redis://someone:secret@example.org:7000/3",
        "redis://:p%40ss@10.0.0.1",
        "unix://:secret@/run/redis.sock?db=2",
    ],
)
def test_a_client_made_of_a_url_leads_where_ours_would(url: str) -> None:
    with redis.Redis.from_url(url) as client:
        assert endpoint_of(client) == parse_url(url)


def test_the_settings_of_others_are_left_behind() -> None:
    client = redis.Redis(host="h", port=1, socket_timeout=415, decode_responses=True, protocol=3)
    found = endpoint_of(client)
    assert found == Endpoint(host="h", port=1)
    ours = client_of(found).connection_pool.connection_kwargs
    assert ours["socket_timeout"] == ANSWER_SECONDS
    assert ours["protocol"] == 2
    assert not ours.get("decode_responses")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {}),
        ({"ssl_cert_reqs": "none", "ssl_check_hostname": False}, {"ssl_check_hostname": "false"}),
        ({"ssl_cert_reqs": ssl.CERT_NONE, "ssl_check_hostname": False}, {"ssl_check_hostname": "false"}),
        ({"ssl_ca_certs": "/ca", "ssl_certfile": "/c", "ssl_keyfile": "/k"}, {"ssl_ca_certs": "/ca"}),
    ],
)
def test_tls_and_what_is_trusted_is_kept(given: dict[str, Any], expected: dict[str, str]) -> None:
    found = endpoint_of(redis.Redis(host="h", ssl=True, **given))
    assert found.tls
    options = dict(found.tls_options)
    assert options.items() >= expected.items()
    assert options["ssl_cert_reqs"] == ("none" if given.get("ssl_cert_reqs") in {"none", ssl.CERT_NONE} else "required")
    if "ssl_certfile" in given:
        assert (options["ssl_certfile"], options["ssl_keyfile"]) == ("/c", "/k")


def test_what_would_change_whom_we_trust_is_refused_by_name() -> None:
    client = redis.Redis(host="h", ssl=True, ssl_ca_data="-----BEGIN", ssl_password="secret")
    with pytest.raises(UsageError, match="ssl_") as refused:
        endpoint_of(client)
    assert "secret" not in str(refused.value)


def test_sentinels() -> None:
    sentinel = Sentinel([("a", 26379), ("b", 26380)], sentinel_kwargs={"password": "s"}, password="p", db=4)
    assert endpoint_of(sentinel.master_for("service")) == Endpoint(
        db=4,
        password="p",
        sentinels=(("a", 26379), ("b", 26380)),
        service="service",
        sentinel_password="s",
    )


def test_credentials_that_a_provider_gives() -> None:
    client = redis.Redis(credential_provider=redis.UsernamePasswordCredentialProvider("someone", "secret"))
    found = endpoint_of(client)
    assert (found.username, found.password) == ("someone", "secret")


def test_what_is_no_client_is_said() -> None:
    with pytest.raises(UsageError, match="Redis Cluster"):
        endpoint_of(object())


def test_both_kinds_of_connection_reach_the_same_server(server: RealServer) -> None:
    with redis.Redis.from_url(f"unix://:{quote(server.password)}@{quote(str(server.socket))}?db=1") as theirs:
        endpoint = endpoint_of(theirs)
        theirs.set("x", "1")
    wire = RedisWire(endpoint)
    wire.connect()
    assert wire.call("GETDEL", "x") == b"1"
    wire.close()
    with client_of(endpoint) as ours:
        assert ours.get("x") is None


def test_what_a_server_that_is_not_there_says_is_ours() -> None:
    endpoint = Endpoint(host="127.0.0.1", port=free_port(), password="secret")
    with pytest.raises(BrokerDown, match="cannot reach") as down, asking(endpoint), client_of(endpoint) as client:
        client.ping()
    assert "secret" not in str(down.value)
