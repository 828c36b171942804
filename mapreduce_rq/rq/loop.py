"""A worker loop as an RQ job: it works while there are tasks and RQ does not need its rq worker for other RQ jobs.

The worker is a process of its own with a supervisor, as everywhere. The process of the RQ job only checks, once a
second, whether to leave: its rq worker ends, all are suspended, its RQ job was cancelled, or other RQ jobs wait for an
rq worker. Meanwhile it stands by for jobs whose master is gone.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from mapreduce_rq.broker.job_hash import JobState
from mapreduce_rq.broker.keys import Keys
from mapreduce_rq.client.client import Client
from mapreduce_rq.client.environment import chosen_keys, key_bytes
from mapreduce_rq.core.sealing import Keyring
from mapreduce_rq.errors import BrokerError, JobError
from mapreduce_rq.functions.sources import learn
from mapreduce_rq.functions.trust import Trust
from mapreduce_rq.rq.host import Host
from mapreduce_rq.runtime.pool.by_redis import ByRedis
from mapreduce_rq.runtime.pool.launch import LocalPool
from mapreduce_rq.runtime.pool.settings import PoolSettings

log = logging.getLogger("mapreduce_rq.rq")

LOOK_SECONDS = 1.0
LEAVING_SECONDS = 0.05
WAITING_LOOKS = 2
"""Looks at which an RQ job must wait before a loop leaves for it: an idle rq worker would have taken it by then."""
UNVOUCHED_SECONDS = 300.0
"""Seconds after which a loop leaves an rq worker without a horse (SimpleWorker). Such a worker gives no sign of life
during an RQ job, and RQ takes it for dead after seven minutes."""


class Loop:
    """One loop."""

    def __init__(self, host: Host, queue: str, max_idle: float | None) -> None:
        self._host = host
        self._keys = Keys(queue)
        keyring = Keyring(key_bytes(chosen_keys()))
        trust = Trust(signed=keyring.kid != 0, as_rq=True)
        self._began = time.monotonic()
        self._waiting: dict[str, int] = {}
        learn()
        # This comes before any thread or connection of ours, since it may fork.
        self._pool = LocalPool(
            PoolSettings(host.endpoint, queue, keyring, 1, name=f"rq {host.job.id}", max_idle=max_idle, trust=trust),
            ByRedis,
        )
        self._stop = threading.Event()

    def progressed(self, report: Any) -> None:
        """Of an Observer; not used here."""

    def noticed(self, text: str) -> None:
        """Of an Observer: a notice of the master is logged."""
        log.warning("%s", text)

    def run(self) -> str:
        """Work until there is a reason to leave, and return that reason. Raises JobError if its worker cannot begin."""
        try:
            with Client(self._host.endpoint, local=0, queue=self._keys.name, as_rq=True) as client:
                duty = (self, self._stop, self._may_adopt, self._host.has_ended)
                standby = threading.Thread(target=client.stand_by, args=duty, name="mrq stand by", daemon=True)
                standby.start()
                try:
                    code, why = self._watch()
                finally:
                    self._stop.set()
                    standby.join()
        finally:
            self._pool.drain()
        if code != 0:
            raise JobError(f"the worker of this loop has ended with exit code {code}: the rq worker's log says why")
        return why

    def _watch(self) -> tuple[int, str]:
        """Watch until the worker has left. Returns its exit code, and why it left."""
        told = ""
        while (code := self._pool.ended()) is None:
            if not told and (told := self._reason()):
                log.info("leaving: %s", told)
                self._stop.set()
                self._pool.leave()
            time.sleep(LEAVING_SECONDS if told else LOOK_SECONDS)
        return code, told or "no task came"

    def _reason(self) -> str:
        """The reason to leave; '' if there is none."""
        host = self._host
        if host.orphaned:
            return "its rq worker is gone"
        if not host.in_horse and time.monotonic() - self._began > UNVOUCHED_SECONDS:
            return "an rq worker without a horse is not to be held for long"
        try:
            seen = host.look(self._keys.told_to_leave(host.job.id))
            if seen.stopped:
                return "its RQ job was cancelled"
            if seen.withdrawn:
                return "it was told to leave"
            if seen.leaving:
                return "its rq worker ends"
            if seen.suspended:
                return "rq workers are suspended"
            self._waiting = {job: self._waiting.get(job, 0) + 1 for job in seen.waiting}
            for job, looks in self._waiting.items():
                if looks >= WAITING_LOOKS and host.claim(self._keys.made_room(job)):
                    return f"RQ job {job} waits for an rq worker"
        except BrokerError as error:  # the workers say so, and wait for it
            log.debug("%s", error)
        return ""

    def _may_adopt(self, client: Client, state: JobState) -> bool:
        """Whether to lead an orphan. If its RQ job was stopped, it is cancelled instead."""
        if not state.host or not self._host.was_stopped(state.host):
            return True
        client.cancel(state.job)
        self.noticed(f"{state.job} is cancelled, as RQ job {state.host} was")
        return False
