"""Compressed files, recognised by their first bytes and not by their names."""

from __future__ import annotations

import io
import zlib
from importlib import import_module
from typing import Any, BinaryIO

from mapreduce_rq.errors import BadParameter

PIECE = 1 << 18
"""Bytes read at a time."""

_BEGINNINGS = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_ZSTD = ("compression.zstd", "backports.zstd", "pyzstd")
"""Modules that read zstd, as ``zstandard`` does, too: the first comes with Python from 3.14 on."""

_DAMAGE = (EOFError, OSError, zlib.error, ValueError)
_DAMAGE_BY_NAME = {"LZMAError", "ZstdError"}  # of modules that need not be imported


def is_damage(error: BaseException) -> bool:
    """Whether an error is that of a compressed file which is truncated or damaged."""
    return isinstance(error, _DAMAGE) or type(error).__name__ in _DAMAGE_BY_NAME


def compression_of(file: BinaryIO) -> str | None:
    """The compression of a file; None: it is not compressed."""
    file.seek(0)
    head = file.read(8)
    file.seek(0)
    return next((name for beginning, name in _BEGINNINGS.items() if head.startswith(beginning)), None)


def decompressed(file: BinaryIO, how: str) -> BinaryIO:
    """The content of a compressed file, read from its beginning. Raises BadParameter if the library is missing."""
    if how == "gzip":
        return import_module("gzip").GzipFile(fileobj=file, mode="rb")  # type: ignore[no-any-return]
    if how == "bz2":
        return import_module("bz2").BZ2File(file)  # type: ignore[no-any-return]
    if how == "xz":
        return import_module("lzma").LZMAFile(file)  # type: ignore[no-any-return]
    for name in _ZSTD:
        try:
            library: Any = import_module(name)
        except ImportError:
            continue
        return library.ZstdFile(file)  # type: ignore[no-any-return]
    try:
        return io.BufferedReader(_Zstandard(file), PIECE)
    except ImportError:
        raise BadParameter(
            "files: a file is compressed by zstd, and no library for it is installed: pip install zstandard"
        ) from None


class _Zstandard(io.RawIOBase):
    """The content of a zstd file, read by ``zstandard``, whose own reader takes the end of the file for its end."""

    def __init__(self, file: BinaryIO) -> None:
        self._library: Any = import_module("zstandard")
        self._checked = False
        self._file = file
        self._reader = self._library.ZstdDecompressor().stream_reader(file, read_across_frames=True)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._checked:
            _check_frames(self._file)
            self._checked = True
        try:
            return self._reader.readinto(buffer)  # type: ignore[no-any-return]
        except self._library.ZstdError as error:
            raise ValueError(str(error)) from None


def _check_frames(file: BinaryIO) -> None:
    """Raises EOFError if a zstd file ends in the middle of a frame; reads the heads of its blocks alone (RFC 8878)."""

    def number(count: int) -> int:
        found = file.read(count)
        if len(found) < count:
            raise EOFError("it ended in the middle of a frame")
        return int.from_bytes(found, "little")

    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    while file.tell() < size:
        magic = number(4)
        if magic & ~15 == 0x184D2A50:  # a frame to be skipped
            file.seek(number(4), io.SEEK_CUR)
        elif magic == 0xFD2FB528:
            flags = number(1)
            alone = flags >> 5 & 1
            content = (alone, 2, 4, 8)[flags >> 6]
            file.seek((not alone) + (0, 1, 2, 4)[flags & 3] + content, io.SEEK_CUR)
            last = 0
            while not last:
                head = number(3)
                last, kind = head & 1, head >> 1 & 3
                file.seek(1 if kind == 1 else head >> 3, io.SEEK_CUR)
            file.seek(4 * (flags >> 2 & 1), io.SEEK_CUR)
        else:
            break  # its reader says what this is
        if file.tell() > size:
            raise EOFError("it ended in the middle of a frame")
    file.seek(0)
