"""Bytes from anywhere: what is not ours is refused with BadMessage, and nothing else ever happens."""

from __future__ import annotations

import hashlib
from hashlib import blake2b
from itertools import count
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mapreduce_rq.core.fleet.liveness import OBITUARY
from mapreduce_rq.core.job.record import Report
from mapreduce_rq.core.messages import (
    MAP,
    OK,
    Answer,
    Beat,
    Checkpoint,
    Failure,
    Limits,
    Reply,
    Spec,
    Task,
    decode_failure,
    encode_failure,
)
from mapreduce_rq.core.sealing import LARGE, LARGE_BYTES, WIRE_VERSION, AddressedCodec, Codec, Codecs, Keyring
from mapreduce_rq.errors import BadMessage
from tests.support.records import done

KEY, OTHER = b"k" * 32, b"o" * 32
SIGNED = Codecs("queue", Keyring([KEY]))
PLAIN = Codecs("queue")
ADDRESS = "job"
FAILURE = Failure(7, "ValueError", "no", "Traceback", "host:1")

MESSAGES: dict[str, Any] = {
    "task": Task("job", 3, 9, 1, MAP, b"items", "killed", b"spec"),
    "reply": Reply("job", "host:1:abc", [Answer(3, 9, 0, MAP, OK, b"partial", 1234), Answer(9, 10, 0, 0, 1, b"", 1)]),
    "spec": Spec(
        job="job",
        computation="exp",
        params={"x": "2", "terms": 50, "more": [1, None, 2.5]},
        total=50,
        limits=Limits(chunk=3, task_timeout=1.5),
        created=1.0,
        version="1",
    ),
    "checkpoint": Checkpoint("job", [(0, 5), (7, 9)], [(0, 0, b"partial")], 12, 50, 50, 3, [(4, FAILURE)], 1.5),
    "beat": Beat(1, "host", 2, "name", "busy", "job", 3, 9, 0.5, 7, 1.5, 1 << 24, "1", "probe", 3, 1e9),
    "record": done("job", details={"list": [1, {"a": None}], "big": "9" * 40}),
    "report": Report(counted=3, total=9, rate=1.5, value="7.389", error=0.5),
}
KINDS = sorted(MESSAGES)


def codec(codecs: Codecs, kind: str) -> Codec:
    found: Codec | AddressedCodec = getattr(codecs, kind)
    return found if isinstance(found, Codec) else found.at(ADDRESS)


def refused(codecs: Codecs, kind: str, data: bytes) -> bool:
    """Whether these bytes are refused; True or False, and no other exception."""
    try:
        codec(codecs, kind).open(data)
    except BadMessage as error:
        return "\n" not in str(error)
    return False


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("codecs", [SIGNED, PLAIN], ids=["signed", "plain"])
def test_what_is_sealed_opens_again(codecs: Codecs, kind: str) -> None:
    message = MESSAGES[kind]
    assert codec(codecs, kind).open(codec(codecs, kind).seal(message)) == message


@pytest.mark.parametrize("kind", KINDS)
def test_every_bit_flip_of_a_signed_message_is_refused(kind: str) -> None:
    sealed = codec(SIGNED, kind).seal(MESSAGES[kind])
    for at in range(len(sealed)):
        for bit in range(8):
            flipped = bytearray(sealed)
            flipped[at] ^= 1 << bit
            assert refused(SIGNED, kind, bytes(flipped)), (at, bit)


@pytest.mark.parametrize("kind", KINDS)
def test_every_bit_flip_of_a_plain_message_is_refused_or_another_message_of_that_type(kind: str) -> None:
    sealed = codec(PLAIN, kind).seal(MESSAGES[kind])
    for at in range(len(sealed)):
        for bit in range(8):
            flipped = bytearray(sealed)
            flipped[at] ^= 1 << bit
            if not refused(PLAIN, kind, bytes(flipped)):
                assert type(codec(PLAIN, kind).open(bytes(flipped))) is type(MESSAGES[kind])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("codecs", [SIGNED, PLAIN], ids=["signed", "plain"])
