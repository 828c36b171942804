"""The number of tasks that a worker takes at once: enough to hide the round trip, and no more.

The work in a hand should last about eight round trips. The worker settles half of its hand at a time, and computes the
other half while the answers travel, so that a worker far away from Redis does not wait. If one task lasts longer than
that, the worker takes one task only, so that it keeps no task which another worker could be doing. It takes the next
one when it has made all calls of that task, and has only to write the answer. It gives back tasks that it took before
it knew how long they are.

This is the worker's side: the number of tasks that it wants. settle.lua decides how many it gets: at most its fair
share of those that wait.
"""

from __future__ import annotations

from mapreduce_rq.core.stragglers import LEAST_SECONDS

ROUND_TRIPS = 8
"""Round trips that the work in a hand should last."""
BATCH_SECONDS = 0.005
"""The least seconds of work in a hand. Eight round trips to a near server are less, and make too many settles."""
MAX_BATCH_SECONDS = 2.0
"""The most seconds of work in a hand: after one slow round trip a worker must not keep minutes of work for itself."""
MAX_TASKS = 1024
"""The most tasks in a hand."""
MAX_LEAST = 32
"""The most tasks that a worker may take beyond its fair share (`Prefetch.least`)."""
SLICE_SECONDS = 0.004
"""Seconds that an interruption of the process may last. A task that took less may only have been interrupted, so it
does not count as long.
"""
GROWTH = 8
"""A hand has at most the tasks of the hand before, times this number."""
MEMORY = 0.5
"""Weight of the past in the running average of the time of a task."""
AHEAD_SECONDS = 0.02
"""Seconds. If tasks are shorter than this, the worker takes a second one, to compute while the answer to the first
travels."""
AHEAD_TRIPS = 20
"""Round trips. If tasks are shorter than this, the worker takes a second one, too: to wait would cost 1/20 of the time,
or more."""
NEXT_FIRST_SECONDS = 1.0
"""Seconds. If tasks are shorter than this, but too long to have two of them in hand, the worker takes the next one when
the calls of the last one are made, and writes the answer while that request travels. So it need not wait for a round
trip between two tasks. If Redis refuses the answer, it is sent again a task later, so this is not done with long tasks.
"""
WAITED_SECONDS = 0.001
"""Seconds. If the worker waited at least this long for the answer to a settle, the time of the settle tells how far
Redis is. Otherwise the answer was there before the worker looked for it."""
FORGETTING = 0.02
"""Weight of a new round trip that is longer than those before it: one slow settle is not yet a longer distance."""


class Prefetch:
    """One worker's measure of its tasks and of its way to Redis."""

    def __init__(self) -> None:
        self._task: float | None = None  # seconds
        self._trip = 0.0  # seconds
        self._last = 1
        self._backed = False  # others may have copies of the tasks in hand: if we gave these back, they ran twice
        self.next_first = False  # whether to take the next task before the answer to the last one is written
        self.long = False  # the last batch was long: beside it a round trip is short, and the job may be over by now

    @property
    def expected(self) -> float:
        """Seconds that a task should take; 0 before the first one was measured."""
        return self._task or 0.0

    def worked(self, tasks: int, seconds: float, longest: float) -> None:
        """Learn from a batch of ``tasks`` tasks that took ``seconds`` in all; the longest of them took ``longest``
        seconds.

        The longest counts, too: if tasks are uneven, the next one may be like it.
        """
        self.long = seconds > self._ahead_seconds
        self._backed = self._backed or seconds >= LEAST_SECONDS
        task = max(seconds / tasks, (longest - SLICE_SECONDS) / 4)
        self._task = task if self._task is None else MEMORY * self._task + (1 - MEMORY) * task
        self.next_first = self._ahead_seconds <= self._task < NEXT_FIRST_SECONDS

    def settled(self, seconds: float, waited: float) -> None:
        """Learn from a settle that took ``seconds`` in all; for ``waited`` of these the worker did nothing else.

        The shortest settle counts as the round trip: the additional time of others is queueing, which passes. If the
        answer came before the worker looked for it, the settle took less time than measured, so it counts only if it is
        shorter than the others.
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
        """The number of tasks that together last no longer than a round trip: to take fewer is not worth the trip."""
        return 0 if not self._task else min(MAX_LEAST, int(self._trip / self._task))

    @property
    def batch(self) -> int:
        """The number of tasks after which to settle: half of a hand. The worker computes the other half meanwhile."""
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
