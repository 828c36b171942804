"""Joint answers: a worker merges the partials of several tasks of a job, and answers these tasks together.

Where a partial has many keys (`by_key`, `counter`), most of a task's cost can be the way of its partial: it is encoded,
sent, decoded, and merged into a dictionary by the one master. The keys of the next task are mostly the same. So under a
commutative law, for reducers that ask for it (``Reducer.joins``), a worker keeps the partial of a task that is
computed, merges that of the next one into it, and answers once, with the spans of all these tasks. Most often the next
one needs no partial of its own: its values are folded right into the one that is kept (``grow``).

**Where the tasks are meanwhile.** They stay in the worker's hand in Redis, as its oldest ones. To every other process
they look like tasks that wait for their turn there: a master sees them at its looks, and if the worker dies they are
given back and computed elsewhere. What is lost then is about ``MOST_SECONDS`` of work, as with one long task.

**Counted once.** The partial is one value and cannot be taken apart. So the master counts a joint answer whole if none
of its terms is counted, and else refuses it whole (``Tally.count_joint``), and sends those of its tasks that are still
out to the queue again. That one of them was counted before is rare: some other worker must have had a copy, since this
one was taken for dead, or was late for seconds.

**When it is answered.** As soon as nothing is left to do in the meantime: when the line is empty, when the worker is
told to stop or turns to another queue, when a task of another job or one that failed is to be answered, too; and after
``MOST_SECONDS`` of work or ``MOST_BYTES`` of a partial, so that the master, who cuts tasks by what their terms have
cost, hears in time. How large a partial is once it is encoded is only known then: so it is taken to have as many bytes
a key as the last one (or a term, if a key may have any number of bytes). The first answer to a job is given at once.

**What is thrown away.** After an error of the connection, or if the hand was not as expected, the partial is dropped
and the tasks that are still in hand are computed anew: which of them are counted elsewhere is not known. While a task
takes long, the tasks before it are given back, as those behind it are (see part_answers.py): to encode the partial in
another thread, while this one may merge into it, would not do.

**What is not joined.** A task whose worker died before, since its next one may die, too; a second copy of a task, or a
part of one, that is among them; tasks of which something is to be told beside the partial (output, retries). If a merge
or the encoding raises, as a user's own may, the tasks are computed again one by one: then the error has a term, and the
others have answers. The same is done if a task fails while its values are folded into the kept partial, for it has some
of them already. So where failed terms are skipped, and many may fail, each task has a partial of its own. If the tasks
before it are given back meanwhile, the kept partial goes with them, and so do the first terms of the task: the task is
answered without these. If it is then cut short, too, its answer lies in the middle of its span, and the ledger sends
out what is behind it as it does the rest of any long task.

While values are folded into the kept partial, the thread that gives the tasks back waits. So no code of the user's runs
in this time: a file is read, and a generator is run to its end, before (see functions/onto.py), and reducers of the
user's own do not fold into it.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any

from mapreduce_rq.core.computation import Interruption
from mapreduce_rq.core.job.chunking import TARGET_TASK_BYTES, WIDE_TASK_SECONDS
from mapreduce_rq.core.messages import MAP, Answer, Spec, Task
from mapreduce_rq.core.reducers.base import Reducer
from mapreduce_rq.core.span import Runs
from mapreduce_rq.errors import BrokerError

MOST_SECONDS = WIDE_TASK_SECONDS
"""Seconds of work after which a joint answer is given."""
MOST_BYTES = TARGET_TASK_BYTES
"""Bytes of a partial from which a joint answer is given, about."""
JOBS_KEPT = 64


class CannotJoin(Exception):
    """The partials of these tasks cannot be merged or encoded here: each task is to be computed by itself."""


class JointAnswer:
    """The oldest tasks of a worker's hand that are computed and not answered, with their partials merged into one.

    ``give_back`` may be called from another thread.
    """

    def __init__(self) -> None:
        self.job = ""
        self.tasks: list[bytes] = []  # sealed, oldest first
        self.given_back: frozenset[bytes] = frozenset()
        """Tasks that were among them and are not to be answered any more; the worker takes note of them."""
        self._spans: list[tuple[int, int]] = []
        self._covered = Runs()
        self._end = 0  # behind the last of these terms
        self._partial: Any = None
        self._grows = False  # whether the values of a task are being folded into the partial
        self._reducer: Reducer[Any] | None = None
        self._ns = 0
        self._terms = 0
        self._breadth = 0  # the number of things in the partial; of its terms, if there are no things of an even size
        self._bytes_each: dict[str, float] = {}  # of a thing or a term, by job, as of its last answer
        self._apart: set[str] = set()  # jobs whose tasks are not joined
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self.tasks)

    def takes(self, spec: Spec, task: Task) -> bool:
        """Whether a task may be joined with others of its job."""
        limits = spec.limits
        return (
            spec.joins
            and task.op == MAP
            and not task.attempt
            and not limits.logs
            and not limits.retries
            and spec.job not in self._apart
            and not (self.job == spec.job and self._covered.touches(task.lo, task.hi))
        )

    def begin(self, spec: Spec, task: Task) -> bool:
        """Whether the values of this task may be folded into the partial: its terms are behind all others. If so,
        ``grow`` folds them, and then ``add`` or ``torn`` must follow.
        """
        with self._lock:
            self._grows = bool(self.tasks) and task.lo >= self._end and spec.limits.on_error == "fail"
            return self._grows

    def grow(self, fold: Callable[[Any], Any]) -> bool:
        """Have ``fold`` add values of the task to the partial. False: the partial was given back, and ``fold`` was not
        called.
        """
        with self._lock:
            if self._grows:
                self._partial = fold(self._partial)
            return self._grows

    def torn(self) -> CannotJoin:
        """Note that folding a task into the partial has failed; returns the error to raise."""
        return self._cannot()

    def add(self, raw: bytes, reducer: Reducer[Any], answer: Answer, partial: Any) -> None:
        """Join the partial of a task of ``job``; its ``answer`` is without the body. Raises CannotJoin.

        ``partial`` None: its values are in the kept partial already.
        """
        with self._lock:
            if partial is None and not self._grows:
                raise self._cannot()  # it was given back since
            self._grows = False
            try:
                if partial is None:
                    partial = self._partial
                elif self._spans:
                    partial = reducer.merge(self._partial, partial)
                breadth = reducer.breadth(partial)
            except Interruption:
                raise
            except Exception as error:
                raise self._cannot() from error
            self._reducer, self._partial = reducer, partial
            self.tasks.append(raw)
            self._spans.append((answer.lo, answer.hi))
            self._covered.add(answer.lo, answer.hi)
            self._end = max(self._end, answer.hi)
            self._ns += answer.ns
            self._terms += answer.hi - answer.lo
            self._breadth = breadth or self._terms

    @property
    def full(self) -> bool:
        """Whether it is to be answered now."""
        each = self._bytes_each.get(self.job)
        return each is None or self._ns >= MOST_SECONDS * 1e9 or each * self._breadth >= MOST_BYTES

    def answer(self, fit: Callable[[bytes], tuple[bytes, int]]) -> Answer:
        """The answer to all these tasks, of which there is one at least; they are forgotten here.

        ``fit`` gives what stands in the answer for a body, with its status. Raises CannotJoin, BrokerError,
        Interruption.
        """
        assert self._reducer is not None
        try:
            whole = self._reducer.encode(self._partial)
            body, status = fit(whole)
        except (BrokerError, Interruption):
            raise
        except Exception as error:
            raise self._cannot() from error
        size = len(whole)
        if len(self._bytes_each) >= JOBS_KEPT:
            self._bytes_each.clear()
        self._bytes_each[self.job] = size / self._breadth
        (lo, hi), *also = self._spans
        made = Answer(lo, hi, 0, MAP, status, body, self._ns, also or None)
        with self._lock:
            self._clear()
        return made

    def drop(self) -> None:
        """Forget all of it: what becomes of the tasks is decided elsewhere."""
        with self._lock:
            self._clear()
            self.given_back = frozenset()

    def give_back(self) -> frozenset[bytes]:
        """The tasks, which others are to compute: they are not answered by this worker."""
        with self._lock:
            found = frozenset(self.tasks)
            self.given_back |= found
            self._clear()
        return found

    def _clear(self) -> None:
        self.tasks, self._spans, self._covered = [], [], Runs()
        self._partial, self._reducer, self._grows = None, None, False
        self._ns = self._terms = self._breadth = self._end = 0

    def _cannot(self) -> CannotJoin:
        if len(self._apart) >= JOBS_KEPT:
            self._apart.clear()
        self._apart.add(self.job)
        return CannotJoin(self.job)
