"""A snapshot of a queue, for people: jobs, workers, lengths and the server, in two round trips for any number of jobs.

No decision depends on it. Entries that are forged, malformed or of an older version are left out and counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mapreduce_rq.broker.inspect import UNTOLD, ServerInfo, parse_info
from mapreduce_rq.broker.job_hash import read_job, token_bytes
from mapreduce_rq.broker.keys import Keys
from mapreduce_rq.broker.reading import not_a_hash
from mapreduce_rq.broker.wire import Command, Wire
from mapreduce_rq.core.fleet.obituary import read_obituary
from mapreduce_rq.core.job.record import Record, Report, State
from mapreduce_rq.core.messages import Beat
from mapreduce_rq.core.sealing import Codecs
from mapreduce_rq.errors import BadMessage, BrokerError, NoPermission

MAX_JOBS = 200
"""The newest jobs that a snapshot reads; it also reads all jobs with a master."""

_FIELDS = ("tok", "state", "spec", "master", "progress", "record")


@dataclass(frozen=True)
class JobView:
    """One job."""

    job: str
    computation: str
    params: dict[str, Any]
    state: State
    created: float  # unix seconds
    token: str  # it changes at least every second while a master lives
    master: str  # the process that leads; '': no master, the job waits to be resumed
    report: Report
    record: Record | None  # of a job that has ended
    lazy: bool = False  # only its master has its items: no other master can continue it
    by: str = ""  # user@host:pid of its submitter; '': an older version did not say

    @property
    def label(self) -> str:
        """The job's name for people: the name of the computation, or of the user's function."""
        return str(self.params.get("label") or self.computation)

    @property
    def leader(self) -> str:
        """The process that leads it, ``user@host:pid``; '' if none does."""
        return self.master.rpartition(":")[0]

    @property
    def share(self) -> float | None:
        """The counted share, from 0 to 1; None while the total is not known."""
        if self.report.total is None:
            return None
        return self.report.counted / self.report.total if self.report.total else 1.0

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the last term is counted, at the present rate; None if that is not known."""
        if self.state is not State.RUNNING or self.report.total is None or self.report.rate <= 0:
            return None
        return (self.report.total - self.report.counted) / self.report.rate


@dataclass(frozen=True)
class WorkerView:
    """One worker: its last sign of life, or its obituary."""

    wid: str
    beat: Beat | None
    obituary: str  # how it died; '': it is not known to be dead
    held: int  # tasks in its hands

    @property
    def address(self) -> str:
        """``host:pid``."""
        return self.wid.rpartition(":")[0]


@dataclass(frozen=True)
class Snapshot:
    """A queue at one moment (nearly: the lengths are read one round trip after the beats)."""

    queue: str
    server: ServerInfo
    jobs: tuple[JobView, ...]  # newest first
    workers: tuple[WorkerView, ...]  # by address
    waiting: int  # tasks in the queue
    in_flight: int  # tasks in workers' hands
    known_jobs: int  # the number of listed ids, also of jobs whose record has expired
    dropped: int = 0  # entries that could not be read
    why_dropped: str = ""  # the first of them
    unread_jobs: int = 0  # the number of jobs among them, of which nothing is known
    unread_workers: int = 0

    def job(self, name: str) -> JobView | None:
        """The job with this id, or None."""
        return next((job for job in self.jobs if job.job == name), None)


