"""A worker's slate: what it is doing right now, in memory shared with its supervisor.

The worker writes a few words per task; the supervisor reads them to beat on its behalf, to enforce the task timeout
and, when the worker dies, to know which task to blame. A worker stuck in C code cannot beat; its supervisor can tell
that it is stuck.
"""

from __future__ import annotations

import mmap
import time
from typing import NamedTuple

SIZE = 512
_BEGUN, _DONE, _LO, _HI, _SINCE, _BUSY, _TIMEOUT_MS, _JOB_SIZE = range(8)
_JOB = 64  # offset of the job id


class Doing(NamedTuple):
    """What a slate says."""

    begun: int
    done: int
    busy: bool
    job: str
    lo: int
    hi: int
    seconds: float  # in the task in hand
    timeout: float  # allowed for it; 0: no limit


class Slate:
    """One worker's words in shared memory. One writer, one reader."""

    def __init__(self) -> None:
        self._bytes = mmap.mmap(-1, SIZE)
        self._words = memoryview(self._bytes).cast("q")

    def begin(self, lo: int, hi: int) -> None:
        """A task is in hand."""
        words = self._words
        words[_LO] = lo
        words[_HI] = hi
        words[_SINCE] = time.monotonic_ns()
        words[_BEGUN] += 1
        words[_BUSY] = 1

    def end(self) -> None:
        """It is computed."""
        words = self._words
        words[_DONE] += 1
        words[_BUSY] = 0

    def job(self, job: str, timeout: float | None) -> None:
        """The tasks to come are of this job."""
        data = job.encode()[: SIZE - _JOB]
        self._bytes[_JOB : _JOB + len(data)] = data
        self._words[_JOB_SIZE] = len(data)
        self._words[_TIMEOUT_MS] = int((timeout or 0) * 1000)

    def read(self) -> Doing:
        """What the worker is doing, as seen from another process."""
        words = self._words
        job = bytes(self._bytes[_JOB : _JOB + words[_JOB_SIZE]]).decode(errors="replace")
        seconds = (time.monotonic_ns() - words[_SINCE]) / 1e9 if words[_BUSY] else 0.0
        return Doing(
            words[_BEGUN],
            words[_DONE],
            bool(words[_BUSY]),
            job,
            words[_LO],
            words[_HI],
            seconds,
            words[_TIMEOUT_MS] / 1000,
        )
