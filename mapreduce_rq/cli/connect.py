"""Connects a command to a queue on a server, checks the server, and has the verbs on the queue's jobs."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import msgspec

from mapreduce_rq.broker.cluster import Shard, node, shards
from mapreduce_rq.broker.connection import parse_url
from mapreduce_rq.broker.inspect import ServerInfo, check_types, inspect, require_kind, require_primary
from mapreduce_rq.broker.jobs import Jobs
from mapreduce_rq.broker.journal import Journal
from mapreduce_rq.broker.keys import Keys
from mapreduce_rq.broker.redis_wire import RedisWire
from mapreduce_rq.broker.snapshot import MAX_JOBS, Snapshot, read_snapshot
from mapreduce_rq.cli.streams import say
from mapreduce_rq.client.environment import chosen_keys
from mapreduce_rq.client.identity import process_name
from mapreduce_rq.client.values import fetched, with_value
from mapreduce_rq.core.job.record import Done, Record
from mapreduce_rq.core.job.result import Result
from mapreduce_rq.core.job.timeline import Timeline
from mapreduce_rq.core.sealing import Codecs, Keyring
from mapreduce_rq.core.text import is_utf8
from mapreduce_rq.errors import BrokerDown, NoSuchJob, UsageError
from mapreduce_rq.functions.trust import Trust
from mapreduce_rq.runtime.clock import Backoff, Clock
from mapreduce_rq.runtime.demotion import Demotion

T = TypeVar("T")


@dataclass(frozen=True)
class Place:
    """A queue on a server that has answered and can be used."""

    wire: RedisWire
    keys: Keys
    codecs: Codecs
    info: ServerInfo

    @property
    def jobs(self) -> Jobs:
        """The verbs on its jobs."""
        return Jobs(self.wire, self.keys, self.codecs)

    @property
    def journal(self) -> Journal:
        """The queue's journal, in this process's name."""
        return Journal(self.wire, self.keys, self.codecs, process_name())

    def snapshot(self, before: Snapshot | None = None, most: int = MAX_JOBS, also: Sequence[str] = ()) -> Snapshot:
        """A snapshot of the queue, with the newest ``most`` jobs, and ``also`` these. Raises BrokerError."""
        return read_snapshot(self.wire, self.keys, self.codecs, before, most=most, also=also)

    def shards(self) -> list[Shard]:
        """The shards of the cluster that it is in. Raises BrokerError."""
        return shards(self.wire.call, self.wire.address)

    def servers(self) -> Iterator[RedisWire]:
        """A wire to each server with keys: to this one or, in a cluster, to each primary. Raises BrokerError."""
        if not self.wire.endpoint.nodes:
            yield self.wire
            return
        for shard in self.shards():
            with self.server(shard) as wire:
                yield wire

    @contextlib.contextmanager
    def server(self, shard: Shard) -> Iterator[RedisWire]:
        """A wire to a shard's primary, for the duration of the block. Raises BrokerError."""
        wire = RedisWire(node(self.wire.endpoint, shard.nodes[0]))
        wire.connect()
        try:
            yield wire
        finally:
            wire.close()

    def beside(self, queue: str) -> Place:
        """Another queue of the same servers, without a check. Raises BrokerError."""
        wire = self.wire
        if wire.endpoint.nodes:
            wire = RedisWire(wire.endpoint.at(queue))
            wire.connect()
        return replace(self, wire=wire, keys=Keys(queue), codecs=Codecs(queue, self.codecs.keyring))

    def with_value(self, record: Record) -> Record:
        """A record with its value, which is fetched if it was too large for the record. Raises MrqError."""
        return with_value(self.jobs, record, Trust(signed=self.codecs.keyring.kid != 0))

    def fetched(self, record: Done) -> Result:
        """The result of a job that is done. Raises MrqError."""
        return fetched(self.jobs, record, Trust(signed=self.codecs.keyring.kid != 0))

    def ended(self, job: str) -> tuple[Record, Timeline | None]:
        """The record and the timeline of a job that has ended. Raises NoSuchJob, UsageError, BrokerError."""
        state = self.jobs.load(job)
        if state is None:
            raise NoSuchJob(f"there is no job {job} any more: its record has expired")
        if state.record is None:
            raise UsageError(f"{job} has not ended yet: `mrq attach {job}` waits for its end")
        return state.record, self.jobs.timeline(job)

    def round_trip(self, clock: Callable[[], float] = time.perf_counter) -> float:
        """The seconds that the server takes to answer now."""
        started = clock()
        self.wire.call("PING")
        return clock() - started


