"""Plans that are kept for the next call: most programs call a few functions, again and again.

A plan is kept without its range. It is used again only where making it anew would give the same: the name still leads
to the same object, no module was imported meanwhile, those that the function needs are of the same sources, and the
function declares the same of itself. A function without a name travels as a pickle, and what that holds may change in
many ways, so its plan is made anew each time.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from types import BuiltinFunctionType, FunctionType
from typing import Any, NamedTuple

from mapreduce_rq.core.messages import Limits, Spec
from mapreduce_rq.functions.computation import FunctionComputation
from mapreduce_rq.functions.shipping import said
from mapreduce_rq.functions.sources import are_the_same

MOST_KEPT = 32
_KINDS = frozenset({FunctionType, BuiltinFunctionType, type, str})
"""Kinds of functions whose equality is identity, and names."""


class KeptPlan(NamedTuple):
    """What the last call with a function was planned as."""

    function: Callable[..., Any] | str
    limits: Limits | None  # as they were given
    found: Any  # to which the name leads
    said: dict[str, Any]
    codes: dict[str, str]  # the hashes of its module and of those around it
    spec: Spec
    computation: FunctionComputation

    def holds(self) -> bool:
        """Whether making it anew would give the same."""
        module, _, path = self.spec.params["function"].partition(":")
        found = sys.modules.get(module)
        for part in path.split("."):
            found = getattr(found, part, None)
        return found is self.found and said(found) == self.said and are_the_same(self.codes)

    def over(self, span: Mapping[str, int]) -> tuple[dict[str, Any], FunctionComputation]:
        """The parameters and the computation of the same call over another range."""
        params = {**self.spec.params, **span}
        for name, default in (("start", 0), ("step", 1)):  # which a spec leaves out
            if params[name] == default:
                del params[name]
        return params, self.computation.over(span)


class KeptPlans:
    """The last plans of one client, by function, reducer, limits and chunk size."""

    def __init__(self) -> None:
        self._plans: dict[tuple[int, str, int, int | None], KeptPlan] = {}

    def find(
        self, function: Callable[..., Any] | str, reduce: Any, limits: Limits | None, chunksize: int | None
    ) -> KeptPlan | None:
        """The plan of an earlier call with these very objects, if it still holds."""
        if chunksize.__class__ not in {int, type(None)}:
            return None  # which is refused, and perhaps cannot be looked up
        kept = self._plans.get((id(function), reduce, id(limits), chunksize))
        if kept is None:
            return None
        return kept if kept.function is function and kept.limits is limits and kept.holds() else None

    def keep(  # noqa: PLR0917  what it is found by, and what is kept
        self,
        function: Callable[..., Any] | str,
        reduce: Any,
        limits: Limits | None,
        chunksize: int | None,
        spec: Spec,
        computation: FunctionComputation,
    ) -> None:
        """Keep the plan of a call over a range, if it can be kept."""
        name = spec.params.get("function")
        if name is None or function.__class__ not in _KINDS or spec.limits.tolerant:  # these may draw from the range
            return
        found: Any = sys.modules.get(name.partition(":")[0])
        for part in name.partition(":")[2].split("."):
            found = getattr(found, part, None)
        codes = {name.partition(":")[0]: spec.params["code"], **spec.params.get("around", {})}
        if len(self._plans) >= MOST_KEPT:
            self._plans.clear()
        self._plans[id(function), reduce, id(limits), chunksize] = KeptPlan(
            function, limits, found, said(found), codes, spec, computation
        )
