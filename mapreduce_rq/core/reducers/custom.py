"""A reducer made of a user's own associative function and its identity."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import deepcopy
from functools import reduce
from typing import Any

from mapreduce_rq.core.bodies import PlainCodec, ValueCodec
from mapreduce_rq.core.plain_values import Unfit
from mapreduce_rq.core.reducers.base import CannotTravel, Law, MergeError, Reducer


class CallableReducer(Reducer[Any]):
    """Folds values with ``function(left, right)``, beginning with ``zero``.

    The user promises that the function is associative, that ``zero`` is its identity and, under the commutative law,
    that the order does not matter. For floats and ``+`` this promise is false: use ``sum``. The function must not
    change its arguments. Partials are sent as they are: the function gets values that it has returned.
    """

    name = "callable"

    def __init__(
        self, function: Callable[[Any, Any], Any], zero: Any, law: Law = Law.ORDERED, *, label: str = ""
    ) -> None:
        self.law = law  # type: ignore[misc]  # of this reducer, not of its class
        self.codec: ValueCodec = PlainCodec()
        self.label = label or getattr(function, "__qualname__", type(function).__name__)
        self._function = function
        self._zero = zero

    def travel_by(self, codec: ValueCodec) -> None:
        self.codec = codec

    def zero(self) -> Any:
        return deepcopy(self._zero)  # some functions change their left argument all the same, as += of lists does

    def merge(self, left: Any, right: Any) -> Any:
        try:
            return self._function(left, right)
        except Exception as error:
            raise MergeError(self.label, error) from error

    def encode(self, partial: Any) -> bytes:
        try:
            return self.codec.encode([partial])
        except Unfit as unfit:
            name = type(partial).__name__
            raise CannotTravel(
                f"{self.label} gave a {name}, which cannot travel ({unfit}); what travels is {self.codec.takes}: "
                f"{self.codec.remedy}"
            ) from None

    def canonical(self, partial: Any) -> bytes:
        """As in the base class. A value that can only be pickled is a pickle here; equal values may differ in it."""
        try:
            return PlainCodec().encode([partial])
        except Unfit:
            return self.encode(partial)

    def decode(self, data: bytes) -> Any:
        found = self.codec.decode(data)
        if len(found) != 1:
            raise ValueError(f"{len(found)} partials where there should be one")
        return found[0]

    def fold(self, lo: int, values: Iterable[Any]) -> Any:
        try:
            return reduce(self._function, values, self.zero())
        except Exception as error:
            raise MergeError(self.label, error) from error
