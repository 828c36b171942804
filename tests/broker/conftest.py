"""Verbs over a real wire to each flavour of server, and a plain client to look inside."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from mapreduce_rq.broker.connection import parse_url
from mapreduce_rq.broker.jobs import Jobs
from mapreduce_rq.broker.keys import Keys
from mapreduce_rq.broker.redis_wire import RedisWire
from mapreduce_rq.broker.tasks import Tasks
from mapreduce_rq.core.sealing import Codecs, Keyring
from tests.support.servers import RealServer


@pytest.fixture
def wire(server: RealServer) -> Iterator[RedisWire]:
    """A connected wire."""
    made = RedisWire(parse_url(server.url))
    made.connect()
    yield made
    made.close()


@pytest.fixture
def keys(queue: str) -> Keys:
    return Keys(queue)


@pytest.fixture
def codecs(queue: str) -> Codecs:
    return Codecs(queue, Keyring([b"k" * 32]))


@pytest.fixture
def jobs(wire: RedisWire, keys: Keys, codecs: Codecs) -> Jobs:
    return Jobs(wire, keys, codecs)


@pytest.fixture
def tasks(wire: RedisWire, keys: Keys, codecs: Codecs) -> Tasks:
    return Tasks(wire, keys, codecs)


@pytest.fixture
def raw(server: RealServer) -> Iterator[redis.Redis]:
    """A plain client of the same server."""
    with server.client() as client:
        yield client
