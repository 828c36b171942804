"""The names of all keys. The queue's name is the hash tag, so all keys of a queue share one cluster slot."""

from __future__ import annotations

import re

from mapreduce_rq.core.sealing import WIRE_VERSION
from mapreduce_rq.errors import BadParameter


class Keys:
    """The keys of one queue. Raises BadParameter for a name that cannot be a hash tag."""

    def __init__(self, queue: str) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_.:-]{1,64}", queue):
            raise BadParameter(f"queue {queue!r} is no name for a queue: use 1 to 64 letters, digits and _ . : -")
        self.name = queue
        self.prefix = f"mrq{WIRE_VERSION}:{{{queue}}}:"
        self.queue = self.prefix + "q"  # LIST of tasks: pushed left, taken right
        self.workers = self.prefix + "w"  # HASH wid -> beat or obituary
        self.masters = self.prefix + "m"  # HASH job -> sign of life of its master
        self.jobs = self.prefix + "J"  # ZSET job ids by time of creation
        self.unled = self.prefix + "d"  # LIST of jobs that were handed over and wait for a master; the next is right
        self.unled_urgent = self.prefix + "u"  # LIST, as this, of urgent jobs
        self.events = self.prefix + "e"  # STREAM of events, for people and programs

    def in_flight(self, wid: str) -> str:
        """LIST of the tasks that one worker has taken and not settled; the newest is on the left."""
        return f"{self.prefix}f:{wid}"

    def job(self, job: str) -> str:
        """HASH with all facts that decide about a job."""
        return f"{self.prefix}j:{job}"

    def replies(self, job: str) -> str:
        """STREAM of replies. It exists exactly as long as the job runs."""
        return f"{self.prefix}r:{job}"

    def of_commit(self, job: str) -> tuple[str, ...]:
        """The keys that a job's commits name, in the order of commit.lua."""
        before = self.prefix
        own = f"{before}v:{job}", f"{before}b:{job}", f"{before}p:{job}"  # as values, bodies and pieces below
        return f"{before}j:{job}", f"{before}r:{job}", self.queue, self.jobs, *own

    def knocks(self, name: str) -> str:
        """STREAM, for a minute: its entry ends a wait of the process with this name, which leads many jobs."""
        return f"{self.prefix}k:{name}"

    def values(self, job: str) -> str:
        """STREAM of an ended job: an entry that wakes the processes that wait for its end; and its replies, if they are
        its value (a list of large values).
        """
        return f"{self.prefix}v:{job}"

    def bodies(self, job: str) -> str:
        """HASH of the large bodies of a running job's tasks, by the names in these tasks."""
        return f"{self.prefix}b:{job}"

    def pieces(self, job: str) -> str:
        """HASH of the pieces of a running job's shuffle, which its workers lay there and read again."""
        return f"{self.prefix}p:{job}"

    def shared(self, name: str) -> str:
        """HASH of the pieces of a shared object, under its hash, for a week after its last use."""
        return f"{self.prefix}o:{name}"

    def told_to_leave(self, rq_job: str) -> str:
        """STRING, for a while: the worker loop in this RQ job has been told to leave."""
        return f"{self.prefix}l:{rq_job}"

    def made_room(self, rq_job: str) -> str:
        """STRING, for a few seconds: a worker loop leaves, so that this RQ job, which waits, gets an rq worker."""
        return f"{self.prefix}y:{rq_job}"

    def fixed(self) -> dict[str, str]:
        """The keys that do not depend on a job or worker, with their types."""
        return {
            self.queue: "list",
            self.workers: "hash",
            self.masters: "hash",
            self.jobs: "zset",
            self.unled: "list",
            self.unled_urgent: "list",
            self.events: "stream",
        }
