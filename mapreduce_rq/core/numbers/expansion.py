"""Millions of digits, in parts for several workers: quotients, roots, products, and the conversion to decimal.

A number U with 0.1 <= U < 1 is held as an integer F with ``bits`` bits after the point: U is nearly F/2^bits. Its
digits are cut off from the left. In F 10^k, the bits before the point are the first k digits, and the bits after the
point hold all other digits. So the two halves can be converted apart from each other, and by products instead of
quotients (Bernstein, "Scaled remainder trees", 2004).

Each step has a small error. SPARE_BITS are enough to keep the sum of all errors below one unit of the last digit. In
the end an interval decides the digits, as in ``round_enclosed``; if it does not, there is no answer here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import msgspec

from mapreduce_rq.core.numbers.decimals import Written, error_units, power_of_ten, square_root
from mapreduce_rq.core.numbers.integers import (
    big_type,
    from_bytes,
    is_big,
    keep_memory,
    quotient,
    to_bytes,
)
from mapreduce_rq.core.numbers.rounding import scaled_ratio
from mapreduce_rq.core.outcome import Ask, More, Outcome

ASKED_FROM = 2_000_000
"""From this number of digits, parts are worth their messages: a part is then some tenths of a second of work."""

PEELED_HERE = 20_000_000
"""Digits up to which the master finds and cuts the number itself, in a second or two, instead of sending it."""

GUARD = 18
"""The number of digits computed beyond those wanted. The terms that are left out are below 10^-14 of a digit, so the
wanted digits are nearly always decided."""

SPARE_BITS = 64

LARGEST_PART = 3_000_000
"""The most digits of a part. Up to twice this number there are two parts; beyond, there are more, for more workers."""

Decided = Callable[[Written | None], "Outcome | More | Ask"]
"""Makes the outcome from the digits, or from None if the interval does not decide them."""


class Quotient(msgspec.Struct, array_like=True, tag="q"):
    """The request for num/den in [0, 1), to ``bits`` bits."""

    bits: int
    num: bytes
    den: bytes

    def value(self) -> int:
        """Less than a unit off."""
        return quotient(from_bytes(self.num) << self.bits, from_bytes(self.den))


class Root(msgspec.Struct, array_like=True, tag="r"):
    """The request for the square root of a small number, to ``bits`` bits."""

    bits: int
    number: int

    def value(self) -> int:
        """Less than a unit off."""
        return square_root(big_type()(self.number) << (2 * self.bits))


class Product(msgspec.Struct, array_like=True, tag="p"):
    """The request for the product of numbers, each with ``bits`` bits after the point."""

    bits: int
    factors: list[bytes]

    def value(self) -> int:
        """Less than a unit off."""
        found, *others = (from_bytes(factor) for factor in self.factors)
        for other in others:
            found = (found * other) >> self.bits
        return found


Number = Quotient | Root | Product


class Evaluate(msgspec.Struct, array_like=True, tag="e"):
    """The request for a number. The answer is the number's bytes."""

    number: Number

    def answer(self) -> bytes:
        """As said."""
        return to_bytes(self.number.value())


class Peel(msgspec.Struct, array_like=True, tag="l"):
    """The request to find a number in [0, 1) and to cut it into parts of given widths. The answer is the requests for
    the parts' texts.
    """

    number: Number
    widths: list[int]

    def answer(self) -> bytes:
        """As said."""
        rest, bits = self.number.value(), self.number.bits
        parts = []
        for at, width in enumerate(self.widths[:-1], 1):
            bits -= width  # 10^width is 5^width times 2^width, and the latter is a shift
            shifted = rest * big_type()(5) ** width
            parts.append(Text(width, 0, 0, to_bytes(shifted >> bits)))
            enough = bits_of(sum(self.widths[at:])) + SPARE_BITS
            drop = max(bits - enough, 0)
            rest = (shifted & ((big_type()(1) << bits) - 1)) >> drop
            bits -= drop
        last = self.widths[-1]
        parts.append(Text(last, last, bits, to_bytes(rest)))
        return msgspec.msgpack.encode([encode(part) for part in parts])


class Text(msgspec.Struct, array_like=True, tag="t"):
    """The request for the ``width`` digits of floor(number 10^scale / 2^bits)."""

    width: int
    scale: int
    bits: int
    number: bytes

    def answer(self) -> bytes:
        """The digits, in ASCII."""
        number = from_bytes(self.number)
        if self.scale:
            number = (number * big_type()(5) ** self.scale) >> (self.bits - self.scale)
        return str(big_type()(number).digits()).rjust(self.width, "0").encode()


Request = Evaluate | Peel | Text

_decode = msgspec.msgpack.Decoder(Request).decode


def encode(request: Request) -> bytes:
    """A request's bytes."""
    return msgspec.msgpack.encode(request)


