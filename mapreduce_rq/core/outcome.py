"""What a computation ends with: an outcome, the wish for more terms, or on the way a running value."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

BoundKind = Literal["proven", "statistical", "estimated", "exact", "none"]
"""What a bound is worth: a theorem, a confidence interval, a guess, no error at all, or no bound is known."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What ``finish`` makes of the merged total.

    ``value`` is the text for people and scripts, ``number`` the nearest double (None where that means nothing),
    ``bound`` the text of the distance to the truth that ``bound_kind`` qualifies, ``native`` the Python object for
    callers of the API. ``details`` are further stable facts for the JSON (``x``, flags such as ``overflow``),
    ``notes`` sentences for people.
    """

    value: str
    number: float | None = None
    bound: str | None = None
    bound_kind: BoundKind = "none"
    native: Any = None
    details: dict[str, Any] = {}
    notes: tuple[str, ...] = ()


class More(msgspec.Struct, frozen=True):
    """The terms so far do not decide the answer: go on to ``total`` terms (nothing is recomputed)."""

    total: int


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """A running value: text, and where it is known the half width of its error and what that is worth."""

    value: str
    number: float | None = None
    error: float | None = None
    bound_kind: BoundKind = "none"
