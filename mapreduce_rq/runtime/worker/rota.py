"""One worker process on several queues, by rank: it has a Worker on each, of which one works at a time.

A turn on a queue ends when nothing waits there, or when something waits on a queue of higher rank: then the tasks in
hand are finished first. All queues see the process as a worker of theirs.

**How it waits for all of them at once.** On each queue there may be a *watch*: a request that the server answers as
soon as a task waits, and that takes nothing. Redis has no such command by name, but one that does just this: BLMOVE
from the taken end of a list to that same end. Each queue has a connection of its own, and all watches are waited for in
one call to the kernel. So a task on any queue ends the wait at once, and no queue is asked again and again. The process
then takes what waits on the queue of the highest rank.

A watch stays while the process works on a queue of lower rank. To see whether something waits on a higher one is to see
whether its answer has come, which asks no server.

**Why the wait itself takes nothing:**

- A task must come into the worker's hand in the step that takes it from the queue, or it is in neither when the process
  dies. BLMPOP waits for several lists, and gives the element to the client alone.
- A BLMOVE into the hand, open on each of several connections, may be served on all of them. The process computes on one
  queue at a time, so the tasks of the others would lie in its hands while other workers are idle. And a request that is
  taken back (CLIENT UNBLOCK, or a closed connection) may just have been served.

What it costs: the first task after an idle time takes one more round trip, and a single task wakes all idle processes
that wait for several queues; all but one of them find nothing and wait again.

**In a cluster** the queues may be on several nodes, and one request cannot name lists of two slots: each queue's watch
goes over its own connection to the node that has it. A queue whose node is gone keeps the process from no other: it is
tried again after a pause, before all others, since tasks may be in hand there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mapreduce_rq.broker.connection import ANSWER_SECONDS
from mapreduce_rq.broker.wire import Wire
from mapreduce_rq.errors import BrokerDown, BrokerError, BrokerRefused
from mapreduce_rq.runtime.clock import Clock
from mapreduce_rq.runtime.worker.stops import Stop
from mapreduce_rq.runtime.worker.worker import IDLE_SECONDS, Worker

FirstOf = Callable[[Sequence[Wire], float], Sequence[Wire]]
"""Returns those of the wires that have an answer or are broken; it waits for one, at most this number of seconds."""


class Rota:
    """The workers of one process, the highest rank first. It has the methods of a worker that its process calls."""

    def __init__(self, workers: Sequence[Worker], clock: Clock, first_of: FirstOf, *, burst: bool) -> None:
        self._workers = workers
        self._clock = clock
        self._first_of = first_of
        self._burst = burst
        self._active = workers[0]
        self._leaving = False
        self._watches: dict[int, float] = {}  # when they were asked for, by rank

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
            while not self._stopping():
                if not self._round():
                    if self._burst:
                        break
                    self._wait()
            self._leave()
        except Stop:  # it came while all were idle, or between two turns
            self._leave()

    def _leave(self) -> None:
        self._leaving = True
        for worker in self._workers:
            worker.stopping = True
        for worker in self._workers:
            worker.leave()

    def _stopping(self) -> bool:
        return any(worker.stopping for worker in self._workers)

    # -- turns -----------------------------------------------------------------------------------------------------

    def _round(self) -> bool:
        """Give each queue a turn where something may wait, until one of them had a task."""
        for rank, worker in enumerate(self._workers):
            if worker.owes():
                self._turn(rank)
        for rank in range(len(self._workers)):
            if self._stopping():
                return False
            if rank not in self._watches and self._turn(rank):
                return True
            self._watch(rank)
        return False

    def _turn(self, rank: int) -> bool:
        self._watches.pop(rank, None)
        self._active = self._workers[rank]
        worked = self._active.turn(lambda: self._others_first(rank))
        for worker in self._workers:
            worker.tasks_left = self._active.tasks_left
        return worked

    def _others_first(self, rank: int) -> bool:
        """Whether something waits on a queue of higher rank, or may be in hand where a server was gone."""
        for one in self._hear([one for one in self._watches if one < rank], 0.0):
            self._watch(one)
        higher = [one for one in range(rank) if not self._workers[one].down]
        return any(worker.owes() for worker in self._workers) or any(one not in self._watches for one in higher)

    # -- the wait --------------------------------------------------------------------------------------------------

    def _wait(self) -> None:
        """Wait until something may wait on a queue, or one whose server was gone is to be tried."""
        due = min((worker.due() for worker in self._workers if worker.down), default=IDLE_SECONDS)
        self._active.interruptible = True
        if not self._stopping():
            self._hear(list(self._watches), due)
        self._active.interruptible = False

    def _watch(self, rank: int) -> None:
        worker = self._workers[rank]
        if rank in self._watches or worker.down:
            return
        try:
            worker.tasks.ask_to_watch(IDLE_SECONDS)
        except BrokerError as error:
            self._lost(rank, error)
        else:
            self._watches[rank] = self._clock.now()

    def _hear(self, ranks: Sequence[int], seconds: float) -> list[int]:
        """Read the answers of these watches that are there, waiting ``seconds`` for one. Those whose time was over.

        A queue without a watch has a turn in the next round, also where no task came: so an idle worker reads its hand
        now and then.
        """
        ended = []
        wires = [self._workers[rank].tasks.wire for rank in ranks]
        there = self._first_of(wires, seconds)
        now = self._clock.now()
        for rank, wire in zip(ranks, wires, strict=True):
            if wire in there:
                del self._watches[rank]
                try:
                    if not self._workers[rank].tasks.watched():
                        ended.append(rank)
                except BrokerError as error:
                    self._lost(rank, error)
            elif now - self._watches[rank] > ANSWER_SECONDS:  # the time limit of any other request
                del self._watches[rank]
                wire.close()
                self._lost(rank, BrokerDown(f"no answer for {ANSWER_SECONDS:.0f} s on queue {self._name(rank)}"))
        return ended

    def _lost(self, rank: int, error: BrokerError) -> None:
        if isinstance(error, BrokerRefused):
            raise error  # to wait does not help
        self._workers[rank].cut_off(error)

    def _name(self, rank: int) -> str:
        return self._workers[rank].tasks.keys.name
