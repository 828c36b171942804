"""Exact numbers from text and from the API: the number that was written is the number that is used.

``0.1`` is one tenth and not the double near it; a hexadecimal float, or a float given through the API, is that double.
Length and exponent are capped before any integer is built: ``1e999999999`` would be a gigabyte.
"""

from __future__ import annotations

import math
import re
import reprlib
from typing import Any, NamedTuple

MAX_LENGTH = 1000
"""The most characters of a number's text."""
MAX_EXPONENT = 3000
"""The largest power of ten. With MAX_LENGTH digits each number has fewer than the 4300 digits that Python turns into
text."""
MAX_BINARY_EXPONENT = 9000
MAX_BITS = 3_400
"""Bits of the numerator, and of the denominator, of a number given through the API: MAX_LENGTH digits hold no more."""

_DECIMAL = re.compile(r"([+-]?)(\d*)(?:\.(\d*))?(?:[eE]([+-]?\d+))?", re.ASCII)
_FRACTION = re.compile(r"([+-]?\d+)\s*/\s*([+-]?\d+)", re.ASCII)
_HEXADECIMAL = re.compile(r"([+-]?)0[xX]([0-9a-fA-F]*)(?:\.([0-9a-fA-F]*))?(?:[pP]([+-]?\d+))?", re.ASCII)


class NotANumber(ValueError):
    """A text that is not a number in any notation; the message gives examples of notations."""


class Rational(NamedTuple):
    """num/den in lowest terms, den > 0."""

    num: int
    den: int

    def __str__(self) -> str:
        return str(self.num) if self.den == 1 else f"{self.num}/{self.den}"


def parse_rational(text: str) -> Rational:
    """The exact number that a text stands for: ``2``, ``-0.1``, ``1/3``, ``1e-9``, ``0x1.8p+1``.

    Raises ValueError for a text that is not a finite number, or is too long. Its message is one line.
    """
    stripped = text.strip()
    if not stripped:
        raise NotANumber("it is empty, and a number is needed")
    if len(stripped) > MAX_LENGTH:
        raise ValueError(f"it has {len(stripped)} characters, too many for a number (at most {MAX_LENGTH})")
    if match := _FRACTION.fullmatch(stripped):
        num, den = int(match[1]), int(match[2])
        if den == 0:
            raise ValueError(f"{stripped} divides by zero")
        return lowest(num, den)
    if (match := _DECIMAL.fullmatch(stripped)) and (match[2] or match[3]):
        exponent = _exponent(match[4], MAX_EXPONENT)
        return _scaled(match, 10, 10, exponent - len(match[3] or ""))
    if (match := _HEXADECIMAL.fullmatch(stripped)) and (match[2] or match[3]):
        exponent = _exponent(match[4], MAX_BINARY_EXPONENT)
        return _scaled(match, 16, 2, exponent - 4 * len(match[3] or ""))
    if stripped.lower().lstrip("+-") in {"nan", "inf", "infinity"}:
        raise ValueError(f"{stripped} is not a finite number")
    shown = stripped if len(stripped) <= 40 else stripped[:37] + "..."
    raise NotANumber(f"{shown!r} is not a number (write 2, -0.1, 1/3, 1e-9 or 0x1.8p+1)")


def number_text(value: Any) -> str:
    """A number given through the API as the text that :func:`parse_rational` reads back exactly.

    Floats become hexadecimal; integers and fractions become digits; texts stay as they are. Raises ValueError for a
    number that is not finite or too long, TypeError for a value that is not a number.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value!r} is not a finite number")
        return value.hex()
    num, den = getattr(value, "numerator", None), getattr(value, "denominator", None)
    if isinstance(value, bool) or not isinstance(num, int) or not isinstance(den, int):
        raise TypeError(f"{type(value).__name__} {reprlib.repr(value)} is not a number")
    if max(num.bit_length(), den.bit_length()) > MAX_BITS:
        raise ValueError(f"a number of more than {MAX_BITS} bits is too long")
    return str(Rational(num, den))


def _exponent(text: str | None, largest: int) -> int:
    if text is None:
        return 0
    if len(text) > 6 or abs(int(text)) > largest:
        raise ValueError(f"the exponent {text[:12]} is out of range (at most {largest})")
    return int(text)


def _scaled(match: re.Match[str], base: int, power: int, exponent: int) -> Rational:
    num = int(match[1] + match[2] + (match[3] or ""), base)
    return lowest(num * power**exponent, 1) if exponent >= 0 else lowest(num, power**-exponent)


def lowest(num: int, den: int) -> Rational:
    """num/den, den not 0, in lowest terms."""
    common = math.gcd(num, den) * (1 if den > 0 else -1)
    return Rational(num // common, den // common)
