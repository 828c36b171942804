"""A job's hash, read: the one place where its bytes become a job.

Whoever can write to Redis can write any field of it. What is signed says what it is: the spec which job it is, the
record that it is over and how, the checkpoint what is counted. What is not signed decides nothing but who waits: of
``state`` and ``tok`` anything is taken, and a job that claims to be over without a record that says so is taken to run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mapreduce_rq.broker.keys import Keys
from mapreduce_rq.core.job.record import Record, Report, State
from mapreduce_rq.core.messages import Checkpoint, Codecs, Spec, mac_of
from mapreduce_rq.errors import BadMessage, OtherKey


@dataclass(frozen=True)
class JobState:
    """A job as it stands in Redis."""

    job: str
    token: str  # opaque; see ``token_bytes``
    state: State  # as its record has it
    spec: Spec
    checkpoint: Checkpoint | None  # None: there is none that can be read; who goes on begins anew
    checkpoint_mac: bytes
    master: str  # who leads; '' = released for anybody
    record: Record | None  # of a job that has ended
    report: Report | None  # None: in its first second, or it cannot be read
    host: str = ""  # the RQ job that is a run of it; '' for none. A hint: it is not signed
    faults: tuple[str, ...] = ()  # what in it cannot be what a master wrote

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.state is State.RUNNING


def read_job(keys: Keys, codecs: Codecs, job: str, found: Mapping[str, bytes]) -> JobState:
    """The job in these fields of its hash; ``ck`` may be left out by who does not want it.

    Raises BadMessage, in one line that names the key, for one whose spec cannot be read: without it nothing can be
    done for the job.
    """
    faults: list[str] = []
    spec = _spec(keys, codecs, job, found)
    record = _record(codecs, job, found.get("record"), faults)
    says = text_of(found.get("state"))
    state = record.state if record is not None else State.RUNNING
    if says != state:
        missing = "no record" if found.get("record") is None else "no record that can be read"
        why = f"and there is {missing}" if record is None else f"and its record says {state}"
        faults.append(f"{keys.job(job)} says that the job is {says[:40]!r}, {why}: it is taken for {state.word}")
    if not found.get("tok"):
        faults.append(f"{keys.job(job)} has no token")
    checkpoint: Checkpoint | None = None
    if sealed := found.get("ck"):
        try:
            checkpoint = codecs.checkpoint.at(job).open(sealed)
            if checkpoint.job != job:
                raise BadMessage(f"the checkpoint is that of {checkpoint.job}")
        except BadMessage as error:
            checkpoint = None
            faults.append(f"{keys.job(job)}: {error}")
    report = None
    if progress := found.get("progress"):
        try:
            report = codecs.report.at(job).open(progress)
        except BadMessage as error:
            faults.append(f"{keys.job(job)}: {error}")
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
        faults=tuple(faults),
    )


def _spec(keys: Keys, codecs: Codecs, job: str, found: Mapping[str, bytes]) -> Spec:
    remedy = f"if nobody needs this job, DEL {keys.job(job)}"
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
            raise BadMessage(f"it is that of {record.job}")
    except BadMessage as error:
        faults.append(f"the record of {job} cannot be read: {error}")
        return None
    return record


def text_of(raw: bytes | None) -> str:
    """What should be text of ours. Somebody else's bytes must not stop a master."""
    return (raw or b"").decode(errors="replace")


def token_text(raw: bytes | None) -> str:
    """A token as text. Whatever its bytes are, ``token_bytes`` gives them back: it is compared, and never read."""
    return (raw or b"").decode(errors="surrogateescape")


def token_bytes(token: str) -> bytes:
    """The bytes of a token."""
    return token.encode(errors="surrogateescape")
