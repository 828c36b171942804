"""A reducer's options as a caller gives them, and as they travel. Numbers of numpy, fractions and arrays are taken.

The edges of a histogram come from ``numpy.linspace``, and its ends from ``min()`` of an array. In a job's parameters
they are Python's own numbers and lists.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any

import msgspec

from mapreduce_rq.core.given import COUNT, MOST, NUMBER, Wanted, plain, shown
from mapreduce_rq.core.reducers.catalogue import REDUCERS
from mapreduce_rq.errors import BadParameter

_REALS = ("low", "high", "confidence")
_LISTS = ("edges", "q")
_COUNTS = ("bins", "k")


def travelling(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of the reducer with this name, as they travel; None: it is left out. Raises BadParameter."""
    found: dict[str, Any] = {}
    for option, given in options.items():
        if given is None:
            continue
        value = plain(given)
        if name in REDUCERS:
            value = _of_its_kind(name, option, value)
        try:
            msgspec.msgpack.encode(value)
        except (TypeError, ValueError, OverflowError, RecursionError):
            _refuse(name, option, given, given, _PLAIN)
        found[option] = value
    return found


def _refuse(name: str, option: str, value: Any, given: Any, kind: Wanted) -> None:
    """Raises BadParameter, which tells what was given for the option, unless the value is of this kind."""
    if not kind.fits(value):
        raise BadParameter(f"the reducer {name}: {option} is {shown(given)}, and must be {kind.words}")


def _of_its_kind(name: str, option: str, value: Any) -> Any:
    if option in _COUNTS:
        _refuse(name, option, value, value, COUNT)
    if option in _REALS or (option == "q" and not _SOME.fits(value)):
        return _real(name, option, value)
    if option in _LISTS:
        _refuse(name, option, value, value, _SOME)
        return [_real(name, option, plain(one)) for one in value]
    return value


def _iterates(value: Any) -> bool:
    return hasattr(type(value), "__iter__") and not isinstance(value, (str, bytes))


_SOME = Wanted("a list of numbers", _iterates)
_PLAIN = Wanted("plain data: numbers, texts, and lists of these", lambda _: False)


def _real(name: str, option: str, value: Any) -> int | float:
    """The number; a double in the place of one that a message does not carry. Infinities are refused at their use."""
    found = value
    if isinstance(value, (Fraction, Decimal)) or (isinstance(value, int) and not -MOST <= value <= MOST):
        try:
            found = float(value)
        except (OverflowError, ValueError):  # beyond the doubles; a nan that signals
            found = None
    _refuse(name, option, found, value, NUMBER)
    return found  # type: ignore[no-any-return]  # it is a number
