"""The things that ``finish`` of a computation may return: an outcome, or a wish for more terms or for help; and running
values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

BoundKind = Literal["proven", "statistical", "estimated", "exact", "none"]
"""The kinds of bounds, in this order: proven by a theorem; half of a confidence interval; a guess; no error at all; not
known."""


class Deferred(NamedTuple):
    """A value that takes a long time or much memory to make, and that many callers do not use: it is made on demand."""

    kind: Callable[[Any], Any]
    given: Any
    last: Callable[[Any], Any] | None = None  # as kind, and uses up what is given: for who wants the value alone

    def make(self) -> Any:
        """Make the value."""
        return self.kind(self.given)


def made(thing: Any) -> Any:
    """The value itself, made now if it was deferred."""
    return thing.make() if isinstance(thing, Deferred) else thing


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What ``finish`` makes of the merged total.

    ``value`` is the text for people and scripts. ``number`` is the nearest double, None if there is none. ``bound`` is
    the distance to the truth as text, and ``bound_kind`` says what kind of bound it is. ``native`` is the Python object
    for callers of the API, or a Deferred of it. ``details`` are further stable facts for the JSON (``x``, flags such as
    ``overflow``), and ``notes`` are sentences for people. For a value that is too large for a record, ``value`` is
    empty; ``text`` makes the pieces of its text, and ``total`` the bytes of its digest, when they are asked for.
    """

    value: str
    number: float | None = None
    bound: str | None = None
    bound_kind: BoundKind = "none"
    native: Any = None
    details: dict[str, Any] = {}
    notes: tuple[str, ...] = ()
    text: Deferred | None = None
    total: Deferred | None = None


class More(msgspec.Struct, frozen=True):
    """The terms so far do not decide the answer: go on to ``total`` terms. No term is computed again."""

    total: int


class Ask(NamedTuple):
    """The requests of a long ``finish`` to workers, and the function that goes on with the answers.

    Each of ``bodies`` goes to ``Computation.work``, on a worker or in the master. ``then`` is called with the answers
    in their order, and raises ValueError for an answer that ``work`` cannot have given. For the same total, the
    requests must be the same.
    """

    bodies: Sequence[bytes]
    then: Callable[[Sequence[bytes]], Outcome | More | Ask]


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """A running value: its text and, if they are known, the half width of its error interval and the kind of that
    bound.

    A text that is a number has ten significant digits or more (zeros at its end may be left out). The error says which
    of them are certain.
    """

    value: str
    number: float | None = None
    error: float | None = None
    bound_kind: BoundKind = "none"
