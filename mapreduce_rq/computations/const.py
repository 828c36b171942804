"""Constants to any number of digits, each by one fast rational series, correctly rounded.

    pi       426880 sqrt(10005) / S, S = sum (-1)^n (6n)! (13591409 + 545140134 n) / ((3n)! n!^3 640320^(3n))
             (Chudnovsky brothers, 1988): 47.1 bits a term
    e        sum 1/n!
    ln2      3/4 sum (-1)^n n!^2 / (2^n (2n+1)!), as in MPFR: 3 bits a term
    zeta3    1/64 sum (-1)^n n!^10 (205 n^2 + 250 n + 77) / (2n+1)!^5
             (Amdeberhan and Zeilberger, 1997): 10 bits a term
    catalan  1/64 sum over n >= 1 of 256^n (580 n^2 - 184 n + 15) (3n)!^2 (2n)!^3 / (n^3 (2n-1) (6n)!^2)
             (Pilehrood and Pilehrood, 2010): 7.5 bits a term

If terms alternate in sign and shrink, the error of their sum is below the first term left out. Catalan's terms are
positive, and each is less than a quarter of the one before, so the error of their sum is below twice that.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import msgspec

from mapreduce_rq.core.computation import Computation
from mapreduce_rq.core.numbers.decimals import (
    MAX_DIGITS,
    Fixed,
    Written,
    error_units,
    fraction_fixed,
    power_of_ten,
    round_enclosed,
    square_root,
)
from mapreduce_rq.core.numbers.expansion import Expansion, Root, pays, prepare, work
from mapreduce_rq.core.numbers.rounding import scaled_ratio
from mapreduce_rq.core.outcome import Ask, More, Outcome, Progress
from mapreduce_rq.core.parameters import Params
from mapreduce_rq.core.reducers.series import Piece, SeriesReducer, Term, geometric, split
from mapreduce_rq.core.text import plural
from mapreduce_rq.errors import JobFailed

GUARD_BITS = 56
"""Bits by which the tail must be smaller than the last digit asked for: 12 guard digits, and some more."""

ROUNDS = 20
"""Extensions by more terms after which the job fails. Each one decides the rounding with a chance of 1 - 10^-11. But
Catalan's constant is not known to be irrational, so no proof says that some number of digits decides it."""


class Formula(NamedTuple):
    """A series and what it means."""

    term: Term
    bits: float  # how many bits a term adds
    tail: float  # the error at most, in units of the first term left out
    value: Callable[[float], float]  # the constant, from the series' sum
    fixed: Callable[[Piece, float], Fixed]  # the same in integers, from the piece from 0 and log2 of the sum's error
    scale: float = 1.0  # the constant's error is at most that of the sum, times this
    ask: Callable[[Piece, Expansion], Ask | None] = lambda piece, expansion: expansion.of_fraction(piece.t, piece.q)
    """The constant with the help of workers; None if its first digit is not where it is expected."""


def _pi(n: int) -> tuple[int, int, int, int]:
    a = 13591409 + 545140134 * n
    if n == 0:
        return 1, 1, 1, a
    return -(6 * n - 5) * (2 * n - 1) * (6 * n - 1), n**3 * 10939058860032000, 1, a


def _e(n: int) -> tuple[int, int, int, int]:
    return 1, n or 1, 1, 1


def _ln2(n: int) -> tuple[int, int, int, int]:
    return (-n, 8 * n + 4, 1, 1) if n else (3, 4, 1, 1)


def _zeta3(n: int) -> tuple[int, int, int, int]:
    return -(n**5) if n else 1, 32 * (2 * n + 1) ** 5 if n else 64, 1, (205 * n + 250) * n + 77


def _catalan(n: int) -> tuple[int, int, int, int]:
    # the formula's n is n + 1 here; n^3 (2n-1) in a term's denominator cancels against the next product
    q = 9 * ((6 * n + 5) * (6 * n + 1)) ** 2
    a = 580 * (n + 1) ** 2 - 184 * (n + 1) + 15
    return (32 * n**3 * (2 * n - 1), q, 1, a) if n else (1, 2 * q, 1, a)


def _plain(piece: Piece, log2_error: float) -> Fixed:
    return fraction_fixed(piece.t, piece.q, log2_error)


PI_SCALE = 1.01 * math.pi / (13591409 - 1)


def _pi_fixed(piece: Piece, log2_error: float) -> Fixed:
    log2_pi_error = log2_error + math.log2(PI_SCALE)

    def fixed(places: int) -> tuple[int, int]:
        root = square_root(10005 * power_of_ten(2 * places))
        # the root is less than one unit short, and 426880 / S is 0.0315; with the floor the error is below two units
        return 426880 * root * piece.q // piece.t, 1 + error_units(log2_pi_error, places)

    return fixed


def _ask_pi(piece: Piece, expansion: Expansion) -> Ask:
    quotient = expansion.quotient(42688 * piece.q, piece.t)
    return expansion.of_products(quotient, Root(expansion.bits, 10005))


FORMULAS: dict[str, Formula] = {
    "pi": Formula(
        _pi, math.log2(640320**3 / 1728), 1.0, lambda s: 426880 * math.sqrt(10005) / s, _pi_fixed, PI_SCALE, _ask_pi
    ),
    "e": Formula(_e, 0.0, 2.0, lambda s: s, _plain),
    "ln2": Formula(_ln2, 3.0, 1.0, lambda s: s, _plain),
    "zeta3": Formula(_zeta3, 10.0, 1.0, lambda s: s, _plain),
    "catalan": Formula(_catalan, math.log2(729 / 4), 2.0, lambda s: s, _plain),
}


