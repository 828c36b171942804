"""A reducer that hands values on as soon as their terms are counted, and then forgets them: for jobs whose items may
never end.

The tally folds each span once, even if workers die or answer twice. To fold a value here means to hand it on, so each
value is handed on once. Values are not kept, so memory is constant, and a checkpoint only says which terms are counted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from mapreduce_rq.core.foreign_errors import Interruption, RemoteError, kind_of, message_of
from mapreduce_rq.core.outcome import Outcome
from mapreduce_rq.core.reducers.base import Law
from mapreduce_rq.core.reducers.sequence import EMPTY, ListReducer, Stretch


class Raised:
    """Stands for the value of a term that raised. ``error``: the exception."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


class Unsent(Raised):
    """As Raised, for a value that cannot be sent: the error says why. ``shown``: the value as text."""

    def __init__(self, error: BaseException, shown: str = "") -> None:
        super().__init__(error)
        self.shown = shown


class Unanswered(Raised):
    """As Raised, for a term that its workers could not read, or that killed them."""


class Handed(ListReducer):
    """Hands values on: ``hand`` is called with a first term and the values from there on, in the order of arrival."""

    name: ClassVar[str] = "handed"
    law: ClassVar[Law] = Law.COMMUTATIVE
    keeps: ClassVar[bool] = False
    brisk: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__()
        self.hand: Callable[[int, list[Any]], None] | None = None
        self.torn = []

    def merge_encoded(self, accumulator: Stretch, bodies: list[bytes]) -> Stretch:
        assert self.hand is not None
        for stretch, values in [(stretch, self._values(stretch)) for stretch in map(self.decode, bodies)]:
            self.hand(stretch.lo, values)
        return accumulator

    def _values(self, stretch: Stretch) -> list[Any]:
        """The values. Raises ValueError if they cannot be read."""
        try:
            return self.finish_native(stretch)
        except (Interruption, ValueError):
            raise
        except BaseException as error:  # raised by a value's own code
            if stretch.n == 1:
                return [Unanswered(RemoteError(kind_of(error), message_of(error)))]
            self.torn.append((stretch.lo, stretch.hi))
            raise ValueError(f"one of {stretch.n} values cannot be read: {message_of(error)}") from error

    def describe(self, partial: Stretch) -> Outcome:
        return Outcome(value="", native=None)

    def zero(self) -> Stretch:
        return EMPTY
