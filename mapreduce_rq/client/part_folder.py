"""The folder of a result that is written in parts: the folder is there complete, or not at all.

It is first written under another name beside its place and then renamed, so a killed run leaves a hidden ``.mrq-...``
folder and nothing that looks like a result. In the folder are ``part-00000.jsonl`` and so on, and ``_SUCCESS``: a JSON
object with the job, the number of keys, the digest, and the keys and bytes of each file.
"""

from __future__ import annotations

import os
import shutil
from typing import Any, NamedTuple

import msgspec

from mapreduce_rq.core.job.result import Result
from mapreduce_rq.core.reducers.shuffle import Parts
from mapreduce_rq.core.visible import visible
from mapreduce_rq.errors import CannotWrite, UsageError

MARK = "_SUCCESS"


class PartFiles(NamedTuple):
    """A folder with the parts of a result, which is complete."""

    folder: str
    files: list[str]
    keys: int
    bytes: int


class PartFolder:
    """A folder to write a result to. Raises UsageError, before the job begins, for a folder that cannot be written."""

    def __init__(self, path: str) -> None:
        self.path = path.rstrip("/") or "/"
        if not _is_name(path):
            raise UsageError(f"out: {path!a} cannot be the name of a folder")
        above = os.path.dirname(os.path.realpath(self.path))
        try:
            there = os.listdir(self.path)
        except FileNotFoundError:
            there = []
        except OSError as error:
            raise UsageError(f"out: cannot write {visible(path)}: {error.strerror}") from None
        if there:
            raise UsageError(f"out: the folder {visible(path)} is not empty: name a new one, or remove it first")
        if not os.path.isdir(above) or not os.access(above, os.W_OK | os.X_OK):
            raise UsageError(f"out: cannot write {visible(path)}: no new folder may be made in {above}")
        self._above = above

    def write(self, result: Result) -> PartFiles:
        """Write the parts of a result. Raises CannotWrite, and then leaves nothing behind."""
        parts = result.native
        assert isinstance(parts, Parts)
        beside = os.path.join(self._above, f".mrq-{os.urandom(6).hex()}")
        try:
            os.mkdir(beside)
            try:
                written = self._write_in(beside, parts, result)
                os.rename(beside, os.path.realpath(self.path))
                _sync(self._above)
            except BaseException:
                shutil.rmtree(beside, ignore_errors=True)
                raise
        except OSError as error:
            raise CannotWrite(f"out: cannot write {self.path}: {error.strerror}; no part of it is there") from None
        return written

    def _write_in(self, folder: str, parts: Parts, result: Result) -> PartFiles:
        ending = parts.form or "jsonl"
        rows: list[dict[str, Any]] = []
        for number, (keys, content) in enumerate(parts.files()):
            name = f"part-{number:05}.{ending}"
            _write(os.path.join(folder, name), content)
            rows.append({"file": name, "keys": keys, "bytes": len(content)})
        about = {"job": result.job, "keys": len(parts), "digest": result.digest, "files": rows}
        _write(os.path.join(folder, MARK), msgspec.json.encode(about) + b"\n")
        _sync(folder)
        return PartFiles(self.path, [row["file"] for row in rows], len(parts), sum(row["bytes"] for row in rows))


def _is_name(path: str) -> bool:
    try:
        return b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:  # a half of a character that stands for no byte
        return False


def _write(path: str, content: Any) -> None:
    with open(path, "xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())  # some file systems say only here that they are full


def _sync(folder: str) -> None:
    """Make sure that the names in a folder are on the disk, so that they survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
