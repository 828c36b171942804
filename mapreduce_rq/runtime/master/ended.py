"""How a job ended, as its master and those who wait for it know it."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from mapreduce_rq.core.job.record import Record, State
from mapreduce_rq.core.outcome import Deferred, Outcome


class Ended(msgspec.Struct, frozen=True):
    """How a job ended."""

    record: Record
    outcome: Outcome | None  # with the native object, if this master made it
    errors: Mapping[int | None, Deferred] = msgspec.field(default_factory=dict)
    """Exceptions of terms: of the job's failure (None), and of each term that was left out. They are made on demand."""

    @property
    def state(self) -> State:
        """The state in which the job ended."""
        return self.record.state
