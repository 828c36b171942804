"""The pace: how large to cut the next task, and how many tasks to have out, from what was measured.

Guided self-scheduling: large tasks first, so that a message costs nothing next to the work, and small ones at the
end, so that all workers finish together. A size never exceeds a fair share of what is left, and grows
step by step while the cost of a term is still unknown.
"""

from __future__ import annotations

from mapreduce_rq.core.stragglers import Patience

TARGET_TASK_SECONDS = 0.2
"""Work per task when there is plenty: a thousand times the cost of a message, and progress five times a second."""
TARGET_TASK_BYTES = 4 << 20
"""Bytes of an answer, however little work they are: a window of answers must fit into Redis, and into its master."""
BRISK_TASK_SECONDS = 0.02
"""Work per task where somebody waits for each value."""
FIRST_TASK_SECONDS = 0.01
"""Work per task as long as only a guess of the cost is known."""
GROWTH = 8
"""A size is at most this many times the largest that has come back; or so many times that it should take
`FIRST_TASK_SECONDS`: what came back at once says little, but not that much is at stake."""
MAX_GROWTH = 64
"""And never more than this many times, for other terms may cost more."""
SHARES = 4
"""What is left is cut into at least this many tasks per worker."""
KERNEL_SHARES = 2
"""As `SHARES`, for vectorised kernels: terms next to each other cost much the same there, and a message half a
millisecond of the two cores that the workers share with master and server."""
WIDE_TASK_SECONDS = 0.5
"""As `TARGET_TASK_SECONDS`, where each partial costs a master milliseconds, however few terms it is of."""
LEAST_WIDE_SECONDS = 0.05
"""No task of such is below so much work."""
WIDE_WINDOW = 2
"""Tasks out at most for each worker: what is cut while little is known is cut too small."""
WIDE_SHARES = 1
"""As `SHARES`: a worker that is late gives the rest of its task away (`Computation.cut_short`)."""
EVEN_SECONDS = 1.0
"""Work per task at most where all tasks are to be alike."""
LEAST_EVEN_TASKS = 2
"""So many of them at least, and one for each worker: more would cost merges in the master, while the workers wait."""
EVEN_TASKS = 8
"""So many of them where nobody knows yet how many workers there are."""
WINDOW_SECONDS = 0.25
"""Work, in time, that the tasks out should last: several round trips of the master."""
MAX_WINDOW = 12_288
"""Tasks out at most: some 2 MB in Redis."""
FIRST_WINDOW = 1024
"""Tasks out at least where the user fixed their size: nobody knows yet how quick they are, and waiting costs more."""
MIN_WINDOW = 8
"""Tasks out at least where sizes are chosen here: what is cut before anything is known is cut badly."""
LEAST_TASK_SECONDS = 0.002
"""No task of a vectorised kernel is below so much work: a call costs it about a millisecond, whatever its span."""
REPLIES_REMEMBERED = 5
MEMORY = 0.8
"""Weight of the past in the running averages."""