def find_job(verbs: Jobs, job: str) -> str:
    """The id of the one job with this text in its id; an id that begins with the text is preferred.

    Raises NoSuchJob, or UsageError if there are several.
    """
    if not job.strip():  # a variable of a shell that is not set; all ids have it in them, and the only one may be ended
        raise UsageError("the job's id is empty: `mrq jobs` lists them")
    if not is_utf8(job):
        raise NoSuchJob(f"there is no job {job!a}: it is not UTF-8, as all ids are; see `mrq jobs`")
    if verbs.token(job).token:
        return job
    ids: list[str] = [raw.decode(errors="replace") for raw in verbs.wire.call("ZREVRANGE", verbs.keys.jobs, 0, -1)]
    like = [name for name in ids if job in name]
    answers = verbs.wire.pipeline([("EXISTS", verbs.keys.job(name)) for name in like]) if like else []
    there = [name for name, exists in zip(like, answers, strict=True) if exists]
    there = [name for name in there if name.startswith(job)] or there
    if len(there) > 1:
        raise UsageError(f"{len(there)} jobs have {job} in their id, so give more of it: {', '.join(there[:3])}")
    if not there:
        expired = ": its record has expired" if job in ids else ""
        raise NoSuchJob(f"there is no job {job} on queue {verbs.keys.name}{expired}; see `mrq jobs`")
    (found,) = there
    return found


def reach(
    url: str, queue: str, key_file: str | None, secrets: Sequence[bytes] | None = None, *, within: float = 0.0
) -> Place:
    """Connect, and check the server. ``within``: seconds that an answer may take; 0: as many as for a worker.

    Raises UsageError, BrokerError.
    """
    keys = Keys(queue)
    endpoint = msgspec.structs.replace(parse_url(url).at(queue), within=within)
    codecs = Codecs(queue, Keyring(chosen_keys(key_file) if secrets is None else secrets))
    wire = RedisWire(endpoint)
    wire.connect()
    info = inspect(wire)
    require_kind(info, endpoint)
    return Place(wire, keys, codecs, info)


def connect(
    url: str, queue: str, key_file: str | None, secrets: Sequence[bytes] | None = None, *, within: float = 0.0
) -> Place:
    """As ``reach``, and check the queue's keys. Raises UsageError, BrokerError, ForeignKey."""
    place = reach(url, queue, key_file, secrets, within=within)
    check_types(place.jobs.wire, place.jobs.keys)
    return place


def primary(url: str, queue: str, key_file: str | None) -> Place:
    """As :func:`connect`, to a server that takes writes."""
    place = connect(url, queue, key_file)
    require_primary(place.info, place.wire.endpoint)
    return place


def wait_for(url: str, queue: str, key_file: str | None, waits: str) -> Place:
    """As :func:`primary`, but it waits for a server that is not there yet: services start in any order.

    ``waits``: what is said of that, once. Raises as ``primary``, and BrokerRefused for a server that stays a replica.
    """
    return once_there(lambda: primary(url, queue, key_file), waits)


def once_there(make: Callable[[], T], waits: str) -> T:
    """What ``make`` returns, once the server that it needs is there. ``waits`` and errors: as :func:`wait_for`."""
    backoff, demotion = Backoff(), Demotion(Clock())
    said = False
    while True:
        try:
            return make()
        except BrokerDown as error:
            demotion.met(error)
            if not said:
                say(f"{error}; {waits}")
            said = True
            time.sleep(backoff.next())
