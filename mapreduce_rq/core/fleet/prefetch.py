"""How many tasks a worker takes at once: enough to hide the round trip, and no more.

The work in a hand should last about eight round trips. The worker settles half of its hand at a time, and computes the
other half while the answers travel, so that a worker far away from Redis does not wait. If one task lasts longer than
that, the worker takes one task only, so that it keeps no task which another worker could be doing. Tasks that it took
before it knew how long they are, it gives back.

This is the worker's side: how many tasks it wants. How many it gets is decided in settle.lua: its fair share of those
that wait.
"""

from __future__ import annotations

from mapreduce_rq.core.stragglers import LEAST_SECONDS

ROUND_TRIPS = 8
"""Round trips that the work in a hand should last."""
BATCH_SECONDS = 0.005
"""Seconds of work in a hand at least. Eight round trips to a near server are less, and make too many settles."""
MAX_BATCH_SECONDS = 2.0
"""Seconds of work in a hand at most: after one slow round trip a worker must not keep minutes of work for itself."""
MAX_TASKS = 1024
"""Tasks in a hand at most."""
MAX_LEAST = 32
"""Tasks at most that a worker may take beyond its fair share (`Prefetch.least`)."""
SLICE_SECONDS = 0.004
"""Seconds that an interruption of the process may last: a task of a microsecond that was interrupted is not long."""
GROWTH = 8
"""A hand is at most this many times the hand before."""
MEMORY = 0.5
"""Weight of the past in the running average of the time of a task."""
AHEAD_SECONDS = 0.02
"""Seconds: of tasks shorter than this a second one is taken, to go on with while the answer to the first travels."""
AHEAD_TRIPS = 20
"""Round trips: of tasks shorter than this, too, a second one is taken. To wait would cost 1/20 of the time, or more."""
WAITED_SECONDS = 0.001
"""Seconds of waiting for an answer from which a settle tells how far Redis is: else the answer was there before."""
FORGETTING = 0.02
"""Weight of a new round trip that is longer than those before it: one slow settle is not yet a longer distance."""


class Prefetch:
    """One worker's measure of its tasks and of its way to Redis."""

    def __init__(self) -> None:
        self._task: float | None = None  # seconds
        self._trip = 0.0  # seconds
        self._last = 1
        self._backed = False  # others may have copies of the tasks in hand: given back, these would be done twice
        self.long = False  # the last batch was long: beside it a round trip is short, and the job may be over by now

    @property
    def expected(self) -> float:
        """Seconds that a task should take; 0 before the first one was measured."""
        return self._task or 0.0

    def worked(self, tasks: int, seconds: float, longest: float) -> None:
        """Learn from a batch of ``tasks`` that took ``seconds`` in all, and the ``longest`` of them that many.

        The longest counts, too: among uneven tasks the next may be like it.
        """
        self.long = seconds > self._ahead_seconds
        self._backed = self._backed or seconds >= LEAST_SECONDS
        task = max(seconds / tasks, (longest - SLICE_SECONDS) / 4)
        self._task = task if self._task is None else MEMORY * self._task + (1 - MEMORY) * task

    def settled(self, seconds: float, waited: float) -> None:
        """Learn from a settle that took ``seconds`` in all; for ``waited`` of these the worker did nothing else.

        The shortest settle is taken for the round trip: what others take beyond that is queueing, which passes. If the
        answer came before the worker looked for it, the settle took less than measured, and counts only if it is
        shorter.
        """
        if not self._trip or seconds < self._trip:
            self._trip = seconds
        elif waited > WAITED_SECONDS:
            self._trip += FORGETTING * (seconds - self._trip)

    @property
    def batch_seconds(self) -> float:
        """Seconds of work after which to settle the tasks that are done."""
        return min(MAX_BATCH_SECONDS, max(BATCH_SECONDS, ROUND_TRIPS * self._trip))

    @property
    def _ahead_seconds(self) -> float:
        return min(MAX_BATCH_SECONDS, max(AHEAD_SECONDS, AHEAD_TRIPS * self._trip))

    @property
    def least(self) -> int:
        """Tasks that together last no longer than a round trip: to take fewer is not worth the trip."""
        return 0 if not self._task else min(MAX_LEAST, int(self._trip / self._task))

    @property
    def batch(self) -> int:
        """Tasks after which to settle: half of a hand. The worker goes on with the other half meanwhile."""
        return (self._last + 1) // 2

    def want(self, in_hand: int) -> int:
        """How many more tasks to take if ``in_hand`` are left in hand; if negative, how many to give back."""
        if self._task is None:
            size = 1
        else:
            least = 2 if self._task < self._ahead_seconds else 1
            size = min(MAX_TASKS, GROWTH * self._last, max(least, int(self.batch_seconds / max(self._task, 1e-9))))
        self._last = size
        more = size - in_hand
        self._backed = self._backed and in_hand > 0
        return more if more > 0 or (size == 1 and not self._backed) else 0
