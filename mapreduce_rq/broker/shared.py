"""The object that all calls of a job share, in Redis: stored once for each content, in pieces, under the content's
hash.

The hash is in the job's spec, which is signed, so the pieces need no signature: a process that has read them compares
the hash.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from mapreduce_rq.broker.keys import Keys
from mapreduce_rq.broker.wire import SPARE_BYTES, Wire
from mapreduce_rq.core.bodies import Buffer
from mapreduce_rq.errors import BadFunction, NoPermission

PIECE_BYTES = 4 << 20
"""The most bytes of a piece: between two pieces the server answers other clients."""
KEPT_SECONDS = 7 * 86_400
"""Seconds for which the object stays after it was last sent or fetched."""


def share(wire: Wire, keys: Keys, name: str, body: Buffer) -> None:
    """Send a body, unless Redis has it. Raises BrokerError, TooLarge."""
    key = keys.shared(name)
    size = min(PIECE_BYTES, wire.limit() - SPARE_BYTES)
    number = -(-len(body) // size)
    if wire.call("HGET", key, "pieces") != str(number).encode():
        view = memoryview(body)
        for index in range(number):
            wire.call("HSET", key, str(index), bytes(view[index * size : (index + 1) * size]))
            wire.call("EXPIRE", key, KEPT_SECONDS)
        wire.call("HSET", key, "pieces", number)  # the count comes last: without it the body is not complete
    wire.call("EXPIRE", key, KEPT_SECONDS)


def fetch(wire: Wire, keys: Keys, name: str) -> Iterator[bytes]:
    """The pieces of a body. Raises BadFunction if it is not there any more, BrokerError."""
    key = keys.shared(name)
    number = wire.call("HGET", key, "pieces")
    if not (isinstance(number, bytes) and number.isdigit()):
        raise BadFunction("what the job's calls share is not in Redis any more: submit the job again")
    with contextlib.suppress(NoPermission):  # a user for workers may not change this key; the sender has set the time
        wire.call("EXPIRE", key, KEPT_SECONDS)
    for index in range(int(number)):
        piece = wire.call("HGET", key, str(index))
        if not isinstance(piece, bytes):
            raise BadFunction("what the job's calls share was deleted from Redis: submit the job again")
        yield piece
