"""Which files of its machine a worker reads for a job: regular ones, and of a set folder nothing outside."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from mapreduce_rq.computations import load
from mapreduce_rq.core.computation import TermError
from mapreduce_rq.errors import BadFunction, BadParameter
from mapreduce_rq.files.opening import open_file
from mapreduce_rq.functions.trust import Trust
from tests.support.stage import until

UNSIGNED, SIGNED, PRIVATE = Trust(), Trust(signed=True), Trust(private=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a file, beside a file that is nobody's business."""
    made = tmp_path / "read"
    (made / "deep").mkdir(parents=True)
    (made / "words").write_text("a b a\n")
    (made / "deep" / "more").write_text("c\n")
    (tmp_path / "secret").write_text("hidden\n")
    (tmp_path / "read-not").mkdir()
    (tmp_path / "read-not" / "words").write_text("hidden\n")
    (made / "good-link").symlink_to("deep/more")
    (made / "bad-link").symlink_to(tmp_path / "secret")
    (made / "bad-folder").symlink_to(tmp_path)
    return made


def read(name: str, folder: Path | None) -> bytes:
    with open_file(name, None if folder is None else str(folder)) as file:
        return file.read()


def test_what_is_in_the_folder_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("words", "./words", "deep/../words", str(folder / "words"), "//" + str(folder).lstrip("/") + "/words"):
        assert read(name, folder) == b"a b a\n"
    assert read("deep/more", folder) == read("good-link", folder) == b"c\n"
    other = folder.parent / "another-name"
    other.symlink_to(folder)
    assert read(str(folder / "words"), other) == read("words", other) == b"a b a\n"
    monkeypatch.chdir(folder)
    assert read("words", None) == b"a b a\n"


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd", "../secret", "deep/../../secret", "bad-link", "bad-folder/secret", "./bad-folder/read-not/words",
        "../read-not/words", "/proc/self/environ", "..", "/",
    ],
)  # fmt: skip
def test_nothing_leads_out_of_the_folder(folder: Path, name: str) -> None:
    with pytest.raises(OSError, match="is not in") as refused:
        read(name, folder)
    assert "--files" in str(refused.value)


@pytest.mark.parametrize("name", ["a\0b", "\udcff\ud800", "", "x" * 5000, "no-such-file"])
def test_a_name_that_no_file_has_is_one_error(folder: Path, name: str) -> None:
    with pytest.raises(OSError, match=r"."):
        read(name, folder)


@pytest.mark.parametrize("inside", [True, False])
def test_what_is_no_regular_file_is_refused_at_once(folder: Path, inside: bool) -> None:
    os.mkfifo(folder / "fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "s"))
        for name in ("fifo", "s", "deep", *(() if inside else ("/dev/zero", "/dev/tty", "/dev/stdin"))):
            with pytest.raises(OSError, match=r"."):  # a FIFO without a writer would be waited for
                read(name if inside else str(folder / name), folder if inside else None)


def raw(path: Path | str, size: int) -> dict[str, Any]:
    return {"files": [str(path)], "sizes": [size], "units": [size]}


def test_a_worker_reads_no_file_for_a_job_that_anybody_may_have_written(folder: Path) -> None:
    kind = load("wordcount")
    with pytest.raises(BadFunction, match="--files DIR") as refused:
        kind.to_map(raw("/etc/passwd", 10), UNSIGNED)
    assert "mrq key" in str(refused.value)
    for trust in (SIGNED, PRIVATE):
        assert kind.to_map(raw(folder.parent / "secret", 7), trust).map(0, 7) == {"b": {b"hidden": 1}}


@pytest.mark.parametrize("signed", [True, False])
def test_a_worker_with_a_folder_reads_there_alone(folder: Path, signed: bool) -> None:
    kind = load("wordcount")
    trust = Trust(signed=signed, files=str(folder))
    assert kind.to_map(raw("words", 6), trust).map(0, 6) == {"b": {b"a": 2, b"b": 1}}
    outside = kind.to_map(raw(folder.parent / "secret", 7), trust)
    with pytest.raises(TermError, match="is not in"):
        outside.map(0, 7)


@pytest.mark.parametrize("sizes", [None, []])
def test_nobody_but_who_submits_measures_files(folder: Path, sizes: list[int] | None) -> None:
    os.mkfifo(folder / "fifo")
    job = {"files": [str(folder / "fifo")], "sizes": sizes, "units": sizes}
    for make in (load("wordcount").to_map, load("wordcount").to_lead):
        with pytest.raises(BadParameter, match="how large"):
            make(job, Trust(files=str(folder)))
    with pytest.raises(BadParameter, match="not a regular file"):
        load("wordcount").create({"files": [str(folder / "fifo")]})
    with pytest.raises(BadParameter, match="sizes"):
        load("wordcount").create(raw(folder / "words", -1))


def test_no_file_stays_open(folder: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        for name in ("deep", "words", "bad-link"):
            try:
                read(name, folder)
            except OSError:
                continue
    until(lambda: len(os.listdir("/proc/self/fd")) == before, 5, "all closed")
