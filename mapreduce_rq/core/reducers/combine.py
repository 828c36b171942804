"""A reducer of four functions, as Beam's CombineFn: make an accumulator, add a value, merge two, extract the result."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from mapreduce_rq.core.given import check
from mapreduce_rq.core.reducers.base import Law, MergeError
from mapreduce_rq.core.reducers.custom import CallableReducer


class Combine(CallableReducer):
    """Folds values into accumulators of your own kind.

    ``create()`` returns an empty accumulator, ``add(accumulator, value)`` one with one more value, ``merge(left,
    right)`` one with the values of both, and ``extract(accumulator)`` the result (None: the accumulator is the result).
    ``add`` and ``merge`` may change their first argument and return it. The user promises that the result does not
    depend on the grouping of values nor, under the commutative law, on their order. Accumulators are sent as they are.
    """

    name: ClassVar[str] = "combine"

    def __init__(
        self,
        create: Callable[[], Any],
        add: Callable[[Any, Any], Any],
        merge: Callable[[Any, Any], Any],
        extract: Callable[[Any], Any] | None = None,
        *,
        law: Law | str = Law.COMMUTATIVE,
    ) -> None:
        check(create=create, add=add, merge=merge, extract=extract, law=law)
        super().__init__(merge, None, Law.given(law))
        self.functions = (create, add, merge, extract)

    def zero(self) -> Any:
        return self._call(self.functions[0])

    def fold(self, lo: int, values: Iterable[Any]) -> Any:
        return self.fold_into(self.zero(), lo, values)

    def fold_into(self, partial: Any, lo: int, values: Iterable[Any]) -> Any:
        add = self.functions[1]
        for value in values:
            partial = self._call(add, partial, value)
        return partial

    def finish_native(self, partial: Any) -> Any:
        extract = self.functions[3]
        return partial if extract is None else self._call(extract, partial)

    def _call(self, function: Callable[..., Any], *given: Any) -> Any:
        try:
            return function(*given)
        except Exception as error:
            raise MergeError(getattr(function, "__qualname__", type(function).__name__), error) from error
