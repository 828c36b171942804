"""A file whose bytes are summed up as they are read, so that at its end we know whether they are still there.

A file may grow while it is sent: what is added is read, too. But if it is cut and grows again, or is overwritten, what
was read is of two contents. Its size does not tell that, and its times do not tell it from a file that grows. So a file
whose times have changed is read once more, and its sum is compared.
"""

from __future__ import annotations

import io
import os
from typing import Any, BinaryIO
from zlib import crc32

from mapreduce_rq.files.lines import PIECE


class Watched(io.RawIOBase):
    """The rest of a regular file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._began = file.tell()
        self._times = self._times_now()
        self._size = self._sum = 0

    def readable(self) -> bool:
        """See io.RawIOBase."""
        return True

    def readinto(self, buffer: Any) -> int:
        """See io.RawIOBase."""
        found = self._file.read(len(buffer))
        buffer[: len(found)] = found
        self._sum = crc32(found, self._sum)
        self._size += len(found)
        return len(found)

    def as_read(self) -> bool:
        """Whether the file still has what was read of it. Then or not, its position is somewhere else."""
        if self._times_now() == self._times:
            return True
        self._file.seek(self._began)
        left, found = self._size, 0
        while left and (piece := self._file.read(min(PIECE, left))):
            found = crc32(piece, found)
            left -= len(piece)
        return not left and found == self._sum

    def _times_now(self) -> tuple[int, int]:
        status = os.fstat(self._file.fileno())
        return status.st_mtime_ns, status.st_size