def test_every_truncation_and_every_appendix_is_refused(codecs: Codecs, kind: str) -> None:
    sealed = codec(codecs, kind).seal(MESSAGES[kind])
    for size in range(len(sealed)):
        assert refused(codecs, kind, sealed[:size]), size
    for more in (b"\0", b"\xc0", sealed):
        assert refused(codecs, kind, sealed + more)


@pytest.mark.parametrize("kind", KINDS)
def test_another_kind_queue_key_or_version_is_refused(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sealed = codec(SIGNED, kind).seal(MESSAGES[kind])
    for other in KINDS:
        assert refused(SIGNED, other, sealed) == (other != kind)
    assert refused(Codecs("queue2", Keyring([KEY])), kind, sealed)
    assert refused(Codecs("queue", Keyring([OTHER])), kind, sealed)
    assert refused(PLAIN, kind, sealed)
    assert refused(SIGNED, kind, codec(PLAIN, kind).seal(MESSAGES[kind]))
    monkeypatch.setattr("mapreduce_rq.core.sealing.WIRE_VERSION", WIRE_VERSION + 1)
    assert refused(Codecs("queue", Keyring([KEY])), kind, sealed)


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"task", "reply"}))
def test_what_stands_in_the_key_of_one_job_or_worker_is_refused_in_another(kind: str) -> None:
    sealed = codec(SIGNED, kind).seal(MESSAGES[kind])
    for other in ("", "jo", "jobs", "job2", ADDRESS + "\0", "\udcff"):
        with pytest.raises(BadMessage):
            getattr(SIGNED, kind).at(other).open(sealed)
        assert getattr(SIGNED, kind).at(other).open(getattr(SIGNED, kind).at(other).seal(MESSAGES[kind]))


@pytest.mark.parametrize("kind", KINDS)
def test_queue_names_that_run_into_the_payload_are_told_apart(kind: str) -> None:
    payload = msgspec.msgpack.encode(MESSAGES[kind])
    sealed = codec(Codecs("queue", Keyring([KEY])), kind).seal(MESSAGES[kind])
    assert sealed.endswith(payload)
    for size in range(1, 5):
        longer = Codecs("queue" + payload[:size].decode("latin-1"), Keyring([KEY]))
        assert refused(longer, kind, sealed[:18] + payload[size:])


def test_keys_are_rotated_by_having_both() -> None:
    for kind in KINDS:
        old = codec(Codecs("queue", Keyring([OTHER])), kind).seal(MESSAGES[kind])
        both = Codecs("queue", Keyring([KEY, OTHER]))
        assert codec(both, kind).open(old) == MESSAGES[kind]
        assert codec(SIGNED, kind).open(codec(both, kind).seal(MESSAGES[kind])) == MESSAGES[kind]


@pytest.mark.parametrize("taken", [b"\0\0", OBITUARY])
def test_no_keys_beats_look_like_an_obituary_or_like_no_key(taken: bytes) -> None:
    def short(number: int) -> bytes:
        return blake2b(number.to_bytes(32, "big"), digest_size=2, person=b"mrq key id").digest()

    key = next(number for number in count() if short(number) == taken).to_bytes(32, "big")
    codecs = Codecs("queue", Keyring([key]))
    sealed = codec(codecs, "beat").seal(MESSAGES["beat"])
    assert not sealed.startswith(taken)
    assert codecs.keyring.kid != 0
    assert codec(codecs, "beat").open(sealed) == MESSAGES["beat"]
    assert refused(PLAIN, "beat", sealed)


