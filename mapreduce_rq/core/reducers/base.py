"""What a reducer is: an identity, a merge, a codec, and the law that says when merging is allowed.

The law is a promise of the reducer's author, and permits the master to merge in certain ways:

- ``COMMUTATIVE``: merge is associative and commutative. One accumulator, folded on arrival.
- ``ORDERED``: merge is associative only. A partial is kept for each run of terms and two are merged when
  their runs meet, always the earlier on the left.
- ``APPROXIMATE``: as commutative, but the result is an estimate for any terms, and says so.

The bits of a result must not depend on how terms were grouped: a floating-point ``+`` is not a merge,
an exact accumulator is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Any, ClassVar, Generic, TypeVar

from mapreduce_rq.core.bodies import Pieces, ValueCodec
from mapreduce_rq.core.foreign_errors import Refusal, shown, told
from mapreduce_rq.core.outcome import Ask, Outcome
from mapreduce_rq.core.written import written

P = TypeVar("P")


class Law(Enum):
    """What may be assumed of a reducer's merge."""

    COMMUTATIVE = "commutative"
    ORDERED = "ordered"
    APPROXIMATE = "approximate"


class BadValue(Refusal, ValueError):
    """A reducer cannot take a term's value. It has the term's index, what the value is, and what the reducer takes."""

    row: int | None = None
    """The value's number among those that were folded at once, if that is known."""

    def __init__(self, term: int, value: object, takes: str) -> None:
        what = shown(value)
        super().__init__(term, what, takes)
        self.term, self.what, self.takes = term, what, takes

    def at_row(self, terms: Sequence[int]) -> BadValue:
        """The same error, for the term in this row: ``term`` was the number of the row."""
        self.row, self.term = self.term, terms[self.term]
        return self

    def __str__(self) -> str:
        return f"term {self.term} is {self.what}, and the reducer takes {self.takes}"


class TermFailed(Exception):
    """A term's value is an iterator, and reading it raised an exception, which is the cause of this one."""

    def __init__(self, term: int) -> None:
        super().__init__(f"term {term} raised")
        self.term = term
        self.row: int | None = None

    def at_row(self, terms: Sequence[int]) -> TermFailed:
        """As of BadValue."""
        self.row, self.term = self.term, terms[self.term]
        return self


class CannotTravel(Refusal, ValueError):
    """What a user's own fold has returned is nothing that a message can carry."""


class MergeError(Exception):
    """A user's own merge raised an exception, which is the cause of this one. The job cannot go on."""

    def __init__(self, label: str, error: Exception) -> None:
        super().__init__(f"{label}, which folds the values, raised {told(error)}")


