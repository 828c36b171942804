"""Computations whose value shows every lost, doubled or misplaced term, and the oracle that knows the right one.

A partial is three numbers: how many terms, the sum of a hash of each, and a fingerprint. Under the commutative law the
fingerprint is the sum of powers ``B**k``; under the ordered law it is the polynomial whose digits are the terms in
their order, which only the right order gives.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, ClassVar, NamedTuple

from mapreduce_rq.core.bodies import Pieces
from mapreduce_rq.core.computation import Ask, Computation, Grow, More, Outcome, TermError
from mapreduce_rq.core.job.merges import TRAVEL_BYTES
from mapreduce_rq.core.parameters import Params
from mapreduce_rq.core.reducers.base import Law, Reducer
from mapreduce_rq.functions.retries import Retrying

P = (1 << 61) - 1
BASE = 1_000_003
MASK = (1 << 64) - 1

Partial = tuple[int, int, int]
ZERO: Partial = (0, 0, 0)
FLAKY_CALLS = 2


def hashed(k: int) -> int:
    """Sixty-four bits that look random (the finaliser of splitmix64)."""
    z = (k + 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


class SumOfTerms(Reducer[Partial]):
    """Commutative: count, sum of hashes, sum of powers."""

    name: ClassVar[str] = "sim-sum"
    law: ClassVar[Law] = Law.COMMUTATIVE

    def zero(self) -> Partial:
        return ZERO

    def merge(self, left: Partial, right: Partial) -> Partial:
        return left[0] + right[0], (left[1] + right[1]) & MASK, (left[2] + right[2]) % P

    def encode(self, partial: Partial) -> bytes:
        return struct.pack("<QQQ", *partial)

    def decode(self, data: bytes) -> Partial:
        if len(data) != 24:
            raise ValueError(f"{len(data)} bytes are not a partial")
        count, total, power = struct.unpack("<QQQ", data)
        return count, total, power


class JoinedTerms(SumOfTerms):
    """The same, of which a worker answers several tasks together."""

    name: ClassVar[str] = "sim-joined"
    joins: ClassVar[bool] = True


class RowOfTerms(SumOfTerms):
    """Ordered: count, sum of hashes, and the terms' hashes as digits of a number to the base ``BASE``."""

    name: ClassVar[str] = "sim-row"
    law: ClassVar[Law] = Law.ORDERED

    def weight(self, partial: Partial) -> int:
        """Eight terms are too heavy for a master: workers merge them."""
        return TRAVEL_BYTES if partial[0] >= 8 else 0

    def merge(self, left: Partial, right: Partial) -> Partial:
        row = (left[2] * pow(BASE, right[0], P) + right[2]) % P
        return left[0] + right[0], (left[1] + right[1]) & MASK, row


class KeptRow(RowOfTerms):
    """As a list of values: its checkpoints leave out what the replies say."""

    name: ClassVar[str] = "sim-kept"
    keeps: ClassVar[bool] = True


class Laid(NamedTuple):
    """A partial of which workers have laid pieces aside: what it folds, the pieces, and what is not in them."""

    fold: Partial
    names: tuple[bytes, ...]
    whole: Partial


class LaidTerms(Reducer[Laid]):
    """As the sum of the terms, by a shuffle: of each fold two pieces are laid aside, and workers add them up."""

    name: ClassVar[str] = "sim-laid"
    refers: ClassVar[bool] = True
    pieces: Pieces | None = None

    def __init__(self, *, joins: bool = False) -> None:
        self.joins = joins  # type: ignore[misc]  # of this one

    def lay_in(self, pieces: Pieces | None) -> None:
        self.pieces = pieces

    def zero(self) -> Laid:
        return Laid(ZERO, (), ZERO)

    def merge(self, left: Laid, right: Laid) -> Laid:
        add = SumOfTerms().merge
        return Laid(add(left.fold, right.fold), left.names + right.names, add(left.whole, right.whole))

    def encode(self, partial: Laid) -> bytes:
        fold, names, whole = partial
        if whole[0] and self.pieces is not None:
            halves = [(whole[0], whole[1], 0), (0, 0, whole[2])]
            name = self.pieces.lay([struct.pack("<QQQ", *half) for half in halves])
            if name is not None:
                names, whole = (*names, name), ZERO
        return struct.pack("<QQQQQQ", *fold, *whole) + b" ".join(names)

    def decode(self, data: bytes) -> Laid:
        if len(data) < 48:
            raise ValueError(f"{len(data)} bytes are not a partial")
        numbers = struct.unpack("<QQQQQQ", data[:48])
        return Laid(numbers[:3], tuple(data[48:].split()), numbers[3:])

    def work(self, body: bytes) -> bytes:
        """The sum of the pieces with this number."""
        assert self.pieces is not None
        total = ZERO
        for piece in self.pieces.row(body[1:].split(), body[0]):
            total = SumOfTerms().merge(total, SumOfTerms().decode(bytes(piece)))
        return struct.pack("<QQQ", *total)

    def refers_to(self, body: bytes) -> list[bytes]:
        return body[48:].split()

    def lasting(self, outcome: Outcome) -> Laid:
        return Laid(outcome.native, (), outcome.native)


