"""Makes the answers to tasks that failed, and to tasks whose workers died too often."""

from __future__ import annotations

from typing import Any

import msgspec

from mapreduce_rq.core.computation import Computation, TermError
from mapreduce_rq.core.foreign_errors import is_our_fault, kind_of, message_of
from mapreduce_rq.core.job.failures import failure_of
from mapreduce_rq.core.messages import (
    DIED,
    ERROR,
    LOST,
    OURS,
    REFUSED,
    WORKER_DIED,
    WORKER_LOST,
    Answer,
    Failure,
    Task,
    encode_failure,
)
from mapreduce_rq.core.reducers.base import BadValue


def refused(task: Task, why: Failure) -> Answer:
    """The answer of a worker that cannot work for the task's job."""
    return Answer(task.lo, task.hi, task.attempt, task.op, REFUSED, encode_failure(why), 0)


def given_up(task: Task) -> Answer:
    """The answer to a task whose attempts are used up: workers died with it in hand."""
    lo, hi = task.lo, task.hi
    kind = WORKER_LOST if task.why == LOST else WORKER_DIED
    failure = Failure(lo if hi - lo == 1 else None, kind, task.why or "its worker died", "", "")
    return Answer(lo, hi, task.attempt, task.op, DIED, encode_failure(failure), 0)


def failed(task: Task, computation: Computation[Any] | None, error: BaseException, where: str) -> Answer:
    """The answer to a task that raised an error; ``where``: the worker, for people."""
    ours = issubclass(type(error), TermError)  # by its type, because its attributes may be a user's code
    term = error.term if ours else None  # type: ignore[attr-defined]  # so a TermError has it
    if issubclass(type(error), BadValue):
        term = error.term  # type: ignore[attr-defined]  # so a BadValue has it: values that wait are folded when they are sent
    if term is None and task.hi - task.lo == 1:
        term = task.lo
    if ours and error.__cause__ is None:  # the computation's own message about a term is complete
        failure = Failure(term, kind_of(error), message_of(error), "", where)
    else:
        cause = error.__cause__ if ours else error
        assert cause is not None
        failure = failure_of(cause, where, term, computation)
        if cause is error and is_our_fault(error):
            message = f"{failure.message}: a mistake in mapreduce_rq itself, please report it"
            failure = msgspec.structs.replace(failure, message=message, term=OURS)
        if ours and (place := error.place):  # type: ignore[attr-defined]  # as above
            failure = msgspec.structs.replace(failure, message=f"{failure.message} (in {place})")
        if ours and (tries := error.tries) > 1:  # type: ignore[attr-defined]  # as above
            failure = msgspec.structs.replace(failure, message=f"{failure.message} (tried {tries} times)")
    return Answer(task.lo, task.hi, task.attempt, task.op, ERROR, encode_failure(failure), 0)
