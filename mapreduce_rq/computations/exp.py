"""e^x by its power series, in exact rational arithmetic with one rounding at the very end.

A sum of rounded terms is useless where terms cancel each other: at x = -30 it has no correct digit. Here the sum of N
terms is an exact fraction T/Q (``mapreduce_rq.core.reducers.series``), and the sum of all further terms is bounded by

    |e^x - S_N| <= |a_N| / (1 - |x|/(N+1))   for N + 1 > |x|,   |a_N| = |P/Q| |x| / N

because the following terms shrink at least as fast as that geometric series.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar

import msgspec

from mapreduce_rq.computations.exp_plan import Decided, Planned, log2_exp, plan, plan_digits
from mapreduce_rq.core.computation import MAX_TERMS, Computation
from mapreduce_rq.core.given import plain
from mapreduce_rq.core.numbers.decimals import MAX_DIGITS, Written, fraction_fixed, round_enclosed, round_fraction
from mapreduce_rq.core.numbers.expansion import Expansion, pays, prepare, work
from mapreduce_rq.core.numbers.rational import Rational, lowest, number_text, parse_rational
from mapreduce_rq.core.numbers.rounding import decided_double, nearest_double, scaled_ratio, upper_text
from mapreduce_rq.core.outcome import Ask, BoundKind, More, Outcome, Progress
from mapreduce_rq.core.parameters import Params
from mapreduce_rq.core.reducers.series import Piece, SeriesReducer, geometric
from mapreduce_rq.core.text import plural
from mapreduce_rq.errors import BadParameter


class ExpParams(Params, frozen=True, kw_only=True):
    """x, how many terms, how many digits."""

    x: Annotated[
        str,
        msgspec.Meta(description="the exponent, taken exactly: 2, -0.1, 1/3, 1e-9, or a double as 0x1.8p+1"),
    ]
    terms: (
        Annotated[
            int, msgspec.Meta(description="how many terms; absent: as many as decide the last bit", ge=1, le=MAX_TERMS)
        ]
        | None
    ) = None
    digits: (
        Annotated[
            int,
            msgspec.Meta(description="how many significant digits; absent: a double", ge=1, le=MAX_DIGITS),
        ]
        | None
    ) = None


class Exp(Computation[Piece]):
    """e^x by its power series x^n/n!, correct to the last bit, or to as many digits as you ask for.

    Without ``terms`` the value is the double nearest to e^x. With ``terms`` it is the double nearest to the exact sum
    of that many terms. The bound is the proven distance from that exact sum to e^x. Terms grow before they shrink; if
    there are so few that they still grow, there is no bound. A term costs about a microsecond.

    With ``digits`` the value has that many significant digits, correctly rounded (ties to even), and the bound is half
    a unit of the last one. A million digits of e^2 take 205 000 terms and about half a second.
    """

    name: ClassVar[str] = "exp"
    summary: ClassVar[str] = "e^x by its power series, correct to the last bit or digit"
    Params = ExpParams
    seconds_per_term: ClassVar[float | None] = 6e-7
    term_params: ClassVar[tuple[str, ...]] = ("x",)

    def __init__(self, params: ExpParams) -> None:
        super().__init__(params)
        try:
            self.x = parse_rational(params.x)
        except ValueError as error:
            raise BadParameter(f"exp: x: {error}") from None
        self.reducer = SeriesReducer()
        if params.digits is None:
            self.plan: Planned = plan(self.x, params.terms)
        else:
            try:
                self.plan = plan_digits(self.x, params.terms, params.digits)
            except ValueError as error:
                raise BadParameter(f"exp: digits: {error}") from None
            prepare(params.digits)
            self.even = pays(params.digits)
        self.total: int | None = self.plan.total

    @classmethod
    def create(cls, raw: dict[str, Any]) -> Computation[Any]:
        given = raw.get("x")
        if given is not None:
            try:
                raw = {**raw, "x": number_text(plain(given))}
            except (TypeError, ValueError) as error:
                raise BadParameter(f"exp: x: {error}") from None
        return super().create(raw)

    def map(self, lo: int, hi: int) -> Piece:
        return geometric(self.x.num, self.x.den, lo, hi)

    def term(self, k: int) -> Rational:
        return lowest(self.x.num**k, self.x.den**k * math.factorial(k))

    def finish(self, partial: Piece, terms: int) -> Outcome | More | Ask:
        if self.plan.decided is not None:
            return self._outcome_decided(self.plan.decided)
        if terms == 0:
            return self._outcome(math.nan, None, 0)
        asked = self.params.terms
        ended_early = terms < self.plan.total
        if self.params.digits is not None:
            return self._finish_digits(partial, terms, self.params.digits, ended_early=ended_early)
        tail = tail_bound(self.x, partial)
        if terms == asked or ended_early:
            return self._outcome(nearest_double(partial.t, partial.q), tail, terms, ended_early=ended_early)
        value = None
        if tail is not None:
            value = decided_double(partial.t, partial.q, tail.num, tail.den)
        elif self.x.num > 0 and math.isinf(nearest_double(partial.t, partial.q)):
            value = math.inf  # all further terms are positive
        if value is None:
            more = terms + max(8, terms // 8)
            return More(more if asked is None else min(more, asked))
        return self._outcome(value, tail, terms)

    def _finish_digits(self, partial: Piece, terms: int, wanted: int, *, ended_early: bool) -> Outcome | More | Ask:
        """As :meth:`finish`, for digits."""
        asked = self.params.terms
        tail = tail_bound(self.x, partial)
        notes = self._notes(tail, terms, ended_early=ended_early)
        if terms == asked or ended_early or self.x.num == 0:
            bound = None if tail is None else upper_text(*tail)
            kind: BoundKind = "none" if bound is None else "exact" if bound == "0" else "proven"
            return round_fraction(partial.t, partial.q, wanted).written().outcome(bound, kind, self._details(), notes)
        more = terms + max(16, terms // 16)
        more = more if asked is None else min(more, asked)
        if tail is None:
            return More(more)
        ratio, power = scaled_ratio(*tail)
        log2_error = math.log2(ratio) + power + 1e-9
        exponent = math.floor(log2_exp(self.x) * math.log10(2))

        def decided(written: Written | None) -> Outcome | More:
            if written is None:
                rounded = round_enclosed(fraction_fixed(partial.t, partial.q, log2_error), exponent, wanted)
                if rounded is None:
                    return More(more)
                written = rounded.written()
            return written.outcome(written.half_unit(), "proven", self._details(), notes)

        expansion = Expansion(wanted, exponent, log2_error, decided)
        return (expansion.of_fraction(partial.t, partial.q) if pays(wanted) else None) or decided(None)

    def work(self, body: bytes) -> bytes:
        return work(body)

    def peek(self, partial: Piece, terms: int) -> Progress | None:
        if partial.lo != 0 or not terms:
            return None
        try:
            ratio, power = scaled_ratio(partial.t, partial.q)
            value = math.ldexp(ratio, power)
            if terms + 1 <= abs(self.x.num) / self.x.den:
                return Progress(value=f"{value:.15g}", number=value)
            ratio, power = scaled_ratio(abs(partial.p), partial.q)
            x = abs(self.x.num) / self.x.den
            tail = math.ldexp(ratio * x / terms / (1 - x / (terms + 1)), power)
        except OverflowError:
            return None  # a partial sum is beyond doubles, as on the way to e^-1000
        return Progress(
            value=f"{value:.15g}", number=value, error=tail * (1 + 2**-40) + abs(value) * 2**-48, bound_kind="proven"
        )

    def _outcome(self, value: float, tail: Rational | None, terms: int, *, ended_early: bool = False) -> Outcome:
        overflow = math.isinf(value)
        bound: str | None
        if overflow or tail is None:
            bound, kind = None, "none"
        elif tail.num == 0:
            bound, kind = "0", "exact"
        else:
            bound, kind = upper_text(*tail), "proven"
        return Outcome(
            value=repr(value),
            number=value,
            bound=bound,
            bound_kind=kind,  # type: ignore[arg-type]  # one of the literals, by the branches above
            native=value,
            details=self._details(overflow=overflow, underflow=value == 0),
            notes=self._notes(tail, terms, ended_early=ended_early),
        )

    def _notes(self, tail: Rational | None, terms: int, *, ended_early: bool = False) -> tuple[str, ...]:
        asked = self.params.terms
        what = "double" if self.params.digits is None else "digits"
        notes = []
        if ended_early:
            notes.append(f"ended after {terms} of {plural(self.plan.total, 'term')}")
        elif asked is None:
            notes.append("the double nearest to e^x" if self.params.digits is None else "e^x, correctly rounded")
        elif terms < asked:
            notes.append(f"{plural(asked, 'term')} asked, {terms} used: the others cannot change the {what}")
        if tail is None and not ended_early:
            notes.append(
                f"no bound: {plural(terms, 'term')}, too few for x = {_short(self.x)}: the terms still grow there"
            )
        return tuple(notes)

    def _outcome_decided(self, decided: Decided) -> Outcome:
        underflow = decided.value == 0
        notes = [decided.why]
        if self.params.terms is not None:
            notes.append(f"{plural(self.params.terms, 'term')} asked, 0 used")
        return Outcome(
            value=repr(decided.value),
            number=decided.value,
            bound=decided.bound,
            bound_kind="none" if decided.bound is None else "proven",
            native=decided.value,
            details=self._details(overflow=math.isinf(decided.value), underflow=underflow),
            notes=tuple(notes),
        )

    def _details(self, *, overflow: bool = False, underflow: bool = False) -> dict[str, Any]:
        exact = str(self.x)
        if len(exact) > max(100, len(self.params.x)):
            exact = self.params.x  # just as exact, and 1e-3000 is easier to read
        return {"x": exact, "overflow": overflow, "underflow": underflow}


def tail_bound(x: Rational, piece: Piece) -> Rational | None:
    """A bound on the sum of all terms after ``piece``, which begins at 0; None where the terms may still grow."""
    count = piece.hi
    room = (count + 1) * x.den - abs(x.num)
    if room <= 0:
        return None
    return Rational(abs(piece.p) * abs(x.num) * (count + 1), abs(piece.q) * count * room)


def _short(x: Rational) -> str:
    text = str(x)
    return text if len(text) <= 40 else f"{text[:37]}..."
