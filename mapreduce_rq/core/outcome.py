"""What a computation ends with: an outcome, the wish for more terms or for help, or on the way a running value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import msgspec

BoundKind = Literal["proven", "statistical", "estimated", "exact", "none"]
"""What a bound is worth: a theorem, a confidence interval, a guess, no error at all, or no bound is known."""


class Deferred(NamedTuple):
    """Something that takes long to make, or much memory, and that many callers do not look at."""

    kind: Callable[[Any], Any]
    given: Any

    def make(self) -> Any:
        """What it is."""
        return self.kind(self.given)


def made(thing: Any) -> Any:
    """The thing itself, made now if it was deferred."""
    return thing.make() if isinstance(thing, Deferred) else thing


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What ``finish`` makes of the merged total.

    ``value`` is the text for people and scripts, ``number`` the nearest double (None where that means nothing),
    ``bound`` the text of the distance to the truth that ``bound_kind`` qualifies, ``native`` the Python object for
    callers of the API, or how it is made. ``details`` are further stable facts for the JSON (``x``, flags such as
    ``overflow``), ``notes`` sentences for people. A value larger than a record should be has its text, and the bytes
    that its digest is of, made when they are asked for, by ``text`` and ``total``; ``value`` is empty then.
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
    """The terms so far do not decide the answer: go on to ``total`` terms (nothing is recomputed)."""

    total: int


class Ask(NamedTuple):
    """The rest is long, and work for others too: what to have done, and what follows from the answers.

    Each of ``bodies`` goes to ``Computation.work``, on some worker or in the master; ``then`` is handed the answers in
    their order, and raises ValueError for one that ``work`` cannot have given. The same total must ask the same.
    """

    bodies: Sequence[bytes]
    then: Callable[[Sequence[bytes]], Outcome | More | Ask]


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """A running value: text, and where it is known the half width of its error and what that is worth."""

    value: str
    number: float | None = None
    error: float | None = None
    bound_kind: BoundKind = "none"
