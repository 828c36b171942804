"""The interruptions that end the work on a task before it is answered."""

from __future__ import annotations

from mapreduce_rq.core.computation import Interruption


class Stop(Interruption):
    """A signal handler raises this in a worker that waits or, if told twice, that computes."""


class JobOver(Interruption):
    """The job of the task in hand ended while a term of it waited to be tried again."""
