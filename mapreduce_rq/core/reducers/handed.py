"""Values that are handed on as soon as their terms are counted, and then forgotten: for jobs whose items never end.

The tally folds each span once, whatever dies or answers twice, and to fold is here to hand on: so each value is handed
on once. Nothing is kept, so memory is constant, and a checkpoint holds which terms are counted alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from mapreduce_rq.core.foreign_errors import Interruption, RemoteError, kind_of, message_of
from mapreduce_rq.core.outcome import Outcome
from mapreduce_rq.core.reducers.base import Law
from mapreduce_rq.core.reducers.sequence import EMPTY, ListReducer, Stretch


class Raised:
    """What a term has raised, in the place of its value. ``error``: the exception."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


class Handed(ListReducer):
    """Hands values on. ``hand`` is called with the first term and the values from there on, in the order of arrival."""

    name: ClassVar[str] = "handed"
    law: ClassVar[Law] = Law.COMMUTATIVE
    keeps: ClassVar[bool] = False
    brisk: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__()
        self.hand: Callable[[int, list[Any]], None] | None = None

    def merge_encoded(self, accumulator: Stretch, bodies: list[bytes]) -> Stretch:
        assert self.hand is not None
        for stretch, values in [(stretch, self._values(stretch)) for stretch in map(self.decode, bodies)]:
            self.hand(stretch.lo, values)
        return accumulator

    def _values(self, stretch: Stretch) -> list[Any]:
        try:
            return self.finish_native(stretch)
        except (Interruption, ValueError):
            raise
        except Exception as error:  # of a value's own code
            return [Raised(RemoteError(kind_of(error), message_of(error)))] * stretch.n

    def describe(self, partial: Stretch) -> Outcome:
        return Outcome(value="", native=None)

    def zero(self) -> Stretch:
        return EMPTY
