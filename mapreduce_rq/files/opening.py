"""Files of the worker's machine, for computations that declare ``reads_files``: regular files, in a folder if set.

The names come from users who submit jobs. So only regular files are opened: a worker does not wait for a FIFO, and asks
nothing of a device. If a folder is set, no ``..``, absolute name or symbolic link leads out of it.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import BinaryIO


def open_file(name: str, folder: str | None) -> BinaryIO:
    """Open a regular file for reading; a relative name is looked for in the folder, if there is one.

    Raises OSError, with the reason in ``strerror``, if it is not a regular file, or is not in the folder.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        if folder is not None:
            name = _inside(name, folder)
            flags |= os.O_NOFOLLOW
        descriptor = os.open(name, flags)
    except ValueError as error:  # a name that no file can have
        raise OSError(errno.EINVAL, f"is not a file's name: {error}") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "is not a regular file")
    return os.fdopen(descriptor, "rb")


def size_of(file: BinaryIO) -> int:
    """The bytes of a regular file as it is now; 0 for anything else, which may have any number of them."""
    try:
        found = os.fstat(file.fileno())
    except OSError:  # it is no file of the system's
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) else 0


def changed(path: str, now: int, size: int) -> str:
    """What is wrong with a file of another size than it had."""
    return f"{path} has {now} bytes now and had {size}: a file must not change while a job reads it"


def _inside(name: str, folder: str) -> str:
    root = os.path.realpath(folder)
    real = os.path.realpath(os.path.join(root, name))
    if os.path.commonpath([root, real]) != root:
        raise PermissionError(errno.EACCES, f"is not in {folder}, the folder that this worker reads (--files)")
    return real
