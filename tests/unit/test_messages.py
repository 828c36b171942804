"""A sealed message byte by byte, as broker/PROTOCOL.md tells it, and the ranges of what leaves a client."""

from __future__ import annotations

import hashlib
import mmap
from itertools import combinations
from typing import Any

import msgspec
import pytest

from mapreduce_rq.core import messages, sealing
from mapreduce_rq.core.job.record import Report
from mapreduce_rq.core.messages import Failure, Limits, Reply, Task, check_limits
from mapreduce_rq.core.sealing import LARGE_BYTES, Codec, Codecs, Keyring, kid_of, kid_text, mac_of
from mapreduce_rq.errors import BadMessage, BadParameter, OtherKey, TooLarge, UsageError, WrongType

WIRE_VERSION = sealing.WIRE_VERSION
SECRET = bytes(range(32))
QUEUE = "queue"


def part(text: str) -> bytes:
    return len(text.encode()).to_bytes(4, "big") + text.encode()


def sealed(kind: str, payload: bytes, *, address: str | None = None) -> bytes:
    """The message, made here and by nothing of ours but the key's id."""
    kid = Keyring([SECRET]).kid.to_bytes(2, "big")
    mac = hashlib.blake2b(key=SECRET, digest_size=16, person=f"mrq{WIRE_VERSION}{kind}".encode())
    mac.update(part(QUEUE))
    if address is not None:
        mac.update(part(address))
    mac.update(payload if len(payload) < 65536 else b"\xc1" + hashlib.sha256(payload).digest())
    return kid + mac.digest() + payload


def task(size: int) -> tuple[Task, bytes]:
    """A task whose msgpack has this many bytes, and these bytes."""
    for spare in range(40):
        made = Task("job", 0, 1, 0, 0, bytes(max(0, size - 30 + spare)))
        payload = msgspec.msgpack.encode(made)
        if len(payload) == size:
            return made, payload
    pytest.fail(f"no task has {size} bytes")


@pytest.mark.parametrize("size", [30, 200, LARGE_BYTES - 19, LARGE_BYTES - 18, LARGE_BYTES - 1, LARGE_BYTES, 70_000])
def test_a_task_is_sealed_as_the_protocol_says(size: int) -> None:
    codecs = Codecs(QUEUE, Keyring([SECRET]))
    made, payload = task(size)
    expected = sealed("task", payload)
    assert codecs.task.seal(made) == expected
    assert codecs.task.seal_all([made, made]) == [expected, expected]
    assert codecs.task.open(expected) == made
    assert mac_of(expected) == expected[2:18]
    assert kid_of(expected) == Keyring([SECRET]).kid
    for at in (1, 2, 17, 18, len(expected) - 1):
        bent = bytearray(expected)
        bent[at] ^= 1
        with pytest.raises(BadMessage):
            codecs.task.open(bytes(bent))


@pytest.mark.parametrize("size", [0, LARGE_BYTES - 1, LARGE_BYTES, 70_000])
def test_a_message_in_a_jobs_hash_is_bound_to_that_job(size: int) -> None:
    codecs = Codecs(QUEUE, Keyring([SECRET]))
    report = Report(total=3, value="")
    report = Report(total=3, value="7" * max(0, size - len(msgspec.msgpack.encode(report)) - 2))
    payload = msgspec.msgpack.encode(report)
    expected = sealed("report", payload, address="job-1")
    assert codecs.report.at("job-1").seal(report) == expected
    assert codecs.report.at("job-1").seal_all([report, report]) == [expected, expected]
    assert codecs.report.at("job-1").open(expected) == report
    for other in ("job-2", "job-", ""):
        with pytest.raises(BadMessage, match="fails its MAC"):
            codecs.report.at(other).open(expected)


@pytest.mark.parametrize("keys", [[], [SECRET]])
def test_a_message_of_exactly_its_cap_travels_and_a_larger_one_is_not_sent(keys: list[bytes]) -> None:
    """With a key or without: where the key is configured later, the same messages fit."""
    _, payload = task(100)
    made = msgspec.msgpack.decode(payload, type=Task)
    codec = Codec("task", Task, QUEUE, Keyring(keys), cap=118)
    assert codec.open(codec.seal(made)) == made
    assert len(Codec("task", Task, QUEUE, Keyring([SECRET]), cap=118).seal(made)) == 118
    with pytest.raises(TooLarge) as caught:
        Codec("task", Task, QUEUE, Keyring(keys), cap=117).seal(made)
    assert str(caught.value) == "a task has 100 bytes, and 117 is the most"


