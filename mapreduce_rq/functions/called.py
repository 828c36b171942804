"""What is called for a term: the user's function, found on this host, with all that goes around it.

From the inside out: the function, by name or from its pickle; one that is async is run to its end; arguments that each
call has, from the setup, shared, or given with the job; the item taken apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from mapreduce_rq.core.given import a_kind
from mapreduce_rq.core.plain_values import unpack_all
from mapreduce_rq.errors import BadFunction
from mapreduce_rq.functions.calls import Caller, call
from mapreduce_rq.functions.coroutines import is_async, run_to_end
from mapreduce_rq.functions.folding import codes_of, defined
from mapreduce_rq.functions.kernel import KERNEL
from mapreduce_rq.functions.params import FunctionParams
from mapreduce_rq.functions.pickling import Pickles
from mapreduce_rq.functions.trust import Trust, find_as


def called(
    params: FunctionParams, leading: Sequence[Any], label: str, pickles: Pickles, trust: Trust
) -> Callable[..., Any]:
    """What is called with each item. ``leading``: arguments that come before all others.

    Raises BadFunction for what is no function here, or is not the same kind of function as where it was submitted.
    """
    function = (
        defined(params.pickle, params.around, pickles, label)
        if params.pickle
        else find_as(params.function, codes_of(params.function, params.code, params.around))
    )
    if not callable(function):
        raise BadFunction(f"{label} is {a_kind(function)} on this worker, not a function: deploy the same version")
    if getattr(function.func if type(function) is partial else function, KERNEL, "") != params.kernel:
        raise BadFunction(f"{label} is a kernel of spans on one side only: deploy the same version")
    if function is call:
        function = Caller(trust)
    if is_async(function):
        function = run_to_end(function)
    if leading or params.given:
        before, named = unpack_all(1, params.given)[0] if params.given else ((), {})
        function = partial(function, *leading, *before, **named)
    whole: Callable[..., Any] = _starred(function) if params.star else function
    return whole


def _starred(function: Callable[..., Any]) -> Callable[[Any], Any]:
    return lambda item: function(*item)
