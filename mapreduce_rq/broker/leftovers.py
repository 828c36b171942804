"""Finds leftovers in a queue's keys: entries that our key cannot read, or that no process owns.

They are tasks signed with another key or with none, hashes that hold none of our jobs, unreadable entries of workers,
tasks in the hands of unknown workers, replies to jobs that are over. Entries with another key may belong to processes
that are alive: so an entry that has changed between two readings is left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mapreduce_rq.broker.job_hash import read_job, text_of
from mapreduce_rq.broker.keys import Keys
from mapreduce_rq.broker.orphans import find_orphans
from mapreduce_rq.broker.reading import not_a_hash
from mapreduce_rq.broker.wire import Command, Wire
from mapreduce_rq.core.fleet.liveness import OBITUARY
from mapreduce_rq.core.sealing import Codecs
from mapreduce_rq.errors import BadMessage, BrokerError

AT_ONCE = 1000


@dataclass(frozen=True)
class Leftovers:
    """The leftovers that were found."""

    tasks: Mapping[bytes, str]  # in the queue -> why they cannot be read
    jobs: Mapping[str, tuple[bytes, str]]  # id -> its token, which changes while it has a master; why it is unreadable
    workers: Mapping[str, tuple[bytes, str]]  # id -> its entry, why it is unreadable
    hands: Mapping[str, int]  # worker id -> tasks in a list of a worker that is not registered
    streams: tuple[str, ...]  # job ids whose replies exist though the job does not run

    def __bool__(self) -> bool:
        return bool(self.tasks or self.jobs or self.workers or self.hands or self.streams)

    def still(self, now: Leftovers) -> Leftovers:
        """The part of these that is unchanged ``now``: no process has touched it between the two readings."""
        return Leftovers(
            {raw: why for raw, why in self.tasks.items() if raw in now.tasks},
            {job: found for job, found in self.jobs.items() if now.jobs.get(job) == found},
            {wid: found for wid, found in self.workers.items() if now.workers.get(wid) == found},
            {wid: count for wid, count in self.hands.items() if now.hands.get(wid) == count},
            tuple(job for job in self.streams if job in now.streams),
        )


def find_leftovers(wire: Wire, keys: Keys, codecs: Codecs) -> Leftovers:
    """Search all keys of the queue, in steps. It is for a check, not for a loop. Raises BrokerError."""
    orphans = find_orphans(wire, keys)
    waiting, entries = wire.pipeline([("LRANGE", keys.queue, 0, -1), ("HGETALL", keys.workers)])
    workers = {}
    for name, entry in zip(entries[::2], entries[1::2], strict=True):
        wid = text_of(name)
        why = "" if entry.startswith(OBITUARY) else _unread(codecs.beat.at(wid).open, entry)
        if why:
            workers[wid] = entry, why
    return Leftovers(
        tasks={raw: why for raw in waiting if (why := _unread(codecs.task.open, raw))},
        jobs=_unread_jobs(wire, keys, codecs),
        workers=workers,
        hands=orphans.hands,
        streams=orphans.streams,
    )


def _unread(read: Callable[[bytes], object], raw: bytes) -> str:
    try:
        read(raw)
    except BadMessage as error:
        return str(error)
    return ""


def _unread_jobs(wire: Wire, keys: Keys, codecs: Codecs) -> dict[str, tuple[bytes, str]]:
    listed = [text_of(job) for job in wire.call("ZRANGE", keys.jobs, 0, -1)]
    found = {}
    for at in range(0, len(listed), AT_ONCE):
        some = listed[at : at + AT_ONCE]
        rows = wire.pipeline([("HMGET", keys.job(job), "tok", "spec") for job in some], refusals=True)
        for job, row in zip(some, rows, strict=True):
            if isinstance(row, BrokerError):
                found[job] = b"", not_a_hash(keys.job(job))
                continue
            token, spec = row
            if token is None and spec is None:
                continue  # it has expired
            try:
                read_job(keys, codecs, job, {"spec": spec} if spec else {})
            except BadMessage as error:
                found[job] = token or b"", str(error)
    return found


def clear(wire: Wire, keys: Keys, found: Leftovers) -> None:
    """Delete all leftovers. If a deleted task belonged to a running job, its master misses it and pushes it again."""
    commands: list[Command] = [("LREM", keys.queue, 0, raw) for raw in found.tasks]
    for job in found.jobs:
        commands += [
            ("UNLINK", keys.job(job), keys.replies(job), keys.values(job)),
            ("ZREM", keys.jobs, job),
            ("HDEL", keys.masters, job),
        ]
    for wid in found.workers:
        commands += [("HDEL", keys.workers, wid), ("UNLINK", keys.in_flight(wid))]
    commands += [("UNLINK", keys.in_flight(wid)) for wid in found.hands]
    commands += [("UNLINK", keys.replies(job)) for job in found.streams]
    for at in range(0, len(commands), AT_ONCE):
        wire.pipeline(commands[at : at + AT_ONCE])
