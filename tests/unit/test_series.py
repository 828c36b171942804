from __future__ import annotations

import math
import threading
from fractions import Fraction

import gmpy2
import pytest

from mapreduce_rq.core.numbers.integers import BIG_BITS, digits, from_bytes, side_by_side, to_bytes
from mapreduce_rq.core.reducers import series
from mapreduce_rq.core.reducers.base import Law
from mapreduce_rq.core.reducers.series import EMPTY, Piece, SeriesReducer, geometric, join, split

REDUCER = SeriesReducer()


def term(n: int) -> tuple[int, int, int, int]:
    """p, q, b, a of a series with all four at work: its terms are (3n-1)/(n+2) * (-2)^(n+1) (0! .. ) / ..."""
    return -2 * n - 1, 3 * n + 2, n + 2, 3 * n - 1


def direct(lo: int, hi: int) -> Fraction:
    product, total = Fraction(1), Fraction(0)
    for n in range(lo, hi):
        p, q, b, a = term(n)
        product *= Fraction(p, q)
        total += Fraction(a, b) * product
    return total


@pytest.mark.parametrize(("lo", "hi"), [(0, 1), (0, 24), (0, 25), (7, 8), (3, 200)])
def test_a_piece_is_the_sum_of_its_terms(lo: int, hi: int) -> None:
    piece = split(term, lo, hi)
    assert Fraction(piece.t, piece.b * piece.q) == direct(lo, hi)
    assert Fraction(piece.p, piece.q) == math.prod(Fraction(*term(n)[:2]) for n in range(lo, hi))


@pytest.mark.parametrize("cut", [1, 2, 11, 24, 149])
def test_neighbours_join_to_the_same_integers(cut: int) -> None:
    assert join(split(term, 0, cut), split(term, cut, 150)) == split(term, 0, 150)
    assert join(geometric(-2, 7, 0, cut), geometric(-2, 7, cut, 150)) == geometric(-2, 7, 0, 150)


def test_the_exponential_series_is_the_general_one() -> None:
    def exponential(n: int) -> tuple[int, int, int, int]:
        return (1, 1, 1, 1) if n == 0 else (3, 7 * n, 1, 1)

    for lo, hi in [(0, 1), (0, 2), (1, 2), (5, 40), (0, 100)]:
        assert geometric(3, 7, lo, hi) == split(exponential, lo, hi)


@pytest.mark.parametrize(("first", "second"), [((5, 9), (0, 5)), ((0, 5), (6, 9)), ((0, 5), (4, 9)), ((0, 5), (0, 5))])
def test_others_than_neighbours_in_order_are_refused(first: tuple[int, int], second: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="not neighbours in this order"):
        REDUCER.merge(split(term, *first), split(term, *second))


@pytest.mark.parametrize("cut", [0, 1, 11, 149, 150])
def test_long_pieces_are_merged_in_threads_to_the_same_integers(cut: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(series, "THREADS_BITS", 1)
    whole = split(term, 0, 150)
    parts = [split(term, lo, hi) if lo < hi else EMPTY for lo, hi in ((0, cut), (cut, 150))]
    merged = REDUCER.merge(*parts)
    assert merged == whole
    assert REDUCER.encode(merged) == REDUCER.encode(whole)
    with pytest.raises(ValueError, match="not neighbours in this order"):
        REDUCER.merge(split(term, 0, 70), split(term, 71, 150))


def test_side_by_side_gives_what_each_gives_and_raises_what_one_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    assert side_by_side(lambda: 1, lambda: gmpy2.mpz(2) ** 100, lambda: 3) == [1, 2**100, 3]
    with pytest.raises(ZeroDivisionError):
        side_by_side(lambda: 1, lambda: 1 // 0)
    assert not gmpy2.get_context().allow_release_gil


def test_nothing_is_the_identity_on_either_side() -> None:
    piece = split(term, 3, 9)
    assert REDUCER.merge(EMPTY, piece) == piece == REDUCER.merge(piece, EMPTY)
    assert REDUCER.encode(EMPTY) == b""
    assert REDUCER.decode(b"") == EMPTY
    assert REDUCER.law is Law.ORDERED


def test_terms_cannot_be_left_out() -> None:
    with pytest.raises(ValueError, match="cannot leave out"):
        REDUCER.gap(3, 5)


def test_big_pieces_use_mpz_and_encode_alike() -> None:
    big = split(term, 0, 20_000)
    assert isinstance(big.t, gmpy2.mpz)
    plain = Piece(*map(int, big))
    data = REDUCER.encode(big)
    assert data == REDUCER.encode(plain)
    decoded = REDUCER.decode(data)
    assert decoded == plain
    assert isinstance(decoded.t, gmpy2.mpz)


def test_small_pieces_stay_plain_integers() -> None:
    piece = REDUCER.decode(REDUCER.encode(split(term, 0, 50)))
    assert {type(number) for number in piece} == {int}


@pytest.mark.parametrize(
    "number", [0, 1, -1, 127, 128, -128, -129, 255, 256, 1 << BIG_BITS, -(1 << BIG_BITS + 9)], ids=hex
)
def test_integers_as_bytes(number: int) -> None:
    data = to_bytes(number)
    assert data == to_bytes(gmpy2.mpz(number))
    assert from_bytes(data) == number
    padding = b"\xff" if number < 0 else b"\x00"
    with pytest.raises(ValueError, match="not its shortest form"):
        from_bytes(data + padding)


def test_no_bytes_are_no_integer() -> None:
    with pytest.raises(ValueError, match="not its shortest form"):
        from_bytes(b"")


def test_digits_beyond_the_limit_of_python() -> None:
    assert digits(-(10**20_000)) == "-1" + "0" * 20_000
    assert digits(-12) == "-12"


DATA = REDUCER.encode(split(term, 3, 9))


@pytest.mark.parametrize("length", range(1, len(DATA)))
def test_truncated_bytes_are_refused(length: int) -> None:
    with pytest.raises(ValueError, match=r"bytes|denominator"):
        REDUCER.decode(DATA[:length])


@pytest.mark.parametrize(
    "piece",
    [
        Piece(3, 3, 1, 1, 1, 0),
        Piece(5, 3, 1, 1, 1, 0),
        Piece(-2, 3, 1, 1, 1, 0),
        Piece(0, 3, 1, 0, 1, 0),
        Piece(0, 3, 1, 1, 0, 0),
    ],
)
def test_impossible_pieces_are_refused(piece: Piece) -> None:
    data = REDUCER.encode(piece) or DATA[:8] * 2 + DATA[16:]  # an empty span as encode would never write it
    with pytest.raises(ValueError, match=r"not a span|denominator 0"):
        REDUCER.decode(data)
