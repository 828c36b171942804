"""A reducer made of a user's own associative function and its identity."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import deepcopy
from functools import reduce
from typing import Any

from mapreduce_rq.core.plain_values import TAKES, pack, unpack_all
from mapreduce_rq.core.reducers.base import Law, Reducer


class CallableReducer(Reducer[Any]):
    """Folds values with ``function(left, right)`` from ``zero`` on.

    That the function is associative, that ``zero`` is its identity and, under the commutative law, that the order
    does not matter is the user's promise: with floats and ``+`` it would be a false one, use ``sum`` then.
    The function must not change its arguments.
    """

    name = "callable"

    def __init__(self, function: Callable[[Any, Any], Any], zero: Any, law: Law = Law.ORDERED) -> None:
        self.law = law  # type: ignore[misc]  # of this reducer, not of its class
        self._function = function
        self._zero = zero

    def zero(self) -> Any:
        return deepcopy(self._zero)  # for a function that changes its left argument after all, as += of lists does

    def merge(self, left: Any, right: Any) -> Any:
        return self._function(left, right)

    def encode(self, partial: Any) -> bytes:
        try:
            return pack(partial)
        except (TypeError, RecursionError) as error:
            raise ValueError(f"a partial of type {type(partial).__name__}: {error}; what travels is {TAKES}") from None

    def decode(self, data: bytes) -> Any:
        return unpack_all(1, data)[0]

    def fold(self, lo: int, values: Iterable[Any]) -> Any:
        return reduce(self._function, values, self.zero())