def read_snapshot(
    wire: Wire,
    keys: Keys,
    codecs: Codecs,
    before: Snapshot | None = None,
    *,
    most: int = MAX_JOBS,
    also: Sequence[str] = (),
) -> Snapshot:
    """Read the queue, with the newest ``most`` jobs, and ``also`` these. Raises BrokerError, ForeignKey.

    Jobs that had ended in ``before`` and have not changed since are not read again: their records may be large.
    """
    newest, known, masters, beats, waiting, info = wire.pipeline(
        [
            ("ZREVRANGE", keys.jobs, 0, most - 1),
            ("ZCARD", keys.jobs),
            ("HKEYS", keys.masters),
            ("HGETALL", keys.workers),
            ("LLEN", keys.queue),
            ("INFO",),
        ],
        refusals=True,
    )
    server = UNTOLD if isinstance(info, NoPermission) else parse_info(_answered(info))
    newest, known, masters, beats, waiting = map(_answered, (newest, known, masters, beats, waiting))
    ids = list(dict.fromkeys([*(raw.decode(errors="replace") for raw in [*newest, *masters]), *also]))
    hands = sorted((wid.decode(errors="replace"), beat) for wid, beat in zip(beats[::2], beats[1::2], strict=True))
    ended = {job.job: job for job in before.jobs if job.state is not State.RUNNING} if before is not None else {}
    details: list[Command] = [
        ("HMGET", keys.job(name), "tok") if name in ended else ("HMGET", keys.job(name), *_FIELDS) for name in ids
    ]
    details += [("LLEN", keys.in_flight(wid)) for wid, _ in hands]
    found = wire.pipeline(details, refusals=True) if details else []
    reader = _Reader(keys, codecs)
    jobs = [job for name, row in zip(ids, found, strict=False) if (job := reader.job(name, row, ended)) is not None]
    held = [count if isinstance(count, int) else 0 for count in found[len(ids) :]]
    workers = [reader.worker(wid, beat, count) for (wid, beat), count in zip(hands, held, strict=True)]
    return Snapshot(
        queue=keys.name,
        server=server,
        jobs=tuple(sorted(jobs, key=lambda job: (-job.created, job.job))),
        workers=tuple(worker for worker in workers if worker is not None),
        waiting=waiting,
        in_flight=sum(held),
        known_jobs=known,
        dropped=reader.dropped,
        why_dropped=reader.why,
        unread_jobs=reader.jobs,
        unread_workers=reader.workers,
    )


def _answered(answer: Any) -> Any:
    """The answer, or the server's refusal as an exception."""
    if isinstance(answer, BrokerError):
        raise answer
    return answer


class _Reader:
    """Reads entries and counts those that cannot be read."""

    def __init__(self, keys: Keys, codecs: Codecs) -> None:
        self.keys = keys
        self.codecs = codecs
        self.dropped = self.jobs = self.workers = 0
        self.why = ""

    def job(self, name: str, row: list[bytes | None] | BrokerError, ended: Mapping[str, JobView]) -> JobView | None:
        """The job in the fields of its hash; None for a job that has expired or cannot be read."""
        if isinstance(row, BrokerError):
            self._drop(not_a_hash(self.keys.job(name)))
            self.jobs += 1
            return None
        if name in ended:
            known = ended[name]
            return known if row == [token_bytes(known.token)] else None  # submitted again: the next snapshot reads it
        fields = {field: value for field, value in zip(_FIELDS, row, strict=True) if value is not None}
        if not fields:
            return None
        try:
            found = read_job(self.keys, self.codecs, name, fields)
        except BadMessage as error:
            self._drop(str(error))
            self.jobs += 1
            return None
        for fault in found.faults:
            self._drop(fault)
        return JobView(
            job=name,
            computation=found.spec.computation,
            params=found.spec.params,
            state=found.state,
            created=found.spec.created,
            token=found.token,
            master=found.master,
            report=found.report or Report(total=found.spec.total),
            record=found.record,
            lazy=found.spec.lazy,
            by=found.spec.by,
        )

    def worker(self, wid: str, raw: bytes, held: int) -> WorkerView | None:
        """The worker of an entry; None for an entry that cannot be read."""
        if obituary := read_obituary(raw):
            return WorkerView(wid, None, obituary.why, held)
        try:
            return WorkerView(wid, self.codecs.beat.at(wid).open(raw), "", held)
        except BadMessage as error:
            self._drop(f"worker {wid}: {error}")
            self.workers += 1
            return None

    def _drop(self, why: str) -> None:
        self.dropped += 1
        self.why = self.why or why
