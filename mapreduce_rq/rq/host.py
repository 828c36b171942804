"""The RQ job that this process runs, over a connection of our own: what we ask RQ about it, and what we write to it.

The rq worker's own connection may wait seven minutes for an answer, and may be in the middle of one when RQ's alarm
goes off. So we only take the server's address from it.

Beside RQ's own fields the RQ job's hash has one of ours, ``mrq``: which job of ours it leads. We do not put this into
``meta``, since RQ writes that back as it was at the start when a horse dies.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import rq
from rq import worker_registration
from rq.job import JobStatus
from rq.suspension import WORKERS_SUSPENDED

from mapreduce_rq.broker.clients import asking, client_of, endpoint_of
from mapreduce_rq.client.loops import ANY_LOOP
from mapreduce_rq.errors import BrokerError, UsageError

log = logging.getLogger("mapreduce_rq.rq")

LED = "mrq"
"""The field of an RQ job's hash that says which job of ours it leads: ``queue job``."""
LOOK_IDS = 64
YIELD_SECONDS = 10
"""Seconds in which at most one loop leaves for an RQ job that waits."""
POST_TRIES = 5
STOPPED = {JobStatus.STOPPED.value.encode(), JobStatus.CANCELED.value.encode()}


class Seen(NamedTuple):
    """One look at RQ."""

    stopped: bool  # the RQ job was stopped, cancelled or deleted
    leaving: bool  # its rq worker was told to end
    suspended: bool  # all rq workers were suspended
    withdrawn: bool  # this loop was told to leave
    waiting: list[str]  # RQ jobs that wait on the queues of its rq worker, without worker loops


