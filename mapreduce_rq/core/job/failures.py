"""The message about an exception that fails a term or a job: what happened, whose fault it is, and what to do."""

from __future__ import annotations

from typing import Any, cast

from mapreduce_rq.core.computation import Computation
from mapreduce_rq.core.foreign_errors import kind_of, message_of, traceback_of
from mapreduce_rq.core.messages import Failure
from mapreduce_rq.core.reducers.base import BadValue, MergeError


def failure_of(
    error: BaseException, where: str, term: int | None = None, computation: Computation[Any] | None = None
) -> Failure:
    """The failure that an exception causes. The exception may be of any class, and run any code when it is shown.

    ``computation``: the job's, if it is known. Its reducer may have refused a value. It also encodes the exception that
    the job's caller gets; for a user's own fold that is the exception that the fold has raised.
    """
    if issubclass(type(error), MergeError) and computation is not None:  # isinstance would read ``__class__``
        refused = cast("MergeError", error)
        type(refused).renumber(refused, computation.place)  # a drawn term has another number
    message, raised = message_of(error), error
    if type(error) is BadValue:
        message += f": have the function return such values{_or_another(computation)}"
    elif type(error) is MergeError and error.__cause__ is not None:
        message += ": it is called with its zero, with values of the terms and with what it has returned"
        raised = error.__cause__
    pickled = computation.pickled_error(raised) if computation is not None else b""
    return Failure(term, kind_of(error), message, traceback_of(raised), where, pickled)


def _or_another(computation: Computation[Any] | None) -> str:
    if computation is None or computation.reducer.keeps or computation.reducer.brisk:
        return ""  # a list, or values that are handed on to the caller: they are all taken, and no reducer was chosen
    return f", or fold them with another reducer than {computation.reducer.name}: list takes any value"