class Reducer(ABC, Generic[P]):
    """A monoid on partials of type ``P``, with a codec. Stateless: partials are values.

    Under the commutative law ``merge`` may change and return its left argument (an accumulator owned by the
    caller); the right one stays as it was, and under the ordered law both do.
    """

    name: ClassVar[str]
    law: ClassVar[Law] = Law.COMMUTATIVE
    keeps: ClassVar[bool] = False
    """Whether a partial is the values of its terms, unchanged. Then the answers in Redis are kept as what is counted,
    and a checkpoint need not hold the values again."""

    torn: list[tuple[int, int]] = []  # noqa: RUF012  one that fills it makes its own
    """Spans whose answers were dropped, because one of their values cannot be read: they are asked for in halves."""

    brisk: ClassVar[bool] = False
    """Whether the caller waits for each value: tasks are then short."""

    wide: ClassVar[bool] = False
    """Whether a partial of few terms may be as large as one of many. Then merges are dear, so tasks are larger."""

    refers: ClassVar[bool] = False
    """Whether a partial may refer to what workers have laid in Redis. What Redis loses in a failover is lost from the
    partial, too, so a master then goes on from what Redis still has."""

    live: ClassVar[bool] = False
    """Whether ``describe`` is cheap enough to be called once a second, for a running value."""
    estimates: ClassVar[bool] = False
    """Whether the value of all terms can be estimated, with a bound, from a random sample: see ``describe_sample``."""

    @abstractmethod
    def zero(self) -> P:
        """The identity: ``merge(zero(), p)`` equals ``p``."""

    @abstractmethod
    def merge(self, left: P, right: P) -> P:
        """The partial of the terms of both. Raises ValueError if the two cannot belong together."""

    @abstractmethod
    def encode(self, partial: P) -> bytes:
        """Bytes of a partial, the same for equal partials (they are hashed into the digest)."""

    @abstractmethod
    def decode(self, data: bytes) -> P:
        """The partial of these bytes. Raises ValueError for bytes that ``encode`` cannot have made."""

    def canonical(self, partial: P) -> bytes:
        """The bytes of the digest: as ``encode``, and the same for plain data and pickles of equal values."""
        return self.encode(partial)

    def travel_by(self, codec: ValueCodec) -> None:
        """Use this codec for values that travel as they are; it may allow pickles. For reducers that keep values."""

    def lay_in(self, pieces: Pieces | None) -> None:
        """Lay pieces aside in this place, for reducers that shuffle. ``encode`` makes a reference of what is large."""

    def weight(self, partial: P) -> int:
        """About how many bytes the partial encodes to, if its merges are worth sending to a worker; else 0."""
        return 0

    def refers_to(self, body: bytes) -> list[bytes]:
        """For reducers that refer: the references in an encoded partial; none in bytes that are no partial."""
        raise NotImplementedError

    def lasting(self, outcome: Outcome) -> P | None:
        """For reducers that refer: a partial with this outcome that refers to nothing; others have the value of it.

        None where only the job's caller has the value.
        """
        raise NotImplementedError

    def size(self, partial: P) -> int:
        """Bytes of a partial that keeps values; 0 for one that folds them."""
        return 0

    def gap(self, lo: int, hi: int) -> P:
        """The partial of skipped terms, under the ordered law. Raises ValueError if there can be none."""
        return self.zero()

    def merge_encoded(self, accumulator: P, bodies: list[bytes]) -> P:
        """``accumulator`` with every encoded partial merged in, in the order given.

        The master spends its time here, so a reducer with small partials overrides it with one tight loop. Raises
        ValueError, with the accumulator unchanged, if one of them cannot be decoded.
        """
        merge = self.merge
        for partial in [self.decode(body) for body in bodies]:
            accumulator = merge(accumulator, partial)
        return accumulator

    # -- for functions of users: values in, an outcome out ---------------------------------------------------------

    def fold(self, lo: int, values: Iterable[Any]) -> P:
        """The partial of these values, which are the terms from ``lo`` on. Raises BadValue for one it cannot take."""
        raise NotImplementedError(f"the reducer {self.name} takes partials only, not values")

    def fold_into(self, partial: P, lo: int, values: Iterable[Any]) -> P:
        """``merge(partial, fold(lo, values))``, for reducers that know a shorter way; it may change ``partial``."""
        return self.merge(partial, self.fold(lo, values))

    def fold_at(self, terms: Sequence[int], values: Sequence[Any], partial: P | None = None) -> P:
        """As ``fold``, for any terms in rising order; a term may occur several times. There is at least one.

        ``partial``, if given, is of terms before these: the result contains it, and may be the same object, changed.
        """
        try:
            found = self.fold(0, values)
        except BadValue as error:
            raise error.at_row(terms) from None
        return found if partial is None else self.merge(partial, found)

    def spanning(self, partial: P, lo: int, hi: int) -> P:
        """The partial, marked as that of all the terms ``[lo, hi)``, whose values it has."""
        return partial

    def lift(self, term: int, value: Any) -> P:
        """The partial of one value. Raises BadValue."""
        return self.fold(term, (value,))

    def lift_encoded(self, term: int, value: Any) -> bytes:
        """``encode(lift(term, value))``. Workers spend their time here if each term is a task. Raises BadValue."""
        return self.encode(self.lift(term, value))

    def finish_native(self, partial: P) -> Any:
        """The result as a Python object: a float, an int, a Counter, a list."""
        return partial

    def describe(self, partial: P) -> Outcome:
        """The result as an outcome, for these terms and no others."""
        native = self.finish_native(partial)
        return Outcome(value=written(native), native=native)

    def finish(self, partial: P) -> Outcome | Ask:
        """As ``describe``, for a master: what is left may be work for others, too, who do it with ``work``."""
        return self.describe(partial)

    def work(self, body: bytes) -> bytes:
        """The answer to one request of ``finish``; see ``Computation.work``."""
        raise NotImplementedError(f"the reducer {self.name} asks for nothing")

    def describe_sample(self, partial: P, total: int | None) -> Outcome:
        """As ``describe``, for terms drawn at random from ``total`` (None: from any number), with a statistical bound.

        The bound is the distance to the value of all ``total`` terms. Only for reducers that say ``estimates``.
        """
        raise NotImplementedError(f"the reducer {self.name} estimates nothing")
