"""Compressed files, recognised by their first bytes and not by their names."""

from __future__ import annotations

import errno
import io
import zlib
from collections.abc import Callable
from importlib import import_module
from typing import Any, BinaryIO

from mapreduce_rq.errors import BadParameter

PIECE = 1 << 18
"""Bytes read at a time."""

_HEAD = 16
"""Bytes that tell a file's compression."""
_BEGINNINGS = {b"\x1f\x8b\x08": "gzip", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_UNREAD = {
    b"PK\x03\x04": "is a zip archive",
    b"7z\xbc\xaf\x27\x1c": "is a 7z archive",
    b"\x04\x22\x4d\x18": "is compressed by lz4",
    b"\x1f\x9d": "is compressed by compress",
}
"""What is not read, and must not be taken for text either: some encodings have a character for each byte."""
_ZSTD = ("compression.zstd", "backports.zstd", "pyzstd")
"""Modules that read zstd, as ``zstandard`` does, too: the first comes with Python from 3.14 on."""

_DAMAGE = (EOFError, OSError, zlib.error, ValueError)
_DAMAGE_BY_NAME = {"LZMAError", "ZstdError"}  # of modules that need not be imported


def is_damage(error: BaseException) -> bool:
    """Whether an error is that of a compressed file which is truncated or damaged."""
    return isinstance(error, _DAMAGE) or type(error).__name__ in _DAMAGE_BY_NAME


def compression_of(file: BinaryIO, at: int = 0) -> str | None:
    """The compression of a file from the byte ``at`` on, where it then stands; None: it is not compressed.

    Raises OSError for what is packed in another way.
    """
    file.seek(at)
    head = file.read(_HEAD)
    file.seek(at)
    for beginning, what in _UNREAD.items():
        if head.startswith(beginning):
            raise OSError(errno.EINVAL, f"{what}, which is not read: unpack it first")
    if _is_bz2(head):
        return "bz2"
    if head[1:4] == b"\x2a\x4d\x18" and head[0] >> 4 == 5:  # a frame to be skipped, with which pzstd begins a file
        return "zstd"
    if head.startswith(b"\x5d\0\0") and (head[5:13] == b"\xff" * 8 or head[10:13] == bytes(3)):  # a .lzma file
        return "xz"  # one library reads both
    return next((name for beginning, name in _BEGINNINGS.items() if head.startswith(beginning)), None)


def _is_bz2(head: bytes) -> bool:
    """Whether a file begins as bz2 does, with the digits of pi or, if it is empty, of its root; a text may begin with
    ``BZh``.
    """
    digits = head[4:8]
    return head.startswith(b"BZh") and bool(digits) and any(all_of.startswith(digits) for all_of in _BZ2_DIGITS)


_BZ2_DIGITS = (b"\x31\x41\x59\x26", b"\x17\x72\x45\x38")


def decompressed(file: BinaryIO, how: str) -> BinaryIO:
    """The content of a compressed file, read from its beginning. Raises BadParameter if the library is missing."""
    if how == "gzip":
        return import_module("gzip").GzipFile(fileobj=file, mode="rb")  # type: ignore[no-any-return]
    if how in {"bz2", "xz"}:
        new = import_module("bz2").BZ2Decompressor if how == "bz2" else import_module("lzma").LZMADecompressor
        return io.BufferedReader(_Members(file, new), PIECE)
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


class _Members(io.RawIOBase):
    """The content of a bz2 or xz file: members that follow each other up to the end of the file.

    Python's own classes take a damaged member behind the first one for rubbish that may be ignored, and pbzip2 writes a
    member for each megabyte. Zeros behind a member are padding, as xz and tapes have it.
    """

    def __init__(self, file: BinaryIO, new: Callable[[], Any]) -> None:
        self._file, self._new = file, new
        self._member = new()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            rest = b""
            if self._member.eof:
                rest = self._behind(self._member.unused_data)
                if not rest:
                    return 0
                self._member = self._new()
            elif self._member.needs_input and not (rest := self._file.read(PIECE)):
                raise EOFError("it ended in the middle of a member")
            if found := self._member.decompress(rest, len(buffer)):
                buffer[: len(found)] = found
                return len(found)

    def _behind(self, rest: bytes) -> bytes:
        """The first bytes of the next member. ``rest``: what was read behind the last one."""
        while not (begins := rest.lstrip(b"\0")):
            if not (rest := self._file.read(PIECE)):
                break
        return begins


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
