"""What people map over is data: functions see the items as they are, and callers the values as they were given."""

from __future__ import annotations

import collections
import contextlib
import copy
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import operator
import os
import pathlib
import signal
import subprocess
import sys
import time
import uuid
import zoneinfo
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from mapreduce_rq import Client, Limits
from mapreduce_rq.errors import BadFunction, JobFailed
from tests.support.commands import KEY, environment, mrq
from tests.support.servers import ROOT, RealServer


class Color(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    LOW = 1


class Text(str):
    """A subclass: as equal as a str, and not one."""

    __slots__ = ()


Pair = collections.namedtuple("Pair", "a b")  # noqa: PYI024  users have these


@dataclasses.dataclass
class Point:
    x: int
    y: Any = None


def same(one: Any, other: Any) -> bool:
    """Whether two values are of one type, and equal."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ma.MaskedArray):
        return same(one.data, other.data) and same(np.asarray(one.mask), np.asarray(other.mask))
    if isinstance(one, np.ndarray):
        return bool(
            one.dtype == other.dtype
            and one.shape == other.shape
            and one.flags.f_contiguous == other.flags.f_contiguous
            and np.array_equal(one, other)
        )
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other and str(one) == str(other))


class Record(dict):  # type: ignore[type-arg]
    """Its keys are attributes, too; asked for another attribute, it raises KeyError."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self[name]


def read_only(array: Any) -> Any:
    array.flags.writeable = False
    return array


STRUCTURED = np.array([(1, 2.5, "x")], dtype=[("a", "<i4"), ("b", ">f8"), ("c", "U3")])

PLAIN: list[Any] = [
    *(None, True, 0, -(2**63), 2**64, -(2**200), 0.5, float("inf"), 1j, "é", "", b"\0", bytearray(b"x")),
    *("a\udcff", ["é\ud800", {"name": "\udc80"}]),  # as the names of files that are no text
    *((), (1, [2, (3,)]), [], [None], {1, (2, 3)}, frozenset("ab"), {}, {"a": (1,), 2: None, None: 3, 0.5: b""}),
    dt.datetime(2024, 2, 29, 1, 2, 3, 4, tzinfo=dt.UTC),
    dt.datetime(2024, 10, 27, 1, 30, fold=1),  # noqa: DTZ001  one without a zone
    dt.datetime(2024, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=-3, minutes=30), "here")),
    dt.datetime(2024, 1, 1, tzinfo=zoneinfo.ZoneInfo("Asia/Tokyo")),
    *(dt.date(1, 1, 1), dt.time(23, 59, 59, 1), dt.timedelta(days=-1, microseconds=1)),
    *(decimal.Decimal("1.20"), decimal.Decimal("-0"), decimal.Decimal("Infinity"), fractions.Fraction(2**70, 3)),
    uuid.UUID(int=7),
    *(
        np.float32(0.1),
        np.int8(-1),
        np.bool_(True),
        np.complex64(1j),
        np.str_("ab"),
        np.str_(""),
        np.datetime64("2024-01-01T01", "h"),
    ),
    *(np.array(3.5), np.zeros((0, 3)), np.arange(6, dtype=">i2").reshape(2, 3), np.asfortranarray(np.eye(3)[:2])),
    *(read_only(np.arange(3)), read_only(np.asfortranarray(np.eye(200)[:99])), np.broadcast_to(np.arange(3), (2, 3))),
    *({(1, "a"): 2, 2**70: 3, "\udc80": 4, dt.date(1, 1, 1): 5, frozenset({1}): 6}, {1: {(2,): [(3,)]}}),
    *(STRUCTURED, np.array(["2024-01-01"], dtype="M8[D]"), np.array(["a", "bcd"]), np.array([True, False])),
]
"""Values for which no pickle is needed."""

PICKLED: list[Any] = [
    *(
        Color.RED,
        Level.LOW,
        {"a": Level.LOW},
        Text("x"),
        {Text("k"): Text("v")},
        Pair(1, Pair(2, 3)),
        Point(1, Point(2)),
    ),
    *(
        collections.OrderedDict(a=1),
        collections.Counter("aab"),
        collections.deque([1], maxlen=2),
        range(3),
        slice(1, 2),
    ),
    *(pathlib.PurePosixPath("/x"), ValueError("x").args, int, len, complex, ...),
    np.array([None, "x", 2**100], dtype=object),
    np.ma.masked_array([1, 2], mask=[True, False]),
    np.array([(1,)], dtype=[(("title", "a"), "i4")]),
    np.array([(1,)], dtype=(np.record, [("a", "i4")])),
    Record(a=1),
]
"""Values of which Pool takes each, and of which we do where pickles are trusted."""


