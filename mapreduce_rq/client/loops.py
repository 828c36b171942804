"""Worker loops as jobs on an RQ queue: they are enqueued there, kept at a given number, and withdrawn.

RQ only starts the loops. The tasks are in our own queue before a loop is asked for, so a loop that is lost on the way
costs time and nothing else. RQ can lose a job after an rq worker has popped it and before it begins; a loop that
neither waits nor runs after PLACED_SECONDS is enqueued anew. One that has run and is gone is replaced at once, unless
it was so brief that it probably cannot run: where the package is missing, each would fail like the one before.

This module does not import RQ: it gets an RQ queue from the caller, and takes all else from that object.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from mapreduce_rq.broker.clients import asking, client_of, endpoint_of
from mapreduce_rq.broker.keys import Keys
from mapreduce_rq.errors import BrokerError, UsageError

log = logging.getLogger("mapreduce_rq.client")

FUNCTION = "mapreduce_rq.rq.work"
TOP_UP_SECONDS = 2.0
PLACED_SECONDS = 30.0
"""Seconds that a loop may take between the moment when an rq worker pops it and its begin."""
LOOK_IDS = 1000
"""The number of jobs at each end of the RQ queue that are read, to find our loops among them."""
NEVER = float("-inf")
TOLD_SECONDS = 600
"""Seconds after which the word to leave expires. A loop looks for it once a second."""
MOST_AT_ONCE = 256
MAX_IDLE = 60.0


class RQQueue(Protocol):
    """The parts of an RQ queue that are used first. Their own parts have no types."""

    @property
    def connection(self) -> Any:
        """A client of redis-py."""

    @property
    def enqueue_call(self) -> Any:
        """Enqueues a function."""


def loop_prefix(queue: str) -> str:
    """The prefix of the ids of RQ jobs that are loops for this queue of ours."""
    return f"mrq-loop-{hashlib.blake2b(queue.encode(), digest_size=4).hexdigest()}-"


ANY_LOOP = "mrq-loop-"


class Loops:
    """Loops for our queue ``queue`` on an RQ queue. ``wanted``: returns the wanted number of loops, given the present
    one.

    ``max_idle``: seconds without a task after which a loop leaves by itself. A loop occupies an rq worker until it
    leaves. Raises UsageError if the given object is no RQ queue.
    """

    def __init__(
        self,
        rq_queue: RQQueue,
        queue: str,
        wanted: Callable[[int], int],
        *,
        max_idle: float = MAX_IDLE,
        notice: Callable[[str], None] = log.warning,
    ) -> None:
        for name in ("enqueue_call", "connection", "name"):
            if not hasattr(rq_queue, name):
                raise UsageError(f"on_rq wants an RQ queue, rq.Queue(name, connection=redis), not {rq_queue!r}")
        self.endpoint = endpoint_of(rq_queue.connection)
        self._theirs = rq_queue
        self._mine: Any = None  # the same queue over a connection of our own
        self._keys = Keys(queue)
        self._prefix = loop_prefix(queue)
        self._wanted = wanted
        self._max_idle = max_idle
        self._notice = notice
        self._placed: dict[str, float] = {}  # when they were enqueued; NEVER: they have begun since
        self._running: set[str] = set()  # at the last look
        self._over = threading.Event()
        self._said = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Enqueue loops, and keep them at the wanted number, in a thread."""
        self._thread = threading.Thread(target=self.run, name="mrq loops", daemon=True)
        self._thread.start()

    def run(self) -> None:
        """Enqueue loops, and keep them at the wanted number, until ``stop``. An outage of Redis is logged once and does
        not end the call.
        """
        while not self._over.is_set():
            try:
                self.top_up()
                self._said = False
            except BrokerError as error:
                self._mine = None
                if not self._said:
                    self._notice(f"{error}; no worker loop can be placed meanwhile")
                self._said = True
            self._over.wait(TOP_UP_SECONDS)

    def stop(self) -> None:
        """Remove the loops of ours that wait in the RQ queue, and tell those that run to leave."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()
        try:
            self._withdraw()
        except BrokerError as error:
            self._notice(f"{error}; worker loops leave by themselves, after {self._max_idle:g} s without a task")

    def told_to_stop(self) -> None:
        """For a signal handler: ``run`` ends soon."""
        self._over.set()

    def top_up(self) -> int:
        """Enqueue the missing loops and return how many there are now. Raises BrokerError."""
        with asking(self.endpoint):
            return self._top_up()

    def _top_up(self) -> int:
        rq_queue = self._rq_queue()
        now = time.monotonic()
        running = self._of_ours(self._started(rq_queue))
        present = running | self._of_ours(self._waiting(rq_queue))
        self._placed |= dict.fromkeys(running & self._running & self._placed.keys(), NEVER)
        self._running = running
        on_their_way = {job for job, at in self._placed.items() if job not in present and now - at < PLACED_SECONDS}
        self._forget(rq_queue, [job for job in self._placed if job not in present and job not in on_their_way])
        there = len(present) + len(on_their_way)
        missing = min(self._wanted(there) - there, MOST_AT_ONCE)
        for _ in range(missing):
            job = self._prefix + os.urandom(6).hex()
            rq_queue.enqueue_call(
                FUNCTION,
                kwargs={"queue": self._keys.name, "max_idle": self._max_idle},
                timeout=-1,
                result_ttl=0,
                failure_ttl=int(PLACED_SECONDS),
                job_id=job,
                description=f"mapreduce_rq: a worker loop for queue {self._keys.name}",
            )
            self._placed[job] = time.monotonic()
        return there + max(0, missing)

    def _waiting(self, rq_queue: Any) -> list[str]:
        return [*rq_queue.get_job_ids(0, LOOK_IDS), *rq_queue.get_job_ids(-LOOK_IDS)]

    def _started(self, rq_queue: Any) -> list[str]:
        # Each entry is job:execution; its score is the time until which its rq worker counts as alive.
        entries = rq_queue.connection.zrangebyscore(rq_queue.started_job_registry.key, time.time(), "+inf")
        return [entry.decode().partition(":")[0] for entry in entries]

    def _of_ours(self, jobs: list[str]) -> set[str]:
        return {job for job in jobs if job.startswith(self._prefix)}

    def _forget(self, rq_queue: Any, gone: list[str]) -> None:
        """Remove loops that have ended, or that were lost after an rq worker had popped them."""
        for job in gone:
            del self._placed[job]
            found = rq_queue.fetch_job(job)
            if found is not None and found.get_status(refresh=False) == "queued":
                found.delete()

    def _withdraw(self) -> None:
        if not self._placed:
            return
        with asking(self.endpoint):
            rq_queue = self._rq_queue()
            for job in self._placed:
                found = rq_queue.fetch_job(job)
                if found is None:
                    continue
                if rq_queue.remove(job):
                    found.delete()
                else:
                    rq_queue.connection.set(self._keys.told_to_leave(job), 1, ex=TOLD_SECONDS)

    def _rq_queue(self) -> Any:
        """The RQ queue over a connection of our own: on the caller's a command may wait for hours."""
        if self._mine is None:
            theirs: Any = self._theirs
            self._mine = type(theirs)(theirs.name, connection=client_of(self.endpoint), serializer=theirs.serializer)
        return self._mine
