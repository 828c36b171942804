"""Finds the digits of a running value that are certain already, from its text and its error. Pure.

The truth lies within ``error`` of the value. The written digits down to some place are digits of the truth if they are
the same at both ends of that interval: the digits of a number cannot change in between without changing at an end. So
the last certain digit of 3.14159 with an error of 0.001 is the 4. With the same error, 2.99999 has no certain digit,
because the truth may be 3.0001. Numbers are compared exactly, as fractions.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import NamedTuple

TEXT_DIGITS = 10
"""A value is written with at least this number of significant digits; zeros at its end may be left out. The error of
that rounding counts, too.
"""
MOST_DIGITS = 400
"""The most digits of a number that is examined: a text from outside may have millions, or an exponent of that size."""

_NUMBER = re.compile(r"(-?)([0-9]+)(?:\.([0-9]+))?(?:e([+-]?[0-9]{1,4}))?(?= |$)", re.ASCII)


class Parted(NamedTuple):
    """A text in three parts: ``certain`` digits (with sign and point), digits that may still change, and the rest,
    which is not part of the number.
    """

    certain: str
    moving: str
    beside: str


def parted(text: str, error: float) -> Parted:
    """The text of a value in its parts, for an error that is a bound.

    The last written digit is never certain, because it is rounded.
    """
    found = _NUMBER.match(text)
    if found is None or not (0 <= error < math.inf):
        return Parted("", "", text)
    certain = _certain(found, error)
    return Parted(text[:certain], text[certain : found.end()], text[found.end() :])


def _certain(found: re.Match[str], error: float) -> int:
    """The number of the text's characters that are digits of the truth, at each place of the interval."""
    sign, whole, part, exponent = found[1], found[2], found[3] or "", int(found[4] or 0)
    digits = whole + part
    if len(digits) > MOST_DIGITS or abs(exponent) > MOST_DIGITS:
        return 0
    last = exponent - len(part)  # the power of ten of the last digit
    value = int(digits) * Fraction(10) ** last
    lost = max(0, TEXT_DIGITS - len(digits.lstrip("0")))  # of its digits: zeros at the end
    far = Fraction(error) + Fraction(10) ** (last - lost) / 2
    low, high = value - far, value + far
    if low < 0 or (sign and low == 0):
        return 0  # not even the sign is certain
    certain = 0
    for place in range(len(digits)):
        unit = Fraction(10) ** (last + len(digits) - 1 - place)
        if low // unit != high // unit:
            break
        certain = place + 1
    return len(sign) + certain + (certain > len(whole)) if certain else 0
