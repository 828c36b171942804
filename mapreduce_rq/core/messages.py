"""The messages that travel through Redis: the fields of each message, and the range of each number in it.

sealing.py seals them, so that no process without the key can write one.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from mapreduce_rq.core.given import FLAG, MOST, NUMBER, WHOLE, Wanted, only, or_none, plain, shown
from mapreduce_rq.core.shapes import decoder
from mapreduce_rq.core.span import MAX_TERMS
from mapreduce_rq.errors import BadMessage, BadParameter, WrongType

MAX_MESSAGE_BYTES = 512 * 1024 * 1024
"""The most bytes of a message: Redis' own limit of one value. A reply's body has a lower limit, in the job's limits."""
OK, ERROR, REFUSED, DIED, OK_ASIDE = 0, 1, 2, 3, 4
"""A task's status in a reply, in this order: it is computed; a term raised; this worker refuses it; its attempts are
used up; it is computed, and the answer holds a reference to a body that the worker laid aside (on a private server's
host).
"""

MAP, MERGE, REQUEST = 0, 1, 2
"""The kinds of tasks, in this order: map a span to its partial; merge the two partials in the body; answer the body, a
request of ``finish``, by the job's computation."""

# Each number that travels has a range that all its readers can take: a slate's words have 64 bits, Lua's numbers and
# Redis' times to live have fewer, and times are shown to people. A number outside of its range cannot be decoded.
LONGEST_SECONDS = 10 * 365 * 86_400
"""The most seconds that a limit may be: ten years."""
LARGEST_FLOAT = 1.7976931348623157e308
END_OF_TIME = 253_402_300_799
"""The last second of the year 9999, as unix time."""

Index = Annotated[int, Meta(ge=0, le=1 << 62)]
"""A term's index, the hash that stands in its place in a request, or a count."""
Small = Annotated[int, Meta(ge=0, le=1 << 31)]
Seconds = Annotated[float, Meta(ge=0, le=1e12)]
Rate = Annotated[float, Meta(ge=0, le=1e18)]
Moment = Annotated[float, Meta(ge=0, le=END_OF_TIME)]
"""Unix seconds."""


