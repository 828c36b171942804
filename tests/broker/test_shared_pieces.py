"""What calls share, sent to a server that takes little at once."""

from __future__ import annotations

import pytest
import redis

from mapreduce_rq.broker.connection import parse_url
from mapreduce_rq.broker.keys import Keys
from mapreduce_rq.broker.redis_wire import RedisWire
from mapreduce_rq.broker.shared import PIECE_BYTES, fetch, share
from tests.support.servers import RealServer

MEBIBYTE = 1 << 20


@pytest.mark.parametrize("limit", [MEBIBYTE, 64 * MEBIBYTE])
def test_its_pieces_are_as_large_as_the_server_takes(
    server: RealServer, raw: redis.Redis, keys: Keys, limit: int
) -> None:
    """They had 4 MB each: what was larger than the server's limit was refused, in words that named no remedy."""
    body = bytes(range(256)) * (5 * MEBIBYTE // 256)
    before = str(raw.config_get("proto-max-bulk-len")["proto-max-bulk-len"])
    raw.config_set("proto-max-bulk-len", limit)
    try:
        wire = RedisWire(parse_url(server.url))
        wire.connect()
        share(wire, keys, "aa", body)
        pieces = list(fetch(wire, keys, "aa"))
        share(wire, keys, "aa", body)  # it is there
        wire.close()
    finally:
        raw.config_set("proto-max-bulk-len", before)
    assert b"".join(pieces) == body
    assert max(map(len, pieces)) <= min(limit, PIECE_BYTES)
    assert len(pieces) == (6 if limit == MEBIBYTE else 2)
