"""A job by its id: another process leads it; this one may ask how far it is and wait for its end."""

from __future__ import annotations

import time
from typing import Any, Protocol

import msgspec

from mapreduce_rq.broker.job_hash import JobState
from mapreduce_rq.broker.journal import BEGINNING
from mapreduce_rq.broker.keys import Keys
from mapreduce_rq.client.leading import Leader
from mapreduce_rq.client.wires import Wires
from mapreduce_rq.core.given import check
from mapreduce_rq.core.job.record import Report
from mapreduce_rq.core.job.result import Result
from mapreduce_rq.errors import BrokerError, JobError, NoSuchJob
from mapreduce_rq.runtime.master.ended import Ended

LOOK_SECONDS = 1.0
"""Seconds between two reads of the job's state: the message that a job has ended can be lost."""


class Asker(Protocol):
    """What a job needs of the client that asks for it."""

    keys: Keys
    leader: Leader
    wires: Wires

    def job_state(self, job: str) -> JobState | None:
        """What Redis holds of a job."""

    def result_of(self, ended: Ended) -> Result:
        """The result of a job that ended."""

    def cancel(self, job: str, *, now: bool = False) -> str:
        """Cancel a job and return the state in which it ended."""

    def retry(self, job: str) -> FoundJob:
        """Queue a job anew."""


class FoundJob:
    """A job of the client's queue. It goes on when this client, or the one that submitted it, is closed.

    Its methods raise NoSuchJob once the job's record has expired, and BrokerError.
    """

    def __init__(self, client: Asker, job: str) -> None:
        self.id = job
        self._client = client

    def _state(self) -> JobState:
        state = self._client.job_state(self.id)
        if state is None:
            raise NoSuchJob(f"there is no job {self.id} on queue {self._client.keys.name}: its record has expired")
        return state

    @property
    def status(self) -> str:
        """One of running, done, failed, cancelled."""
        return self._state().state.word

    @property
    def progress(self) -> dict[str, Any]:
        """How far the job is; see ``Job.progress``."""
        state = self._state()
        return msgspec.structs.asdict(state.report or Report(total=state.spec.total))

    def done(self) -> bool:
        """Whether the job has ended, well or not."""
        return not self._state().running

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end, at most ``timeout`` seconds, and return whether it came. Raises JobError if another thread
        closes the client meanwhile.
        """
        return self._await_end(timeout) is not None

    def _await_end(self, timeout: float | None) -> JobState | None:
        check(timeout=timeout)
        until = None if timeout is None else time.monotonic() + timeout
        heard = BEGINNING
        wires = self._client.wires
        closed = JobError(f"its client was closed while a thread waited for {self.id}")
        try:
            with wires.using() as verbs:
                journal = self._client.leader.journal(verbs)
                while True:
                    state = verbs.load(self.id)
                    if state is None:
                        raise NoSuchJob(f"there is no job {self.id} on queue {verbs.keys.name}: its record has expired")
                    if not state.running:
                        return state
                    if wires.closed:
                        raise closed
                    left = LOOK_SECONDS if until is None else min(LOOK_SECONDS, until - time.monotonic())
                    if left <= 0:
                        return None
                    heard = journal.await_end(self.id, heard, left)
        except BrokerError:
            if wires.closed:  # a private server has ended with its client
                raise closed from None
            raise

    def result(self, timeout: float | None = None) -> Result:
        """Wait for the result and return it. Raises TimeoutError, JobFailed, JobCancelled; JobError as ``wait``."""
        state = self._await_end(timeout)
        if state is None:
            raise TimeoutError(f"{self.id} is still running after {timeout:g} s")
        assert state.record is not None
        return self._client.result_of(Ended(state.record, None))

    def cancel(self, *, now: bool = False) -> str:
        """Cancel the job and return the state in which it ended."""
        return self._client.cancel(self.id, now=now)

    def retry(self) -> FoundJob:
        """Queue a failed or cancelled job anew, from its last checkpoint, and return the new job. Raises UsageError.

        See ``Client.retry``.
        """
        return self._client.retry(self.id)

    def __repr__(self) -> str:
        return f"<FoundJob {self.id}>"
