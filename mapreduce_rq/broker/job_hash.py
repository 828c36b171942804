"""The one place where the bytes of a job's hash become a job.

A program that can write to Redis can write any field. Signed fields decide what the job is: the spec describes the job,
the record says that it is over and how, and the checkpoint says what is counted. Unsigned fields (``state``, ``tok``)
may hold anything, and decide only whether a process waits: if ``state`` says that a job is over, and no record does,
the job counts as running.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from mapreduce_rq.broker.keys import Keys
from mapreduce_rq.core.job.record import Record, Report, State
from mapreduce_rq.core.job.recorder import brought_up
from mapreduce_rq.core.job.timeline import Timeline
from mapreduce_rq.core.messages import Checkpoint, Spec
from mapreduce_rq.core.sealing import Codecs, mac_of
from mapreduce_rq.errors import BadMessage, OtherKey


class JobState(msgspec.Struct, frozen=True):
    """A job as Redis holds it."""

    job: str
    token: str  # opaque; see ``token_bytes``
    state: State  # from its record
    spec: Spec
    checkpoint: Checkpoint | None  # None: no checkpoint can be read, so the next master begins anew
    checkpoint_mac: bytes
    master: str  # the process that leads; '': the master has let go of the job
    record: Record | None  # of a job that has ended
    report: Report | None  # None: in its first second, or it cannot be read
    host: str = ""  # the RQ job that is a run of it; '' for none. A hint: it is not signed
    timeline: Timeline | None = None  # as it was last stored; None: there is none, or it cannot be read
    faults: tuple[str, ...] = ()  # the parts that no master can have written

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.state is State.RUNNING


def read_job(keys: Keys, codecs: Codecs, job: str, found: Mapping[str, bytes]) -> JobState:
    """The job in these fields of its hash. A caller that does not need ``ck`` may leave it out.

    Raises BadMessage, in one line that names the key, for a job whose spec cannot be read: without its spec nothing
    can be done for a job.
    """
    faults: list[str] = []
    spec = _spec(keys, codecs, job, found)
    record = _record(codecs, job, found.get("record"), faults)
    says = text_of(found.get("state"))
    state = record.state if record is not None else State.RUNNING
    if says != state:
        missing = "no record" if found.get("record") is None else "no readable record"
        why = f"and it has {missing}" if record is None else f"and its record says {state}"
        faults.append(f"{keys.job(job)} says that the job is {says[:40]!r}, {why}: the job counts as {state.word}")
    if not found.get("tok"):
        faults.append(f"{keys.job(job)} has no token")
    checkpoint: Checkpoint | None = None
    if sealed := found.get("ck"):
        try:
            checkpoint = codecs.checkpoint.at(job).open(sealed)
            if checkpoint.job != job:
                raise BadMessage(f"the checkpoint belongs to {checkpoint.job}")
        except BadMessage as error:
            checkpoint = None
            faults.append(f"{keys.job(job)}: {error}")
    report = None
    if progress := found.get("progress"):
        try:
            report = codecs.report.at(job).open(progress)
        except BadMessage as error:
            faults.append(f"{keys.job(job)}: {error}")
    timeline = None
    try:
        timeline = timeline_of(codecs, job, found.get("timeline"), found.get("since"))
    except BadMessage as error:
        faults.append(str(error))
    return JobState(
        job=job,
        token=token_text(found.get("tok")),
        state=state,
        spec=spec,
        checkpoint=checkpoint,
        checkpoint_mac=mac_of(found.get("ck", b"")),
        master=text_of(found.get("master")),
        record=record,
        report=report,
        host=text_of(found.get("host")),
        timeline=timeline,
        faults=tuple(faults),
    )


def timeline_of(codecs: Codecs, job: str, kept: bytes | None, since: bytes | None) -> Timeline | None:
    """A job's timeline, from these two fields of its hash; None if none is stored. Raises BadMessage, ForeignKey."""
    both: list[Any] = [
        codec.at(job).open(sealed) if sealed else None
        for codec, sealed in ((codecs.timeline, kept), (codecs.since, since))
    ]
    for found in both:
        if found is not None and found.job != job:
            raise BadMessage(f"the timeline of {job} belongs to {found.job}")
    return brought_up(*both)


def _spec(keys: Keys, codecs: Codecs, job: str, found: Mapping[str, bytes]) -> Spec:
    remedy = f"if you do not need this job, DEL {keys.job(job)}"
    if not found.get("spec"):
        raise BadMessage(f"job {job} cannot be read: its hash holds no spec; {remedy}")
    try:
        spec: Spec = codecs.spec.at(job).open(found["spec"])
    except OtherKey as error:
        raise OtherKey(f"job {job} cannot be read: {error}", error.kid) from None
    except BadMessage as error:
        raise BadMessage(f"job {job} cannot be read: {error}; {remedy}") from None
    if spec.job != job:
        raise BadMessage(f"job {job} cannot be read: its hash holds the spec of {spec.job}; {remedy}")
    return spec


def _record(codecs: Codecs, job: str, sealed: bytes | None, faults: list[str]) -> Record | None:
    if not sealed:
        return None
    try:
        record: Record = codecs.record.at(job).open(sealed)
        if record.job != job:
            raise BadMessage(f"it belongs to {record.job}")
    except BadMessage as error:
        faults.append(f"the record of {job} cannot be read: {error}")
        return None
    return record


def text_of(raw: bytes | None) -> str:
    """Bytes that should be our text, as text. Bytes that another program wrote must not stop a master."""
    return (raw or b"").decode(errors="replace")


def token_text(raw: bytes | None) -> str:
    """A token as text. ``token_bytes`` turns it into the same bytes: a token is only compared, and never read."""
    return (raw or b"").decode(errors="surrogateescape")


def token_bytes(token: str) -> bytes:
    """The bytes of a token."""
    return token.encode(errors="surrogateescape")
