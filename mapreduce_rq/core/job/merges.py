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
from mapreduce_rq.core.job.whereabouts import Whereabouts
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
        self._out: dict[int, Task] = {}  # by lo
        self._middles: dict[int, int] = {}  # by lo: where its two meet
        self._where = Whereabouts(Patience(UNMEASURED_SECONDS), lambda task: len(task.body))

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
                self._out[lo], self._middles[lo] = task, middle
                self.fresh.append(task)
            elif last:
                waiting.append(wish)
            else:
                self._tally.join(lo, middle, hi, None)
        wishes += waiting

    def answered(self, answer: Answer) -> bool:
        """Take in an answer; whether it was one to a merge that is out."""
        task = self._out.get(answer.lo)
        if task is None or task.hi != answer.hi:
            return False
        if answer.status != OK:
            self._end(task, None)
        elif answer.body.startswith(_digest(task.body)):
            self._where.patience.learn(answer.ns / 1e9, len(task.body))
            self._end(task, answer.body[DIGEST_BYTES:])
        else:
            return False  # to other partials of the same span; the answer to these is still to come
        return True

    def look_after(self, waiting: Iterable[Task], held: Iterable[Task], now: float, *, idle: bool) -> None:
        """Merge here what nobody has any more, and, with nothing else to do (``idle``), what is late in a hand.

        Before that nobody waits for a merge, and a master that merges does not listen.
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
