"""Compressed files, told by how they begin and not by their names."""

from __future__ import annotations

import zlib
from importlib import import_module
from typing import Any, BinaryIO

from mapreduce_rq.errors import BadParameter

_BEGINNINGS = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_ZSTD = ("compression.zstd", "backports.zstd", "pyzstd", "zstandard")
"""Where zstd is: with Python from 3.14 on, else in one of these packages."""

BROKEN: tuple[type[Exception], ...] = (EOFError, OSError, zlib.error, ValueError)
"""What reading a compressed file raises if it is truncated or damaged, and what a library may raise of its own."""


def compression_of(file: BinaryIO) -> str | None:
    """How a file is compressed; None: it is not."""
    file.seek(0)
    head = file.read(8)
    file.seek(0)
    return next((name for beginning, name in _BEGINNINGS.items() if head.startswith(beginning)), None)


def decompressed(file: BinaryIO, how: str) -> BinaryIO:
    """What is in a compressed file, to be read from its beginning. Raises BadParameter where there is no library."""
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
    raise BadParameter("files: a file is compressed by zstd, and no library for that is here: pip install zstandard")
