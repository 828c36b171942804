"""The object that all calls of a job share, on a worker's host: fetched once, and read by all workers there from one
file.

With a private server the client writes the file itself. Otherwise the first worker that needs it fetches it, while the
others wait for the file. It is mapped into memory, so arrays are views of the file, and all workers of a host have one
copy of them, until they write into it.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator

from mapreduce_rq.core.bodies import Buffer, hash_of
from mapreduce_rq.errors import BadFunction

UNUSED_SECONDS = 86_400
"""Seconds after its last use after which a file is removed."""

Fetch = Callable[[str], Iterator[bytes]]


def lay(directory: str, name: str, pieces: Iterable[Buffer]) -> None:
    """Write a body into its file. Raises OSError if there is no room; then nothing is left behind."""
    path = _path(directory, name)
    part = f"{path}.{os.getpid()}"
    try:
        with open(part, "xb", opener=_private) as file:
            file.writelines(pieces)
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(part)
        raise


def is_laid(directory: str, name: str) -> bool:
    """Whether the body is there."""
    return os.path.exists(_path(directory, name))


def obtain(shelf: str, name: str, fetch: Fetch) -> Buffer:
    """The body with this hash. ``shelf``: the directory beside a private server; '' with a shared server.

    Raises BadFunction if the body does not have this hash, and what ``fetch`` raises.
    """
    if shelf and (found := _mapped(shelf, name)) is not None:
        return found
    directory = _of_host()
    if directory is None:
        return _in_memory(name, fetch)
    if (found := _mapped(directory, name)) is not None:
        return found
    try:
        lock = os.open(_path(directory, name) + ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        return _in_memory(name, fetch)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another worker of this host may be fetching it
        if (found := _mapped(directory, name)) is not None:
            return found
        _remove_unused(directory)
        with contextlib.suppress(OSError):
            lay(directory, name, _checked(name, fetch(name)))
            if (found := _mapped(directory, name)) is not None:
                return found
    finally:
        os.close(lock)
    return _in_memory(name, fetch)  # there is no room for a file


def _in_memory(name: str, fetch: Fetch) -> Buffer:
    return memoryview(bytearray(b"".join(_checked(name, fetch(name)))))


def _checked(name: str, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The pieces; after the last one it raises BadFunction unless they have this hash."""
    found = hash_of(())
    for piece in pieces:
        found.update(piece)
        yield piece
    if found.hexdigest() != name:
        raise BadFunction("what the job's calls share was changed in Redis: submit the job again")


def _mapped(directory: str, name: str) -> Buffer | None:
    try:
        file = os.open(_path(directory, name), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        with contextlib.suppress(OSError):
            os.utime(file)
        return memoryview(mmap.mmap(file, 0, access=mmap.ACCESS_COPY))
    except (OSError, ValueError):  # there is no memory for it; or the file is empty, which none of ours is
        return None
    finally:
        os.close(file)


def _of_host() -> str | None:
    """The directory of this user's files on this host, which no other user can write to; None if there is none."""
    path = os.path.join(tempfile.gettempdir(), f"mrq-shared-{os.getuid()}")
    with contextlib.suppress(OSError):
        os.mkdir(path, 0o700)
    try:
        found = os.lstat(path)
    except OSError:
        return None
    ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077
    return path if ours else None


def _remove_unused(directory: str) -> None:
    with contextlib.suppress(OSError):
        for entry in os.scandir(directory):
            if time.time() - entry.stat(follow_symlinks=False).st_mtime > UNUSED_SECONDS:
                with contextlib.suppress(OSError):
                    os.unlink(entry.path)


def _path(directory: str, name: str) -> str:
    if len(name) != 64 or not set(name) <= set("0123456789abcdef"):
        raise BadFunction(f"{name[:70]!r} is not the hash of a shared body")
    return os.path.join(directory, f"shared-{name}")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)
