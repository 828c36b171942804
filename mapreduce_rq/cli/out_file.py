"""The file of ``--out``: it is written as `cp` would write it, or not changed at all.

A regular file is first written under another name in the same folder and then renamed. So a reader never finds half of
it, and if the disk is full, the old file stays as it was. If the path is a link, the link stays, and its target is
written. Output to a pipe, a device or standard output is written directly.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable

from mapreduce_rq.cli.streams import say, write_bytes
from mapreduce_rq.errors import UsageError


class OutFile:
    """A file to write a value to. Raises UsageError, before the job begins, for a file that cannot be written."""

    def __init__(self, path: str, option: str = "--out") -> None:
        self.path = path
        self._old: os.stat_result | None = None
        if not path:
            raise UsageError(f"{option}: the file's name is empty")
        try:
            self._old = os.stat(path)
        except FileNotFoundError:
            folder, name = os.path.split(os.path.realpath(path))
            if not name or path.endswith("/") or not os.path.isdir(folder):
                raise UsageError(f"{option}: cannot write {path}: there is no folder {folder or path}") from None
            if not os.access(folder, os.W_OK | os.X_OK):
                raise UsageError(f"{option}: cannot write {path}: no new file may be made in {folder}") from None
        except OSError as error:
            raise UsageError(f"{option}: cannot write {path}: {error.strerror}") from None
        except ValueError:  # zero bytes, or halves of characters that stand for no byte
            raise UsageError(f"{option}: {path!a} cannot be the name of a file") from None
        # Asked now: while a job runs, descriptor 1, and so /dev/stdout, leads to standard error (see streams.aside).
        self._is_output = self._old is not None and _same(self._old, 1)
        if self._old is not None and stat.S_ISDIR(self._old.st_mode):
            raise UsageError(f"{option}: {path} is a folder: name a file in it")
        if self._old is not None and not (self._is_output or os.access(path, os.W_OK)):
            raise UsageError(f"{option}: cannot write {path}: it may not be written by you")

    def write(self, pieces: Iterable[bytes]) -> int:
        """Write all pieces, and return the number of bytes. Raises OSError; a regular file is then as it was."""
        if self._is_output:
            count = 0
            for piece in pieces:
                write_bytes(piece)
                count += len(piece)
            return count
        old = self._old
        if old is not None and not stat.S_ISREG(old.st_mode):
            with open(self.path, "wb", opener=_once_read) as file:
                return sum(map(file.write, pieces))
        target = os.path.realpath(self.path)
        folder = os.path.dirname(target)
        own = old is None or (old.st_nlink == 1 and old.st_uid == os.geteuid())
        if own and os.access(folder, os.W_OK | os.X_OK):
            return _beside(target, os.path.join(folder, f".mrq-{os.urandom(6).hex()}"), pieces, old)
        # A new file would lose the other names or the owner of the old one, or we may not make one here.
        return _in_place(target, b"".join(pieces))


def _once_read(path: str, flags: int) -> int:
    """Open a file that may be a named pipe: it waits for a reader, as `cp` does, and says so."""
    try:
        descriptor = os.open(path, flags | os.O_NONBLOCK)
    except OSError as error:
        if error.errno != errno.ENXIO or not stat.S_ISFIFO(os.stat(path).st_mode):
            raise
        say(f"waiting for a reader of the pipe {path}")
        return os.open(path, flags)
    os.set_blocking(descriptor, True)
    return descriptor


def _same(found: os.stat_result, descriptor: int) -> bool:
    try:
        return os.path.samestat(found, os.fstat(descriptor))
    except OSError:
        return False  # closed


def _beside(target: str, name: str, pieces: Iterable[bytes], old: os.stat_result | None) -> int:
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)  # less the umask
    try:
        with open(descriptor, "wb") as file:
            if old is not None:
                os.fchmod(descriptor, stat.S_IMODE(old.st_mode))
            count = sum(map(file.write, pieces))
            file.flush()
            os.fsync(descriptor)  # some disks say only here that they are full
        os.replace(name, target)
    except BaseException:
        os.unlink(name)
        raise
    return count


def _in_place(target: str, data: bytes) -> int:
    """Write the bytes after the old end first: if the disk has no room for them, the old file stays as it was."""
    with open(target, "r+b") as file:
        size = os.fstat(file.fileno()).st_size
        try:
            file.seek(size)
            file.write(data[size:])
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            os.ftruncate(file.fileno(), size)
            raise
        file.seek(0)
        file.write(data[:size])
        file.flush()
        os.ftruncate(file.fileno(), len(data))
        os.fsync(file.fileno())
    return len(data)
