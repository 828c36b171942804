"""How many tasks a worker takes at once: enough to hide the round trip, no more than that.

A hand should last some eight round trips. Half of it is settled at a time, and the other half computed while the
answers travel, so that a far-away worker does not wait; for tasks that are longer than that the answer is one, and
nothing is hoarded that another worker could be doing: what was taken before they turned out long is given back. The
queue's side of it, a fair share of what waits, is in
settle.lua.
"""

from __future__ import annotations

from mapreduce_rq.core.stragglers import LEAST_SECONDS

ROUND_TRIPS = 8
BATCH_SECONDS = 0.005
"""Work per hand at least: on a near server eight round trips are nothing and the answers would trickle."""
MAX_BATCH_SECONDS = 2.0
"""Work per hand at most: one slow round trip, in an outage, must not make a worker hoard minutes of work."""
MAX_TASKS = 1024
"""In a hand at most."""
MAX_LEAST = 32
SLICE_SECONDS = 0.004
"""An interruption of the process: among tasks of a microsecond one of them must not pass for a long task."""
GROWTH = 8
MEMORY = 0.5
AHEAD_SECONDS = 0.02
"""Of tasks shorter than this a second one is taken, to go on with while the first one's answer travels."""
AHEAD_TRIPS = 20
"""And of tasks shorter than so many round trips: to wait for one would cost a twentieth of the time, or more."""
WAITED_SECONDS = 0.001
FORGETTING = 0.02
"""How quickly a distance that has grown is believed."""


class Prefetch:
    """One worker's measure of its tasks and of its way to Redis."""

    def __init__(self) -> None:
        self._task: float | None = None  # seconds
        self._trip = 0.0  # seconds
        self._last = 1
        self._backed = False  # others may have copies by now of what is in hand: given back it would be done twice
        self.long = False  # the last batch was: waiting for its answer is nothing beside it, and the job may be over

    @property
    def expected(self) -> float:
        """Seconds that a task should take; 0 as long as nobody knows."""
        return self._task or 0.0

    def worked(self, tasks: int, seconds: float, longest: float) -> None:
        """Learn from a batch. The longest counts: among uneven tasks the next may be like it."""
        self.long = seconds > self._ahead_seconds
        self._backed = self._backed or seconds >= LEAST_SECONDS
        task = max(seconds / tasks, (longest - SLICE_SECONDS) / 4)
        self._task = task if self._task is None else MEMORY * self._task + (1 - MEMORY) * task

    def settled(self, seconds: float, waited: float) -> None:
        """Learn from a settle that took so long in all, of which nothing else was done for ``waited``.

        The distance is the least of them: what comes on top is queueing and passes. If the answer was there before
        anybody asked for it, it may be less.
        """
        if not self._trip or seconds < self._trip:
            self._trip = seconds
        elif waited > WAITED_SECONDS:
            self._trip += FORGETTING * (seconds - self._trip)

    @property
    def batch_seconds(self) -> float:
        """Work after which to settle what is done."""
        return min(MAX_BATCH_SECONDS, max(BATCH_SECONDS, ROUND_TRIPS * self._trip))

    @property
    def _ahead_seconds(self) -> float:
        return min(MAX_BATCH_SECONDS, max(AHEAD_SECONDS, AHEAD_TRIPS * self._trip))

    @property
    def least(self) -> int:
        """Tasks that last no longer than a round trip together: taking fewer would not be worth the trip."""
        return 0 if not self._task else min(MAX_LEAST, int(self._trip / self._task))

    @property
    def batch(self) -> int:
        """Tasks after which to settle: half of a hand, to go on with the other half meanwhile."""
        return (self._last + 1) // 2

    def want(self, in_hand: int) -> int:
        """How many more to take with so many left in hand; below zero, so many to give back."""
        if self._task is None:
            size = 1
        else:
            least = 2 if self._task < self._ahead_seconds else 1
            size = min(MAX_TASKS, GROWTH * self._last, max(least, int(self.batch_seconds / max(self._task, 1e-9))))
        self._last = size
        more = size - in_hand
        self._backed = self._backed and in_hand > 0
        return more if more > 0 or (size == 1 and not self._backed) else 0
