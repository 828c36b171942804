"""Merges of heavy neighbours: asked of workers as long as there is other work, done here where that is quicker.

A merge that a worker was asked for ends in one of two ways: by its answer, or, whatever happened to it, by merging
here. Until then the tally keeps both partials, so nothing depends on the answer but time.

An answer begins with a digest of the two partials that were merged. Their span does not tell which they were: another
master, or the same one in a history that a failover undid, may have skipped a term whose workers died, and counted it
here. Its merge of the same span is another value.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

from mapreduce_rq.core.computation import Computation
from mapreduce_rq.core.job.tally import Tally
from mapreduce_rq.core.messages import MERGE, OK, Answer, Task
from mapreduce_rq.core.stragglers import Patience

UNMEASURED_SECONDS = 60.0
"""Patience with a merge as long as none has come back: nothing is known then, and the master has nothing else to do."""

TRAVEL_BYTES = 64 << 20
"""Partials from this size on may go to a worker; below, the way there and back takes longer than merging them here.

A pair of 8 MB, of a series, merges here in 25 ms on two cores, and takes 50 ms to be packed, signed, sent, checked and
unpacked both ways. With 4 MB here the digits of e^2 took a twentieth longer (2 x 10^7 to 5 x 10^7 digits, two workers).
"""

DIGEST_BYTES = 16


def compute_merge(computation: Computation[Any], body: bytes) -> bytes:
    """A worker's answer to the body of a merge task: the digest of the body, and the merged partial."""
    reducer = computation.reducer
    size = int.from_bytes(body[:8], "big")
    left, right = body[8 : 8 + size], body[8 + size :]
    return _digest(body) + reducer.encode(reducer.merge(reducer.decode(left), reducer.decode(right)))


def _digest(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=DIGEST_BYTES, person=b"mrq merge").digest()


class Merges:
    """The merges of one job's tally that are out."""

    def __init__(self, job: str, tally: Tally) -> None:
        self.fresh: list[Task] = []  # to be pushed
        self._job = job
        self._tally = tally
        self._out: dict[int, tuple[Task, int]] = {}  # by lo: the task, and where its two meet
        self._held_since: dict[int, float] = {}
        self._patience = Patience(UNMEASURED_SECONDS)

    def __len__(self) -> int:
        return len(self._out)

    def delegate(self, *, more: bool, last: bool) -> None:
        """Have workers do what the tally wishes, also a lone one, or do it here: a master that merges does not listen.

        ``more``: there are terms to wait for. The last merges are quicker done here. ``last``: workers have the last
        of those terms in hand. They may need this core, and nobody can take from a worker that has lost some of it:
        what is not sent waits until they are done.
        """
        waiting = []
        wishes = self._tally.wishes
        while wishes:
            lo, middle, hi = wish = wishes.pop()
            if (more or self._out) and min(self._tally.weight(lo), self._tally.weight(middle)) >= TRAVEL_BYTES:
                task = Task(self._job, lo, hi, 0, MERGE, self._tally.pair(lo, middle))
                self._out[lo] = task, middle
                self.fresh.append(task)
            elif last:
                waiting.append(wish)
            else:
                self._tally.join(lo, middle, hi, None)
        wishes += waiting

    def answered(self, answer: Answer) -> bool:
        """Take in an answer; whether it was one to a merge that is out."""
        task, _ = self._out.get(answer.lo, (None, 0))
        if task is None or task.hi != answer.hi:
            return False
        if answer.status != OK:
            self._end(task, None)
        elif answer.body.startswith(_digest(task.body)):
            self._patience.learn(answer.ns / 1e9, len(task.body))
            self._end(task, answer.body[DIGEST_BYTES:])
        else:
            return False  # to other partials of the same span; the answer to these is still to come
        return True

    def look_after(self, waiting: Iterable[Task], held: Iterable[Task], now: float, *, idle: bool) -> None:
        """Merge here what nobody has any more, and, with nothing else to do (``idle``), what is late in a hand.

        Before that nobody waits for a merge, and a master that merges does not listen.
        """
        in_hands = {task.lo for task in held if task.op == MERGE}
        there = in_hands.union(task.lo for task in waiting if task.op == MERGE)
        there.update(task.lo for task in self.fresh)
        self._held_since = {lo: self._held_since.get(lo, now) for lo in in_hands if lo in self._out}
        for lo, (task, _) in list(self._out.items()):
            since = self._held_since.get(lo, now)
            if lo not in there or (idle and self._patience.is_over(now - since, len(task.body))):
                self._end(task, None)

    def _end(self, task: Task, merged: bytes | None) -> None:
        _, middle = self._out.pop(task.lo)
        try:
            self._tally.join(task.lo, middle, task.hi, merged)
        except ValueError:
            self._tally.malformed += 1
            self._tally.join(task.lo, middle, task.hi, None)
