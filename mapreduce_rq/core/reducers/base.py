"""A reducer: an identity, a merge, a codec, and the law that says when merging is allowed.

The law is a promise of the reducer's author. It permits the master to merge in certain ways:

- ``COMMUTATIVE``: merge is associative and commutative. One accumulator, folded on arrival.
- ``ORDERED``: merge is associative only. A partial is kept for each run of terms and two are merged when
  their runs meet, always the earlier on the left.
- ``APPROXIMATE``: as commutative, but the result is an estimate for any terms, and is labelled so.

The bits of a result must not depend on how terms were grouped. So a floating-point ``+`` is not a merge; the ``+`` of
an exact accumulator is one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from typing import Any, ClassVar, Generic, TypeVar

from mapreduce_rq.core import given
from mapreduce_rq.core.bodies import Pieces, ValueCodec
from mapreduce_rq.core.foreign_errors import Refusal, shown, told
from mapreduce_rq.core.outcome import Ask, Outcome
from mapreduce_rq.core.reducers.ahead import Ahead
from mapreduce_rq.core.written import written
from mapreduce_rq.errors import BadParameter

P = TypeVar("P")


class Law(Enum):
    """The properties that a reducer's merge has."""

    COMMUTATIVE = "commutative"
    ORDERED = "ordered"
    APPROXIMATE = "approximate"

    @classmethod
    def given(cls, law: Law | str) -> Law:
        """The law that a caller names for a fold of their own. Raises BadParameter."""
        for one in (cls.ORDERED, cls.COMMUTATIVE):
            if law in (one, one.value):
                return one
        raise BadParameter(f"law: {given.shown(law)} is not one of ordered, commutative")


class BadValue(Refusal, ValueError):
    """A reducer cannot take a term's value. ``term``: the index; ``what``: the value in words; ``takes``: the kinds of
    values that the reducer takes. ``beside``: another term, and its value in words, if the two do not go together.
    """

    row: int | None = None
    """The value's number among those that were folded together, if that is known."""

    def __init__(self, term: int, value: object, takes: str, beside: tuple[int, str] | None = None) -> None:
        what = shown(value)
        super().__init__(term, what, takes, beside)
        self.term, self.what, self.takes, self.beside = term, what, takes, beside

    def at_row(self, terms: Sequence[int]) -> BadValue:
        """The same error for the term in this row, if ``term`` was the number of the row."""
        self.row = self.term
        self.renumber(terms.__getitem__)
        return self

    def renumber(self, number: Callable[[int], int]) -> None:
        """Give the terms that it names other numbers."""
        self.term = number(self.term)
        if self.beside is not None:
            self.beside = (number(self.beside[0]), self.beside[1])
        self.args = (self.term, self.what, self.takes, self.beside)

    def __reduce__(self) -> Any:
        return _again, (type(self), self.args, self.__dict__)

    def __str__(self) -> str:
        text = f"term {self.term} is {self.what}, and the reducer takes {self.takes}"
        if self.beside is None:
            return text
        other, what = self.beside
        return f"{text}: {f'term {other}' if other != self.term else 'another value of this term'} is {what}"


def _again(kind: type[BadValue], args: tuple[Any, ...], state: dict[str, Any]) -> BadValue:
    """The error as it was. Its class would take the value's text, which is in ``args``, for the value."""
    found = kind.__new__(kind, *args)
    found.__dict__.update(state)
    return found


class TermFailed(Exception):
    """A term's value is an iterator, and reading it raised an exception, which is the cause of this one."""

    def __init__(self, term: int) -> None:
        super().__init__(f"term {term} raised")
        self.term = term
        self.row: int | None = None

    def at_row(self, terms: Sequence[int]) -> TermFailed:
        """The same error for the term in this row, as ``BadValue.at_row``."""
        self.row, self.term = self.term, terms[self.term]
        return self


class CannotTravel(Refusal, ValueError):
    """A user's own fold has returned a value that cannot be sent."""


class MergeError(Exception):
    """A user's own merge raised an exception, which is the cause of this one. The job cannot go on."""

    def __init__(self, label: str, error: Exception) -> None:
        super().__init__(f"{label}, which folds the values, raised {told(error)}")

    def renumber(self, number: Callable[[int], int]) -> None:
        """Give the terms that it names, if any, other numbers."""


