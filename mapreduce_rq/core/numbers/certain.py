"""Which digits of a running value are certain already, by its text and its error. Pure.

The truth lies within ``error`` of the value. Its digits down to some place are those that are written if they are the
same at both ends of that interval: the digits of a number cannot change in between without changing at an end. So the
last certain digit of 3.14159 with an error of 0.001 is the 4, and of 2.99999 with the same error there is none, since
the truth may be 3.0001. Numbers are compared exactly, as fractions.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import NamedTuple

TEXT_DIGITS = 10
"""A value is written with so many significant digits, or more; zeros at its end may be left out. What is lost by that
rounding counts as error, too."""
MOST_DIGITS = 400
"""Of a number that is looked at: a text from elsewhere may hold millions, or an exponent like that."""

_NUMBER = re.compile(r"(-?)([0-9]+)(?:\.([0-9]+))?(?:e([+-]?[0-9]{1,4}))?(?= |$)", re.ASCII)


class Parted(NamedTuple):
    """A text in three parts: ``certain`` digits (with sign and point), digits that may still change, and what is no
    number, or follows it.
    """

    certain: str
    moving: str
    beside: str


def parted(text: str, error: float) -> Parted:
    """The text of a value, parted by what an error that is a bound says of its digits.

    The last digit that is written never is certain: it stands for a number that may be a little less.
    """
    found = _NUMBER.match(text)
    if found is None or not (0 <= error < math.inf):
        return Parted("", "", text)
    certain = _certain(found, error)
    return Parted(text[:certain], text[certain : found.end()], text[found.end() :])


def _certain(found: re.Match[str], error: float) -> int:
    """How many of its characters are digits of the truth, wherever in its interval that lies."""
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
