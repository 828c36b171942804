"""The pace: the size of the next task, and the number of tasks to have out, from measured times.

This is guided self-scheduling. Tasks are large at first, so that a message is cheap beside the work, and small at the
end, so that all workers finish together. A size is at most a fair share of the terms that are left. While the cost of a
term is still unknown, sizes grow step by step.

No measurement tells what the next terms cost. If they cost far more than those before, a task is too large, and one
worker would still compute it when all others are done. For this case there are part answers: a worker that takes long
with a task ends it after some terms and answers these (runtime/worker/part_answers.py); the ledger cuts the rest anew,
for all workers (`Parts.rest`).
"""

from __future__ import annotations

from mapreduce_rq.core.stragglers import Patience

TARGET_TASK_SECONDS = 0.2
"""Seconds of work in a task while many terms are left: a thousand messages' cost, and progress five times a second."""
TARGET_TASK_BYTES = 4 << 20
"""The most bytes of an answer, even if they are little work: the answers to all tasks out must fit into Redis."""
BRISK_TASK_SECONDS = 0.02
"""Seconds of work in a task at first, if the caller waits for each value."""
BRISK_SHARE = 1 / 16
"""The share of all work done so far that a task may have, if the caller waits for each value: a caller that has waited
a long time for the values before can wait a little longer for the next one.
"""
FIRST_TASK_SECONDS = 0.01
"""Seconds of work in a task while the cost of a term is only a guess."""
GROWTH = 8
"""A task has at most the terms of the largest task that has come back, times this number. It may have more if it should
still take less than `FIRST_TASK_SECONDS`: then a wrong size does no harm."""
MAX_GROWTH = 64
"""A task never has more terms than the largest task that has come back, times this number."""
WIDE_MAX_GROWTH = 512
"""As `MAX_GROWTH`, for reducers that are ``wide``: each step to the right size costs a round of partials."""
SHARES = 4
"""The terms that are left are cut into at least this many tasks for each worker."""
KERNEL_SHARES = 2
"""As `SHARES`, for vectorised kernels. Their neighbouring terms cost about the same, and a message costs half a
millisecond of the cores, which workers may share with master and server."""
WIDE_TASK_SECONDS = 0.5
"""As `TARGET_TASK_SECONDS`, for reducers that are ``wide``: each partial costs a master milliseconds, even of few
terms."""
LEAST_WIDE_SECONDS = 0.05
"""Seconds of work in a task at least, for reducers that are ``wide``."""
LEAST_JOINT_SECONDS = 0.01
"""As `LEAST_WIDE_SECONDS`, where workers join answers: they end within about the time of one such task."""
WIDE_WINDOW = 2
"""Tasks out at most for each worker, for reducers that are ``wide``: tasks that are cut before costs are known are too
small."""
JOINT_WINDOW = 4
"""As `WIDE_WINDOW`, where workers join answers: tasks that are computed and not answered are out, too."""
MOST_JOINT_WINDOW = 16
"""Tasks out at most for each worker, where workers join answers. A worker answers when no task is left in the line: a
line of few short tasks, cut before costs are known, would cost a partial more for each worker."""
JOINT_SECONDS = 1.0
"""Seconds of each worker's time that the tasks out should last, where workers join answers, if this takes more tasks
than `JOINT_WINDOW`. More of them would only have later jobs wait."""
WIDE_SHARES = 1
"""As `SHARES`, for reducers that are ``wide``: a worker that is late answers a part (`Computation.cut_short`)."""
JOINT_SHARES = 2
"""As `WIDE_SHARES`, where workers join answers: a further task costs no further partial."""
EVEN_SECONDS = 1.0
"""Seconds of work in a task at most, if all tasks are to be of one size (`Computation.even`)."""
LEAST_EVEN_TASKS = 2
"""Tasks of one size at least, and one for each worker. More tasks mean more merges in the master, after the workers
are done."""
EVEN_TASKS = 8
"""Tasks of one size, if the number of workers is not yet known."""
WINDOW_SECONDS = 0.25
"""Seconds that the tasks out should last: several round trips of the master."""
MAX_WINDOW = 12_288
"""Tasks out at most: about 2 MB in Redis."""
FIRST_WINDOW = 64
"""Tasks out at first if the user fixed their size. They may be short, and workers must not wait; or they may be long,
and then a job that comes later waits for all of them."""
QUICK_WINDOW = 1024
"""Tasks out at least if the user fixed their size and they turned out to be short."""
AHEAD_SECONDS = 8.0
"""Seconds of all workers' time in the tasks out at least, if the user fixed their size. A worker far away, whose
answers take a second to come back, has a hand of two seconds, and as much is on its way."""
MIN_WINDOW = 8
"""Tasks out at least if sizes are chosen here. It is small, since tasks cut before costs are known have bad sizes."""
LEAST_TASK_SECONDS = 0.002
"""Seconds of work in a task of a vectorised kernel at least: one call takes about a millisecond, whatever the span."""
LEAST_PLAIN_SECONDS = 0.001
"""As `LEAST_TASK_SECONDS`, for plain functions, up to the `LAST_TERMS`: a message costs a third of a millisecond."""
LAST_TERMS = 64
"""The last terms of a plain function are cut into tasks of any small size: they may be slow, however quick the others
were."""
REPLIES_REMEMBERED = 5
MEMORY = 0.8
"""Weight of the past in the running averages."""


