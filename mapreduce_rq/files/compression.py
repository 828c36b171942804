"""Compressed files, recognised by their first bytes and not by their names."""

from __future__ import annotations

import zlib
from importlib import import_module
from typing import Any, BinaryIO

from mapreduce_rq.errors import BadParameter

_BEGINNINGS = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_ZSTD = ("compression.zstd", "backports.zstd", "pyzstd", "zstandard")
"""Modules that read zstd: the first comes with Python from 3.14 on, the others are packages."""

BROKEN: tuple[type[Exception], ...] = (EOFError, OSError, zlib.error, ValueError)
"""Errors of a compressed file that is truncated or damaged. Libraries add classes of their own."""


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
        if name == "zstandard":
            return library.ZstdDecompressor().stream_reader(file, read_across_frames=True)  # type: ignore[no-any-return]
        return library.ZstdFile(file)  # type: ignore[no-any-return]
    raise BadParameter("files: a file is compressed by zstd, and no library for it is installed: pip install zstandard")