def work(body: bytes) -> bytes:
    """The answer to a request. Raises ValueError for bytes that are not a request."""
    request: Request = _decode(body)
    return request.answer()


def bits_of(digits: int) -> int:
    """A number of bits that holds this many digits, with some to spare."""
    return digits * 3322 // 1000 + 1


def pays(digits: int) -> bool:
    """Whether to ask workers for this number of digits, because their messages cost less time than they save."""
    return digits >= ASKED_FROM


def prepare(digits: int) -> None:
    """Import the libraries that this many digits need, so that workers forked from this process have them already."""
    if is_big(bits_of(digits)):
        big_type()
        keep_memory()


class Expansion(NamedTuple):
    """The wanted digits of U 10^(exponent + 1), which is known up to 2^log2_error."""

    wanted: int
    exponent: int
    log2_error: float
    then: Decided

    @property
    def bits(self) -> int:
        """The number of bits after the point in the numbers that U is made of."""
        return bits_of(self.wanted + GUARD) + SPARE_BITS

    def of_fraction(self, num: int, den: int) -> Ask | None:
        """Ask for the digits of num/den = U 10^(exponent + 1). None if U is not in [0.1, 1): exponent is a guess."""
        if self.exponent + 1 >= 0:
            den *= power_of_ten(self.exponent + 1)
        else:
            num *= power_of_ten(-self.exponent - 1)
        ratio, power = scaled_ratio(num, den)
        size = ratio * 2.0**power if abs(power) < 64 else 0.0
        if not 0.1 + 1e-12 < size < 1 - 1e-12:
            return None
        return self.of(self.quotient(num, den))

    def of_products(self, *factors: Number) -> Ask:
        """Ask for the digits of a product of numbers, each at most a thousand. Each factor is a request of its own."""
        requests = [encode(Evaluate(factor)) for factor in factors]
        return Ask(requests, lambda answers: self.of(Product(self.bits, list(answers))))

    def of(self, number: Number) -> Ask:
        """Ask for the digits of a number in [0.1, 1)."""
        digits = self.wanted + GUARD
        count = max(2, -(-digits // LARGEST_PART))
        # the last part needs one more product before it is text; with 1/6 fewer digits it takes as long as the others
        ends = [digits * 6 * i // (6 * count - 1) for i in range(count)] + [digits]
        widths = [end - start for start, end in pairwise(ends)]
        peel = Peel(number, widths)
        if digits <= PEELED_HERE:
            return self._texts(peel.answer(), widths)
        return Ask([encode(peel)], lambda answers: self._texts(answers[0], widths))

    def quotient(self, num: int, den: int) -> Quotient:
        """num/den for positive numbers of any size. Low bits of both are left out, an error of less than a unit."""
        drop = max(min(num.bit_length(), den.bit_length()) - self.bits - SPARE_BITS, 0)
        return Quotient(self.bits, to_bytes(num >> drop), to_bytes(den >> drop))

    def _texts(self, answer: bytes, widths: Sequence[int]) -> Ask:
        requests: list[bytes] = msgspec.msgpack.decode(answer, type=list[bytes])
        if [_width(request) for request in requests] != list(widths):
            raise ValueError("these are not the parts that were asked for")
        return Ask(requests, lambda texts: self._round(texts, widths))

    def _round(self, texts: Sequence[bytes], widths: Sequence[int]) -> Outcome | More | Ask:
        if [len(text) for text in texts] != list(widths) or not all(text.isdigit() for text in texts):
            raise ValueError("these are not the digits that were asked for")
        figures = b"".join(texts).decode()
        # the error in units of the last digit: of the floors, of all other steps, and of the number itself
        error = 2 + error_units(self.log2_error, self.wanted - 1 - self.exponent + GUARD)
        return self.then(rounded(figures, self.wanted, self.exponent, error))


def rounded(figures: str, wanted: int, exponent: int, error: int) -> Written | None:
    """The first ``wanted`` of these figures, rounded, if they are off by at most ``error``; None if undecided."""
    unit = 10 ** (len(figures) - wanted)
    guard = int(figures[wanted:])
    low, high = (guard + unit // 2 - error) // unit, (guard + unit // 2 + error) // unit
    if low != high or low < 0 or figures[0] == "0":
        return None
    if low == 0:
        return Written(figures[:wanted], exponent)
    kept = figures[:wanted].rstrip("9")
    if not kept:  # 9.99 to 10.0
        return Written("1" + "0" * (wanted - 1), exponent + 1)
    return Written(kept[:-1] + str(int(kept[-1]) + 1) + "0" * (wanted - len(kept)), exponent)


def _width(request: bytes) -> int:
    text: Request = _decode(request)
    return text.width if isinstance(text, Text) else -1
