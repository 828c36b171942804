"""Large bodies between the processes of one host: in files of a memory file system, beside a private server.

A body of a megabyte that goes through Redis is copied about ten times on its way, in a process that all share. On one
host there is a shorter way: the sender writes the body to a file, the message has a reference, and the reader maps the
file. After the file is removed, the mapped memory belongs to the reader alone. So an array that is read from it is a
view, and is writable. The files are in a directory that only this user can enter. The guardian removes the directory
with the server, also if its owner is killed. A job's files are removed with the job.

References come from the private server, to which only our own processes write.
"""

from __future__ import annotations

import contextlib
import itertools
import mmap
import os
import re
import shutil
import struct
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import ClassVar

from mapreduce_rq.core.bodies import ASIDE, Buffer
from mapreduce_rq.runtime.server import guardian

ASIDE_BYTES = 64 * 1024
"""A body of at least this number of bytes is laid aside: for smaller ones a file costs more than the copies."""

MOST_PIECES = 512
"""Pieces that are written with one call: the system takes no more than 1024."""

_NAME = re.compile(rb"[0-9]+-[0-9]+")
_counter = itertools.count()


class Shelf:
    """One job's large bodies, in files of a directory of its own within this one.

    The process that lays the first body there makes that directory: most jobs have none, and a lone task does not wait
    for it. The job's master removes it. A worker that lays something later learns with its answer that the job is
    over, and removes that itself (``withdraw``).
    """

    outlives: ClassVar[bool] = True

    def __init__(self, directory: str, job: str) -> None:
        self._above = directory
        self._job = job
        self._mine: set[bytes] = set()  # references to the bodies that this process has laid aside and not dropped

    @cached_property
    def _directory(self) -> str:
        return os.path.join(self._above, re.sub(r"[^0-9a-z]", "", self._job[-32:].lower()) or "job")

    def put(self, *pieces: Buffer) -> bytes | None:
        """Lay a body aside, and return the reference to it; None if it is small, or if there is no room.

        The body is all these pieces, one behind the other.
        """
        size = sum(map(len, pieces))
        if size < ASIDE_BYTES:
            return None
        name = f"{os.getpid()}-{next(_counter)}".encode()
        path = self._path(name)
        try:
            file = self._made(path)
            try:
                _write(file, pieces)
            except BaseException:  # a worker is told to leave, perhaps
                os.unlink(path)
                raise
            finally:
                os.close(file)
        except OSError:  # there is no room: the body goes through Redis
            return None
        reference = ASIDE + size.to_bytes(8, "big") + name
        self._mine.add(reference)
        return reference

    def _made(self, path: str) -> int:
        """The descriptor of a new file. Raises OSError."""
        how = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            return os.open(path, how, 0o600)
        except FileNotFoundError:
            with contextlib.suppress(FileExistsError):
                os.mkdir(self._directory, 0o700)
            return os.open(path, how, 0o600)

    def get(self, reference: Buffer) -> memoryview:
        """The body, which stays when the file is removed. Raises ValueError if it is not there any more.

        It is writable. Other processes do not see the writes, because another worker may have to read the same body.
        """
        name = bytes(reference[9:])
        if not _NAME.fullmatch(name):
            raise ValueError("a reference is not to a body of this job")
        try:
            file = os.open(self._path(name), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            raise ValueError(f"a body that was laid aside is gone: {error.strerror}") from None
        try:
            return memoryview(mmap.mmap(file, 0, access=mmap.ACCESS_COPY))
        finally:
            os.close(file)

    def lay(self, pieces: Sequence[bytes]) -> bytes | None:
        """Lay the pieces of a shuffle aside in one file, after a table of their places. None if there is no room."""
        number = len(pieces)
        starts = itertools.accumulate(map(len, pieces), initial=8 * (number + 2))
        return self.put(struct.pack(f"<{number + 2}Q", number, *starts), *pieces)

    def row(self, references: Sequence[bytes], number: int) -> Iterator[memoryview]:
        """The piece with this number from each of the references. Raises ValueError as ``get``."""
        return (self._piece(reference, number) for reference in references)

    def _piece(self, reference: bytes, number: int) -> memoryview:
        body = self.get(reference)
        try:
            (known,) = struct.unpack_from("<Q", body)
            start, end = struct.unpack_from("<2Q", body, 8 * (number + 1))
        except struct.error:
            known = 0
        if not number < known or not start <= end <= len(body):
            raise ValueError("a body that holds no such piece")
        return body[start:end]

    def drop(self, reference: Buffer) -> None:
        """Remove a body. A process that has mapped it keeps it."""
        name = bytes(reference[9:])
        self._mine.discard(bytes(reference))
        if _NAME.fullmatch(name):
            try:
                os.unlink(self._path(name))
            except OSError:
                pass  # it was removed before

    def keep(self, references: set[bytes]) -> None:
        """Drop all bodies that this process has laid aside, except these."""
        for reference in self._mine - references:
            self.drop(reference)

    def clear(self) -> None:
        """Remove all bodies of the job, because it is over; also those that killed workers have left."""
        self._mine.clear()
        try:
            os.rmdir(self._directory)
        except OSError:
            gone = os.path.join(self._above, f"gone-{os.getpid()}-{next(_counter)}")
            with contextlib.suppress(OSError):
                os.rename(self._directory, gone)  # from here on no worker can add a file to it
                shutil.rmtree(gone, ignore_errors=True)

    def withdraw(self) -> None:
        """Remove what this process has laid: it was late, and no process reads it."""
        if self._mine:
            self.keep(set())
            with contextlib.suppress(OSError):
                os.rmdir(self._directory)

    def _path(self, name: bytes) -> str:
        return os.path.join(self._directory, name.decode("ascii"))


def _write(file: int, pieces: Iterable[Buffer]) -> None:
    """Write all of these, without a copy of them here. Raises OSError."""
    row = [memoryview(piece) for piece in pieces]
    for at in range(0, len(row), MOST_PIECES):
        rest = row[at : at + MOST_PIECES]
        while rest:
            written = os.writev(file, rest)
            while rest and written >= len(rest[0]):
                written -= len(rest.pop(0))
            if rest:
                rest[0] = rest[0][written:]


def a_shelf() -> str:
    """A new directory that only this user can enter, in memory if the system offers that. The caller must remove it."""
    base = guardian.SHARED_MEMORY
    return tempfile.mkdtemp(prefix="mrq-", dir=base if os.access(base, os.W_OK | os.X_OK) else None)