class Host:
    """The RQ job that this process runs."""

    def __init__(self, job: rq.job.Job) -> None:
        self.job = job
        self.endpoint = endpoint_of(job.connection)
        self._worker = f"{rq.Worker.redis_worker_namespace_prefix}{job.worker_name}"
        self._client: Any = None
        self._parent = os.getppid()
        self._queues: list[str] | None = None
        self._pid = 0

    @classmethod
    def here(cls, what: str) -> Host:
        """The RQ job that runs now. Raises UsageError if there is none."""
        job = rq.get_current_job()
        if job is None:
            raise UsageError(f"mapreduce_rq.rq.{what} runs as an RQ job: queue.enqueue('mapreduce_rq.rq.{what}', ...)")
        return cls(job)

    @property
    def queue(self) -> rq.Queue:
        """The RQ queue that the job came from."""
        job = self.job
        with self._asked() as redis:
            return rq.Queue(job.origin, connection=redis, job_class=type(job), serializer=job.serializer)

    @contextlib.contextmanager
    def _asked(self) -> Iterator[Any]:
        """A client of our own. After an error the next one looks up the server anew."""
        try:
            with asking(self.endpoint):
                if self._client is None:
                    self._client = client_of(self.endpoint)
                yield self._client
        except BrokerError:
            self.close()
            raise

    # -- asked -----------------------------------------------------------------------------------------------------

    @property
    def orphaned(self) -> bool:
        """Whether this is a horse whose rq worker is gone."""
        return self.in_horse and os.getppid() != self._parent

    @property
    def in_horse(self) -> bool:
        """Whether this process was made for this job alone, and is not the rq worker itself."""
        return self._pid != os.getpid()

    def look(self, told: str) -> Seen:
        """What RQ says now. ``told``: the key that exists if this loop is told to leave. Raises BrokerError."""
        with self._asked() as redis:
            if self._queues is None:
                pid, queues = redis.hmget(self._worker, "pid", "queues")
                self._pid = int(pid or 0)
                self._queues = (queues or b"").decode().split(",") if queues else []
            with redis.pipeline(transaction=False) as pipe:
                pipe.hget(self.job.key, "status")
                pipe.hget(self._worker, "shutdown_requested_date")
                pipe.exists(WORKERS_SUSPENDED)
                pipe.exists(told)
                for name in self._queues:
                    pipe.lrange(f"{rq.Queue.redis_queue_namespace_prefix}{name}", 0, LOOK_IDS)
                status, leaving, suspended, withdrawn, *waiting = pipe.execute()
        ids = [job.decode() for queue in waiting for job in queue]
        return Seen(
            stopped=status is None or status in STOPPED,
            leaving=leaving is not None,
            suspended=bool(suspended),
            withdrawn=bool(withdrawn),
            waiting=[job for job in ids if not job.startswith(ANY_LOOP)],
        )

    def claim(self, mark: str) -> bool:
        """Whether this loop is the first to set this mark in the last YIELD_SECONDS. Raises BrokerError."""
        with self._asked() as redis:
            return bool(redis.set(mark, self.job.id, nx=True, ex=YIELD_SECONDS))

    def idle(self) -> int:
        """How many rq workers of the queue are idle, minus the RQ jobs that wait there. Raises BrokerError."""
        with self._asked() as redis:
            queue = self.queue
            names = sorted(worker_registration.get_keys(queue=queue))
            with redis.pipeline(transaction=False) as pipe:
                for name in names:
                    pipe.hget(name, "state")
                pipe.llen(queue.key)
                *states, waiting = pipe.execute()
        return max(0, int(states.count(b"idle")) - int(waiting))

    def has_ended(self, rq_job: str) -> bool:
        """Whether RQ has seen the end of another job's run. Raises BrokerError."""
        with self._asked() as redis:
            return bool(redis.hget(type(self.job).key_for(rq_job), "status") != JobStatus.STARTED.value.encode())

    def was_stopped(self, rq_job: str) -> bool:
        """Whether RQ says of another job that it was stopped or cancelled. Raises BrokerError."""
        with self._asked() as redis:
            return redis.hget(type(self.job).key_for(rq_job), "status") in STOPPED

    # -- told ------------------------------------------------------------------------------------------------------

    def led(self) -> tuple[str, str]:
        """The queue and job of ours that an earlier run of this RQ job has led and not ended; '' if there is none."""
        with self._asked() as redis:
            found = redis.hget(self.job.key, LED)
        queue, _, job = (found or b"").decode(errors="replace").partition(" ")
        return queue, job

    def leads(self, queue: str, job: str) -> None:
        """Write down which job of ours is led here. Raises BrokerError."""
        with self._asked() as redis:
            redis.hset(self.job.key, LED, f"{queue} {job}")

    def leads_no_more(self) -> None:
        """Note that the job of ours has ended: another run of this RQ job begins anew. Raises BrokerError."""
        with self._asked() as redis:
            redis.hdel(self.job.key, LED)

    def post(self, facts: dict[str, Any]) -> None:
        """Put facts into the ``meta`` of the RQ job, beside its user's own. Raises BrokerError."""
        self.job.meta.update(facts)  # RQ writes it back whole
        key, serializer = self.job.key, self.job.serializer
        with self._asked() as redis, redis.pipeline() as pipe:
            for _ in range(POST_TRIES):
                pipe.watch(key)
                status, raw = pipe.hmget(key, "status", "meta")
                if status is None:
                    return  # it was deleted: a write would leave a key that is never deleted
                try:
                    meta = serializer.loads(raw) if raw else {}
                except Exception as error:  # the serializer, and the classes in meta, may be the user's
                    log.warning("the meta of RQ job %s cannot be read: %s", self.job.id, type(error).__name__)
                    return
                pipe.multi()
                pipe.hset(key, "meta", serializer.dumps({**meta, **facts}))
                try:
                    pipe.execute()
                except Exception as error:
                    if type(error).__name__ != "WatchError":
                        raise
                else:
                    return

    def carries(self, value: Any) -> bool:
        """Whether RQ's serializer can carry a value."""
        try:
            self.job.serializer.dumps(value)
        except Exception:
            return False
        return True

    def close(self) -> None:
        """Disconnect."""
        gone, self._client = self._client, None  # several threads ask
        if gone is not None:
            gone.close()
            gone.connection_pool.disconnect()
