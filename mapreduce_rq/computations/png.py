"""A picture as a PNG file: eight bits a pixel and a palette, compressed by zlib, with a few headers."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def encode(width: int, height: int, pixels: bytes, palette: Sequence[tuple[int, int, int]]) -> bytes:
    """The file of ``height`` rows of ``width`` palette indices (W3C, "Portable Network Graphics", third edition)."""
    if len(pixels) != width * height:
        raise ValueError(f"a picture of {width} x {height} was given {len(pixels)} pixels")
    rows = b"".join(b"\0" + pixels[at : at + width] for at in range(0, len(pixels), width))  # 0: a row is not filtered
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    colours = b"".join(map(bytes, palette))
    return b"".join(
        (
            SIGNATURE,
            chunk(b"IHDR", header),
            chunk(b"PLTE", colours),
            chunk(b"IDAT", zlib.compress(rows)),
            chunk(b"IEND"),
        )
    )


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    """A chunk with its length and its checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
