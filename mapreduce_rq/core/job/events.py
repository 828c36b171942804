"""The events that a job's ledger receives, and the commands that it returns to the master."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from mapreduce_rq.core.messages import Answer, Failure, Task, Tried
from mapreduce_rq.core.span import Span

Source = Callable[[int], tuple[bytes, int, bool]]
"""It is called with a number of items and returns at most that number: their encoding, how many they are, and whether
they are the last. It returns fewer if it would have to wait long for more.
"""


def asked_until(source: Source, until: float, clock: Callable[[], float]) -> Source:
    """The source, but from the time ``until`` on it gives no items: the next one may be long in coming."""
    return lambda count: source(count) if clock() < until else (b"", 0, False)


class Replied(NamedTuple):
    """One worker's answers, in the order it gave them."""

    wid: str
    answers: list[Answer]
    tried: Sequence[Tried] = ()  # terms of these answers that took more than one call
    again: bool = False  # they were counted once before


class Surveyed(NamedTuple):
    """A consistent look at the queue and all hands, and the answers given before it that we had not yet received.

    The answers come with the look. If they came earlier, the tasks that follow from them would be pushed after the
    look, and would seem to be lost in it.
    """

    waiting: list[Task]  # of this job
    held: list[Task]  # of this job
    workers: int  # alive
    slack: bool  # the queue is empty: no job has a task waiting in it
    answered: Sequence[Replied] = ()


class Resumed(NamedTuple):
    """The connection is new, or the job was restored: it is not known where the tasks out are."""


Event = Replied | Surveyed | Resumed


class Push(NamedTuple):
    """Put these tasks on the queue."""

    tasks: list[Task]


class Settled(NamedTuple):
    """Every term up to the goal is counted."""


class Broken(NamedTuple):
    """The job cannot end well."""

    span: Span
    failure: Failure


Command = Push | Settled | Broken
