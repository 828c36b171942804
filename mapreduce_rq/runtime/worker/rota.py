"""One worker process on several queues, by rank: it has a Worker on each queue, and one of them works at a time.

A turn on a queue ends when nothing waits there, or when something waits on a queue of higher rank: then the tasks in
hand are finished first. All queues see the process as a worker of theirs.

**Why an idle process waits a moment on each queue in turn,** and not on all of them at once:

- A task must come into the worker's hand in the step that takes it from the queue, or it is in neither when the process
  dies. BLMOVE does that, for one list. BLMPOP waits for several lists, but gives the element only to the client.
- With an open BLMOVE on each of several connections, all of them may be served. The process computes on one queue at a
  time, so the tasks of the others would stay in its hands while other workers are idle. And a request that is cancelled
  (CLIENT UNBLOCK, or a closed connection) may have been served just before.
- A wait that moves nothing, as on a stream beside each list, would need an entry with each push, in all masters and
  scripts, to save idle processes ten small requests a second. Those are cheap. A task on an idle fleet may wait 0.1 s,
  and a process with one queue, which is the usual case, waits in one BLMOVE for five seconds.

In a cluster the queues may be on several nodes. If the node of one queue is gone, the process works on the others. It
tries that queue again after a pause, before all others, because tasks may be in hand there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mapreduce_rq.errors import BrokerError
from mapreduce_rq.runtime.clock import Clock
from mapreduce_rq.runtime.worker.worker import Stop, Worker

WAIT_SECONDS = 0.1
"""The most seconds of one wait on a queue: a task on another queue may wait for this time."""
LOOK_SECONDS = 0.1
"""Seconds between two looks at queues of higher rank, while tasks are computed."""


class Rota:
    """The workers of one process, the highest rank first. It has the methods of a worker that its process calls."""

    def __init__(self, workers: Sequence[Worker], clock: Clock, *, burst: bool) -> None:
        self._workers = workers
        self._clock = clock
        self._burst = burst
        self._active = workers[0]
        self._leaving = False
        self._looked = 0.0

    def told_to_stop(self, *, at_once: bool = False) -> None:
        """See Worker."""
        for worker in self._workers:
            if worker is not self._active:
                worker.stopping = True
        if not self._leaving:
            self._active.told_to_stop(at_once=at_once)

    def told_to_shorten(self) -> None:
        """See Worker."""
        self._active.told_to_shorten()

    def run(self) -> None:
        """Work until stopped, or until all queues are empty (burst). Leaves nothing in hand."""
        try:
            self._take_turns()
            self._leave()
        except Stop:  # a signal came between two turns
            self._leave()

    def _take_turns(self) -> None:
        idle = 0
        while not self._stopping():
            for rank, worker in enumerate(self._workers):
                if worker.owes():
                    self._turn(rank, 0.0)
            if self._worked(0.0, len(self._workers)):
                idle = 0
            elif self._burst:
                break
            else:  # it is looked at when it has a task, and the others after that
                idle += 1
                self._turn(idle % len(self._workers), WAIT_SECONDS)

    def _leave(self) -> None:
        self._leaving = True
        for worker in self._workers:
            worker.stopping = True
        for worker in self._workers:
            worker.leave()

    def _stopping(self) -> bool:
        return any(worker.stopping for worker in self._workers)

    def _worked(self, wait: float, ranks: int) -> bool:
        """Give each queue a turn, until one of them had a task."""
        return any(self._turn(rank, wait) for rank in range(ranks) if not self._stopping())

    def _turn(self, rank: int, wait: float) -> bool:
        self._active = self._workers[rank]
        worked = self._active.turn(wait, self._others_first(rank))
        for worker in self._workers:
            worker.tasks_left = self._active.tasks_left
        return worked

    def _others_first(self, rank: int) -> Callable[[], bool]:
        def first() -> bool:
            now = self._clock.now()
            if now - self._looked < LOOK_SECONDS:
                return False
            self._looked = now
            return any(worker.owes() for worker in self._workers) or any(_waits(one) for one in self._workers[:rank])

        return first


def _waits(worker: Worker) -> bool:
    if worker.down:
        return False
    try:
        return worker.tasks.waiting() > 0
    except BrokerError:  # its own turn finds out, and connects anew
        return False
