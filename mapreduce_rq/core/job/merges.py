"""Merges of heavy neighbours: workers are asked for them while there is other work; otherwise the master does them.

A merge that a worker was asked for ends in one of two ways: by the worker's answer, or by a merge in the master. Until
then the tally keeps both partials, so without an answer the job only takes longer.

An answer begins with a digest of the two partials that were merged, because their span does not tell which they were.
Another master, or this one before a failover undid its last steps, may have skipped a term of the span which is counted
here. Then its merge of the same span is another value.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

from mapreduce_rq.core.computation import Computation
from mapreduce_rq.core.job.tally import Tally
from mapreduce_rq.core.job.whereabouts import Errands
from mapreduce_rq.core.messages import MERGE, OK, Answer, Task

TRAVEL_BYTES = 64 << 20
"""A partial of at least this number of bytes may be merged by a worker. For smaller ones, sending takes longer than the
merge.

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


class Merges(Errands):
    """The merges of one job's tally that workers were asked to do."""

    def __init__(self, job: str, tally: Tally) -> None:
        super().__init__(job)
        self._tally = tally
        self._middles: dict[int, int] = {}  # by first term: the term at which the two partials meet

    def delegate(self, *, more: bool, last: bool) -> None:
        """Send the merges that the tally wishes for to workers, even if there is only one worker, or do them here.

        ``more``: there are terms to wait for. A master that merges does not listen meanwhile, so it sends them. Without
        ``more`` the last merges are done here, which is quicker. ``last``: workers have the last of the terms in hand.
        They may need this core, and a worker that is slowed down has no tasks left to give to others. So merges that
        are not sent wait until the workers are done.
        """
        waiting = []
        wishes = self._tally.wishes
        while wishes:
            lo, middle, hi = wish = wishes.pop()
            if (more or self._out) and min(self._tally.weight(lo), self._tally.weight(middle)) >= TRAVEL_BYTES:
                task = Task(self._job, lo, hi, 0, MERGE, self._tally.pair(lo, middle))
                self._out[lo], self._middles[lo] = task, middle
                self.fresh.append(task)
            elif last:
                waiting.append(wish)
            else:
                self._tally.join(lo, middle, hi, None)
        wishes += waiting

    def answered(self, answer: Answer) -> bool:
        """Take in an answer. Returns whether it was to a merge that is out."""
        task = self._out.get(answer.lo)
        if task is None or task.hi != answer.hi:
            return False
        if answer.status != OK:
            self._end(task, None)
        elif answer.body.startswith(_digest(task.body)):
            self._where.patience.learn(answer.ns / 1e9, len(task.body))
            self._end(task, answer.body[DIGEST_BYTES:])
        else:
            return False  # it is a merge of other partials of the same span; the answer to ours is still to come
        return True

    def look_after(self, waiting: Iterable[Task], held: Iterable[Task], now: float, *, idle: bool) -> None:
        """Merge here the pairs whose task is lost and, if the master is ``idle``, those that are late in a hand.

        While the master has other work, a merge that is late holds up nothing, and a master that merges does not
        listen.
        """
        mine = [task for task in waiting if task.op == MERGE]
        self._where.look(self._out, mine + self.fresh, (task for task in held if task.op == MERGE), now)
        late = set(self._where.late(self._out, now)) if idle else set()
        for lo in sorted(self._where.absent | late):
            self._end(self._out[lo], None)

    def _end(self, task: Task, merged: bytes | None) -> None:
        del self._out[task.lo]
        middle = self._middles.pop(task.lo)
        self._where.forget(task.lo)
        try:
            self._tally.join(task.lo, middle, task.hi, merged)
        except ValueError:
            self._tally.malformed += 1
            self._tally.join(task.lo, middle, task.hi, None)
