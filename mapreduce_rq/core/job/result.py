"""A job's result, as its caller gets it; and the error of a job that ended without one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from types import MappingProxyType
from typing import Any

from mapreduce_rq.core.foreign_errors import RemoteError, noted
from mapreduce_rq.core.job.ends import digest_of
from mapreduce_rq.core.job.record import Cancelled, Done, Failed
from mapreduce_rq.core.outcome import BoundKind, Deferred, Outcome, made
from mapreduce_rq.core.text import short, without_value
from mapreduce_rq.core.visible import visible
from mapreduce_rq.errors import DeadlineReached, JobCancelled, JobError, JobFailed, VersionSkew

SHOWN = 1000
"""The most characters of a value that a notebook shows."""

Float = float
"""The built-in, inside a class that has an attribute of that name."""


class Result:
    """A job's result. ``record`` holds all of it, as `mrq compute --json` prints it; the properties read from there."""

    def __init__(
        self,
        record: dict[str, Any] | Done,
        outcome: Outcome | None,
        errors: Mapping[int | None, Deferred] = MappingProxyType({}),
    ) -> None:
        self._record = record
        self._errors = errors
        self._native = outcome.native if outcome is not None else None
        self._value = outcome.value if outcome is not None else ""
        self._text = outcome.text if outcome is not None else None
        self._total = outcome.total if outcome is not None else None

    @cached_property
    def record(self) -> dict[str, Any]:
        """The record as plain data: who wants the value alone does not wait for it."""
        return self._record if isinstance(self._record, dict) else self._record.data

    @property
    def native(self) -> Any:
        """The result as a Python object. An object that takes a long time to make is made at the first use."""
        self._native = made(self._native)
        return self._native

    def take(self) -> Any:
        """Return the native object for the last time: the memory that it is made from is freed meanwhile."""
        native, self._native, self._text, self._total = self._native, None, None, None
        if isinstance(native, Deferred) and native.last is not None:
            last, given = native.last, native.given
            del native
            return last(given)
        return made(native)

    @property
    def value(self) -> str:
        """The value as text, with all its digits. If it is too large for the record, it is made at the first use."""
        found = self.record["value"]
        if found is None:
            found = "".join(self._text.make()) if self._text is not None else self._value
        return str(found)

    @property
    def float(self) -> Float | None:
        """The double nearest to the value; None if the value is not a number."""
        found: Float | None = self.record["float"]
        return found

    @property
    def bound(self) -> str | None:
        """The largest distance from the value to the truth, as text; None if it is not known."""
        found: str | None = self.record["bound"]
        return found

    @property
    def bound_kind(self) -> BoundKind:
        """The kind of the bound: ``proven`` (by a theorem and exact arithmetic), ``statistical`` (a 95 % confidence
        interval), ``estimated``, ``exact`` (no error but the last rounding), or ``none``.
        """
        found: BoundKind = self.record["bound_kind"]
        return found

    @property
    def digest(self) -> str:
        """A hash of the exact total, as 32 hexadecimal digits: equal for equal totals, whatever the schedule."""
        found = self.record["digest"]
        return digest_of(self._total.make()) if found is None and self._total is not None else str(found or "")

    @property
    def job(self) -> str:
        """The job's id."""
        return str(self.record["job"])

    @property
    def computation(self) -> str:
        """The computation's name; ``function`` for a function of your own."""
        return str(self.record["computation"])

    @property
    def params(self) -> dict[str, Any]:
        """The parameters, including those that the plan filled in."""
        found: dict[str, Any] = self.record["params"]
        return found

    @property
    def terms(self) -> int | None:
        """The number of terms; None if an iterable was not read to its end."""
        found: int | None = self.record["terms"]
        return found

    @property
    def terms_used(self) -> int:
        """The number of terms in the value: fewer than ``terms`` if the job ended early or left some out."""
        return int(self.record["terms_used"])

    @property
    def tasks(self) -> int:
        """The number of tasks whose answers were counted."""
        return int(self.record["tasks"])

    @property
    def workers(self) -> int:
        """The number of workers that took part."""
        return int(self.record["workers"])

    @property
    def elapsed_s(self) -> Float:
        """Seconds of work on the job, over all its masters."""
        return Float(self.record["elapsed_s"])

    @property
    def ended(self) -> str:
        """The reason of the end: ``all`` terms are counted, ``tolerance``, ``tolerance not met``, or ``deadline``."""
        return str(self.record["ended"])

    @property
    def skipped(self) -> list[dict[str, Any]]:
        """The terms that were left out, each a dict with ``term``, ``kind``, ``message``, ``where`` and ``exception``.

        The exception is of its own class if that can be imported here, else a RemoteError.
        """
        return [{**entry, "exception": self._raised(entry)} for entry in self.record["skipped"]]

    @property
    def retried(self) -> list[dict[str, Any]]:
        """The terms that have a value and took more than one call (``Limits.retries``), each a dict with ``term``,
        ``tries``, and the last exception's ``kind`` and ``message`` and ``where`` it was raised. The first 1 000 of
        them; ``notes`` says how many more there were.
        """
        found: list[dict[str, Any]] = self.record.get("retried", [])
        return found

    def _raised(self, entry: Mapping[str, Any]) -> BaseException:
        found = self._errors.get(entry["term"])
        error: BaseException = RemoteError(entry["kind"], entry["message"]) if found is None else found.make()
        return error

    @property
    def details(self) -> dict[str, Any]:
        """Further facts of this computation: a dictionary whose keys are stable."""
        found: dict[str, Any] = self.record["details"]
        return found

    @property
    def notes(self) -> list[str]:
        """Sentences for people."""
        found: list[str] = self.record["notes"]
        return found

    @property
    def content(self) -> bytes:
        """The content of a file with this result: bytes as they are, any other value as its text and a newline."""
        native = self.native
        return native if isinstance(native, bytes) else f"{self.value}\n".encode()

    def written(self) -> Iterator[bytes]:
        """The content in pieces, so that a large value is never in memory as one text."""
        if self.record["value"] is None and self._text is not None and isinstance(self._native, Deferred):
            yield from map(str.encode, self._text.make())
            yield b"\n"
        else:
            yield self.content

    def _repr_html_(self) -> str:
        """A table for notebooks: the value, its bound, and facts about the job."""
        from html import escape  # only in notebooks

        bound = f"{self.bound} ({self.bound_kind})" if self.bound is not None else "none is known"
        of = f" of {self.terms}" if self.terms not in {None, self.terms_used} else ""
        rows = [("bound", bound), ("terms", f"{self.terms_used}{of}")]
        rows += [("ended by", self.ended)] * (self.ended != "all")
        rows += [("skipped", without_value(len(self.record["skipped"])))] * bool(self.record["skipped"])
        rows += [("workers", str(self.workers)), ("seconds", f"{self.elapsed_s:.3f}"), ("digest", self.digest)]
        rows += [("note", note) for note in self.notes]
        shown = [("value", short(self.value, SHOWN)), *rows, ("job", self.job)]
        cells = (
            f"<tr><th style='text-align:left'>{name}</th><td style='text-align:left'>{escape(visible(text))}</td></tr>"
            for name, text in shown
        )
        return f"<table>{''.join(cells)}</table>"

    def __repr__(self) -> str:
        value = self.value
        return f"<Result {value if len(value) < 60 else value[:57] + '...'} of {self.job}>"


def cause_of(record: Failed) -> BaseException:
    """The exception that a term has raised, as far as the record tells."""
    return noted(RemoteError(record.kind, record.message), record.traceback, record.where)


def error_of(record: Failed | Cancelled, more: str = "") -> JobError:
    """The error of a job that ended without a value, in one line. Control characters in a worker's text are escaped.

    ``more``: what the caller adds to the message of a failure.
    """
    if isinstance(record, Cancelled):
        why = "" if record.message == record.state.word else f": {record.message}"
        return JobCancelled(visible(f"{record.job} was cancelled{why}"))
    where = f" on {record.where}" if record.where else ""
    lo, hi = record.span
    at = f" at term {record.term}" if record.term is not None else f" at terms {lo} to {hi - 1}" if hi > lo else ""
    what = record.message if record.kind == "Deadline" and not record.traceback else f"{record.kind}: {record.message}"
    label = record.params.get("label") or record.computation
    kind = {"Deadline": DeadlineReached, "VersionSkew": VersionSkew}.get(record.kind, JobFailed)
    return (JobFailed if record.traceback else kind)(  # with a traceback, a function has raised it
        visible(f"{label} failed{at}{where}: {what} (job {record.job}){more}")
    )
