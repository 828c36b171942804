"""The shuffle over real workers: many keys as pairs that stream, or as a folder of files that is whole or not there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mapreduce_rq import Client, JobFailed, Limits, by_key
from mapreduce_rq.client.part_folder import MARK, PartFiles
from mapreduce_rq.core.reducers.shuffle import Parts
from mapreduce_rq.errors import BadParameter, CannotWrite, JobCancelled, UsageError
from tests.support.commands import mrq
from tests.support.servers import ROOT, RealServer

TERMS = 120_000
KEYS = 30_000


def pair(k: int) -> tuple[int, int]:
    return k * 7919 % KEYS, k % 10


def row(k: int) -> tuple[str, dict[str, Any]]:
    return f"key {k % 100:03}", {"price": k / 4, "n": k}


def fails(k: int) -> tuple[int, int]:
    if k == TERMS - 5:
        raise LookupError("the last but four")
    return k, 1


def no_data(k: int) -> tuple[int, Any]:
    return k, threading.Lock() if k == 77 else k


def no_text(k: int) -> tuple[str, int]:
    return "\udc80" if k == 77 else str(k), k


@pytest.fixture(scope="module")
def private() -> Iterator[Client]:
    with Client(local=2) as client:
        yield client


def sums() -> dict[int, int]:
    """What a plain loop makes of it."""
    found: Counter[int] = Counter(dict.fromkeys(range(KEYS), 0))
    for key, value in map(pair, range(TERMS)):
        found[key] += value
    return dict(found)


@pytest.fixture(scope="module")
def expected() -> dict[int, int]:
    return sums()


def laid(client: Client) -> list[str]:
    assert client.site.server is not None
    return os.listdir(client.site.server.shelf)


def read(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in sorted(folder.glob("part-*.jsonl")) for line in path.read_text().splitlines()]


def test_pairs_stream_part_by_part_and_no_file_stays(private: Client, expected: dict[int, int]) -> None:
    digests = set()
    for parts, chunk in ((64, None), (4, 30_000), (1, 60_000)):
        job = private.submit_function(pair, range(TERMS), reduce=by_key("sum", parts=parts), limits=Limits(chunk=chunk))
        result = job.result(60)
        assert isinstance(result.native, Parts)
        assert dict(result.native) == expected
        assert len(result.native) == KEYS
        assert result.details == {"keys": KEYS, "parts": parts}
        digests.add(result.digest)
        assert laid(private) == []
    assert len(digests) == 1
    assert dict(result.native) == expected  # again, though the job is over


def test_a_folder_is_there_whole(private: Client, expected: dict[int, int], tmp_path: Path) -> None:
    out = tmp_path / "out"
    written = private.reduce_by_key(pair, range(TERMS), out=out, parts=8)
    assert isinstance(written, PartFiles)
    assert (written.keys, len(written.files)) == (KEYS, 8)
    assert {line["key"]: line["value"] for line in read(out)} == expected
    about = json.loads((out / MARK).read_text())
    assert about["keys"] == KEYS
    assert [file["file"] for file in about["files"]] == written.files
    assert sum(file["bytes"] for file in about["files"]) == written.bytes
    assert os.listdir(tmp_path) == ["out"]
    assert laid(private) == []
    with pytest.raises(UsageError, match="is not empty"):
        private.reduce_by_key(pair, range(TERMS), out=out)


def mixed(k: int) -> tuple[int, float]:
    return k, k if k < 90 else k / 4


@pytest.mark.parametrize("keys", [3, 100])
def test_the_parquet_files_of_a_folder_are_one_table(private: Client, tmp_path: Path, keys: int) -> None:
    """A part without a key, or with integers alone, has the columns of all: readers take the first file's."""
    parquet: Any = pytest.importorskip("pyarrow.parquet")
    private.reduce_by_key(mixed, range(keys), out=tmp_path / "new", parts=64, form="parquet")
    table = parquet.read_table(tmp_path / "new").to_pydict()
    assert dict(zip(table["key"], table["value"], strict=True)) == dict(map(mixed, range(keys)))


def test_columns_and_few_keys(private: Client, tmp_path: Path) -> None:
    private.reduce_by_key(row, range(1000), {"price": "mean", "n": "max"}, out=tmp_path / "new", parts=2)
    lines = sorted(read(tmp_path / "new"), key=lambda line: str(line["key"]))
    assert lines[7] == {"key": "key 007", "price": (907 + 7) / 8, "n": 907}
    assert len(lines) == 100