def with_its_type(value: Any) -> tuple[str, Any]:
    return type(value).__name__, value


@pytest.fixture(scope="module")
def private() -> Iterator[Client]:
    with Client(local=2) as client:
        yield client


def fidelity(client: Client, items: list[Any], chunk: int | None) -> None:
    found = client.map_reduce(with_its_type, items, reduce="list", limits=Limits(chunk=chunk))
    assert len(found) == len(items)
    for item, (name, value) in zip(items, found, strict=True):
        assert name == type(item).__name__
        assert same(value, item), (item, value)
        if isinstance(value, np.ndarray):
            assert value.flags.writeable
            assert value.flags.aligned


@pytest.mark.parametrize("chunk", [None, 1, 3, 1000])
def test_each_value_comes_and_goes_as_it_is_where_pickles_are_trusted(private: Client, chunk: int | None) -> None:
    fidelity(private, PLAIN + PICKLED, chunk)


@pytest.mark.parametrize("chunk", [1, 3])
def test_each_value_comes_one_by_one_where_pickles_are_trusted(private: Client, chunk: int) -> None:
    items = PLAIN + PICKLED
    for found in (list(private.imap(with_its_type, items, chunksize=chunk)), private.pool().map(with_its_type, items)):
        for item, (name, value) in zip(items, found, strict=True):
            assert name == type(item).__name__
            assert same(value, item), (item, value)
    assert [type(value) for value in private.imap(copy.copy, items, chunksize=chunk)] == list(map(type, items))


@pytest.mark.parametrize("chunk", [None, 1, 1000])
def test_plain_values_and_arrays_need_no_pickle(server: RealServer, queue: str, chunk: int | None) -> None:
    with Client(server.url, local=2, queue=queue, keys=[KEY]) as client:
        fidelity(client, PLAIN, chunk)


@pytest.mark.parametrize("item", PICKLED, ids=lambda item: type(item).__name__)
def test_what_needs_a_pickle_is_refused_before_it_is_queued(server: RealServer, queue: str, item: Any) -> None:
    name = type(item).__name__
    refused = rf"item 2, a .*{name}, cannot travel .*allow_pickle=True here, and --allow-pickle for the workers"
    with Client(server.url, local=1, queue=queue, keys=[KEY]) as client:
        if isinstance(item, tuple) and type(item) is tuple:
            return  # the arguments of an exception: plain
        with pytest.raises(BadFunction, match=refused):
            client.map_reduce("builtins:type", [1, 2, item, 3])


def test_a_value_that_cannot_travel_is_named_with_its_type_and_the_remedy(server: RealServer, queue: str) -> None:
    with (
        Client(server.url, local=1, queue=queue, keys=[KEY]) as client,
        pytest.raises(JobFailed, match=r"term 0 .*the reducer takes None, bool, int.*a range cannot travel"),
    ):
        client.map_reduce("builtins:range", range(3), reduce="list")


@pytest.mark.parametrize("chunk", [None, 1, 3, 100])
@pytest.mark.parametrize("law", ["ordered", "commutative"])
@pytest.mark.parametrize(
    "case",
    [
        (lambda k: np.ones(3) * k, operator.add, 0, np.full(3, 45.0)),
        (lambda k: np.arange(3) * k, np.add, 0, np.arange(3) * 45),
        (lambda k: np.array([k, -k]), np.maximum, np.array([-99, -99]), np.array([9, 0])),
        (lambda k: {k, k % 3}, operator.or_, set(), set(range(10))),
        (lambda k: {k: k}, dict.__or__, {}, {k: k for k in range(10)}),
        (lambda k: fractions.Fraction(1, k + 1), operator.add, fractions.Fraction(0), fractions.Fraction(7381, 2520)),
        (
            lambda k: collections.Counter([k % 2]),
            operator.add,
            collections.Counter(),
            collections.Counter({0: 5, 1: 5}),
        ),
    ],
)
def test_partials_travel_as_they_are(
    private: Client, case: tuple[Any, Callable[..., Any], Any, Any], law: str, chunk: int | None
) -> None:
    function, merge, zero, expected = case
    found = private.map_reduce(function, range(10), reduce=merge, zero=zero, law=law, limits=Limits(chunk=chunk))
    if isinstance(expected, dict):  # in whatever order the partials came
        found = type(found)({key: found[key] for key in sorted(found)})
    assert same(found, expected)