class Reducer(ABC, Generic[P]):
    """A monoid on partials of type ``P``, with a codec. It has no state: partials are values.

    Under the commutative law ``merge`` may change and return its left argument (an accumulator that belongs to the
    caller), and must not change the right one. Under the ordered law it must change neither.
    """

    name: ClassVar[str]
    law: ClassVar[Law] = Law.COMMUTATIVE
    keeps: ClassVar[bool] = False
    """Whether a partial is the values of its terms, unchanged. Then the answers stay in Redis as the counted values,
    and a checkpoint does not hold the values again.
    """

    torn: list[tuple[int, int]] = []  # noqa: RUF012  an instance that fills it makes its own
    """Spans whose answers were dropped, because a value in them cannot be read: the master asks again, in halves."""

    ahead: Ahead | None = None
    """What a master reads of the answers while it waits for others; see ``hasten``."""

    brisk: ClassVar[bool] = False
    """Whether the caller waits for each value: tasks are then short."""

    wide: ClassVar[bool] = False
    """Whether a partial of few terms may be as large as one of many. Then merges are expensive, so tasks are larger."""

    joins: ClassVar[bool] = False
    """Whether a worker may merge the partials of several tasks and answer these together, under a commutative law. This
    pays where to encode and decode partials costs more than to merge them."""

    refers: ClassVar[bool] = False
    """Whether a partial may refer to pieces that workers have laid in Redis. If Redis loses pieces in a failover, the
    partial has lost them, too, so a master then goes on from what Redis still has."""

    live: ClassVar[bool] = False
    """Whether ``describe`` is cheap enough to be called once a second, for a running value."""
    estimates: ClassVar[bool] = False
    """Whether the value of all terms can be estimated, with a bound, from a random sample: see ``describe_sample``."""

    @abstractmethod
    def zero(self) -> P:
        """The identity: ``merge(zero(), p)`` equals ``p``."""

    @abstractmethod
    def merge(self, left: P, right: P) -> P:
        """The partial of the terms of both. Raises ValueError if the two cannot be of one job."""

    @abstractmethod
    def encode(self, partial: P) -> bytes:
        """The bytes of a partial. Equal partials must have equal bytes, because the digest is a hash of them."""

    @abstractmethod
    def decode(self, data: bytes) -> P:
        """The partial of these bytes. Raises ValueError for bytes that ``encode`` cannot have made."""

    def canonical(self, partial: P) -> bytes:
        """The bytes for the digest: as ``encode``, and the same for plain data and pickles of equal values."""
        return self.encode(partial)

    def travel_by(self, codec: ValueCodec) -> None:
        """Use this codec for values that are sent as they are; it may allow pickles. For reducers that keep values."""

    def hasten(self) -> None:
        """Have the job's master make what it can of the native object while the job runs: its caller takes that, and
        nothing else.
        """

    def lay_in(self, pieces: Pieces | None) -> None:
        """Lay pieces aside in this place, for reducers that shuffle. ``encode`` then returns references to them."""

    def weight(self, partial: P) -> int:
        """The number of bytes of the encoded partial, about, if a merge of it is worth sending to a worker; otherwise
        0.
        """
        return 0

    def refers_to(self, body: bytes) -> list[bytes]:
        """For reducers that refer: the references in an encoded partial; none for bytes that are not a partial."""
        raise NotImplementedError

    def lasting(self, outcome: Outcome) -> P | None:
        """For reducers that refer: a partial with this outcome and without references, from which other processes can
        make the value.

        None if only the job's caller has the value.
        """
        raise NotImplementedError

    def size(self, partial: P) -> int:
        """The number of bytes of a partial that keeps values; 0 for one that folds them."""
        return 0

    def breadth(self, partial: P) -> int:
        """For reducers that join: the number of things in a partial (keys) of which each has about the same number of
        bytes, however many values were folded; 0 if there are none such.
        """
        return 0

    def gap(self, lo: int, hi: int) -> P:
        """The partial of skipped terms, under the ordered law. Raises ValueError if no term may be missing."""
        return self.zero()

    def merge_encoded(self, accumulator: P, bodies: list[bytes]) -> P:
        """Merge the encoded partials into ``accumulator``, in the given order, and return it.

        The master spends its time here, so a reducer with small partials overrides it with one tight loop. Raises
        ValueError, with the accumulator unchanged, if a partial cannot be decoded.
        """
        merge = self.merge
        for partial in [self.decode(body) for body in bodies]:
            accumulator = merge(accumulator, partial)
        return accumulator

    # -- for functions of users: values in, an outcome out ---------------------------------------------------------

    def fold(self, lo: int, values: Iterable[Any]) -> P:
        """The partial of these values, which are the terms from ``lo`` on. Raises BadValue for a wrong value."""
        raise NotImplementedError(f"the reducer {self.name} takes partials only, not values")

    def fold_into(self, partial: P, lo: int, values: Iterable[Any]) -> P:
        """``merge(partial, fold(lo, values))``, for reducers that have a faster way; it may change ``partial``."""
        return self.merge(partial, self.fold(lo, values))

    def fold_at(self, terms: Sequence[int], values: Sequence[Any], partial: P | None = None) -> P:
        """As ``fold``, for any terms in rising order; a term may occur several times. There is at least one.

        ``partial``, if given, has terms before these: the result contains them, and may be the same object, changed.
        """
        try:
            found = self.fold(0, values)
        except BadValue as error:
            raise error.at_row(terms) from None
        found = self.placed(found, terms)
        return found if partial is None else self.merge(partial, found)

    def placed(self, partial: P, terms: Sequence[int]) -> P:
        """The partial of some rows, with the term of each row that it names. It may be changed."""
        return partial

    def spanning(self, partial: P, lo: int, hi: int) -> P:
        """The partial, marked as the partial of all the terms ``[lo, hi)``. It has all values of these terms."""
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
        """The result as an outcome, for exactly these terms."""
        native = self.finish_native(partial)
        return Outcome(value=written(native), native=native)

    def finish(self, partial: P) -> Outcome | Ask:
        """As ``describe``, in a master. It may return requests for workers, who answer them with ``work``."""
        return self.describe(partial)

    def work(self, body: bytes) -> bytes:
        """The answer to one request of ``finish``; see ``Computation.work``."""
        raise NotImplementedError(f"the reducer {self.name} asks for nothing")

    def describe_sample(self, partial: P, total: int | None) -> Outcome:
        """As ``describe``, for terms drawn at random from ``total`` (None: from any number), with a statistical bound.

        The bound is the distance to the value of all ``total`` terms. Only reducers with
        ``estimates`` set have it.
        """
        raise NotImplementedError(f"the reducer {self.name} estimates nothing")
