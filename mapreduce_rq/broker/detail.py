"""One job in more detail than a snapshot has, for a person who looks at it: facts from its checkpoint and its timeline.

It is read when a viewer asks for it. A checkpoint that holds a large value is not read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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
    sizes = wire.pipeline([("HSTRLEN", name, "ck"), ("HSTRLEN", name, "timeline")], refusals=True)
    held, kept = (size if isinstance(size, int) else 0 for size in sizes)
    wanted = [
        field
        for field, size, most in (("ck", held, MOST_BYTES), ("timeline", kept, MAX_TIMELINE_BYTES + 64))
        if 0 < size <= most
    ]
    answers = wire.pipeline([("HGET", name, field) for field in wanted], refusals=True) if wanted else []
    found = {field: answer for field, answer in zip(wanted, answers, strict=True) if isinstance(answer, bytes)}
    why = "" if held <= MOST_BYTES else "its checkpoint is large, and was not read"
    checkpoint: Checkpoint | None = None
    timeline: Timeline | None = None
    try:
        checkpoint = _opened(codecs.checkpoint.at(job), found.get("ck"), job)
        timeline = _opened(codecs.timeline.at(job), found.get("timeline"), job)
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
