"""Exceptions of a user's function: as pickles, and as values beside those of other terms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mapreduce_rq.core.bodies import ValueCodec
from mapreduce_rq.core.computation import Interruption
from mapreduce_rq.core.foreign_errors import (
    MESSAGE_CHARACTERS,
    RemoteError,
    kind_of,
    message_of,
    noted,
    shown,
    told,
    traceback_of,
)
from mapreduce_rq.core.messages import Failure
from mapreduce_rq.core.plain_values import Unfit
from mapreduce_rq.core.reducers.base import BadValue, Reducer
from mapreduce_rq.core.reducers.handed import Handed, Raised, Unsent
from mapreduce_rq.core.reducers.sequence import ListReducer
from mapreduce_rq.functions.pickling import Pickles, Unreadable

MAX_ERROR_BYTES = 64 * 1024
"""Bytes of the pickled exception in a failure. Of a larger one the long texts are cut, so that its class arrives all
the same."""
MAX_VALUE_BYTES = 8 << 20
"""The same of an exception that is the value of a term, or of a call: other values may be large, too."""

IN_C = "(a function in C was called, which has no frames to show)"


class Travelling:
    """An exception that becomes a value, with a note that its own pickle may lose."""

    def __init__(self, error: BaseException, text: str, made: Callable[[BaseException, str], Any]) -> None:
        self._made, self._parts = made, (error, text)

    def __reduce__(self) -> Any:
        return self._made, self._parts


def pickled(error: BaseException, pickles: Pickles, most: int = MAX_ERROR_BYTES) -> bytes:
    """The pickle of the exception, or if it has more than ``most`` bytes, of a shorter one of its class.

    b"" where neither can be made again from its pickle, or both are too large.
    """
    try:
        found = _remade(error, pickles)
        if len(found) > most:
            found = _remade(_shortened(error), pickles)
    except Interruption:
        raise
    except BaseException:  # of the user's class: what it does there says nothing more of the failure
        return b""
    return found if len(found) <= most else b""


def _remade(error: BaseException, pickles: Pickles) -> bytes:
    """Its pickle. b"" for one of another class when it is read, as many classes have it."""
    found = pickles.dumps(error)
    return found if type(pickles.loads(found)) is type(error) else b""


def _shortened(error: BaseException) -> BaseException:
    """A new exception of this class, whose long texts are cut."""
    parts: Any = error.__reduce_ex__(4)
    make, arguments, *state = parts
    found = make(*map(_cut, arguments))
    if state and type(state[0]) is dict:
        found.__dict__.update({name: _cut(value) for name, value in state[0].items()})
    assert isinstance(found, BaseException)
    return found


def _cut(value: Any) -> Any:
    if type(value) not in {str, bytes} or len(value) <= MESSAGE_CHARACTERS:
        return value
    cut = (
        f"... ({len(value)} {'characters' if type(value) is str else 'bytes'}, and here the first {MESSAGE_CHARACTERS})"
    )
    return value[:MESSAGE_CHARACTERS] + (cut if type(value) is str else cut.encode())


def in_its_place(error: BaseException, pickles: Pickles | None) -> BaseException:
    """What travels as a value in the place of an exception: this one, a shorter one, or one that names it.

    ``pickles``: None where pickles are not trusted.
    """
    found = pickled(error, pickles, MAX_VALUE_BYTES) if pickles is not None else b""
    if not found or pickles is None:
        return RemoteError(kind_of(error), message_of(error))
    made: BaseException = pickles.loads(found)
    return made


def unpickled(failure: Failure, pickles: Pickles) -> BaseException | None:
    """The exception that a failure carries; None where there is none, or its class cannot be found here."""
    if not failure.pickled:
        return None
    try:
        found = pickles.loads(failure.pickled)
    except Unreadable:
        return None
    return noted(found, failure.traceback, failure.where) if isinstance(found, BaseException) else None


def guarded(function: Callable[..., Any], reducer: Reducer[Any], pickles: Pickles | None) -> Callable[..., Any]:
    """The function, with an exception that it raises as its value. ``pickles``: see :func:`in_its_place`."""
    travels = isinstance(reducer, ListReducer)
    made = _as_raised if isinstance(reducer, Handed) else _as_value

    def call(item: Any) -> Any:
        try:
            return function(item)
        except Exception as error:
            found = in_its_place(error, pickles)
            text = traceback_of(error) or f"{IN_C}\n{told(error)}"
            return Travelling(found, text, made) if travels else noted(found, text, "")

    return call


def replace_unsent(values: list[Any], error: BadValue, at: int, codec: ValueCodec, pickles: Pickles | None) -> None:
    """Put exceptions in the places of the values that cannot travel. The first of them is at ``at``: ``error``."""
    while at < len(values):
        try:
            codec.encode(values[at:])
        except Unfit as unfit:
            at += unfit.index
            why = unfit.__cause__ or error
            values[at] = Travelling(in_its_place(why, pickles), shown(values[at]), Unsent)
            at += 1
        else:
            return


def _as_value(error: BaseException, traceback: str) -> BaseException:
    return noted(error, traceback, "")


def _as_raised(error: BaseException, traceback: str) -> Raised:
    return Raised(noted(error, traceback, ""))
