"""One call to the kernel that waits for whichever of several connections has an answer first."""

from __future__ import annotations

import math
import select
from collections.abc import Sequence
from typing import TypeVar

from mapreduce_rq.broker.wire import Pollable
from mapreduce_rq.errors import BrokerDown

T = TypeVar("T")


def answered(sources: Sequence[T], seconds: float) -> list[T]:
    """Those that have an answer, or are broken; waits ``seconds`` for one.

    Raises BrokerDown for one that is not connected, or that the kernel cannot wait for.
    """
    poll = select.poll()
    there: dict[int, T] = {}
    for source in sources:
        if not isinstance(source, Pollable):
            raise BrokerDown(f"{type(source).__name__} cannot be waited for with others")
        there[source.fileno()] = source
        poll.register(source, select.POLLIN)
    found = {descriptor for descriptor, _ in poll.poll(math.ceil(seconds * 1000))}
    return [source for descriptor, source in there.items() if descriptor in found]