class Pace:
    """Sizes and window of one job.

    ``chunk``: the size is fixed. ``even``: the number of terms, to be cut into few tasks of one size. ``workers``: how
    many are expected, 0 if that is not known. Without ``vectorised`` the last tasks may have one term only: the last
    terms may be slow though those before were quick. ``brisk``: the caller waits for each value. ``wide``: partials are
    expensive to merge (see ``Reducer.wide``), so tasks are large and few. ``joins``: several are answered together.
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
        joins: bool = False,
    ) -> None:
        self._chunk = chunk
        self._target = BRISK_TASK_SECONDS if brisk else WIDE_TASK_SECONDS if wide else TARGET_TASK_SECONDS
        self._brisk = brisk
        self._even = even
        self._wide = wide
        self._joins = joins
        self._shares = KERNEL_SHARES if vectorised else SHARES
        self._least_seconds = LEAST_TASK_SECONDS if vectorised else LEAST_PLAIN_SECONDS
        self._last_terms = 0 if vectorised or wide else LAST_TERMS
        if wide and joins:
            self._shares, self._least_seconds = JOINT_SHARES, LEAST_JOINT_SECONDS
        elif wide:
            self._shares, self._least_seconds = WIDE_SHARES, LEAST_WIDE_SECONDS
        self._guess = seconds_per_term
        self._most_growth = WIDE_MAX_GROWTH if wide else MAX_GROWTH
        self._least_window = FIRST_WINDOW if chunk is not None else WIDE_WINDOW if wide else MIN_WINDOW
        self._cost: float | None = None  # seconds per term, measured
        self._spent = 0.0  # seconds of about the last five large replies, and the terms in them:
        self._done = 0.0  # both are sums, so that small tasks with their fixed costs weigh little beside large ones
        self._worked = 0.0  # seconds in all
        self._most = 0
        self._bytes_per_term = 0.0  # bytes of an answer: the largest of late
        self._largest = 0  # terms of the largest task that came back
        self._cap = 0  # terms that the next task may have at most
        self._rate = 0.0  # tasks counted a second
        self._since: float | None = None
        self._tasks = 0
        self.patience = Patience()
        self.workers = max(1, workers)
        self._even_tasks = max(workers, LEAST_EVEN_TASKS) if workers else EVEN_TASKS
        self.terms_rate = 0.0  # terms counted a second
        self._terms = 0

    def observe(self, terms: int, tasks: int, nanoseconds: int, largest: int, now: float, *, size: int = 0) -> None:
        """Learn from one reply: ``tasks`` tasks of ``terms`` terms in all took ``nanoseconds`` together.

        ``largest``: terms of the largest task. ``size``: bytes of all answers.
        """
        self._bytes_per_term = max(size / terms, MEMORY * self._bytes_per_term)
        self._most = max(self._most, terms)
        self._spent += nanoseconds / 1e9
        self._done += terms
        if self._done > REPLIES_REMEMBERED * self._most:
            self._spent *= REPLIES_REMEMBERED * self._most / self._done
            self._done = REPLIES_REMEMBERED * self._most
        self._cost = self._spent / self._done
        if self._brisk and self._target < TARGET_TASK_SECONDS:
            self._worked += nanoseconds / 1e9
            self._target = min(TARGET_TASK_SECONDS, max(BRISK_TASK_SECONDS, BRISK_SHARE * self._worked))
        if largest >= self._largest:
            self._largest = largest
            seconds = max(nanoseconds / 1e9 * largest / terms, 1e-9)
            step = LEAST_WIDE_SECONDS if self._wide else FIRST_TASK_SECONDS
            self._cap = max(self._cap, int(largest * min(self._most_growth, max(GROWTH, step / seconds))))
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
        """Terms of the next task if ``left`` terms are still to be cut (None: their number is not known)."""
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
                most = (left - self._last_terms) // self.workers if self._last_terms else left
                share = max(share, min(most, int(self._least_seconds / max(self._cost, 1e-12))))
            size = min(size, share)
        return max(1, size)

    def window(self) -> int:
        """How many tasks may be out."""
        if self._wide:
            return max(self._least_window, self._wide_window() * self.workers)
        least = self._least_window
        if self._chunk is not None and self._cost is not None:
            ahead = AHEAD_SECONDS * self.workers / max(self._cost * self._chunk, 1e-12)
            least = max(MIN_WINDOW, int(min(QUICK_WINDOW, ahead)))
        return min(MAX_WINDOW, max(least, 4 * self.workers, int(self._rate * WINDOW_SECONDS)))

    def _wide_window(self) -> int:
        """Tasks out at most for each worker, for a wide reducer."""
        if not self._joins:
            return WIDE_WINDOW
        if self._cost is None:
            return JOINT_WINDOW
        seconds = min(self._target, self._cost * self._cap)  # of the largest task that may be cut now
        return max(JOINT_WINDOW, min(MOST_JOINT_WINDOW, int(JOINT_SECONDS / max(seconds, 1e-9))))
