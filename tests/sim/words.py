"""Numbers as a server reads them. Python takes more for a number: signs, spaces, underscores, any digits, any size."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from tests.sim.store import Refusal

NO_INTEGER = "ERR value is not an integer or out of range"
_AS_STRTOULL = re.compile(rb"[ \t\n\v\f\r]*([+-]?)([0-9]+)")


def integer(text: bytes) -> int:
    """A whole number of 64 bits, in the one way to write it. Raises Refusal."""
    try:
        number = int(text)
    except ValueError:
        raise Refusal(NO_INTEGER) from None
    if b"%d" % number != text or not -(2**63) <= number < 2**63:
        raise Refusal(NO_INTEGER)
    return number


def real(text: bytes) -> float:
    """A decimal number or an infinity, with nothing around it. Raises Refusal."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if math.isnan(number) or b"_" in text or text != text.strip():
        raise Refusal("ERR value is not a valid float")
    return number


def seconds(text: bytes) -> float:
    """How long a command waits at most. Raises Refusal."""
    found = real(text)
    if found < 0 or found * 1000 >= 2**63:
        raise Refusal("ERR timeout is negative or out of range")
    return found


def pairs(words: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
    """The words two by two, of which there is one pair at least. Raises Refusal."""
    if len(words) % 2 or not words:
        raise Refusal("ERR wrong number of arguments")
    return list(zip(words[::2], words[1::2], strict=True))


def is_left(side: bytes) -> bool:
    """Which end of a list is meant. Raises Refusal."""
    if side not in {b"LEFT", b"RIGHT"}:
        raise Refusal("ERR syntax error")
    return side == b"LEFT"


def id_of(text: bytes) -> tuple[int, int]:
    """A stream id; without a second part, the first one of its millisecond. Raises Refusal."""
    milliseconds, dash, sequence = text.partition(b"-")
    return _unsigned(milliseconds), _unsigned(sequence) if dash else 0


def _unsigned(text: bytes) -> int:
    try:
        found: int | None = integer(text)
    except Refusal:
        found = None
    if found is None and (match := _AS_STRTOULL.fullmatch(text)) and int(match[2]) < 2**64:
        found = int(match[2]) if match[1] != b"-" else -int(match[2]) % 2**64
    if found is None or found < 0:
        raise Refusal("ERR Invalid stream ID specified as stream command argument")
    return found
