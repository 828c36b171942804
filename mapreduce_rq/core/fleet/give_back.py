"""What goes back to the queue from a dead worker's hands, and which of it is to blame."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from mapreduce_rq.core.messages import Codecs, Task
from mapreduce_rq.errors import BadMessage


def given_back(
    codecs: Codecs, held: Sequence[bytes], in_hand: tuple[str, int, int] | None, why: str, *, guess: bool
) -> list[tuple[bytes, bytes]]:
    """Pairs (task as held, task as it goes back), newest first, so that the oldest ends up to be taken next.

    ``held`` is newest first, as Redis keeps it. Only the task ``in_hand`` (job, lo, hi) is blamed, with one more
    attempt and the reason ``why``; where nobody saw what was in hand and ``guess`` is set, the oldest is. The spec
    that a job's first tasks carry stays behind: who takes them next is to ask whether the job still runs. What cannot
    be read goes back as it is.
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
