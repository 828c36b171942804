"""Reads a small file that holds a secret: a password, a signing key, a token.

The file may be a pipe: a shell makes one of ``<(pass show mrq)``. A pipe to which nothing is written, or a device that
never ends, is an error after some seconds, and no wait without a word.
"""

from __future__ import annotations

import errno
import os
import select
import time

WRITER_SECONDS = 5.0
"""The most seconds that a pipe's writer is waited for."""
MOST_BYTES = 64 * 1024


def read_secret(path: str, encoding: str = "utf-8-sig") -> str:
    """The text in a file. Raises OSError, with the reason in ``strerror``, and UnicodeDecodeError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except ValueError as error:  # a name that no file can have
        raise OSError(errno.EINVAL, f"it is not a file's name: {error}") from None
    until = time.monotonic() + WRITER_SECONDS
    found = b""
    try:
        while len(found) <= MOST_BYTES:
            if not select.select([descriptor], [], [], max(0.0, until - time.monotonic()))[0]:
                raise OSError(errno.ETIMEDOUT, f"nothing was written to it for {WRITER_SECONDS:.0f} s")
            piece = os.read(descriptor, MOST_BYTES)
            if not piece:
                return found.decode(encoding)
            found += piece
    finally:
        os.close(descriptor)
    raise OSError(errno.EFBIG, f"it has more than {MOST_BYTES:,} bytes")