class Pace:
    """Sizes and window of one job.

    ``chunk`` fixes the size; ``even``: so many terms are cut into few tasks alike; ``workers``: how many are expected,
    0 where that is not known. Without ``vectorised`` the last sizes go down to one term: terms that were quick so far
    say nothing about those at the end. ``wide``: partials are dear (see ``Reducer.wide``), so tasks are large and few.
    """

    def __init__(
        self,
        chunk: int | None,
        seconds_per_term: float | None,
        *,
        even: int | None = None,
        workers: int = 0,
        vectorised: bool = True,
        brisk: bool = False,
        wide: bool = False,
    ) -> None:
        self._chunk = chunk
        self._target = BRISK_TASK_SECONDS if brisk else WIDE_TASK_SECONDS if wide else TARGET_TASK_SECONDS
        self._even = even
        self._wide = wide
        self._shares = WIDE_SHARES if wide else KERNEL_SHARES if vectorised else SHARES
        self._least_seconds = LEAST_WIDE_SECONDS if wide else LEAST_TASK_SECONDS if vectorised else 0.0
        self._guess = seconds_per_term
        self._least_window = FIRST_WINDOW if chunk is not None else WIDE_WINDOW if wide else MIN_WINDOW
        self._cost: float | None = None  # seconds per term, measured
        self._spent = 0.0  # seconds, and the terms they went into, of about the last five large replies:
        self._done = 0.0  # weighted by terms, so that small tasks with their fixed costs do not speak for large ones
        self._most = 0
        self._bytes_per_term = 0.0  # of answers: the largest lately
        self._largest = 0  # terms of the largest task that came back
        self._cap = 0  # terms that the next may have at most
        self._rate = 0.0  # tasks counted a second
        self._since: float | None = None
        self._tasks = 0
        self.patience = Patience()
        self.workers = max(1, workers)
        self._even_tasks = max(workers, LEAST_EVEN_TASKS) if workers else EVEN_TASKS
        self.terms_rate = 0.0  # terms counted a second
        self._terms = 0

    def observe(self, terms: int, tasks: int, nanoseconds: int, largest: int, now: float, *, size: int = 0) -> None:
        """Learn from one reply: ``tasks`` tasks of ``terms`` terms in all that took so long together.

        ``size``: bytes of their answers.
        """
        self._bytes_per_term = max(size / terms, MEMORY * self._bytes_per_term)
        self._most = max(self._most, terms)
        self._spent += nanoseconds / 1e9
        self._done += terms
        if self._done > REPLIES_REMEMBERED * self._most:
            self._spent *= REPLIES_REMEMBERED * self._most / self._done
            self._done = REPLIES_REMEMBERED * self._most
        self._cost = self._spent / self._done
        if largest >= self._largest:
            self._largest = largest
            seconds = max(nanoseconds / 1e9 * largest / terms, 1e-9)
            step = LEAST_WIDE_SECONDS if self._wide else FIRST_TASK_SECONDS
            self._cap = max(self._cap, int(largest * min(MAX_GROWTH, max(GROWTH, step / seconds))))
        self.patience.learn(nanoseconds / 1e9 / tasks, terms / tasks)
        self._tasks += tasks
        self._terms += terms
        if self._since is None:
            self._since = now
        elif now - self._since >= 0.05:
            span = now - self._since
            weight = MEMORY ** (span / 0.25)
            self._rate = weight * self._rate + (1 - weight) * self._tasks / span if self._rate else self._tasks / span
            fresh = self._terms / span
            self.terms_rate = weight * self.terms_rate + (1 - weight) * fresh if self.terms_rate else fresh
            self._since, self._tasks, self._terms = now, 0, 0

    def size(self, left: int | None) -> int:
        """Terms of the next task when ``left`` are still to be cut (None: nobody knows how many)."""
        if self._chunk is not None:
            return self._chunk
        if self._even is not None:
            cost = self._cost or self._guess or 0.0
            most = int(EVEN_SECONDS / cost) if cost > 0 else 1
            return max(1, min(-(-self._even // max(self._even_tasks, self.workers)), most))
        if self._cost is not None:
            size = int(self._target / max(self._cost, 1e-12))
            size = min(size, max(1, self._cap))
        elif self._guess is not None:
            size = int(FIRST_TASK_SECONDS / self._guess)
        else:
            size = 1
        if self._bytes_per_term * size > TARGET_TASK_BYTES:
            size = int(TARGET_TASK_BYTES / self._bytes_per_term)
        if left is not None:
            share = left // (self._shares * self.workers)
            if self._cost is not None:
                share = max(share, min(left, int(self._least_seconds / max(self._cost, 1e-12))))
            size = min(size, share)
        return max(1, size)

    def window(self) -> int:
        """How many tasks may be out."""
        if self._wide:
            return max(self._least_window, WIDE_WINDOW * self.workers)
        return min(MAX_WINDOW, max(self._least_window, 4 * self.workers, int(self._rate * WINDOW_SECONDS)))
