"""One job in more detail than a snapshot has, for a person who looks at it: facts from its checkpoint and its timeline.

It is read when a viewer asks for it. A checkpoint that holds a large value is not read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mapreduce_rq.broker.job_hash import timeline_of
from mapreduce_rq.broker.keys import Keys
from mapreduce_rq.broker.wire import Wire
from mapreduce_rq.core.job.timeline import MAX_TIMELINE_BYTES, Timeline
from mapreduce_rq.core.messages import Checkpoint, Failure
from mapreduce_rq.core.sealing import Codecs
from mapreduce_rq.errors import BadMessage

MOST_BYTES = 1 << 20
"""The most bytes of a checkpoint that is read for a person."""


@dataclass(frozen=True)
class Detail:
    """Details of one job. ``runs``: the spans of terms in the last checkpoint; None if they are not known."""

    job: str
    runs: tuple[tuple[int, int], ...] | None = None
    skipped: tuple[tuple[int, Failure], ...] = ()
    timeline: Timeline | None = None
    why: str = ""  # why something is not known


def read_detail(wire: Wire, keys: Keys, codecs: Codecs, job: str) -> Detail:
    """Read the details of a job, in two round trips. Raises BrokerError."""
    name = keys.job(job)
    most = {"ck": MOST_BYTES, "timeline": MAX_TIMELINE_BYTES + 64, "since": MAX_TIMELINE_BYTES + 64}
    sizes = wire.pipeline([("HSTRLEN", name, field) for field in most], refusals=True)
    held = {field: size if isinstance(size, int) else 0 for field, size in zip(most, sizes, strict=True)}
    wanted = [field for field, size in held.items() if 0 < size <= most[field]]
    answers = wire.call("HMGET", name, *wanted) if wanted else []
    found = {field: answer for field, answer in zip(wanted, answers, strict=True) if isinstance(answer, bytes)}
    why = "" if held["ck"] <= MOST_BYTES else "its checkpoint is large, and was not read"
    checkpoint: Checkpoint | None = None
    timeline: Timeline | None = None
    try:
        checkpoint = _opened(codecs.checkpoint.at(job), found.get("ck"), job)
        timeline = timeline_of(codecs, job, found.get("timeline"), found.get("since"))
    except BadMessage as error:
        why = str(error)
    return Detail(
        job,
        None if checkpoint is None else tuple(checkpoint.runs),
        () if checkpoint is None else tuple(checkpoint.skipped),
        timeline,
        why,
    )


def _opened(codec: Any, sealed: bytes | None, job: str) -> Any:
    if sealed is None:
        return None
    found = codec.open(sealed)
    if found.job != job:
        raise BadMessage(f"what {job} holds belongs to {found.job}")
    return found