class Task(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A span of a job's terms to be computed. ``attempt`` counts the workers that died with it in hand."""

    job: str
    lo: Index
    hi: Index
    attempt: Small = 0
    op: int = MAP
    body: bytes = b""  # the items of the span, the partials to merge, or a request
    why: str = ""  # how the last attempt ended
    spec: bytes = b""  # the job's sealed spec, if it is small: this saves a new worker a round trip
    laid: bytes = b""  # of a body that stands apart from it: the SHA-256, then the name in the job's bodies


class Answer(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The answer to one task; or to several, if its partial has the terms of them all: a joint answer.

    How such answers come about stands in runtime/worker/joint_answers.py.
    """

    lo: Index
    hi: Index
    attempt: Small
    op: int
    status: int
    body: bytes  # the encoded partial, or an encoded Failure
    ns: Index  # nanoseconds of work
    also: list[tuple[Index, Index]] | None = None  # the spans of the other tasks of a joint answer

    @property
    def spans(self) -> list[tuple[int, int]]:
        """The spans of all tasks that it answers."""
        return [(self.lo, self.hi), *(self.also or ())]


class Tried(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A term that has a value, and took its worker more than one call: see ``Limits.retries``."""

    term: Index
    tries: Small  # calls, the last one included
    kind: str  # of the last exception
    message: str
    where: str = ""  # host:pid


OUTPUT_BYTES = 64 * 1024
"""The most bytes of printed output in one reply."""
OUTPUT_PIECES = 1024
StreamName = Literal["stdout", "stderr", "log"]


class Piece(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Text that a function printed or logged, for terms ``lo`` to ``hi - 1``: one term, if it is known."""

    lo: Index
    hi: Index
    stream: StreamName
    text: Annotated[str, Meta(max_length=OUTPUT_BYTES)]


class Output(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What a worker's functions have printed for one job since its last reply: see ``Limits.logs``."""

    serial: Index  # grows from one of a worker's outputs to the next: a reply may come twice
    pieces: Annotated[list[Piece], Meta(max_length=OUTPUT_PIECES)]
    cut: Index = 0  # bytes that were left out, beyond what a reply or a task may have


class Reply(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The answers of one worker to one job, in one stream entry."""

    job: str
    wid: str
    answers: list[Answer]
    tried: list[Tried] = []  # terms of these answers
    output: Output | None = None  # where the job asks for it


class _SeenAnswer(Answer, array_like=True, frozen=True, gc=False):
    body: memoryview  # type: ignore[assignment]  # see ``read_large_reply``


class _SeenReply(Reply, array_like=True, frozen=True, gc=False):
    answers: list[_SeenAnswer]  # type: ignore[assignment]  # as above


def read_large_reply(payload: bytes | memoryview) -> Reply:
    """A reply, with partials that are views of the payload and no copies. Raises as the decoder of Reply."""
    found: Reply = decoder(_SeenReply)(payload)
    for at, answer in enumerate(found.answers):
        if answer.op != MAP or answer.status != OK:
            found.answers[at] = msgspec.structs.replace(answer, body=bytes(answer.body))
    return found


def pieces_of_reply(reply: Reply, large: int) -> list[bytes]:
    """What the encoder makes of a reply, which has an answer: in pieces, of which each body of at least ``large`` bytes
    is one, uncopied.
    """
    encode = msgspec.msgpack.encode
    count = len(reply.answers)
    found = [b"\x95" + encode(reply.job) + encode(reply.wid) + encode([None] * count)[:-count]]
    for answer in reply.answers:
        if len(answer.body) < large:
            found.append(encode(answer))
            continue
        before = (answer.lo, answer.hi, answer.attempt, answer.op, answer.status)
        head = b"\x98" + b"".join(map(encode, before)) + b"\xc6" + len(answer.body).to_bytes(4, "big")
        found += [head, answer.body, encode(answer.ns) + encode(answer.also)]
    return [*found, encode(reply.tried) + encode(reply.output)]


OURS = -1
"""In the place of the term that failed: this package is at fault, so to look for a term would not help."""


class Failure(msgspec.Struct, array_like=True, frozen=True):
    """The reason why a task has no partial. ``term`` is None if the kernel could not tell which term failed, and OURS
    if no term is at fault.
    """

    term: int | None
    kind: str  # the exception's type, or how the worker died
    message: str
    traceback: str
    where: str  # host:pid, or MASTER
    pickled: bytes = b""  # the exception itself, if pickles are trusted and it can be pickled


LOST = "its host or supervisor was lost"
"""The reason of a worker's death if no supervisor saw it die: its entry in Redis did not change for several looks. (Any
client of Redis can also keep the entry from changing.)"""
WORKER_DIED, WORKER_LOST = "WorkerDied", "WorkerLost"
"""A failure's kind if a task's attempts are used up; the second if no supervisor saw the last worker die."""

CHUNK = Meta(ge=1, le=MAX_TERMS)
ATTEMPTS = Meta(ge=1, le=1_000_000)
TASK_TIMEOUT = Meta(ge=0.001, le=LONGEST_SECONDS)
DEADLINE = Meta(gt=0, le=LONGEST_SECONDS)
TOLERANCE = Meta(gt=0, le=LARGEST_FLOAT)
KEEP = Meta(ge=1, le=LONGEST_SECONDS)
RETRIES = Meta(ge=0, le=1000)
BACKOFF = Meta(ge=0.0, le=3600.0)
MAX_BODY = Meta(ge=1, le=MAX_MESSAGE_BYTES)


class _Named(type(msgspec.Struct)):  # type: ignore[misc]  # msgspec does not export it
    """A class whose errors about its arguments name the class. Decoding does not use this."""

    def __call__(cls, *given: Any, **named: Any) -> Any:
        if given:
            raise WrongType(f"{cls.__name__}() takes its arguments by name: {cls.__name__}(chunk=100)")
        only(cls.__name__, named, cls.__struct_fields__)
        return super().__call__(**{name: _carried(value) for name, value in named.items()})


def _carried(value: Any) -> Any:
    """A limit as a message carries it: whole numbers beyond 64 bits are doubles, if doubles can hold them."""
    value = plain(value)
    return float(value) if type(value) is int and MOST < value <= LARGEST_FLOAT else value


class Limits(msgspec.Struct, frozen=True, kw_only=True, metaclass=_Named):
    """A job's settings, which outlive its master. Times are in seconds, sizes in bytes.

    Raises BadParameter for a value out of range.
    """

    chunk: Annotated[int, CHUNK] | None = None  # terms in a task; None: chosen by measurement
    attempts: Annotated[int, ATTEMPTS] = 3  # workers that may die with a task in hand
    retries: Annotated[int, RETRIES] = 0  # further calls of your function for a term where it raises
    backoff: Annotated[float, BACKOFF] = 1.0  # seconds before the first of these; doubled each time, at most an hour
    on_error: Literal["fail", "skip"] = "fail"
    task_timeout: Annotated[float, TASK_TIMEOUT] | None = None
    deadline: Annotated[float, DEADLINE] | None = None  # seconds of work, over all masters
    rel_tol: Annotated[float, TOLERANCE] | None = None
    abs_tol: Annotated[float, TOLERANCE] | None = None
    keep: Annotated[int, KEEP] = 86_400  # seconds for which Redis keeps the record of an ended job
    max_body: Annotated[int, MAX_BODY] = 64 * 1024 * 1024
    allow_mixed: bool = False
    urgent: bool = False  # its tasks go before those of other jobs
    logs: bool = False  # what functions print and log comes with their answers, to an observer that has ``printed``

    @property
    def tolerant(self) -> bool:
        """Whether the job may end before all its terms are counted, if its error is small enough."""
        return self.rel_tol is not None or self.abs_tol is not None


DEFAULT_LIMITS = Limits()

_RANGES = {
    "chunk": CHUNK,
    "attempts": ATTEMPTS,
    "retries": RETRIES,
    "backoff": BACKOFF,
    "task_timeout": TASK_TIMEOUT,
    "deadline": DEADLINE,
    "rel_tol": TOLERANCE,
    "abs_tol": TOLERANCE,
    "keep": KEEP,
    "max_body": MAX_BODY,
}


_KINDS = {
    **dict.fromkeys(["attempts", "retries", "keep", "max_body"], WHOLE),
    **dict.fromkeys(["task_timeout", "deadline", "rel_tol", "abs_tol"], or_none(NUMBER)),
    **dict.fromkeys(["allow_mixed", "urgent", "logs"], FLAG),
    "chunk": or_none(WHOLE),
    "backoff": NUMBER,
    "on_error": Wanted("fail or skip", lambda value: value in ("fail", "skip")),
}


def check_limits(limits: Limits) -> None:
    """Raise BadParameter for a limit out of range, naming the limit and the range."""
    if limits is DEFAULT_LIMITS:
        return
    if not isinstance(limits, Limits):
        raise WrongType(f"limits is {shown(limits)}, and must be a Limits")
    for name, kind in _KINDS.items():
        value = getattr(limits, name)
        if not kind.fits(value):
            raise WrongType(f"limits: {name} is {shown(value)}, and must be {kind.words}")
    for name, meta in _RANGES.items():
        value = getattr(limits, name)
        if isinstance(value, (int, float)) and not (_above_least(value, meta) and value <= (meta.le or 0)):
            most = f"{meta.le:g}" if isinstance(meta.le, float) else f"{meta.le:,}"
            allowed = f"from {meta.ge:g} to {most}" if meta.gt is None else f"above {meta.gt:g} and at most {most}"
            raise BadParameter(f"limits: {name} is {shown(value)}, and must be {allowed}")


def _above_least(value: float, meta: Meta) -> bool:
    return value > meta.gt if meta.gt is not None else value >= (meta.ge or 0)


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """All that a worker or another master needs to know about a job. It never changes."""

    job: str
    computation: str
    params: dict[str, Any]
    total: Annotated[int, Meta(ge=0, le=MAX_TERMS)] | None
    limits: Limits
    created: Moment  # for people
    version: str  # of this package, on the submitting side
    code: str = ""  # hash of the computation's source there (core/fingerprint.py); '' on a private server
    numerics: str = ""  # probe of the submitting side, if the kernel depends on it
    lazy: bool = False  # terms come from an iterator in the master: cannot be resumed elsewhere
    by: str = ""  # user@host:pid of the submitter, for people
    joins: bool = False  # its masters take joint answers
    traceparent: Annotated[str, Meta(max_length=55)] = ""  # of the job's span, as W3C writes it; '': it is not traced

    @property
    def label(self) -> str:
        """The job's name for people: the name of the computation, or of the user's function."""
        return str(self.params.get("label") or self.computation)


class Checkpoint(msgspec.Struct, array_like=True, frozen=True):
    """What is counted: the fold of ``parts`` is the fold of exactly the terms in ``runs``."""

    job: str
    runs: list[tuple[Index, Index]]
    parts: list[tuple[Index, Index, bytes]]  # (lo, hi, encoded partial); lo = hi = 0 for one accumulator of everything
    next: Index  # terms below it have been cut into tasks
    total: Index | None
    goal: Index | None  # the term at which the tolerance is checked next
    tasks: Index  # answers counted
    skipped: list[tuple[Index, Failure]]
    elapsed: Seconds  # of work so far, over all masters
    tried: list[Tried] = []
    tried_more: Index = 0  # such terms that are not in the list


What = Literal[
    "submitted",
    "taken over",
    "let go",
    "worker lost",
    "reclaimed",
    "term skipped",
    "term retried",
    "part answer",
    "poison",
    "full",
    "done",
    "failed",
    "cancelled",
    "retried",
]
"""The kinds of events of a job."""


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An event of a job, for people and programs. No decision of ours depends on it."""

    job: str
    what: What
    by: str = ""  # the process that tells it: user@host:pid
    text: str = ""  # more about it, for people
    at: Moment = 0.0  # unix seconds by its clock


class Beat(msgspec.Struct, array_like=True, frozen=True):
    """A worker's sign of life. Observers only check whether its bytes changed; most fields are for people."""

    count: Index
    host: str
    pid: Index
    name: str
    state: Literal["idle", "busy", "stopped"]
    job: str
    lo: Index
    hi: Index
    seconds: Seconds  # in the task in hand
    done: Index  # tasks since start
    rate: Rate  # tasks a second since the last beat
    rss: Index  # bytes
    version: str
    probe: str  # interpreter, numpy, machine
    kid: Index  # which key it signs with; 0: none
    at: Moment  # for people
    cpu: float = -1.0  # processor seconds a second, since the last beat; below 0: not known
    refuses: str = ""  # the job that it refused last, and why: ``job: kind: message``; "": none


UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""Errors of the decoder for bytes that are not a message. For text that is not UTF-8 it raises Python's own error."""


def encode_failure(failure: Failure) -> bytes:
    """The body of an answer that is not OK."""
    return msgspec.msgpack.encode(failure)


def decode_failure(body: bytes) -> Failure:
    """The Failure in an answer's body. Raises BadMessage."""
    try:
        found: Failure = decoder(Failure)(body)
    except UNREADABLE as error:
        raise BadMessage(f"a failure is malformed: {error}") from None
    return found