class TestParams(Params, frozen=True, kw_only=True):
    """Parameters of the computation."""

    __test__ = False
    terms: int
    ordered: bool = False
    first: int | None = None  # terms asked for at first; ``finish`` then wants the rest
    kept: bool = False  # the replies are what is counted, as for a list
    laid: bool = False  # pieces of each fold are laid aside, as by a shuffle
    joins: bool = False  # a worker may answer several tasks together
    lazy: bool = False  # terms come as items, from a source
    asks: int = 0  # rounds of requests that ``finish`` has before its outcome
    raising: list[int] = []  # noqa: RUF012  # msgspec copies it
    flaky: list[int] = []  # noqa: RUF012  # each raises FLAKY_CALLS times
    retries: int = 0
    backoff: float = 0.0


Spend = Callable[[int, int, Callable[[], bool]], int]
"""Spends the time of these terms, or of fewer where the function given says so in between; which is next."""
Rest = Callable[[], None]


class SimComputation(Computation[Any]):
    """Terms that cost virtual time (``spend``), and some of which raise."""

    name: ClassVar[str] = "sim"
    summary: ClassVar[str] = "counts its terms in three ways"
    Params: ClassVar[type[Params]] = TestParams

    def __init__(
        self,
        params: TestParams,
        spend: Spend | None = None,
        rest: Rest | None = None,
        finishing: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(params)
        self.terms = params.terms
        self.raising = frozenset(params.raising)
        self.reducer: Reducer[Any] = (
            LaidTerms(joins=params.joins)
            if params.laid
            else KeptRow()
            if params.kept
            else RowOfTerms()
            if params.ordered
            else JoinedTerms()
            if params.joins
            else SumOfTerms()
        )
        self.maps_onto = params.joins
        self.total = None if params.lazy else params.first or params.terms
        self._spend = spend
        self._rest = rest  # spends the time of a request
        self._finishing = finishing
        self._short = False
        self._raised = dict.fromkeys(params.flaky, 0)
        self._retrying = Retrying(self._call, params.retries, params.backoff, self)

    def _call(self, k: int) -> None:
        if self._raised.get(k, FLAKY_CALLS) < FLAKY_CALLS:
            self._raised[k] += 1
            raise ConnectionError(f"term {k} not yet")

    def cut_short(self) -> None:
        self._short = True

    def map(self, lo: int, hi: int) -> Any:
        if not 0 <= lo < hi <= self.terms:
            raise AssertionError(f"asked for [{lo}, {hi}) of {self.terms}")
        bad = min((k for k in self.raising if lo <= k < hi), default=None)
        self._short, self.reached = False, 0
        if self._spend is not None:
            end = hi if bad is None else bad + 1
            reached = self._spend(lo, end, lambda: self._short)
            if reached < end:
                hi = self.reached = reached
                bad = None
        for k in (k for k in self.params.flaky if lo <= k < hi):
            self._retrying.begin(k.__add__)
            try:
                self._retrying(k)
            except ConnectionError as error:
                raise TermError(k, "still not", tries=self._retrying.tries_of(error)) from error
        if bad is not None:
            raise TermError(bad, "it had to") from ValueError(f"term {bad} will not")
        if not self.reached:
            self.called()
        found = fold(range(lo, hi), ordered=self.params.ordered)
        return Laid(found, (), found) if self.params.laid else found

    def map_body(self, lo: int, hi: int, body: bytes) -> Any:
        if body != items(lo, hi):
            raise AssertionError(f"wrong items for [{lo}, {hi})")
        return self.map(lo, hi)

    def map_onto(self, grow: Grow, lo: int, hi: int, body: bytes) -> tuple[Any, int]:
        """Term by term, so that the other partial may be given back between any two of them."""
        if body and body != items(lo, hi):
            raise AssertionError(f"wrong items for [{lo}, {hi})")
        merge, own, begin, reached = self.reducer.merge, None, lo, 0
        for k in range(lo, hi):
            found = self.map(k, k + 1)
            if own is None and not grow(partial(merge, found)):
                own, begin = self.reducer.zero(), k
            if own is not None:
                own = merge(own, found)
            if self._short and k + 1 < hi:
                reached = k + 1
                break
        self.reached = reached
        return own, begin

    def cut_body(self, body: bytes, at: int, lo: int, hi: int) -> bytes:
        return body[8 * (lo - at) : 8 * (hi - at)]

    def finish(self, partial: Any, terms: int) -> Outcome | More | Ask:
        if self.params.first and terms < self.terms:
            return More(self.terms)
        if self._finishing is not None:
            self._finishing()
        if isinstance(partial, Laid):
            if partial.names:
                return Ask([bytes([number]) + b" ".join(partial.names) for number in range(2)], self._added(partial))
            partial = partial.whole
        return self._ask(partial, text_of(partial), self.params.asks)

    def _added(self, partial: Laid) -> Callable[[Sequence[bytes]], Outcome | Ask]:
        def then(answers: Sequence[bytes]) -> Outcome | Ask:
            total = partial.whole
            for answer in answers:
                total = SumOfTerms().merge(total, SumOfTerms().decode(answer))
            return self._ask(total, text_of(total), self.params.asks)

        return then

    def _ask(self, partial: Partial, text: str, rounds: int) -> Outcome | Ask:
        """Have the text turned round piece by piece, that many times; each round is made of the answers to the last."""
        if rounds == 0:
            turned = text[::-1] if self.params.asks % 2 else text
            return Outcome(value=turned, native=partial)
        requests = [b"%d:%s" % (rounds, piece.encode()) for piece in (text[:9], text[9:])]

        def then(answers: Sequence[bytes]) -> Outcome | Ask:
            if [answer[::-1] for answer in answers] != [request.partition(b":")[2] for request in requests]:
                raise ValueError("not what was asked for")
            return self._ask(partial, b"".join(reversed(answers)).decode(), rounds - 1)

        return Ask(requests, then)

    def work(self, body: bytes) -> bytes:
        if self._rest is not None:
            self._rest()
        if isinstance(self.reducer, LaidTerms) and body[:1] in {b"\0", b"\1"}:
            return self.reducer.work(body)
        return body.partition(b":")[2][::-1]


def items(lo: int, hi: int) -> bytes:
    """What a source gives for these terms."""
    return b"".join(struct.pack("<Q", hashed(k)) for k in range(lo, hi))


def fold(terms: Iterable[int], *, ordered: bool) -> Partial:
    """The partial of some terms, the slow and obvious way."""
    count = total = power = 0
    for k in terms:
        count += 1
        total += hashed(k)
        power = (power * BASE + hashed(k)) % P if ordered else (power + pow(BASE, k, P)) % P
    return count, total & MASK, power


def text_of(partial: Partial) -> str:
    """The value as text."""
    return ":".join(map(str, partial))


class Oracle:
    """Knows the fold of any set of terms, by prefix sums."""

    def __init__(self, terms: int, *, ordered: bool) -> None:
        self.terms = terms
        self.ordered = ordered
        self._sums = [0]
        self._powers = [0]
        for k in range(terms):
            self._sums.append(self._sums[-1] + hashed(k))
            if ordered:
                self._powers.append((self._powers[-1] * BASE + hashed(k)) % P)
            else:
                self._powers.append((self._powers[-1] + pow(BASE, k, P)) % P)

    def span(self, lo: int, hi: int) -> Partial:
        """The fold of ``[lo, hi)``."""
        if self.ordered:
            power = (self._powers[hi] - self._powers[lo] * pow(BASE, hi - lo, P)) % P
        else:
            power = (self._powers[hi] - self._powers[lo]) % P
        return hi - lo, (self._sums[hi] - self._sums[lo]) & MASK, power

    def runs(self, runs: Iterable[tuple[int, int]], without: Iterable[int] = ()) -> Partial:
        """The fold of these spans in order, but for some terms."""
        left_out = set(without)
        reducer: Reducer[Any] = RowOfTerms() if self.ordered else SumOfTerms()
        whole = ZERO
        for lo, hi in runs:
            at = lo
            for k in sorted(k for k in left_out if lo <= k < hi):
                whole = reducer.merge(whole, self.span(at, k))
                at = k + 1
            whole = reducer.merge(whole, self.span(at, hi))
        return whole
