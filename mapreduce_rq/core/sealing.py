"""Seals messages (with a version, a limit of their size and, with a key, a signature) and opens them again.

On the wire a message is ``kid (2 bytes) | mac (16 bytes, absent when kid is 0) | payload``, the payload in msgpack.
The MAC is keyed BLAKE2b-128 (RFC 7693); its personalisation is the wire version and the kind, its text
the queue's name, the address and the payload: a message cannot be replayed as another kind, on another queue, at
another address or under another wire version. For a large payload, its SHA-256 is in the MAC's text in its place. The
address is the id of the job or worker whose key the message stands in. Tasks and replies do not stand in a key of their
own and have no address: they hold their job's id, and each reader compares it. A reader checks a message in this order:
size, MAC, type. If a check fails, it raises BadMessage.

Without a signing key, size and type are checked, but not the writer: every client that can write to the Redis can then
write tasks and replies.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, Literal

import msgspec

from mapreduce_rq.core.fleet.liveness import OBITUARY
from mapreduce_rq.core.job.record import Record, Report
from mapreduce_rq.core.job.timeline import MAX_TIMELINE_BYTES, Since, Timeline
from mapreduce_rq.core.messages import (
    MAX_MESSAGE_BYTES,
    UNREADABLE,
    Beat,
    Checkpoint,
    Event,
    Reply,
    Spec,
    Task,
    read_large_reply,
)
from mapreduce_rq.core.shapes import decoder
from mapreduce_rq.core.text import not_utf8
from mapreduce_rq.errors import BadMessage, BadParameter, OtherKey, TooLarge, UsageError

WIRE_VERSION = 1
MSGPACK_BYTES = 1 << 32
"""A single text in a message has fewer bytes than this: msgpack cannot write more."""
HEAD_BYTES = 18
"""The number of bytes of key id and MAC."""
MAX_SPEC_BYTES = 32 * 1024 * 1024
MAX_REPORT_BYTES = 1024 * 1024
MAX_BEAT_BYTES = 64 * 1024
MAX_EVENT_BYTES = 64 * 1024

Kind = Literal["task", "reply", "spec", "check", "beat", "record", "report", "event", "times", "since", "piece"]

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
"""From this number of bytes, the MAC is made of the payload's SHA-256: processors have instructions for SHA-256, so
this runs at 1.9 GB/s instead of 0.9.
"""
LARGE = b"\xc1"
"""Stands before that SHA-256. No msgpack begins with this byte, so no small payload has the MAC of a large one."""


def _with_length(part: bytes) -> bytes:
    return len(part).to_bytes(4, "big") + part


class InPieces:
    """A sealed message, in pieces that are sent one behind the other. Its length is that of all of them."""

    __slots__ = ("_size", "pieces")

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self.pieces = pieces
        self._size = sum(map(len, pieces))

    def __len__(self) -> int:
        return self._size

    def __bytes__(self) -> bytes:
        return b"".join(self.pieces)


class Codec:
    """One kind of message on one queue: ``seal`` makes its bytes, ``open`` reads them.

    ``large``: reads the payload of a large message.
    """

    __slots__ = ("_bases", "_cap", "_decode", "_decode_large", "_head", "_kind", "_part", "_signer")

    def __init__(
        self,
        kind: Kind,
        shape: Any,
        queue: str,
        keyring: Keyring,
        cap: int = MAX_MESSAGE_BYTES,
        *,
        large: Callable[[memoryview], Any] | None = None,
    ) -> None:
        self._kind = kind
        self._cap = cap
        self._bases = keyring.hashes(kind, queue)
        self._head = keyring.kid.to_bytes(2, "big")
        self._signer = self._bases.get(self._head)
        self._part = b""  # an address, which a MAC is of before the payload
        self._decode = decoder(shape)
        self._decode_large = large or self._decode

    def at(self, part: bytes) -> Codec:
        """The codec whose MACs also cover this address. Most such codecs seal or open one message."""
        made = object.__new__(Codec)
        made._kind, made._cap, made._head, made._decode = self._kind, self._cap, self._head, self._decode
        made._bases, made._signer, made._part = self._bases, self._signer, part
        made._decode_large = self._decode_large
        return made

    def seal(self, message: Any) -> bytes:
        """The bytes of a message. Raises TooLarge."""
        try:
            payload: bytes = _encode(message)
        except msgspec.EncodeError:  # bytes, or a text, of four gigabytes
            raise TooLarge(f"a {self._kind}", MSGPACK_BYTES, self._cap) from None
        except UnicodeEncodeError as error:
            raise BadParameter(f"in a {self._kind}, {not_utf8(error.object)}") from None
        if len(payload) > self._cap - HEAD_BYTES:
            raise TooLarge(f"a {self._kind}", len(payload), self._cap)
        if self._signer is None:
            return self._head + payload
        if len(payload) >= LARGE_BYTES:
            return b"%b%b%b" % (self._head, self._mac(self._head, payload), payload)
        mac = self._signer.copy()
        mac.update(self._part)
        mac.update(payload)
        return b"%b%b%b" % (self._head, mac.digest(), payload)

    def seal_pieces(self, payload: Sequence[bytes]) -> InPieces:
        """As ``seal``, for a large message that is encoded already, in pieces: it is not copied."""
        found = InPieces((self._head, *payload))
        if len(found) > self._cap - HEAD_BYTES:
            raise TooLarge(f"a {self._kind}", len(found), self._cap)
        return found if self._signer is None else InPieces((self._head + self._mac(self._head, *payload), *payload))

    def _mac(self, head: bytes, *payload: bytes | memoryview) -> bytes:
        """The MAC of a message whose payload is in pieces, and may be large."""
        mac = self._bases[head].copy()
        if self._part:
            mac.update(self._part)
        large = sum(map(len, payload)) >= LARGE_BYTES
        text = hashlib.sha256() if large else mac
        for piece in payload:
            text.update(piece)
        if large:
            mac.update(LARGE + text.digest())
        found: bytes = mac.digest()
        return found

    def seal_all(self, messages: Iterable[Any]) -> list[bytes]:
        """As ``seal``, for many messages. It does not check sizes: the wire checks messages that may be too large."""
        head = self._head
        if self._signer is None:
            return [head + _encode(message) for message in messages]
        base = self._signer.copy()
        base.update(self._part)
        fresh = base.copy
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
                if self._part:
                    mac.update(self._part)
                mac.update(payload)
                found = mac.digest()
            else:
                payload = memoryview(data)[18:]
                found = self._mac(data[:2], payload)
            if not hmac.compare_digest(found, data[2:18]):
                raise BadMessage(f"a {self._kind} fails its MAC")
        try:
            return self._decode(payload) if len(data) < LARGE_BYTES else self._decode_large(memoryview(payload))
        except UNREADABLE as error:
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
        self._signs = keyring.kid != 0

    def at(self, address: str) -> Codec:
        """The codec for messages at the address of this job or worker."""
        return self._codec.at(_address(address)) if self._signs else self._codec


@lru_cache(maxsize=16)  # a master seals several messages at the address of one job
def _address(name: str) -> bytes:
    return _with_length(name.encode(errors="surrogateescape"))


class Codecs:
    """The codecs of one queue under one keyring."""

    def __init__(self, queue: str, keyring: Keyring | None = None) -> None:
        self.keyring = keyring or Keyring()
        self.task = Codec("task", Task, queue, self.keyring)
        self.reply = Codec("reply", Reply, queue, self.keyring, large=read_large_reply)
        self.spec = AddressedCodec("spec", Spec, queue, self.keyring, MAX_SPEC_BYTES)
        self.checkpoint = AddressedCodec("check", Checkpoint, queue, self.keyring)
        self.beat = AddressedCodec("beat", Beat, queue, self.keyring, MAX_BEAT_BYTES)
        self.record = AddressedCodec("record", Record, queue, self.keyring)
        self.report = AddressedCodec("report", Report, queue, self.keyring, MAX_REPORT_BYTES)
        self.timeline = AddressedCodec("times", Timeline, queue, self.keyring, MAX_TIMELINE_BYTES)
        self.since = AddressedCodec("since", Since, queue, self.keyring, MAX_TIMELINE_BYTES)
        self.piece = AddressedCodec("piece", bytes, queue, self.keyring)
        self.event = Codec("event", Event, queue, self.keyring, MAX_EVENT_BYTES)


def mac_of(sealed: bytes) -> bytes:
    """The MAC of a sealed message, which no other message has; empty if it has none."""
    return b"" if sealed[:2] == b"\0\0" else sealed[2:18]


def kid_of(sealed: bytes) -> int:
    """The id of the key that sealed bytes name; 0: they are not signed."""
    return int.from_bytes(sealed[:2], "big")


def kid_text(kid: int) -> str:
    """A key's id for people: four hexadecimal digits, which reveal nothing of the key itself."""
    return f"key {kid:04x}" if kid else "no key"
