"""The end of a job, as its master and the processes that wait for it know it."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from mapreduce_rq.core.job.record import Record, State
from mapreduce_rq.core.outcome import Deferred, Outcome


class Ended(msgspec.Struct, frozen=True):
    """The end of a job."""

    record: Record
    outcome: Outcome | None  # with the native object, if this master made it
    errors: Mapping[int | None, Deferred] = msgspec.field(default_factory=dict)
    """Exceptions of terms, made on demand: under None that of the job's failure, and one for each term left out."""

    @property
    def state(self) -> State:
        """The state in which the job ended."""
        return self.record.state
