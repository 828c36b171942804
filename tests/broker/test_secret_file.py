"""A file with a key, a password or a token: a regular one, or a pipe. None is waited for without an end."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from mapreduce_rq.broker import secret_file
from mapreduce_rq.broker.connection import parse_url
from mapreduce_rq.broker.secret_file import MOST_BYTES, read_secret
from mapreduce_rq.cli.web.guard import chosen_token
from mapreduce_rq.client.environment import chosen_keys
from mapreduce_rq.errors import BadURL, UsageError

KEY = "6b" * 32


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    found = tmp_path / "pipe"
    os.mkfifo(found)
    return found


def test_a_regular_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_bytes(b"\xef\xbb\xbfgeheim\n")
    assert read_secret(str(file)) == "geheim\n"
    file.write_bytes(b"a" * MOST_BYTES)
    assert len(read_secret(str(file))) == MOST_BYTES
    file.write_bytes(b"\xff")
    with pytest.raises(UnicodeDecodeError):
        read_secret(str(file))


def test_a_pipe_whose_writer_comes_late_and_writes_in_pieces(pipe: Path) -> None:
    def write() -> None:
        with open(pipe, "wb", buffering=0) as file:
            file.write(b"one ")
            file.write(b"two")

    writer = threading.Thread(target=write)
    writer.start()
    assert read_secret(str(pipe)) == "one two"
    writer.join()


def test_what_never_ends_is_an_error(pipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secret_file, "WRITER_SECONDS", 0.1)
    for path, why in (
        (str(pipe), "nothing was written to it for 0 s"),
        ("/dev/zero", "it has more than 65,536 bytes"),
        (str(pipe.parent), "Is a directory"),
        (str(pipe.parent / "none"), "No such file or directory"),
        ("a\0b", "it is not a file's name"),
    ):
        with pytest.raises(OSError, match=why):
            read_secret(path)


def test_each_secret_is_read_so(pipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secret_file, "WRITER_SECONDS", 0.1)
    binary = tmp_path / "binary"
    binary.write_bytes(b"\x7fELF\xff\xfe")
    for path, why in ((pipe, "nothing was written to it"), (Path("/dev/zero"), "it has more than"), (binary, "text")):
        with pytest.raises(UsageError, match=why):
            chosen_keys(str(path))
        with pytest.raises(UsageError, match=why):
            chosen_token(str(path))
        monkeypatch.setenv("MRQ_PASSWORD_FILE", str(path))
        with pytest.raises(BadURL, match=why) as caught:
            parse_url("redis://host")
        assert str(caught.value).startswith("cannot read MRQ_PASSWORD_FILE: ")
    key = tmp_path / "keys"
    key.write_text(f"# ours\r\n{KEY} {KEY}\r\n\n{KEY}  # old\n")
    assert chosen_keys(str(key)) == [bytes.fromhex(KEY)] * 3