def test_a_key_that_utf_8_cannot_write_is_escaped(private: Client, tmp_path: Path) -> None:
    private.reduce_by_key(no_text, range(200), out=tmp_path / "new", parts=4)
    assert {line["key"]: line["value"] for line in read(tmp_path / "new")} == {
        "\\udc80" if k == 77 else str(k): k for k in range(200)
    }


def test_a_shared_server(expected: dict[int, int]) -> None:
    with RealServer("valkey") as server, Client(server.url, local=2, allow=[__name__]) as client:
        found = client.reduce_by_key(pair, range(TERMS), parts=16)
        assert dict(found) == expected


def test_what_fails_or_is_cancelled_leaves_nothing(private: Client, tmp_path: Path) -> None:
    with pytest.raises(JobFailed, match="the last but four"):
        private.reduce_by_key(fails, range(TERMS), out=tmp_path / "out", limits=Limits(chunk=20_000))
    with pytest.raises(JobFailed, match=r"term 77.*lock"):
        private.reduce_by_key(no_data, range(20_000), "list", out=tmp_path / "out", limits=Limits(chunk=20_000))
    assert os.listdir(tmp_path) == []
    job = private.submit_function(pair, range(10**9), reduce=by_key("sum", parts=8), limits=Limits(chunk=20_000))
    while job.progress["counted"] < 100_000:
        pass
    job.cancel(now=True)
    with pytest.raises(JobCancelled):
        job.result(30)
    assert laid(private) == []  # nor later: who is late has no place to lay anything
    assert private.reduce_by_key(pair, range(10), parts=2) is not None


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"parts": 3}, "power of two"),
        ({"parts": 512}, "at most 256"),
        ({"parts": 8, "top": 5}, "leave out top"),
        ({"parts": True}, "power of two"),
        ({"out": "x/y/z"}, "no new folder"),
        ({"out": "a\0b"}, "cannot be the name of a folder"),
        ({"out": "\ud800"}, "cannot be the name of a folder"),
        ({"out": "new", "form": "xml"}, "one of jsonl, parquet"),
    ],
)
def test_mistakes_are_told_before_anything_runs(private: Client, how: dict[str, Any], why: str) -> None:
    with pytest.raises((BadParameter, UsageError), match=why):
        private.reduce_by_key(pair, range(10), **how)


def test_a_full_disk_leaves_no_folder(private: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CannotWrite, match="No space left on device; no part of it is there"):
        private.reduce_by_key(pair, range(1000), out=tmp_path / "out")
    assert os.listdir(tmp_path) == []


def test_the_command_writes_a_folder(tmp_path: Path) -> None:
    out = f"{tmp_path}/out/"
    ran = mrq(
        "run", "tests.system.test_shuffle:pair", "--terms", "5000", "--by-key", "sum", "--out", out, "--parts", "4"
    )
    assert ran.code == 0, ran.err
    assert ran.out.splitlines()[0] == f"5000 keys written to 4 files in {out.rstrip('/')}"
    assert len(read(tmp_path / "out")) == 5000
    ran = mrq("run", "tests.system.test_shuffle:pair", "--terms", "5", "--by-key", "sum", "--parts", "4")
    assert ran.code == 2
    assert "--out FOLDER/" in ran.err


KILLED = """
import os, sys
from mapreduce_rq import Client
from mapreduce_rq.client import part_folder
from tests.system.test_shuffle import pair
with Client(local=1) as client:
    write = part_folder._write
    def killed(path, content):
        write(path, content)
        if path.endswith("00002.jsonl"):
            os.kill(os.getpid(), 9)
    part_folder._write = killed
    client.reduce_by_key(pair, range(1000), out=sys.argv[1], parts=4)
"""


def test_a_run_that_is_killed_while_it_writes_leaves_nothing_that_looks_whole(tmp_path: Path) -> None:
    out = tmp_path / "out"
    ran = subprocess.run([sys.executable, "-c", KILLED, str(out)], cwd=ROOT, check=False)
    assert ran.returncode == -signal.SIGKILL
    assert not out.exists()
    (left,) = os.listdir(tmp_path)
    assert left.startswith(".mrq-")
    assert MARK not in os.listdir(tmp_path / left)
