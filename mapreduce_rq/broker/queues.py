"""Finds the queues on a server: those that have a key."""

from __future__ import annotations

import re

from mapreduce_rq.broker.wire import Wire
from mapreduce_rq.core.sealing import WIRE_VERSION

KEYS_AT_ONCE = 1000
_KEY = re.compile(rf"mrq{WIRE_VERSION}:\{{([A-Za-z0-9_.:-]{{1,64}})\}}:[qwJd]".encode())


def names_of_queues(wire: Wire) -> list[str]:
    """The names of all queues, sorted. It reads the name of every key of the server, a thousand at a time.

    Raises BrokerError.
    """
    found: set[str] = set()
    cursor = b"0"
    while True:
        cursor, keys = wire.call("SCAN", cursor, "MATCH", f"mrq{WIRE_VERSION}:*", "COUNT", KEYS_AT_ONCE)
        found.update(match[1].decode() for key in keys if (match := _KEY.fullmatch(key)))
        if cursor == b"0":
            return sorted(found)
