"""Rational series by binary splitting: a span of terms as four integers, exact for any cuts.

A series is given by integer functions p, q, b, a of the term's index::

    S = sum over n >= 0 of  a(n)/b(n) * (p(0) ... p(n)) / (q(0) ... q(n))

and the piece of the span [lo, hi) holds

    P = p(lo) ... p(hi-1),  Q = q(lo) ... q(hi-1),  B = b(lo) ... b(hi-1)
    T = B Q * (the sum of the span's terms, with the products begun at lo)

so that the pieces of two neighbours, the earlier first, merge to ``(P1 P2, Q1 Q2, B1 B2, B2 Q2 T1 + B1 P1 T2)``
and the sum of the terms from 0 is T / (B Q). Haible and Papanikolaou, "Fast multiprecision evaluation of series of
rational numbers" (ANTS-III, 1998). Merging is associative and not commutative, so a piece carries its span and
only neighbours merge.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import ClassVar, NamedTuple

from mapreduce_rq.core.numbers.integers import MPZ_BITS, THREADS_BITS, big_type, from_bytes, is_big, side_by_side
from mapreduce_rq.core.reducers.base import Law, Reducer
from mapreduce_rq.core.span import Span

Term = Callable[[int], tuple[int, int, int, int]]
"""The integers ``(p(n), q(n), b(n), a(n))`` of term n; q and b are never 0."""

LEAF = 32
"""The most terms of a plain loop; longer spans are split. Any number from 12 to 48 is as fast for a million digits."""

PLAIN_BYTES = MPZ_BITS >> 3
"""The integers of a piece that has at most this number of bytes are never big."""

_HEADER = struct.Struct("<qqIIII")  # lo, hi, then the byte lengths of P, Q, B, T


class Piece(NamedTuple):
    """The terms of one span."""

    lo: int
    hi: int
    p: int
    q: int
    b: int
    t: int


EMPTY = Piece(0, 0, 1, 1, 1, 0)
"""The piece without terms, a neighbour of every piece."""


def join(left: Piece, right: Piece) -> Piece:
    """The piece of both. Raises ValueError unless ``right`` begins where ``left`` ends."""
    lo, middle, p1, q1, b1, t1 = left
    start, hi, p2, q2, b2, t2 = right
    if middle != start:
        raise ValueError(f"{Span(lo, middle)} and {Span(start, hi)} are not neighbours in this order")
    bits = q1.bit_length() + t2.bit_length()
    if bits > MPZ_BITS and is_big(bits):
        mpz = big_type()
        p1, q1, t1, q2, t2 = mpz(p1), mpz(q1), mpz(t1), mpz(q2), mpz(t2)
    if b1 == 1 == b2:
        return Piece(lo, hi, p1 * p2, q1 * q2, 1, q2 * t1 + p1 * t2)
    return Piece(lo, hi, p1 * p2, q1 * q2, b1 * b2, b2 * q2 * t1 + b1 * p1 * t2)


def join_in_threads(left: Piece, right: Piece) -> Piece:
    """As :func:`join`, for long pieces: the products run in threads, and take the time of the longest one."""
    lo, middle, p1, q1, b1, t1 = left
    start, hi, p2, q2, b2, t2 = right
    if middle != start:
        raise ValueError(f"{Span(lo, middle)} and {Span(start, hi)} are not neighbours in this order")
    ours, theirs, q, p, b = side_by_side(
        lambda: b2 * q2 * t1, lambda: b1 * p1 * t2, lambda: q1 * q2, lambda: p1 * p2, lambda: b1 * b2
    )
    return Piece(lo, hi, p, q, b, ours + theirs)


def split(term: Term, lo: int, hi: int) -> Piece:
    """The piece of ``[lo, hi)``, which is not empty, of the series whose terms ``term`` gives."""
    if hi - lo > LEAF:
        middle = (lo + hi) // 2
        return join(split(term, lo, middle), split(term, middle, hi))
    p, q, b, a = term(lo)
    t = a * p
    for n in range(lo + 1, hi):
        pn, qn, bn, an = term(n)
        p *= pn
        t = bn * qn * t + b * p * an
        q *= qn
        b *= bn
    return Piece(lo, hi, p, q, b, t)


def geometric(num: int, den: int, lo: int, hi: int) -> Piece:
    """The piece of ``[lo, hi)`` of the exponential series of num/den: p(n) = num, q(n) = n den, a(n) = b(n) = 1."""
    if hi - lo > LEAF:
        middle = (lo + hi) // 2
        return join(geometric(num, den, lo, middle), geometric(num, den, middle, hi))
    q, t = 1, 0
    for n in range(hi - 1, max(lo, 1) - 1, -1):  # Horner's rule from the last term
        t = num * (q + t)
        q *= n * den
    if lo == 0:
        return Piece(0, hi, num ** (hi - 1), q, 1, q + t)
    return Piece(lo, hi, num ** (hi - lo), q, 1, t)


class SeriesReducer(Reducer[Piece]):
    """Pieces of a rational series; only neighbours merge, the earlier on the left."""

    name: ClassVar[str] = "series"
    law: ClassVar[Law] = Law.ORDERED

    def zero(self) -> Piece:
        return EMPTY

    def merge(self, left: Piece, right: Piece) -> Piece:
        if left[0] == left[1]:
            return right
        if right[0] == right[1]:
            return left
        if left.q.bit_length() >= THREADS_BITS <= right.t.bit_length():
            return join_in_threads(left, right)
        return join(left, right)

    def weight(self, partial: Piece) -> int:
        return sum(number.bit_length() for number in partial[2:]) >> 3

    def encode(self, partial: Piece) -> bytes:
        # written out, as decode is: these run once for every term of the finest cut
        lo, hi, p, q, b, t = partial
        if lo == hi:
            return b""
        lp, lq = p.bit_length() // 8 + 1, q.bit_length() // 8 + 1
        lb, lt = b.bit_length() // 8 + 1, t.bit_length() // 8 + 1
        return b"".join(
            (
                _HEADER.pack(lo, hi, lp, lq, lb, lt),
                p.to_bytes(lp, "little", signed=True),
                q.to_bytes(lq, "little", signed=True),
                b.to_bytes(lb, "little", signed=True),
                t.to_bytes(lt, "little", signed=True),
            )
        )

    def decode(self, data: bytes) -> Piece:
        if not data:
            return EMPTY
        if len(data) < _HEADER.size:
            raise ValueError(f"{len(data)} bytes are too few for a piece of a series")
        lo, hi, lp, lq, lb, lt = _HEADER.unpack_from(data)
        if not 0 <= lo < hi:
            raise ValueError(f"{Span(lo, hi)} is not a span of terms")
        at_q = _HEADER.size + lp
        at_b = at_q + lq
        at_t = at_b + lb
        if at_t + lt != len(data):
            raise ValueError(f"{len(data)} bytes do not hold integers of {lp}, {lq}, {lb} and {lt} bytes")
        if at_t + lt > PLAIN_BYTES:
            p, q = from_bytes(data[_HEADER.size : at_q]), from_bytes(data[at_q:at_b])
            b, t = from_bytes(data[at_b:at_t]), from_bytes(data[at_t:])
        else:  # a master reads one such piece for each term of the finest cut, and four calls would be half of the time
            read = int.from_bytes
            p, q = read(data[_HEADER.size : at_q], "little", signed=True), read(data[at_q:at_b], "little", signed=True)
            b, t = read(data[at_b:at_t], "little", signed=True), read(data[at_t:], "little", signed=True)
            if (p.bit_length() // 8 + 1, q.bit_length() // 8 + 1, b.bit_length() // 8 + 1, t.bit_length() // 8 + 1) != (
                lp, lq, lb, lt,
            ):  # fmt: skip
                raise ValueError(f"integers of {lp}, {lq}, {lb} and {lt} bytes are not in their shortest form")
        if q == 0 or b == 0:
            raise ValueError("a piece of a series cannot have the denominator 0")
        return Piece(lo, hi, p, q, b, t)

    def gap(self, lo: int, hi: int) -> Piece:
        raise ValueError(f"a series cannot leave out {Span(lo, hi)}: every later term is a multiple of those before")