BOMBS = {
    "array of 2^32 - 1": b"\xdd\xff\xff\xff\xff",
    "map of 2^32 - 1": b"\xdf\xff\xff\xff\xff",
    "text of 2^32 - 1": b"\xdb\xff\xff\xff\xff",
    "bytes of 2^32 - 1": b"\xc6\xff\xff\xff\xff",
    "extension of 2^32 - 1": b"\xc9\xff\xff\xff\xff\x01",
    "arrays 100 000 deep": b"\x91" * 100_000,
    "maps 100 000 deep": b"\x81\xa1a" * 100_000,
    "wide arrays of wide arrays": b"\xdd\x00\x0f\xff\xff" * 1000,
    "text that is not UTF-8": b"\x98\xa4\xff\xfe\xfd\xfc",
    "a huge number": b"\x98\xcf\xff\xff\xff\xff\xff\xff\xff\xff",
    "nothing": b"",
    "the byte that must not be": b"\xc1",
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bomb", BOMBS)
def test_bombs_are_refused_even_with_a_good_mac(kind: str, bomb: str) -> None:
    for codecs in (SIGNED, PLAIN):
        sealer = codec(codecs, kind)
        (sealed,) = sealer.seal_all([msgspec.Raw(BOMBS[bomb])])  # the writer of a bomb looks at no cap
        assert refused(codecs, kind, sealed)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bomb", BOMBS)
def test_bombs_within_a_good_message_are_refused(kind: str, bomb: str) -> None:
    """A bomb in place of each field."""
    builtin = msgspec.to_builtins(MESSAGES[kind])
    fields = list(builtin) if isinstance(builtin, dict) else range(len(builtin))
    for each in fields:
        changed: Any = dict(builtin) if isinstance(builtin, dict) else list(builtin)
        changed[each] = msgspec.Raw(BOMBS[bomb])
        (sealed,) = codec(PLAIN, kind).seal_all([changed])
        assert refused(PLAIN, kind, sealed), each


def test_a_message_over_its_cap_is_refused_before_it_is_looked_at() -> None:
    small = Codec("task", Task, "queue", Keyring([KEY]), cap=64)
    with pytest.raises(BadMessage, match="over the cap of 64"):
        small.open(b"x" * 65)
    with pytest.raises(BadMessage, match="configured here is key"):
        small.open(b"x" * 64)


@pytest.mark.parametrize("kind", KINDS)
@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_a_message(kind: str, data: bytes) -> None:
    assert refused(SIGNED, kind, data)
    refused(PLAIN, kind, data)
    refused(PLAIN, kind, b"\0\0" + data)


@given(st.binary(max_size=100))
def test_any_bytes_are_a_failure_or_refused(data: bytes) -> None:
    try:
        assert isinstance(decode_failure(data), Failure)
    except BadMessage:
        pass


def test_every_truncation_of_a_failure_is_refused() -> None:
    body = encode_failure(FAILURE)
    assert decode_failure(body) == FAILURE
    for size in range(len(body)):
        with pytest.raises(BadMessage):
            decode_failure(body[:size])


@pytest.mark.parametrize("size", [LARGE_BYTES - 40, LARGE_BYTES, LARGE_BYTES + 1, 1 << 20])
def test_a_bit_of_a_large_message_that_differs_fails_its_mac(size: int) -> None:
    codec = Codecs("queue", Keyring([b"k" * 32])).task
    task = Task("job", 0, 1, body=bytes(range(256)) * (size // 256) + bytes(size % 256))
    sealed = codec.seal(task)
    assert sealed == codec.seal_all([task])[0]
    assert codec.open(sealed) == task
    for at in (2, 17, 18, len(sealed) // 2, len(sealed) - 1):
        forged = bytearray(sealed)
        forged[at] ^= 1
        with pytest.raises(BadMessage, match="MAC"):
            codec.open(bytes(forged))


def test_the_digest_that_a_large_message_is_signed_by_is_no_message_itself() -> None:
    codec = Codecs("queue", Keyring([b"k" * 32])).task
    sealed = codec.seal(Task("job", 0, 1, body=bytes(LARGE_BYTES)))
    posing = sealed[:18] + LARGE + hashlib.sha256(sealed[18:]).digest()
    with pytest.raises(BadMessage, match="malformed"):
        codec.open(posing)
