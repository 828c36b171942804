"""A job's state, the report of its progress, and the record of its end, as they stand in Redis. Their keys are stable.

The state is the one in the record, which is signed if there is a key. The hash of a job has a field ``state``, too, for
scripts and workers. But any client of Redis can write that field. So we use it to end a wait, and never to say how a
job ended.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from mapreduce_rq.core.outcome import BoundKind

SCHEMA = 1


class State(StrEnum):
    """Whether a job is running, or how it ended."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    CANCELLED_NOW = "cancelled-now"
    """Cancelled, and workers that have its tasks in hand are to be killed."""

    @property
    def word(self) -> str:
        """The state in the word that people read: both ways to cancel are one word."""
        return self.value.partition("-")[0]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The progress of a job, as its master last wrote it. Units: terms, seconds, and terms per second."""

    counted: int = 0
    total: int | None = None
    cut: int = 0  # terms made into tasks
    out: int = 0  # tasks pushed and not counted
    tasks: int = 0  # counted
    ignored: int = 0  # answers that came twice
    dropped: int = 0  # replies that were forged or malformed
    rate: float = 0.0
    elapsed_s: float = 0.0
    workers: int = 0
    chunk: int = 0  # terms in the next task
    value: str | None = None  # the running value
    error: float | None = None  # the half width of its error interval; bound_kind says what kind of bound it is
    bound_kind: str | None = None
    at: float = 0.0  # unix seconds by the master's clock, for people; 0: an older version does not say
    saved: float = 0.0  # the same, of the last checkpoint before or with this report; 0: of none since it leads


class Skipped(msgspec.Struct, frozen=True):
    """A term that was left out."""

    term: int
    kind: str
    message: str
    where: str


class Retried(msgspec.Struct, frozen=True):
    """A term that has a value, and took more than one call. Kind and message are those of the last exception."""

    term: int
    tries: int
    kind: str
    message: str
    where: str


class _Record(msgspec.Struct, frozen=True, kw_only=True, tag_field="state"):
    """The fields that the records of all ends have."""

    schema: int = SCHEMA
    job: str
    computation: str

    @property
    def data(self) -> dict[str, Any]:
        """The record as plain data, with its ``state`` at the end: what `--json` prints."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        found["state"] = found.pop("state")
        return found


class Done(_Record, frozen=True, kw_only=True, tag="done"):
    """The record of a job that ended with a value."""

    params: dict[str, Any]
    value: str | None  # None: too large for a record, see client/values.py
    number: float | None = msgspec.field(name="float")
    bound: str | None
    bound_kind: BoundKind
    terms: int | None
    terms_used: int
    tasks: int
    workers: int
    elapsed_s: float
    digest: str | None  # None with the value
    ended: str  # why it did
    skipped: list[Skipped]
    retried: list[Retried] = []
    details: dict[str, Any]
    notes: list[str]
    checkpoint: bytes = b""  # the MAC of the checkpoint that holds this value; b"" on a queue without a key

    @property
    def state(self) -> State:
        """The job's state."""
        return State.DONE

    @property
    def counted(self) -> int:
        """The number of terms that the job is done with: those in the value, and those that were left out."""
        return self.terms_used + len(self.skipped)

    @property
    def data(self) -> dict[str, Any]:
        """The record as plain data; without the checkpoint's MAC, which programs do not need."""
        found = super().data
        del found["checkpoint"]
        return found


class Failed(_Record, frozen=True, kw_only=True, tag="failed"):
    """The record of a job that ended without a value."""

    params: dict[str, Any]
    term: int | None  # at fault; None where no single one is known to be
    span: tuple[int, int]
    kind: str
    message: str
    traceback: str
    where: str

    @property
    def state(self) -> State:
        """The job's state."""
        return State.FAILED


class Cancelled(_Record, frozen=True, kw_only=True, tag="cancelled"):
    """The record of a job that was cancelled."""

    kind: str = "Cancelled"
    message: str
    now: bool = False

    @property
    def state(self) -> State:
        """The job's state."""
        return State.CANCELLED_NOW if self.now else State.CANCELLED


Record = Done | Failed | Cancelled
