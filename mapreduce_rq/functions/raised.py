"""Exceptions of a user's function: as pickles, and as values beside those of other terms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mapreduce_rq.core.bodies import ValueCodec
from mapreduce_rq.core.computation import Interruption
from mapreduce_rq.core.foreign_errors import RemoteError, kind_of, message_of, noted, shown, traceback_of
from mapreduce_rq.core.messages import Failure
from mapreduce_rq.core.plain_values import Unfit
from mapreduce_rq.core.reducers.base import BadValue, Reducer
from mapreduce_rq.core.reducers.handed import Handed, Raised, Unsent
from mapreduce_rq.core.reducers.sequence import ListReducer
from mapreduce_rq.functions.pickling import Pickles, Unreadable

MAX_ERROR_BYTES = 64 * 1024
"""Bytes of a pickled exception. A larger one is not sent: its class and message are."""


class Travelling:
    """An exception that becomes a value, with a note that its own pickle may lose."""

    def __init__(self, error: BaseException, text: str, made: Callable[[BaseException, str], Any]) -> None:
        self._made, self._parts = made, (error, text)

    def __reduce__(self) -> Any:
        return self._made, self._parts


def pickled(error: BaseException, pickles: Pickles) -> bytes:
    """The exception's pickle; b"" for one that is too large, or cannot be made again from its pickle."""
    try:
        found = pickles.dumps(error)
        same = type(pickles.loads(found)) is type(error)  # many classes cannot be made again from a pickle
    except Interruption:
        raise
    except BaseException:
        return b""
    return found if same and len(found) <= MAX_ERROR_BYTES else b""


def unpickled(failure: Failure, pickles: Pickles) -> BaseException | None:
    """The exception that a failure carries; None where there is none, or its class cannot be found here."""
    if not failure.pickled:
        return None
    try:
        found = pickles.loads(failure.pickled)
    except Unreadable:
        return None
    return noted(found, failure.traceback, failure.where) if isinstance(found, BaseException) else None


def guarded(
    function: Callable[..., Any], reducer: Reducer[Any], travels_as: Callable[[BaseException], bytes]
) -> Callable[..., Any]:
    """The function, with an exception that it raises as its value. ``travels_as``: see :func:`pickled`."""
    travels = isinstance(reducer, ListReducer)
    made = _as_raised if isinstance(reducer, Handed) else _as_value

    def call(item: Any) -> Any:
        try:
            return function(item)
        except Exception as error:
            found = error if travels_as(error) else RemoteError(kind_of(error), message_of(error))
            text = traceback_of(error)
            return Travelling(found, text, made) if travels else noted(found, text, "")

    return call


def replace_unsent(
    values: list[Any], error: BadValue, at: int, codec: ValueCodec, travels_as: Callable[[BaseException], bytes]
) -> None:
    """Put exceptions in the places of the values that cannot travel. The first of them is at ``at``: ``error``."""
    while at < len(values):
        try:
            codec.encode(values[at:])
        except Unfit as unfit:
            at += unfit.index
            why = unfit.__cause__ or error
            found = why if travels_as(why) else RemoteError(kind_of(why), message_of(why))
            values[at] = Travelling(found, shown(values[at]), Unsent)
            at += 1
        else:
            return


def _as_value(error: BaseException, traceback: str) -> BaseException:
    return noted(error, traceback, "")


def _as_raised(error: BaseException, traceback: str) -> Raised:
    return Raised(noted(error, traceback, ""))
