"""The messages that travel through Redis: typed, versioned, capped in size and, with a key, signed.

On the wire a message is ``kid (2 bytes) | mac (16 bytes, absent when kid is 0) | payload``, the payload in msgpack.
The MAC is keyed BLAKE2b-128 (RFC 7693); its personalisation is the wire version and the kind, its text
the queue's name, the address and the payload: a message cannot be replayed as another kind, on another queue, at
another address or under another wire version. For a large payload, its SHA-256 is in the MAC's text in its place. The
address is the id of the job or worker whose key the message stands in. Tasks and replies do not stand in a key of their
own and have no address: they hold their job's id, and each reader compares it. A message is read in this order: size,
MAC, type. If a step fails, it raises BadMessage.

Without a signing key a message is typed and capped, but not authenticated: every client that can write to the Redis can
then write tasks and replies.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from mapreduce_rq.core.fleet.liveness import OBITUARY
from mapreduce_rq.core.foreign_errors import kind_of, message_of, traceback_of
from mapreduce_rq.core.job.record import Record, Report
from mapreduce_rq.core.job.timeline import MAX_TIMELINE_BYTES, Timeline
from mapreduce_rq.core.shapes import decoder, ready
from mapreduce_rq.core.span import MAX_TERMS
from mapreduce_rq.errors import BadMessage, BadParameter, OtherKey, TooLarge, UsageError

WIRE_VERSION = 1
MAX_MESSAGE_BYTES = 512 * 1024 * 1024
"""Bytes of a message at most: Redis' own limit of one value. A reply's body has a lower cap, in the job's limits."""
MSGPACK_BYTES = 1 << 32
"""Bytes of a single text in a message, which msgpack cannot reach."""
HEAD_BYTES = 18
"""Bytes of key id and MAC."""
MAX_SPEC_BYTES = 32 * 1024 * 1024
MAX_REPORT_BYTES = 1024 * 1024
MAX_BEAT_BYTES = 64 * 1024
MAX_EVENT_BYTES = 64 * 1024

OK, ERROR, REFUSED, DIED, OK_ASIDE = 0, 1, 2, 3, 4
"""A task's status in a reply: it is computed; a term raised; this worker refuses it; its attempts are used up; it is
computed, and its worker has laid the body aside (on the host of a private server): the answer holds a reference."""

MAP, MERGE, REQUEST = 0, 1, 2
"""What a task asks for: the partial of its span; the merge of the two partials in its body; or the answer of the job's
computation to its body (a request of ``finish``)."""

Kind = Literal["task", "reply", "spec", "check", "beat", "record", "report", "event", "times"]

# Each number that travels has a range that all its readers can take: a slate's words have 64 bits, Lua's numbers and
# Redis' times to live have fewer, and times are shown to people. A number outside of its range cannot be decoded.
LONGEST_SECONDS = 10 * 365 * 86_400
"""Seconds that a limit may be at most: ten years."""
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