class ConstParams(Params, frozen=True, kw_only=True):
    """Which constant, and how many digits."""

    name: Annotated[Literal["pi", "e", "ln2", "zeta3", "catalan"], msgspec.Meta(description="which constant")]
    digits: Annotated[int, msgspec.Meta(description="how many significant digits", ge=1, le=MAX_DIGITS)] = 50


class Const(Computation[Piece]):
    """A constant (pi, e, ln2, zeta3, catalan) to as many digits as you ask for.

    The digits are correctly rounded. The bound is half a unit of the last digit, and it is proven: the sum of the terms
    is exact, the error of leaving out the others is bounded, and terms are added until both ends of this interval
    round to the same digits. A million digits take from 70 000 terms (pi) to 1.1 million (ln2), and about a second.
    """

    name: ClassVar[str] = "const"
    summary: ClassVar[str] = "pi, e, ln2, zeta3 or catalan to any number of digits"
    Params = ConstParams
    positional: ClassVar[str] = "name"
    seconds_per_term: ClassVar[float | None] = 3e-6

    def __init__(self, params: ConstParams) -> None:
        super().__init__(params)
        self.formula = FORMULAS[params.name]
        self.reducer = SeriesReducer()
        bits = params.digits * math.log2(10) + GUARD_BITS
        self.first = factorial_terms(bits) if params.name == "e" else math.ceil(bits / self.formula.bits) + 2
        self.total: int | None = self.first
        prepare(params.digits)
        self.even = pays(params.digits)

    def map(self, lo: int, hi: int) -> Piece:
        if self.params.name == "e":
            return geometric(1, 1, lo, hi)
        return split(self.formula.term, lo, hi)

    def finish(self, partial: Piece, terms: int) -> Outcome | More | Ask:
        name, wanted = self.params.name, self.params.digits
        if terms == 0:
            return Outcome(value="none", details={"name": name}, notes=("ended before the first term",))
        formula = self.formula
        log2_error = self._log2_tail(partial)
        exponent = 0 if name in {"pi", "e", "zeta3"} else -1
        details = {"name": name, "digits": wanted}
        if terms < self.first:
            return self._ended_early(partial, terms, exponent, details)

        def decided(written: Written | None) -> Outcome | More:
            if written is None:
                rounded = round_enclosed(formula.fixed(partial, log2_error), exponent, wanted)
                if rounded is None and terms > self.first + ROUNDS * self._step():
                    raise JobFailed(
                        f"{name}: {terms} terms do not decide {wanted} digits, as if it were a rational number: "
                        "ask for another number of digits"
                    )
                if rounded is None:
                    return More(terms + self._step())
                written = rounded.written()
            return written.outcome(written.half_unit(), "proven", details, (f"{name}, correctly rounded",))

        expansion = Expansion(wanted, exponent, log2_error + math.log2(formula.scale), decided)
        return (formula.ask(partial, expansion) if pays(wanted) else None) or decided(None)

    def work(self, body: bytes) -> bytes:
        return work(body)

    def _ended_early(self, partial: Piece, terms: int, exponent: int, details: dict[str, Any]) -> Outcome:
        """The digits that these terms decide."""
        name, wanted = self.params.name, self.params.digits
        log2_error = self._log2_tail(partial)
        known = math.floor(-log2_error * math.log10(2))
        for fewer in range(min(known + 1, wanted), 0, -1):
            rounded = round_enclosed(self.formula.fixed(partial, log2_error), exponent, fewer)
            if rounded is not None:
                written = rounded.written()
                if fewer == wanted:
                    notes = (f"{name}, correctly rounded",)
                else:
                    notes = (f"ended after {plural(terms, 'term')}: {fewer} of {plural(wanted, 'digit')} decided",)
                return written.outcome(written.half_unit(), "proven", {**details, "digits": fewer}, notes)
        return Outcome(value="none", details=details, notes=(f"no digit is decided after {plural(terms, 'term')}",))

    def peek(self, partial: Piece, terms: int) -> Progress | None:
        if partial.lo != 0 or not terms:
            return None
        ratio, power = scaled_ratio(partial.t, partial.q)
        value = self.formula.value(math.ldexp(ratio, power))
        relative = self._log2_tail(partial) - math.log2(abs(ratio)) - power
        known = min(max(0, math.floor(-relative * math.log10(2))), self.params.digits)
        error = value * (1.01 * 2.0 ** max(relative, -100.0) + 2.0**-45)
        shown = f"{value:.15g} ({plural(known, 'digit')})"
        return Progress(value=shown, number=value, error=error, bound_kind="proven")

    def _step(self) -> int:
        return max(8, self.first // 16)

    def _log2_tail(self, piece: Piece) -> float:
        """log2 of a bound on the sum of all terms after the piece: the next term, times the formula's factor."""
        p, q, b, a = self.formula.term(piece.hi)
        ratio, power = scaled_ratio(abs(piece.p), abs(piece.q))
        scaled = abs(p * a) / (abs(q) * b)
        return math.log2(ratio) + power + math.log2(scaled) + math.log2(self.formula.tail) + 1e-6


def factorial_terms(bits: float) -> int:
    """The smallest n with n! >= 2^bits."""
    low, high = 1, 2
    while math.lgamma(high + 1) < bits * math.log(2):
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if math.lgamma(middle + 1) < bits * math.log(2) else (low, middle)
    return high