def test_a_message_that_no_msgpack_has_is_too_large() -> None:
    with mmap.mmap(-1, 1 << 32) as endless, memoryview(endless) as body, pytest.raises(TooLarge) as caught:
        Codec("piece", bytes, QUEUE, Keyring([SECRET])).seal(body)
    assert caught.value.size == 1 << 32


def test_each_kind_has_a_cap() -> None:
    """A reader looks at the size before anything else. All that a master reads of others is small."""
    codecs = Codecs(QUEUE)
    mebibyte = 1 << 20
    for codec, cap in [
        (codecs.spec.at("job"), 32 * mebibyte),
        (codecs.report.at("job"), mebibyte),
        (codecs.beat.at("h:1:2"), mebibyte // 16),
        (codecs.event, mebibyte // 16),
    ]:
        with pytest.raises(BadMessage, match=f"is over the cap of {cap}$"):
            codec.open(bytes(cap + 1))
        with pytest.raises(BadMessage, match="malformed"):
            codec.open(bytes(cap))


def test_a_message_is_of_one_kind_in_one_place() -> None:
    """Each kind has its own name in the MAC."""
    codecs = Codecs(QUEUE, Keyring([SECRET]))
    kinds = {
        name: found if isinstance(found, Codec) else found.at("job")
        for name, found in vars(codecs).items()
        if name != "keyring"
    }
    assert len(kinds) == 11
    for one, other in combinations(kinds, 2):
        (made,) = kinds[one].seal_all([msgspec.Raw(b"\xc0")])
        with pytest.raises(BadMessage, match="fails its MAC"):
            kinds[other].open(made)


# -- keys --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 15, 65])
def test_a_key_that_is_too_short_or_too_long_is_refused(size: int) -> None:
    with pytest.raises(UsageError, match="16 to 64 bytes"):
        Keyring([bytes(size)])


def test_the_first_key_signs_and_is_told_by_its_id() -> None:
    first, second = bytes(range(16)), bytes(range(64))
    keyring = Keyring([first, second, first])
    assert keyring.secrets() == [first, second]
    assert repr(keyring) == "Keyring(2 keys)"  # as it may stand in a traceback
    short = hashlib.blake2b(first, digest_size=2, person=b"mrq key id").digest()
    assert keyring.kid == int.from_bytes(short, "big")
    assert kid_text(keyring.kid) == f"key {short.hex()}"
    assert Keyring().kid == 0
    assert kid_text(0) == "no key"


def test_two_keys_of_one_id_are_refused() -> None:
    """A message names its key by the id alone."""
    known: dict[int, bytes] = {}
    for number in range(1 << 17):
        key = number.to_bytes(16, "big")
        other = known.setdefault(Keyring([key]).kid, key)
        if other != key:
            break
    with pytest.raises(UsageError, match="the same short id"):
        Keyring([other, key])


def test_a_message_of_another_key_is_refused_and_both_keys_are_named() -> None:
    here, there = Keyring([SECRET, bytes(20)]), Keyring([bytes(16)])
    made, _ = task(40)
    with pytest.raises(OtherKey) as caught:
        Codecs(QUEUE, here).task.open(Codecs(QUEUE, there).task.seal(made))
    both = f"{kid_text(Keyring([SECRET]).kid)}, {kid_text(Keyring([bytes(20)]).kid)}"
    assert str(caught.value) == f"a task is signed with {kid_text(there.kid)}, and configured here is {both}"
    assert caught.value.kid == there.kid
    with pytest.raises(OtherKey) as caught:
        Codecs(QUEUE, here).task.open(Codecs(QUEUE).task.seal(made))
    assert str(caught.value) == f"a task is not signed, and messages here must be ({kid_text(here.kid)})"
    assert caught.value.kid == 0
    with pytest.raises(OtherKey) as caught:
        Codecs(QUEUE).task.open(Codecs(QUEUE, there).task.seal(made))
    assert str(caught.value) == (
        f"a task is signed ({kid_text(there.kid)}), and no key is configured here: set MRQ_KEY or --key-file"
    )
    assert caught.value.kid == there.kid


def test_without_a_key_nothing_is_signed_and_nothing_signed_is_read() -> None:
    codecs = Codecs(QUEUE)
    made, payload = task(40)
    assert codecs.task.seal(made) == b"\0\0" + payload
    assert mac_of(b"\0\0" + payload) == b""
    assert codecs.task.open(b"\0\0" + payload) == made
    with pytest.raises(OtherKey, match="no key is configured here"):
        codecs.task.open(sealed("task", payload))
    for short in (b"", b"\0"):
        with pytest.raises(BadMessage, match=f"malformed: it has {len(short)} bytes"):
            codecs.task.open(short)
    with pytest.raises(OtherKey, match="key abcd"):
        codecs.task.open(b"\xab\xcd")


def test_the_numbers_on_the_wire_are_those_of_this_wire_version() -> None:
    """A worker of another version reads them: to change one is to change WIRE_VERSION."""
    assert (messages.MAP, messages.MERGE, messages.REQUEST) == (0, 1, 2)
    names = ("OK", "ERROR", "REFUSED", "DIED", "OK_ASIDE")
    assert [getattr(messages, name) for name in names] == [0, 1, 2, 3, 4]


FAILURE = Failure(7, "ValueError", "no", "", "h:1")
ON_THE_WIRE: list[tuple[Any, Any]] = [
    (Task("job", 3, 9), ["job", 3, 9, 0, 0, b"", "", b"", b""]),
    (messages.Answer(3, 9, 1, 0, 0, b"x", 5, [(9, 12)]), [3, 9, 1, 0, 0, b"x", 5, [[9, 12]]]),
    (messages.Tried(3, 2, "ValueError", "no"), [3, 2, "ValueError", "no", ""]),
    (messages.Output(1, [messages.Piece(3, 4, "stdout", "x")]), [1, [[3, 4, "stdout", "x"]], 0]),
    (Reply("job", "h:1:2", []), ["job", "h:1:2", [], [], None]),
    (FAILURE, [7, "ValueError", "no", "", "h:1", b""]),
    (
        messages.Checkpoint("job", [(0, 5)], [(0, 0, b"x")], 12, 50, None, 3, [(4, FAILURE)], 1.5),
        ["job", [[0, 5]], [[0, 0, b"x"]], 12, 50, None, 3, [[4, [7, "ValueError", "no", "", "h:1", b""]]], 1.5, [], 0],
    ),
    (
        messages.Beat(1, "h", 2, "n", "busy", "job", 3, 9, 0.5, 7, 1.5, 1024, "1", "probe", 3, 1e9),
        [1, "h", 2, "n", "busy", "job", 3, 9, 0.5, 7, 1.5, 1024, "1", "probe", 3, 1e9, -1.0, ""],
    ),
    (messages.Event(job="job", what="done"), {"job": "job", "what": "done"}),
    (Limits(), dict.fromkeys(["chunk", "task_timeout", "deadline", "rel_tol", "abs_tol"]) | {
        "attempts": 3, "retries": 0, "backoff": 1.0, "on_error": "fail", "keep": 86_400, "max_body": 64 << 20,
        "allow_mixed": False, "urgent": False, "logs": False,
    }),
]  # fmt: skip


@pytest.mark.parametrize(("message", "plain"), ON_THE_WIRE, ids=lambda each: type(each).__name__)
def test_the_fields_of_each_message_are_those_of_this_wire_version(message: Any, plain: Any) -> None:
    """A worker of another version reads them, and takes these values for fields that it does not find."""
    body = msgspec.msgpack.encode(message)
    assert msgspec.msgpack.decode(body) == plain
    assert msgspec.msgpack.decode(body, type=type(message)) == message


RANGES: list[tuple[str, list[Any], list[Any]]] = [
    ("chunk", [1, 10**15], [0, -1, 10**19]),
    ("attempts", [1, 1_000_000], [0, 1_000_001]),
    ("retries", [0, 1000], [-1, 1001]),
    ("backoff", [0.0, 3600.0], [-0.001, 3600.1]),
    ("task_timeout", [0.001, 315_360_000.0], [0.0, 0.0009, 315_360_001.0, float("inf"), float("nan")]),
    ("deadline", [1e-9, 315_360_000.0], [0.0, -1.0, 315_360_001.0, float("inf"), float("nan")]),
    ("rel_tol", [1e-300, 1.0], [0.0, -1e-9, float("inf"), float("nan")]),
    ("abs_tol", [1e-300, 1e300], [0.0, -1e-9, float("inf"), float("nan")]),
    ("keep", [1, 315_360_000], [0, 315_360_001, 10**18]),
    ("max_body", [1, 512 << 20], [0, (512 << 20) + 1]),
]


@pytest.mark.parametrize(("name", "value"), [(name, one) for name, good, _ in RANGES for one in good])
def test_a_limit_at_the_ends_of_its_range_is_taken(name: str, value: Any) -> None:
    limits = Limits(**{name: value})
    check_limits(limits)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(limits), type=Limits) == limits


@pytest.mark.parametrize(("name", "value"), [(name, one) for name, _, bad in RANGES for one in bad])
def test_a_limit_out_of_its_range_is_refused_by_the_sender_and_by_the_reader(name: str, value: Any) -> None:
    limits = Limits(**{name: value})
    with pytest.raises(BadParameter, match=f"limits: .*{name}"):
        check_limits(limits)
    if value < 1 << 64:  # no msgpack has a larger one
        with pytest.raises(msgspec.ValidationError):
            msgspec.msgpack.decode(msgspec.msgpack.encode(limits), type=Limits)


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        (Limits(chunk=0), "limits: chunk is 0, and must be from 1 to 1,000,000,000,000,000"),
        (Limits(keep=0), "limits: keep is 0, and must be from 1 to 315,360,000"),
        (Limits(backoff=4000.0), "limits: backoff is 4000, and must be from 0 to 3600"),
        (Limits(task_timeout=0.0), "limits: task_timeout is 0, and must be from 0.001 to 315,360,000"),
        (Limits(deadline=0.0), "limits: deadline is 0, and must be above 0 and at most 315,360,000"),
        (Limits(rel_tol=-1.0), "limits: rel_tol is -1, and must be above 0 and at most 1.79769e+308"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_a_limit_out_of_its_range_is_named_with_the_range(limits: Limits, text: str) -> None:
    with pytest.raises(BadParameter) as caught:
        check_limits(limits)
    assert str(caught.value) == text


def test_limits_of_another_type_are_refused() -> None:
    with pytest.raises(WrongType, match=r"limits is a dict, and must be a Limits"):
        check_limits({"chunk": 1})  # type: ignore[arg-type]
    with pytest.raises(WrongType, match=r"limits: on_error is 'no', and must be fail or skip"):
        check_limits(Limits(on_error="no"))  # type: ignore[arg-type]
    with pytest.raises(WrongType, match=r"Limits\(\) takes its arguments by name: Limits\(chunk=100\)"):
        Limits(100)  # type: ignore[call-arg]
    check_limits(messages.DEFAULT_LIMITS)
    assert Limits() == messages.DEFAULT_LIMITS


def test_a_job_may_end_early_where_a_tolerance_says_so() -> None:
    assert not Limits(deadline=1.0).tolerant
    assert Limits(rel_tol=0.1).tolerant
    assert Limits(abs_tol=0.1).tolerant


@pytest.mark.parametrize(
    ("kind", "least", "most", "step"),
    [
        (messages.Index, 0, 1 << 62, 1),
        (messages.Small, 0, 1 << 31, 1),
        (messages.Seconds, 0.0, 1e12, 1e-3),
        (messages.Rate, 0.0, 1e18, 1e3),
        (messages.Moment, 0.0, 253_402_300_799.0, 1e-3),
    ],
)
def test_each_number_that_travels_has_a_range(kind: Any, least: Any, most: Any, step: Any) -> None:
    """All its readers can take what is in it: a slate's words, Lua's numbers, a date for people."""
    for value in (least, most):
        assert msgspec.convert(value, kind) == value
    for value in (least - step, most + step):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(value, kind)


def test_a_reply_has_no_more_output_than_a_master_keeps() -> None:
    piece = messages.Piece(0, 1, "stdout", "x" * 65_536)
    for text, count, good in (("x" * 65_536, 1, True), ("x" * 65_537, 1, False), ("x", 1024, True), ("x", 1025, False)):
        output = messages.Output(1, [msgspec.structs.replace(piece, text=text)] * count)
        sealed_reply = Codecs(QUEUE).reply.seal(Reply("job", "w", [], [], output))
        if good:
            assert Codecs(QUEUE).reply.open(sealed_reply).output == output
        else:
            with pytest.raises(BadMessage, match="malformed"):
                Codecs(QUEUE).reply.open(sealed_reply)


def test_every_limit_that_is_a_number_has_its_ends_here() -> None:
    numbers = {field.name for field in msgspec.structs.fields(Limits)} - {"on_error", "allow_mixed", "urgent", "logs"}
    assert {name for name, _, _ in RANGES} == numbers


def test_a_failure_keeps_what_it_says() -> None:
    made = FAILURE
    reply = Reply("job", "h:1:2", [messages.Answer(7, 8, 0, 0, messages.ERROR, messages.encode_failure(made), 5)])
    codecs = Codecs(QUEUE, Keyring([SECRET]))
    read = codecs.reply.open(codecs.reply.seal(reply))
    assert messages.decode_failure(read.answers[0].body) == made
