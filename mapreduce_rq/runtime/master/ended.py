"""How a job ended, as its master and those who wait for it know it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mapreduce_rq.core.job.record import Record, State
from mapreduce_rq.core.outcome import Deferred, Outcome


@dataclass(frozen=True)
class Ended:
    """How a job ended."""

    record: Record
    outcome: Outcome | None  # with the native object, if this master made it
    errors: Mapping[int | None, Deferred] = field(default_factory=dict)
    """Exceptions of terms: of the job's failure (None), and of each term that was left out. They are made on demand."""

    @property
    def state(self) -> State:
        """The state in which the job ended."""
        return self.record.state
