"""Handles tasks and checkpoints that are too large for Redis, and makes the messages about them."""

from __future__ import annotations

from collections.abc import Sequence

from mapreduce_rq.broker.wire import SPARE_BYTES, raise_limit
from mapreduce_rq.core.foreign_errors import MASTER
from mapreduce_rq.core.job.failures import failure_of
from mapreduce_rq.core.messages import ERROR, Answer, Task, encode_failure
from mapreduce_rq.errors import TooLarge


def in_parts(tasks: Sequence[Task], error: TooLarge) -> tuple[list[Task], list[Answer]]:
    """The tasks that Redis accepts, and answers to the others, which say that they failed. No task is sent yet.

    The ledger then halves a task of several terms, fails the term of a single item, and has the master do merges and
    requests. Raises the error if none of the tasks is too large.
    """
    large = [task for task in tasks if len(task.body) > error.limit - SPARE_BYTES]
    if not large:
        raise error
    answers = []
    for task in large:
        alone = task.lo if task.hi - task.lo == 1 else None
        failure = failure_of(large_item(task, error), MASTER, alone)
        answers.append(Answer(task.lo, task.hi, task.attempt, task.op, ERROR, encode_failure(failure), 0))
    return [task for task in tasks if task not in large], answers


def large_item(task: Task, error: TooLarge) -> TooLarge:
    """The error for an item that Redis does not accept."""
    remedy = f"cut it up, or pass where workers can read it, or {raise_limit(error.limit)}"
    return TooLarge(f"item {task.lo}", len(task.body), error.limit, remedy)


def large_fold(error: TooLarge) -> TooLarge:
    """The error for a job whose fold Redis does not accept."""
    remedy = f"fold to less, or {raise_limit(error.limit)}"
    return TooLarge("what is counted by now", error.size, error.limit, remedy)
