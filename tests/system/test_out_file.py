"""`--out` as `cp` would: the file is whole or as it was, and the value is never lost."""

from __future__ import annotations

import os
import stat
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mapreduce_rq.cli.out_file import OutFile
from mapreduce_rq.errors import UsageError
from tests.support.commands import MRQ, User, environment, mrq
from tests.support.servers import ROOT, RealServer

JOB = ("compute", "exp", "--x", "2", "--local", "1")
VALUE = "7.38905609893065\n"
LONG = ("compute", "exp", "--x", "2", "--digits", "20000", "--local", "1")


@pytest.fixture(scope="module")
def server() -> Iterator[RealServer]:
    with RealServer("valkey") as running:
        yield running


def limited(size: int, *arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[bytes]:
    """A command that may write no file longer than so many bytes: as on a full disk, and nobody needs a disk."""
    line = 'ulimit -f "$0"; exec "$@"'
    return subprocess.run(
        ["bash", "-c", line, str(size // 1024), *MRQ, *arguments],
        capture_output=True,
        cwd=ROOT,
        env=env or environment(),
        check=False,
    )


# -- where it can be written -------------------------------------------------------------------------------------------


def test_a_new_file_and_an_old_one_that_keeps_its_mode(tmp_path: Path) -> None:
    new, old = tmp_path / "new", tmp_path / "old"
    old.write_text("what was there is longer than the value")
    old.chmod(0o640)
    for path in (new, old):
        ran = mrq(*JOB, "--out", str(path))
        assert ran.code == 0
        assert ran.out.splitlines()[0] == f"17 bytes written to {path}"
        assert path.read_text() == VALUE
    assert stat.S_IMODE(old.stat().st_mode) == 0o640
    assert stat.S_IMODE(new.stat().st_mode) == 0o666 & ~_umask()
    assert {path.name for path in tmp_path.iterdir()} == {"new", "old"}


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_what_a_link_points_to_is_written_not_the_link(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    target, link, dangling = tmp_path / "folder" / "target", tmp_path / "link", tmp_path / "dangling"
    target.write_text("old")
    link.symlink_to(target)
    dangling.symlink_to("folder/later")
    OutFile(str(link)).write([b"new"])
    OutFile(str(dangling)).write([b"newer"])
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert (tmp_path / "folder" / "later").read_bytes() == b"newer"


@pytest.mark.parametrize("size", [0, 3, 4, 400])
def test_a_file_of_several_names_keeps_them(tmp_path: Path, size: int) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text("four")
    other.hardlink_to(one)
    OutFile(str(one)).write([b"x" * size])
    assert other.read_bytes() == one.read_bytes() == b"x" * size
    assert one.stat().st_nlink == 2


def test_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    assert mrq(*JOB, "--out", str(pipe)).code == 0
    reader.join(10)
    assert read == [VALUE]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


@pytest.mark.parametrize("how", ["| cat", "> {folder}/got; cat {folder}/got"])
def test_standard_output_by_its_name(tmp_path: Path, how: str) -> None:
    line = f"{' '.join(MRQ)} {' '.join(JOB)} --out /dev/stdout {how.format(folder=tmp_path)}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, cwd=ROOT, env=environment(), check=True)
    assert done.stdout.splitlines()[:2] == [VALUE.strip(), "17 bytes written to /dev/stdout"]
    assert done.stderr == ""


# -- where it cannot ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("{folder}", "is a folder: name a file in it"),
        ("{folder}/nothing/file", "there is no folder"),
        ("{folder}/file/", "there is no folder"),
        ("{folder}/there/below", "Not a directory"),
        ("{folder}/round", "Too many levels of symbolic links"),
        ("", "the file's name is empty"),
        ("{folder}/" + "n" * 300, "File name too long"),
    ],
)
def test_what_is_wrong_from_the_beginning_is_said_before_a_job_is_begun(tmp_path: Path, path: str, words: str) -> None:
    (tmp_path / "there").touch()
    (tmp_path / "round").symlink_to("round")
    ran = mrq(*JOB, "-u", "unix:///nobody/asks/it", "--out", path.format(folder=tmp_path))
    assert (ran.code, ran.out) == (2, "")
    assert words in ran.err
    assert ran.err.startswith("mrq: --out: ")
    assert ran.err.count("\n") == 1


def test_a_file_that_may_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(os, "access", lambda *_: False)  # the tests may run as root, who may all
    for name in ("file", "new"):
        with pytest.raises(UsageError, match="may"):
            OutFile(str(tmp_path / name))


def test_a_full_device_and_the_value_is_on_standard_output() -> None:
    ran = mrq(*JOB, "--out", "/dev/full", "-o", "value")
    assert (ran.code, ran.out) == (74, VALUE)
    assert ran.err == ("mrq: --out: cannot write /dev/full: No space left on device; the value is on standard output\n")


@pytest.mark.parametrize("names", [1, 2])
def test_a_full_disk_leaves_the_old_file_as_it_was(tmp_path: Path, names: int) -> None:
    old = tmp_path / "old"
    old.write_text("precious")
    if names == 2:
        (tmp_path / "other").hardlink_to(old)
    done = limited(4096, *LONG, "--out", str(old), "-o", "value")
    assert done.returncode == 74
    assert old.read_text() == "precious"
    assert len(done.stdout) > 20_000
    assert b"File too large; the value is on standard output\n" in done.stderr
    assert len(list(tmp_path.iterdir())) == names, "nothing is left beside it"


def test_what_is_no_text_goes_to_standard_output_as_it_is(tmp_path: Path) -> None:
    picture = ("compute", "mandelbrot", "--width", "300", "--height", "200", "--local", "1")
    assert mrq(*picture, "--out", str(tmp_path / "whole.png")).code == 0
    done = limited(1024, *picture, "--out", str(tmp_path / "cut.png"))
    assert done.returncode == 74
    assert done.stdout == (tmp_path / "whole.png").read_bytes()
    assert not (tmp_path / "cut.png").exists()


def test_on_a_shared_server_it_stays_there_and_the_words_say_how_to_fetch_it(
    server: RealServer, queue: str, tmp_path: Path
) -> None:
    with User(tmp_path, MRQ_URL=server.url, MRQ_QUEUE=queue) as at:
        ran = at.run(*JOB, "--out", "/dev/full", "-q")
        (job,) = (one["job"] for one in at.run("jobs", "--json").json)
        assert (ran.code, ran.out) == (74, "")
        assert f"{job} keeps its result for now: mrq resume {job} --out FILE" in ran.err
        assert at.run("resume", job, "--out", str(tmp_path / "file")).code == 0
        assert (tmp_path / "file").read_text() == VALUE
