"""Sentinel: the master is asked for at every connect, so a failover needs nothing but a new connection."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mapreduce_rq.broker.connection import parse_url
from mapreduce_rq.broker.redis_wire import RedisWire
from mapreduce_rq.errors import BrokerDown
from tests.support.sentinels import Group
from tests.support.servers import free_port, need_server


@pytest.fixture(scope="module")
def group() -> Iterator[Group]:
    need_server("redis")
    with Group() as made:
        yield made


def port_of(url: str) -> int:
    """The port of the server that this URL leads to now."""
    wire = RedisWire(parse_url(url))
    wire.connect()
    try:
        found = dict(line.split(b":", 1) for line in wire.call("INFO", "server").splitlines() if b":" in line)
        return int(found[b"tcp_port"])
    finally:
        wire.close()


def test_a_sentinel_that_is_dead_is_passed_over(group: Group) -> None:
    hosts, _, service = group.url.rpartition("@")[2].partition("/")
    dead = f"127.0.0.1:{free_port()}"
    assert port_of(group.url.replace(hosts, f"{dead},{hosts}")) == group.master().port
    url = group.url.replace(hosts, dead)
    with pytest.raises(BrokerDown, match=f"no sentinel of redis\\+sentinel://:\\*\\*\\*@{dead}/{service} knows"):
        port_of(url)


def test_a_service_that_no_sentinel_knows(group: Group) -> None:
    with pytest.raises(BrokerDown, match="knows a master with the name other"):
        port_of(group.url.replace(f"/{group.service}", "/other"))


def test_a_sentinel_with_a_password() -> None:
    need_server("redis")
    with Group(sentinels=1, sentinel_password="secret") as group:
        for url in (group.url, f"{group.url}?sentinel_password=wrong"):
            with pytest.raises(BrokerDown) as caught:
                port_of(url)
            assert "wrong" not in str(caught.value)
        assert port_of(f"{group.url}?sentinel_password=secret") == group.master().port


def test_a_failover_moves_the_next_connection(group: Group) -> None:  # the last: the group is used up
    first = group.master()
    assert port_of(group.url) == first.port
    wire = RedisWire(parse_url(group.url))
    wire.connect()
    wire.call("SET", "before", "1")
    group.wait_replicated()
    first.kill9()
    with pytest.raises(BrokerDown):
        wire.call("PING")
    second = group.wait_failover(first.port)
    assert port_of(group.url) == second.port != first.port
    wire.connect()
    assert wire.call("GET", "before") == b"1"
    wire.close()
