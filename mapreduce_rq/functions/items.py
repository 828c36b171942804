"""The items of a task whose terms are no range: they are taken from any iterable and travel in the task's body."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

from mapreduce_rq.core.bodies import Aside, Buffer, ValueCodec, joined
from mapreduce_rq.core.plain_values import Unfit
from mapreduce_rq.errors import BadFunction

TAKE_SECONDS = 0.02
"""Seconds in which items are taken until the source says that the next ones may be long in coming, and the master turns
to its workers. They are of one task, or of many small ones: an iterable must keep no task from the workers.
"""
TAKE_BYTES = 4 << 20
"""Bytes of items in one task, about: a window of tasks must fit into Redis."""
LARGE_BYTES = 1 << 20
"""If the first items taken have this many bytes, the task gets no more: to add some, the first would be copied."""
_COUNTED = frozenset({list, tuple, dict, set, frozenset, deque})
"""Types whose length is known at once, and is the number of their items. Another type may have to count, or be wrong.
"""
LARGEST_BLOCK = 1024
"""Items taken before the clock is read again: an iterable that becomes slow is noticed after this many."""


def source_of(
    items: Iterable[Any], *, codec: ValueCodec, clock: Callable[[], float], aside: Aside | None = None
) -> Callable[[int], tuple[bytes, int, bool]]:
    """A ledger's source of items from any iterable. It takes items only when a task is cut.

    After `TAKE_SECONDS` of that, in one call or in several, it once gives fewer items than asked for, or none. If their
    number is known, it has ``ready``, the number of those that are not taken: so the last tasks are small ones.

    It raises BadFunction for an item that cannot travel, and what the iterable raises.
    """
    iterator = iter(items)
    taken = 0
    spent = 0.0  # seconds of taking since it last gave fewer than asked for

    def take(count: int) -> tuple[bytes, int, bool]:
        nonlocal taken, spent
        if spent > TAKE_SECONDS:
            spent = 0.0
            return b"", 0, False
        bodies: list[list[Buffer]] = []
        got = size = 0
        began, block = clock(), 1
        while True:
            wanted = min(block, count - got)
            some = list(islice(iterator, wanted))
            if some:
                try:
                    bodies.append(codec.pieces(some))
                except Unfit as unfit:
                    raise refused(taken + unfit.index, some[unfit.index], unfit, codec) from None
                size += sum(map(len, bodies[-1]))
            got += len(some)
            taken += len(some)
            over = len(some) < wanted
            if over or got == count or size > TAKE_BYTES or clock() - began > TAKE_SECONDS - spent:
                break
            if size >= LARGE_BYTES and len(bodies) == 1:  # it is sent as it is
                break
            bodies[-1:] = [[b"".join(body)] for body in bodies[-1:]]  # the iterator may now change what it gave
            # Blocks double, but only while they are likely to fit: items may be large.
            block = max(1, min(2 * block, LARGEST_BLOCK, (TAKE_BYTES - size) * got // max(1, size)))
        spent = spent + clock() - began if got == count else 0.0
        if not bodies:
            return b"", 0, over
        pieces = joined(bodies)
        return (aside.put(*pieces) if aside is not None else None) or b"".join(pieces), got, over

    if type(items) in _COUNTED:
        take.ready = lambda: max(0, len(items) - taken)  # type: ignore[attr-defined, arg-type]  # they have a length
    return take


def refused(index: int, item: Any, unfit: Unfit, codec: ValueCodec) -> BadFunction:
    """The error for an item that cannot travel."""
    kind = type(item)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return BadFunction(
        f"item {index}, a {name}, cannot travel to the workers ({unfit}); an item can be {codec.takes}: {codec.remedy}"
    )
