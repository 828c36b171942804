"""Worker loops as jobs on an RQ queue: placed there, kept at a number, withdrawn.

RQ only places them: what is to be computed is in our own queue before a loop is asked for, and a loop that is lost on
the way costs time and nothing else. An RQ job can be lost between being popped and being begun; one that is neither
waiting nor running after PLACED_SECONDS is placed anew.

This room does not know RQ: it is handed a queue of it, and asks that for all it needs.
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
"""Seconds that a loop may be on its way: popped by an rq worker that has not begun it."""
LOOK_IDS = 1000
"""Jobs at each end of the RQ queue that are looked at."""
TOLD_SECONDS = 600
"""A loop looks once a second whether it is told to leave; one that is not there does not."""
MOST_AT_ONCE = 256
MAX_IDLE = 60.0


class RQQueue(Protocol):
    """What is needed of an RQ queue to begin with; what it gives is untyped."""

    @property
    def connection(self) -> Any:
        """A client of redis-py."""

    @property
    def enqueue_call(self) -> Any:
        """Enqueues a function."""


def loop_prefix(queue: str) -> str:
    """How the ids of RQ jobs begin that are loops for this queue of ours."""
    return f"mrq-loop-{hashlib.blake2b(queue.encode(), digest_size=4).hexdigest()}-"


ANY_LOOP = "mrq-loop-"


class Loops:
    """Loops for our queue ``queue`` on an RQ queue. ``wanted``: how many, given how many there are.

    ``max_idle``: seconds without a task after which a loop leaves by itself. A loop holds an rq worker as long as it is
    there. Raises UsageError for what is no RQ queue.
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
        self._mine: Any = None  # the same over a connection of our own
        self._keys = Keys(queue)
        self._prefix = loop_prefix(queue)
        self._wanted = wanted
        self._max_idle = max_idle
        self._notice = notice
        self._placed: dict[str, float] = {}
        self._over = threading.Event()
        self._said = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Place them, and keep them at their number, in a thread."""
        self._thread = threading.Thread(target=self.run, name="mrq loops", daemon=True)
        self._thread.start()

    def run(self) -> None:
        """Place them, and keep them at their number, until ``stop``. Goes on through outages, saying each once."""
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
        """Take back those that were placed here and wait, and tell those that run to leave."""
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
        """Place as many as are missing; how many there are now. Raises BrokerError."""
        with asking(self.endpoint):
            return self._top_up()

    def _top_up(self) -> int:
        rq_queue = self._rq_queue()
        now = time.monotonic()
        present = self._present(rq_queue)
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

    def _present(self, rq_queue: Any) -> set[str]:
        waiting = {*rq_queue.get_job_ids(0, LOOK_IDS), *rq_queue.get_job_ids(-LOOK_IDS)}
        registry = rq_queue.started_job_registry
        # Each entry is job:execution, and its score the time until which its rq worker vouches for it.
        running = rq_queue.connection.zrangebyscore(registry.key, time.time(), "+inf")
        found = waiting | {entry.decode().partition(":")[0] for entry in running}
        return {job for job in found if job.startswith(self._prefix)}

    def _forget(self, rq_queue: Any, gone: list[str]) -> None:
        """These have ended, or were lost between being popped and being begun."""
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
        """Over a connection of our own: the other one may wait for hours."""
        if self._mine is None:
            theirs: Any = self._theirs
            self._mine = type(theirs)(theirs.name, connection=client_of(self.endpoint), serializer=theirs.serializer)
        return self._mine
