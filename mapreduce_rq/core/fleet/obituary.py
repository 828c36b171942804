"""The obituary of a worker, which stands in the place of its beat: why it died, and whose tasks it held. No I/O.

    X:killed by SIGKILL (painter:17 on host) NUL job NUL job

A supervisor writes it in the same step in which the tasks in the worker's hand go back to the queue, so that afterwards
nothing else says whose tasks they were. The masters of these jobs have lost a worker, even those that look around for
the first time after its death: any other obituary that they find then may be older than their jobs.

An obituary is not signed. It decides what people read, and that the hand is given back, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from mapreduce_rq.core.fleet.liveness import OBITUARY
from mapreduce_rq.core.messages import Task
from mapreduce_rq.core.sealing import Codecs
from mapreduce_rq.errors import BadMessage

_BETWEEN = "\0"
"""It stands in no reason and in no job's id."""


class Obituary(NamedTuple):
    """What is known about a death. ``jobs``: those of which the worker held tasks; an old supervisor names none."""

    why: str
    jobs: frozenset[str] = frozenset()

    def __str__(self) -> str:
        """The text that stands in Redis."""
        return OBITUARY.decode() + _BETWEEN.join([self.why, *sorted(self.jobs)])


def read_obituary(entry: bytes) -> Obituary | None:
    """The obituary in a worker's entry; None if there is a beat."""
    if not entry.startswith(OBITUARY):
        return None
    why, *jobs = entry.removeprefix(OBITUARY).decode(errors="replace").split(_BETWEEN)
    return Obituary(why, frozenset(jobs))


def jobs_of(codecs: Codecs, held: Iterable[bytes]) -> frozenset[str]:
    """The jobs of the tasks in a hand; bytes that are not a task have none."""
    found = set()
    for raw in held:
        try:
            task: Task = codecs.task.open(raw)
        except BadMessage:
            continue
        found.add(task.job)
    return frozenset(found)
