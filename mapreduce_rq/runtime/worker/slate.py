"""A worker's slate: what the worker is doing now, in memory that it shares with its supervisor.

The worker writes a few words for each task. The supervisor reads them to beat for the worker, to enforce the task
timeout and, when the worker dies, to know which task to blame. A worker that is stuck in C code cannot beat, but its
supervisor can see its task.
"""

from __future__ import annotations

import mmap
import struct
import time
from typing import NamedTuple

SIZE = 1536
_BEGUN, _LO, _HI, _SINCE, _DONE, _TIMEOUT_MS, _JOB_SIZE, _NUMERICS, _AWAY, _WHY_SIZE, _REFUSED_SIZE = range(11)
_BEGIN = struct.Struct("=4q").pack_into  # the first four words in one call: half the time of four stores
_JOB, _WHY, _REFUSED = 128, 512, 1024  # offsets: the job's id, why the worker is away, what it refuses and why
_REACHED = -1  # in the place of the time in _AWAY


class Doing(NamedTuple):
    """The content of a slate."""

    begun: int
    done: int
    busy: bool
    job: str
    lo: int
    hi: int
    seconds: float  # in the task in hand
    timeout: float  # allowed for the task; 0: no limit
    numerics: str  # probe of its numeric functions; '' if no job asked for it
    refuses: str  # the job that it refused last, and why: ``job: kind: message``; '' for none


class Away(NamedTuple):
    """A worker that cannot reach its queue."""

    since: float  # monotonic seconds
    why: str


class Slate:
    """One worker's words in shared memory. One writer, one reader."""

    def __init__(self) -> None:
        self._bytes = mmap.mmap(-1, SIZE)
        self._words = memoryview(self._bytes).cast("q")
        self._begun = 0  # the writer's own count

    def begin(self, lo: int, hi: int, now: int) -> None:
        """Note that a task was begun at ``now`` (monotonic nanoseconds)."""
        self._begun += 1
        _BEGIN(self._bytes, 0, self._begun, lo, hi, now)

    def again(self, now: int) -> None:
        """Note that the time of the task in hand begins at ``now``: a term is tried again."""
        self._words[_SINCE] = now

    def end(self) -> None:
        """Note that the task is computed."""
        self._words[_DONE] = self._begun

    def meet(self, lo: int, hi: int, now: int) -> None:
        """Note that a new job is being prepared: a module is imported. If the worker dies of it, its task is blamed."""
        _BEGIN(self._bytes, 0, self._begun + 1, lo, hi, now)

    def met(self) -> None:
        """Note that the job is prepared; the task is not begun yet."""
        self._words[_BEGUN] = self._begun

    def job(self, job: str, timeout: float | None) -> None:
        """Note that the next tasks are of this job."""
        data = job.encode()[: _WHY - _JOB]
        self._bytes[_JOB : _JOB + len(data)] = data
        self._words[_JOB_SIZE] = len(data)
        self._words[_TIMEOUT_MS] = int((timeout or 0) * 1000)

    def numerics(self, probe: str) -> None:
        """Note the probe of the worker's numeric functions: 16 hex digits."""
        self._words[_NUMERICS] = int.from_bytes(bytes.fromhex(probe), "big", signed=True)

    def away(self, now: int, why: str) -> None:
        """Note that the queue cannot be reached from ``now`` on (monotonic nanoseconds)."""
        data = why.encode(errors="replace")[: _REFUSED - _WHY]
        self._bytes[_WHY : _WHY + len(data)] = data
        self._words[_WHY_SIZE] = len(data)
        self._words[_AWAY] = now

    def refuse(self, text: str) -> None:
        """Note which job the worker refuses, and why."""
        data = text.encode(errors="replace")[: SIZE - _REFUSED]
        self._bytes[_REFUSED : _REFUSED + len(data)] = data
        self._words[_REFUSED_SIZE] = len(data)

    def reached(self) -> None:
        """Note that the queue is reached."""
        self._words[_AWAY] = _REACHED

    @property
    def has_reached(self) -> bool:
        """Whether the worker reaches its queue; False also before it has tried."""
        return self._words[_AWAY] == _REACHED

    def why_away(self) -> Away | None:
        """The time since when the queue cannot be reached, and the reason; None if it can."""
        since = self._words[_AWAY]
        if since <= 0:
            return None
        why = bytes(self._bytes[_WHY : _WHY + self._words[_WHY_SIZE]]).decode(errors="replace")
        return Away(since / 1e9, why)

    def read(self) -> Doing:
        """What the worker is doing, as seen from another process."""
        words = self._words
        job = bytes(self._bytes[_JOB : _JOB + words[_JOB_SIZE]]).decode(errors="replace")
        busy = words[_BEGUN] != words[_DONE]
        seconds = (time.monotonic_ns() - words[_SINCE]) / 1e9 if busy else 0.0
        return Doing(
            words[_BEGUN],
            words[_DONE],
            busy,
            job,
            words[_LO],
            words[_HI],
            seconds,
            words[_TIMEOUT_MS] / 1000,
            words[_NUMERICS].to_bytes(8, "big", signed=True).hex() if words[_NUMERICS] else "",
            bytes(self._bytes[_REFUSED : _REFUSED + words[_REFUSED_SIZE]]).decode(errors="ignore"),
        )