def picky(left: int, right: int) -> int:
    if left + right > 20:
        raise RuntimeError("more than twenty")
    return left + right


@pytest.mark.parametrize("chunk", [1, 7, 1000])
@pytest.mark.parametrize("law", ["ordered", "commutative"])
def test_what_a_merge_raises_fails_the_job_and_names_it(private: Client, law: str, chunk: int) -> None:
    with pytest.raises(JobFailed, match=r"picky, which folds the values, raised RuntimeError: more than twenty"):
        private.map_reduce(abs, range(100), reduce=picky, zero=0, law=law, limits=Limits(chunk=chunk))


def test_classes_of_a_script_are_one_class_in_function_items_values_and_merge() -> None:
    ran = subprocess.run(
        [sys.executable, ROOT / "tests" / "support" / "main_classes.py"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment(path=[ROOT]),
    )
    assert (ran.stdout, ran.returncode) == ("one class each\n", 0), ran.stderr


LARGE = 100_000
"""Bytes of each of the values below: together far more than a record holds."""


def keys_of(server: RealServer, queue: str, kind: str) -> list[str]:
    """The keys of one kind that the queue has."""
    return [
        str(name, "ascii") for name in server.client().keys(f"mrq1:{{{queue}}}:{kind}:*") if isinstance(name, bytes)
    ]


def test_a_large_list_is_fetched_by_others_and_not_kept_for_a_caller_who_has_it(
    server: RealServer, queue: str, tmp_path: pathlib.Path
) -> None:
    with Client(server.url, local=2, queue=queue, keys=[KEY]) as client:
        assert client.map_reduce("builtins:bytes", [LARGE] * 20, reduce="list") == [bytes(LARGE)] * 20
        assert keys_of(server, queue, "v") == keys_of(server, queue, "r") == []
        job = client.submit_function("builtins:bytes", range(LARGE, LARGE + 20), reduce="list")
        result = job.result(30)
        assert result.native == [bytes(k) for k in range(LARGE, LARGE + 20)]
        assert result.record["value"] is result.record["digest"] is None
        env = environment({"MRQ_KEY": KEY})
        place = ("-u", server.url, "--queue", queue)
        printed = mrq("result", job.id, *place, "--json", env=env).json
        saved = mrq("result", job.id, *place, "-o", "value", "--out", str(tmp_path / "list"), env=env)
        assert saved == (0, f"{len(result.content)} bytes written to {tmp_path / 'list'}\n", "")
        assert (tmp_path / "list").read_bytes() == result.content
        assert printed["digest"] == result.digest
        assert printed["value"] == result.value == "\n".join(str(bytes(k)) for k in range(LARGE, LARGE + 20))
        assert keys_of(server, queue, "v") == [f"mrq1:{{{queue}}}:v:{job.id}"]


def test_a_digest_of_plain_values_does_not_tell_how_they_travelled(
    private: Client, server: RealServer, queue: str
) -> None:
    found = set()
    items = [{"k": k, "t": (k,)} for k in range(3000)]
    with Client(server.url, local=2, queue=queue, keys=[KEY]) as signed:
        for client in (private, signed):
            for chunk in (None, 7, 1000):
                job = client.submit_function("copy:copy", items, reduce="list", limits=Limits(chunk=chunk))
                found.add(job.result(30).digest)
    assert len(found) == 1
    assert len(found.pop()) == 32


def test_a_list_job_is_resumed_from_its_replies(server: RealServer, queue: str) -> None:
    arguments = ("-u", server.url, "--queue", queue)
    env = environment({"MRQ_KEY": KEY})
    with Client(server.url, local=2, queue=queue, keys=[KEY]) as client:
        job = client.submit_function(
            "tests.support.terms:slow_bytes", range(120), reduce="list", limits=Limits(chunk=1)
        )
        while job.progress["counted"] < 20:
            assert not job.wait(0.01)
        job.let_go()
        checkpoint = client.job_state(job.id).checkpoint  # type: ignore[union-attr]
        assert checkpoint is not None
        assert checkpoint.runs == checkpoint.parts == []
        ran = mrq("resume", job.id, *arguments, "--json", env=env, seconds=60)
    record = ran.json
    assert record["terms_used"] == 120
    assert record["value"] == "\n".join(str(bytes([k]) * 20_000) for k in range(120))


def arrays(count: int) -> list[Any]:
    """Some megabytes, of which each element tells where it belongs."""
    return [np.arange(k, k + 50_000, dtype=np.float64) for k in range(count)]


def doubled(array: Any) -> Any:
    array *= 2  # one's own copy, as in a Pool
    return array


def shelf_files(client: Client) -> list[str]:
    assert client.site.server is not None
    return os.listdir(client.site.server.shelf)


@pytest.mark.parametrize("chunk", [None, 1, 7])
def test_large_items_and_values_are_laid_aside_and_nothing_is_left_of_them(chunk: int | None) -> None:
    with Client(local=2) as client:
        found = client.map_reduce(doubled, arrays(60), reduce="list", limits=Limits(chunk=chunk))
        assert all(map(np.array_equal, found, [2 * each for each in arrays(60)]))
        assert all(each.flags.writeable and each.flags.aligned for each in found)
        assert shelf_files(client) == []
        assert client.map_reduce(np.sum, arrays(60)) == sum(map(np.sum, arrays(60)))
        assert shelf_files(client) == []


def dies_once(array: Any) -> Any:
    flag = pathlib.Path(os.environ["MRQ_TEST_FLAG"])
    if array[0] == 20:
        with contextlib.suppress(FileExistsError):
            flag.touch(exist_ok=False)
            array[:] = 0  # what was written before the worker died nobody else sees
            os.kill(os.getpid(), signal.SIGKILL)
    return doubled(array)


def test_workers_killed_with_large_items_in_hand_change_nothing(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MRQ_TEST_FLAG", str(tmp_path / "died"))
    with Client(local=2) as client:
        found = client.map_reduce(dies_once, arrays(60), reduce="list", limits=Limits(chunk=3))
        assert (tmp_path / "died").exists()
        assert all(map(np.array_equal, found, [2 * each for each in arrays(60)]))
        assert shelf_files(client) == []


def test_where_there_is_no_room_to_lay_them_aside_large_bodies_go_through_redis() -> None:
    with Client(local=2) as client:
        assert client.site.server is not None
        os.rmdir(client.site.server.shelf)
        found = client.map_reduce(doubled, arrays(20), reduce="list")
        assert all(map(np.array_equal, found, [2 * each for each in arrays(20)]))


def test_what_a_killed_client_has_laid_aside_goes_with_its_server(tmp_path: pathlib.Path) -> None:
    source = """
import os, signal, sys
import numpy as np
from mapreduce_rq import Client

def stuck(array):
    print(os.environ["SHELF"], len(os.listdir(os.environ["SHELF"])), file=sys.stderr, flush=True)
    signal.pause()

from mapreduce_rq.runtime.server.embedded import EmbeddedServer
server = EmbeddedServer.start()
os.environ["SHELF"] = server.shelf
client = Client(local=1, server=server)
client.map_reduce(stuck, [np.zeros(100_000)] * 10, reduce="list")
"""
    script = tmp_path / "script.py"
    script.write_text(source)
    command = [sys.executable, str(script)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment(path=[ROOT])) as process:
        assert process.stderr is not None
        shelf, count = process.stderr.readline().split()
        assert int(count) > 0
        assert len(os.listdir(shelf)) > 0
        process.kill()
    until_gone(shelf)


def until_gone(path: str) -> None:
    """Wait until the path is not there any more."""
    deadline = time.monotonic() + 10
    while os.path.exists(path):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_chunk_of_large_values_is_answered_in_parts(private: Client) -> None:
    job = private.submit_function(lambda _: bytes(3_000_000), range(40), reduce="list", limits=Limits(chunk=40))
    result = job.result(60)
    assert [len(each) for each in result.native] == [3_000_000] * 40
    assert result.tasks > 5
