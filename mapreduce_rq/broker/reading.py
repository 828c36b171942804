"""The verbs by which any process reads jobs: the listing, leases, a job's hash, its timeline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mapreduce_rq.broker.job_hash import JobState, read_job, text_of, timeline_of, token_text
from mapreduce_rq.broker.keys import Keys
from mapreduce_rq.broker.wire import Wire
from mapreduce_rq.core.job.record import State
from mapreduce_rq.core.job.timeline import Timeline
from mapreduce_rq.core.sealing import Codecs
from mapreduce_rq.errors import BrokerError, ForeignKey


class Reading:
    """The reading verbs on jobs of one queue over one wire."""

    def __init__(self, wire: Wire, keys: Keys, codecs: Codecs) -> None:
        self.wire = wire
        self.keys = keys
        self.codecs = codecs

    def line(self, *, urgent: bool) -> list[str]:
        """The jobs that were handed over and wait for a master, the next one first."""
        return [text_of(job) for job in reversed(self.wire.call("LRANGE", self._line(urgent=urgent), 0, -1))]

    def _line(self, *, urgent: bool) -> str:
        return self.keys.unled_urgent if urgent else self.keys.unled

    def listed(self) -> list[str]:
        """The ids in the listing, oldest first: of running jobs, ended ones, and some whose records have expired."""
        return [text_of(job) for job in self.wire.call("ZRANGE", self.keys.jobs, 0, -1)]

    def host(self, job: str) -> str:
        """The RQ job that is a run of a job; '' for none. A hint: it is not signed."""
        return text_of(self._of_hash(job, "HGET", "host"))

    def leases(self, jobs: Sequence[str] | None = None) -> dict[str, tuple[str, str]]:
        """``job -> (token, master)`` for those of these jobs that run. ``jobs`` None: all listed jobs."""
        jobs = self.listed() if jobs is None else jobs
        if not jobs:
            return {}
        rows = self.wire.pipeline(
            [("HMGET", self.keys.job(job), "state", "tok", "master") for job in jobs], refusals=True
        )
        return {
            job: (token_text(row[1]), text_of(row[2]))
            for job, row in zip(jobs, rows, strict=True)
            if not isinstance(row, BrokerError) and row[0] == State.RUNNING.encode() and row[1] is not None
        }

    def load(self, job: str) -> JobState | None:
        """The complete job, or None. Raises BadMessage for a job that cannot be read, ForeignKey."""
        raw = self._of_hash(job, "HGETALL")
        found = {text_of(name): value for name, value in zip(raw[::2], raw[1::2], strict=True)}
        return read_job(self.keys, self.codecs, job, found) if found else None

    def timeline(self, job: str) -> Timeline | None:
        """A job's timeline; None if none is stored. Raises BadMessage, ForeignKey."""
        return timeline_of(self.codecs, job, *self._of_hash(job, "HMGET", "timeline", "since"))

    def _of_hash(self, job: str, command: str, *fields: str) -> Any:
        try:
            return self.wire.call(command, self.keys.job(job), *fields)
        except ForeignKey:
            raise ForeignKey(not_a_hash(self.keys.job(job))) from None


def not_a_hash(key: str) -> str:
    """The error for a key that should hold a job and does not."""
    return f"key {key} holds no job: another program uses it; DEL {key} if no program needs it, or use another --queue"
