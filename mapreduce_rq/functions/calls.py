"""Calls of any function as items: what an executor's ``submit`` sends, and a pool's ``apply`` and ``map``.

A function that has a name travels by its name, with the hashes of its source, as a job's function does; a worker checks
each of these names as it checks a job's. Where pickles are trusted, a function without a name is in the item itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from types import CoroutineType
from typing import Any
from weakref import WeakKeyDictionary

from mapreduce_rq.functions.coroutines import is_async, run_to_end, to_end
from mapreduce_rq.functions.sources import check_ours, code_of, codes_around
from mapreduce_rq.functions.trust import Trust, find_as, name_of

ONE, EACH, ROWS = 0, 1, 2
"""One call; one call for each item; one call for each row of arguments."""

CALL = f"{__name__}:call"

Reference = tuple[str, str, dict[str, str]]
"""A function's name, a hash of all hashes, and the hashes of its module and of those that it imports."""
Call = tuple[Any, int, Sequence[Any], Mapping[str, Any]]
"""A function or its reference, which of the three, its arguments (or items, or rows), and its named arguments."""


def call(item: Call) -> Any:
    """The function's value, or the list of its values. A worker uses a Caller instead, which knows what it trusts."""
    return Caller(Trust())(item)


class Caller:
    """Makes calls. ``trust``: which functions may be named."""

    def __init__(self, trust: Trust) -> None:
        self._trust = trust
        self._known: dict[tuple[str, str], Callable[..., Any]] = {}

    def __call__(self, item: Any) -> Any:
        function, how, arguments, named = item
        if type(function) is tuple:
            function = self._known.get(function[:2]) or self._find(*function)
        if how == ONE:
            value = function(*arguments, **named)
            return to_end(value) if type(value) is CoroutineType else value
        if is_async(function):
            function = run_to_end(function)
        # No list(map(...)): where a call lets a StopIteration out, that ends early, and loses values without a word.
        return [function(item) for item in arguments] if how == EACH else [function(*row) for row in arguments]

    def _find(self, name: str, code: str, codes: dict[str, str]) -> Any:
        self._trust.check_name(name)
        function = self._known[name, code] = find_as(name, codes)
        return function


class References:
    """The references of functions, each made once."""

    def __init__(self) -> None:
        self._known: WeakKeyDictionary[Any, Reference | None] = WeakKeyDictionary()

    def of(self, function: Callable[..., Any]) -> Reference | None:
        """The function's reference; None if it has no name. Raises BadFunction if its source changed after import."""
        try:
            if function in self._known:
                return self._known[function]
        except TypeError:  # an instance of a class that cannot be hashed or weakly referenced
            return None
        name = name_of(function)
        reference = None if name is None else reference_of(name)
        try:
            self._known[function] = reference
        except TypeError:
            pass
        return reference


def reference_of(name: str) -> Reference:
    """The reference of the function with this name. Raises BadFunction."""
    module = name.partition(":")[0]
    around = codes_around(module)
    code = code_of(module)
    codes = {module: code, **around} if code else {}
    check_ours(name, codes)
    return name, blake2b(repr(codes).encode(), digest_size=8).hexdigest() if codes else "", codes