class Answer(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What became of one task."""

    lo: Index
    hi: Index
    attempt: Small
    op: int
    status: int
    body: bytes  # the encoded partial, or an encoded Failure
    ns: Index  # nanoseconds of work


class Tried(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A term that has a value, and took its worker more than one call: see ``Limits.retries``."""

    term: Index
    tries: Small  # calls, the last one included
    kind: str  # of the last exception
    message: str
    where: str = ""  # host:pid


class Reply(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The answers of one worker to one job, in one stream entry."""

    job: str
    wid: str
    answers: list[Answer]
    tried: list[Tried] = []  # terms of these answers


class Failure(msgspec.Struct, array_like=True, frozen=True):
    """Why a task has no partial. ``term`` is None if the kernel could not tell which term failed."""

    term: int | None
    kind: str  # the exception's type, or how the worker died
    message: str
    traceback: str
    where: str  # host:pid
    pickled: bytes = b""  # the exception itself, if pickles are trusted and it can be pickled

    @classmethod
    def of(cls, error: BaseException, where: str, term: int | None = None, pickled: bytes = b"") -> Failure:
        """The failure of a task by an exception, which may be of any class and run any code when it is shown."""
        return cls(term, kind_of(error), message_of(error), traceback_of(error), where, pickled)


LOST = "its host or supervisor was lost"
"""Why a worker is dead if no supervisor saw it die: its entry in Redis did not change for several looks. (A client of
Redis that wants this can also keep the entry from changing.)"""
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


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """A job's settings that outlive its master; seconds and bytes."""

    chunk: Annotated[int, CHUNK] | None = None  # terms in a task; None: chosen by measurement
    attempts: Annotated[int, ATTEMPTS] = 3  # workers that may die with a task in hand
    retries: Annotated[int, RETRIES] = 0  # further calls of your function for a term where it raises
    backoff: Annotated[float, BACKOFF] = 1.0  # before the first of these; doubled each time, an hour at most
    on_error: Literal["fail", "skip"] = "fail"
    task_timeout: Annotated[float, TASK_TIMEOUT] | None = None
    deadline: Annotated[float, DEADLINE] | None = None  # of work, over all masters
    rel_tol: Annotated[float, TOLERANCE] | None = None
    abs_tol: Annotated[float, TOLERANCE] | None = None
    keep: Annotated[int, KEEP] = 86_400  # how long the record of a finished job stays
    max_body: Annotated[int, MAX_BODY] = 64 * 1024 * 1024
    allow_mixed: bool = False
    urgent: bool = False  # its tasks go before those of other jobs

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


def check_limits(limits: Limits) -> None:
    """Raise BadParameter for a limit out of range, naming the limit and the range."""
    if limits is DEFAULT_LIMITS:
        return
    if not isinstance(limits, Limits):
        raise BadParameter(f"limits is a {type(limits).__name__}, and must be a Limits")
    for name, meta in _RANGES.items():
        value = getattr(limits, name)
        if isinstance(value, (int, float)) and not (_above_least(value, meta) and value <= (meta.le or 0)):
            most = f"{meta.le:g}" if isinstance(meta.le, float) else f"{meta.le:,}"
            allowed = f"from {meta.ge:g} to {most}" if meta.gt is None else f"above {meta.gt:g} and at most {most}"
            shown = f"{value:g}" if isinstance(value, float) else _short(value)
            raise BadParameter(f"limits: {name} is {shown}, and must be {allowed}")
    try:
        msgspec.convert(msgspec.structs.asdict(limits), ready(Limits))
    except msgspec.ValidationError as error:
        raise BadParameter(f"limits: {error}") from None


def _above_least(value: float, meta: Meta) -> bool:
    return value > meta.gt if meta.gt is not None else value >= (meta.ge or 0)


def _short(value: int) -> str:
    return f"{value:,}" if value.bit_length() < 100 else f"{'-' * (value < 0)}2**{value.bit_length() - 1} or more"


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """All that a worker or another master needs to know about a job; it never changes."""

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

    @property
    def label(self) -> str:
        """What it is, for people: the computation's name, or that of the user's function."""
        return str(self.params.get("label") or self.computation)


class Checkpoint(msgspec.Struct, array_like=True, frozen=True):
    """What is counted: the fold of ``parts`` is the fold of exactly the terms in ``runs``."""

    job: str
    runs: list[tuple[Index, Index]]
    parts: list[tuple[Index, Index, bytes]]  # (lo, hi, encoded partial); lo = hi = 0 for one accumulator of everything
    next: Index  # terms below it have been cut into tasks
    total: Index | None
    goal: Index | None  # where the tolerance is asked next
    tasks: Index  # answers counted
    skipped: list[tuple[Index, Failure]]
    elapsed: Seconds  # of work so far, over all masters
    tried: list[Tried] = []
    tried_more: Index = 0  # such terms that are not in the list


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Something that happened to a job, for people and programs. No decision depends on it."""

    job: str
    what: Literal[
        "submitted", "taken over", "let go", "worker lost", "term skipped", "done", "failed", "cancelled", "retried"
    ]
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


T = TypeVar("T")

_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""Errors of the decoder for bytes that are not a message. For text that is not UTF-8 it raises Python's own error."""

_encode = msgspec.msgpack.Encoder().encode


_RESERVED = {b"\0\0", OBITUARY}
"""Short ids that no key may have: the one that means no key, and the one that would make a beat look like an
obituary."""


class Keyring:
    """Signing keys. The first signs and all of them verify, so that keys can be rotated. Empty: nothing is signed."""

    def __init__(self, keys: Iterable[bytes] = ()) -> None:
        self._keys: dict[int, bytes] = {}
        for key in keys:
            if not 16 <= len(key) <= 64:
                raise UsageError("a signing key has 16 to 64 bytes: make one with `mrq key`")
            short = hashlib.blake2b(key, digest_size=2, person=b"mrq key id").digest()
            kid = int.from_bytes(b"\0\1" if short in _RESERVED else short, "big")
            if self._keys.setdefault(kid, key) != key:
                raise UsageError("two signing keys have the same short id: replace one of them")

    @property
    def kid(self) -> int:
        """The id of the key that signs; 0 without a key."""
        return next(iter(self._keys), 0)

    def secrets(self) -> list[bytes]:
        """The keys, the signing one first. They are handed to processes that we start, and are never printed."""
        return list(self._keys.values())

    def hashes(self, kind: Kind, queue: str) -> dict[bytes, Any]:
        """For each key id, as it stands in messages, the hash of what comes before the address and the payload."""
        found = {}
        for kid, key in self._keys.items():
            base = hashlib.blake2b(key=key, digest_size=16, person=f"mrq{WIRE_VERSION}{kind}".encode())
            base.update(_with_length(queue.encode()))
            found[kid.to_bytes(2, "big")] = base
        return found

    def __repr__(self) -> str:
        return f"Keyring({len(self._keys)} keys)"


LARGE_BYTES = 64 * 1024
"""Bytes of a payload from which the MAC is of its SHA-256: processors have instructions for SHA-256, so this runs at
1.9 GB/s instead of 0.9."""
LARGE = b"\xc1"
"""Stands before that SHA-256. No msgpack begins with this byte, so no small payload has the MAC of a large one."""


def _with_length(part: bytes) -> bytes:
    return len(part).to_bytes(4, "big") + part


class Codec:
    """One kind of message on one queue: ``seal`` makes its bytes, ``open`` reads them."""

    __slots__ = ("_bases", "_cap", "_decode", "_head", "_kind", "_signer")

    def __init__(
        self,
        kind: Kind,
        shape: Any,
        queue: str,
        keyring: Keyring,
        cap: int = MAX_MESSAGE_BYTES,
    ) -> None:
        self._kind = kind
        self._cap = cap
        self._bases = keyring.hashes(kind, queue)
        self._head = keyring.kid.to_bytes(2, "big")
        self._signer = self._bases.get(self._head)
        self._decode = decoder(shape)

    def at(self, part: bytes) -> Codec:
        """The codec whose MACs are also of this address."""
        if self._signer is None:
            return self
        made = object.__new__(Codec)
        made._kind, made._cap, made._head, made._decode = self._kind, self._cap, self._head, self._decode
        made._bases = found = {}
        for kid, base in self._bases.items():
            found[kid] = mac = base.copy()
            mac.update(part)
        made._signer = found.get(self._head)
        return made

    def seal(self, message: Any) -> bytes:
        """The bytes of a message. Raises TooLarge."""
        try:
            payload: bytes = _encode(message)
        except msgspec.EncodeError:  # bytes, or a text, of four gigabytes
            raise TooLarge(f"a {self._kind}", MSGPACK_BYTES, self._cap) from None
        if len(payload) > self._cap - HEAD_BYTES:
            raise TooLarge(f"a {self._kind}", len(payload), self._cap)
        if self._signer is None:
            return self._head + payload
        return b"%b%b%b" % (self._head, self._mac(self._head, payload), payload)

    def _mac(self, head: bytes, payload: bytes | memoryview) -> bytes:
        mac = self._bases[head].copy()
        mac.update(payload if len(payload) < LARGE_BYTES else LARGE + hashlib.sha256(payload).digest())
        found: bytes = mac.digest()
        return found

    def seal_all(self, messages: Iterable[Any]) -> list[bytes]:
        """As ``seal``, many at once. It does not check sizes: the wire checks messages that may be too large."""
        head = self._head
        if self._signer is None:
            return [head + _encode(message) for message in messages]
        fresh = self._signer.copy
        sealed = []
        for message in messages:
            payload = _encode(message)
            if len(payload) >= LARGE_BYTES:
                sealed.append(b"%b%b%b" % (head, self._mac(head, payload), payload))
                continue
            mac = fresh()
            mac.update(payload)
            sealed.append(b"%b%b%b" % (head, mac.digest(), payload))
        return sealed

    def open(self, data: bytes) -> Any:
        """The message in these bytes. Raises BadMessage."""
        payload: bytes | memoryview
        if len(data) > self._cap:
            raise BadMessage(f"a {self._kind} of {len(data)} bytes is over the cap of {self._cap}")
        if self._signer is None:
            if data[:2] != b"\0\0":
                raise self._of_another_key(data)
            payload = data[2:]
        else:
            base = self._bases.get(data[:2])
            if base is None:
                raise self._of_another_key(data)
            if len(data) < LARGE_BYTES:
                payload = data[18:]
                mac = base.copy()
                mac.update(payload)
                found = mac.digest()
            else:
                payload = memoryview(data)[18:]
                found = self._mac(data[:2], payload)
            if not hmac.compare_digest(found, data[2:18]):
                raise BadMessage(f"a {self._kind} fails its MAC")
        try:
            return self._decode(payload)
        except _UNREADABLE as error:
            raise BadMessage(f"a {self._kind} is malformed: {error}") from None

    def _of_another_key(self, data: bytes) -> BadMessage:
        if len(data) < len(self._head):
            return BadMessage(f"a {self._kind} is malformed: it has {len(data)} bytes")
        theirs = kid_of(data)
        if not theirs:
            here = kid_text(kid_of(self._head))
            return OtherKey(f"a {self._kind} is not signed, and messages here must be ({here})", theirs)
        if self._signer is None:
            text = f"a {self._kind} is signed ({kid_text(theirs)}), and no key is configured here"
            return OtherKey(f"{text}: set MRQ_KEY or --key-file", theirs)
        here = ", ".join(kid_text(kid_of(head)) for head in self._bases)
        return OtherKey(f"a {self._kind} is signed with {kid_text(theirs)}, and configured here is {here}", theirs)


class AddressedCodec:
    """One kind of message that stands in the key of a job or worker, and can be read only there."""

    def __init__(self, kind: Kind, shape: Any, queue: str, keyring: Keyring, cap: int = MAX_MESSAGE_BYTES) -> None:
        self._codec = Codec(kind, shape, queue, keyring, cap)

    def at(self, address: str) -> Codec:
        """The codec for messages at the address of this job or worker."""
        return self._codec.at(_with_length(address.encode(errors="surrogateescape")))


class Codecs:
    """The codecs of one queue under one keyring."""

    def __init__(self, queue: str, keyring: Keyring | None = None) -> None:
        self.keyring = keyring or Keyring()
        self.task = Codec("task", Task, queue, self.keyring)
        self.reply = Codec("reply", Reply, queue, self.keyring)
        self.spec = AddressedCodec("spec", Spec, queue, self.keyring, MAX_SPEC_BYTES)
        self.checkpoint = AddressedCodec("check", Checkpoint, queue, self.keyring)
        self.beat = AddressedCodec("beat", Beat, queue, self.keyring, MAX_BEAT_BYTES)
        self.record = AddressedCodec("record", Record, queue, self.keyring)
        self.report = AddressedCodec("report", Report, queue, self.keyring, MAX_REPORT_BYTES)
        self.timeline = AddressedCodec("times", Timeline, queue, self.keyring, MAX_TIMELINE_BYTES)
        self.event = Codec("event", Event, queue, self.keyring, MAX_EVENT_BYTES)


def mac_of(sealed: bytes) -> bytes:
    """The MAC of a sealed message, which no other message has; empty if it has none."""
    return b"" if sealed[:2] == b"\0\0" else sealed[2:18]


def kid_of(sealed: bytes) -> int:
    """The id of the key that sealed bytes name; 0: they are not signed."""
    return int.from_bytes(sealed[:2], "big")


def kid_text(kid: int) -> str:
    """A key's id as people see it: four hexadecimal digits, which say nothing of the key itself."""
    return f"key {kid:04x}" if kid else "no key"


def encode_failure(failure: Failure) -> bytes:
    """The body of an answer that is not OK."""
    return bytes(_encode(failure))


def decode_failure(body: bytes) -> Failure:
    """The Failure in an answer's body. Raises BadMessage."""
    try:
        found: Failure = decoder(Failure)(body)
    except _UNREADABLE as error:
        raise BadMessage(f"a failure is malformed: {error}") from None
    return found
