"""The items of a task that do not follow from its span: taken from any iterable, as bytes, and back."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

from mapreduce_rq.core.plain_values import pack, unpack_all
from mapreduce_rq.errors import BadFunction
from mapreduce_rq.functions.trust import unpickled

TAKE_SECONDS = 0.02
"""An iterable that is slow, or endless and quick, must not keep a master from its workers, or from a deadline."""
TAKE_BYTES = 4 << 20
"""Of items in one task, about: a window of tasks must fit into Redis."""
LARGEST_BLOCK = 128
"""Items taken between two looks at the clock: one that becomes slow is found out within so many."""

_PLAIN, _PICKLED = b"v", b"p"


_UNPACKABLE = (TypeError, ValueError, RecursionError)
"""What packing raises for an item that is no plain data."""


def encode_items(items: Sequence[Any], *, pickles: bool) -> bytes:
    """The body of a task that carries these items; plain data, or pickled where that is allowed and needed.

    Raises BadFunction for an item that cannot travel.
    """
    try:
        return _joined([pack(item) for item in items])
    except _UNPACKABLE as error:
        if not pickles:
            raise BadFunction(
                f"an item cannot travel as plain data ({error}): make it text, numbers or lists"
            ) from None
    try:
        return _PICKLED + pickle.dumps(list(items))
    except Exception as error:
        raise BadFunction(f"an item cannot be shipped to the workers: {type(error).__name__}: {error}") from error


def _joined(packed: Sequence[bytes]) -> bytes:
    return _PLAIN + len(packed).to_bytes(4, "big") + b"".join(packed)


def is_pickled(body: bytes) -> bool:
    """Whether these items are pickles."""
    return body[:1] == _PICKLED


def decode_items(body: bytes, *, pickles: bool) -> list[Any]:
    """What :func:`encode_items` made. Raises ValueError, BadFunction."""
    if body[:1] == _PLAIN:
        return unpack_all(int.from_bytes(body[1:5], "big"), body[5:])
    if is_pickled(body) and pickles:
        found = unpickled(body[1:])
        if isinstance(found, list):
            return found
    if is_pickled(body):
        raise BadFunction("the items are pickled: start workers with --allow-pickle and a key (MRQ_KEY) to read them")
    raise ValueError("a task's items cannot be read")


def source_of(
    items: Iterable[Any], *, pickles: bool, clock: Callable[[], float]
) -> Callable[[int], tuple[bytes, int, bool]]:
    """A ledger's source over any iterable; taken from only as fast as tasks are cut, and for `TAKE_SECONDS` at once."""
    iterator = iter(items)

    def take(count: int) -> tuple[bytes, int, bool]:
        row: list[Any] = []
        packed: list[bytes] = []
        began, block, size = clock(), 1, 0
        while True:
            wanted = min(block, count - len(row))
            some = list(islice(iterator, wanted))
            row += some
            if len(packed) + len(some) == len(row):
                with suppress(*_UNPACKABLE):  # then they are not as many, and it is seen below what may be done
                    packed += map(pack, some)
                    size += sum(map(len, packed[-len(some) :])) if some else 0
            over = len(some) < wanted
            if over or len(row) == count or size > TAKE_BYTES or clock() - began > TAKE_SECONDS:
                break
            block = min(2 * block, LARGEST_BLOCK)
        if not row:
            return b"", 0, over
        return _joined(packed) if len(packed) == len(row) else encode_items(row, pickles=pickles), len(row), over

    return take
