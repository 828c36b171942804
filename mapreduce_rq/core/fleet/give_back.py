"""Decides what goes back to the queue from a dead worker's hand, and which task is blamed for the death.

A worker has several tasks in its hand and computes one of them. If it dies, all go back to the queue, but only one of
them can have killed it. That task gets one more attempt, and when it has had as many as the job allows, its span is cut
or the job fails. The others were only held: if they were blamed, a job could fail for terms that have no fault.

The supervisor knows best which task it was: it reads that from the memory that it shares with its worker. If the
supervisor is gone, too, a master reads it from the worker's last beat. If neither says it, the oldest task is blamed,
because a worker computes its tasks in the order in which it took them. So a task that kills its workers is always found
in the end. When a worker stops as planned, no task is blamed.

All tasks go back to the end of the queue from which they were taken, and the oldest will be the next to be taken. So
the order of the queue stays as it was.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from mapreduce_rq.core.messages import Task
from mapreduce_rq.core.sealing import Codecs
from mapreduce_rq.errors import BadMessage


def given_back(
    codecs: Codecs, held: Sequence[bytes], in_hand: tuple[str, int, int] | None, why: str, *, guess: bool
) -> list[tuple[bytes, bytes]]:
    """Pairs (task as held, task as it goes back), newest first, so that the oldest is taken next.

    ``held`` is newest first, as Redis keeps it. Only the task ``in_hand`` (job, lo, hi) is blamed: it gets one more
    attempt and the reason ``why``. If ``in_hand`` is none of the tasks and ``guess`` is set, the oldest is blamed. The
    spec that a job's first tasks carry is removed. So the worker that takes such a task next has to read the job's spec
    from Redis, and learns whether the job still runs. Bytes that are not a task go back as they are.
    """
    opened: list[Task | None] = []
    for raw in held:
        try:
            opened.append(codecs.task.open(raw))
        except BadMessage:
            opened.append(None)
    blamed = next((task for task in opened if task and (task.job, task.lo, task.hi) == in_hand), None)
    if blamed is None and guess:
        blamed = next((task for task in reversed(opened) if task), None)
    moves = []
    for raw, task in zip(held, opened, strict=True):
        if task is not None and task is blamed:
            moves.append((raw, codecs.task.seal(replace(task, attempt=task.attempt + 1, why=why, spec=b""))))
        elif task is not None and task.spec:
            moves.append((raw, codecs.task.seal(replace(task, spec=b""))))
        else:
            moves.append((raw, raw))
    return moves
