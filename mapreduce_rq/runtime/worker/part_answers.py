"""Part answers: a task that turns out to be long is answered in part, and the rest is left to other workers.

The master cuts tasks by the time that terms have taken so far. If the next terms take a thousand times longer, one
worker has a task of minutes in hand while all others are idle. The master cannot cut a task that is in a worker's hand,
but the worker can end it early:

1. The supervisor sees on the slate that a task takes long, and tells the worker (``told_to_shorten``, in a thread of
   the worker's process).
2. ``map`` ends after the term in hand. Its partial is that of the terms below ``Computation.reached``, and the answer
   has this smaller span.
3. The ledger counts that span, as it counts any other, and makes new tasks of the rest, for all workers. They are small
   at first, from one term on, and double in size, since it cannot know how many of the next terms are slow.

This is safe without any agreement between worker and master: a term is counted only once, whatever spans answers have.
While one term takes long, its task cannot end. So the answers that are done are sent by the other thread, and it gives
the other tasks in the hand back to the queue.
"""

from __future__ import annotations

import contextlib

from mapreduce_rq.broker.tasks import Tasks
from mapreduce_rq.core.job.chunking import WIDE_TASK_SECONDS
from mapreduce_rq.core.messages import Reply
from mapreduce_rq.errors import BadMessage
from mapreduce_rq.runtime.worker.hand import Hand
from mapreduce_rq.runtime.worker.joint_answers import JointAnswer
from mapreduce_rq.runtime.worker.known_jobs import Ready
from mapreduce_rq.runtime.worker.slate import Slate
from mapreduce_rq.runtime.worker.strangers import Strangers


def cut_short(ready: Ready, slate: Slate) -> bool:
    """Have the task in hand end after its term. Returns False if it is too early; the supervisor will ask again.

    This is not done if the user fixed the size of tasks.
    """
    if ready.spec.limits.chunk is None:
        if ready.computation.reducer.wide and slate.read().seconds < 2 * WIDE_TASK_SECONDS:
            return False  # the supervisor does not know the reducer
        ready.computation.cut_short()
    return True


class Relief:
    """Frees one worker's hand while one of its tasks is long."""

    def __init__(  # noqa: PLR0917  what a worker has
        self, wid: str, tasks: Tasks, slate: Slate, hand: Hand, strangers: Strangers, joint: JointAnswer
    ) -> None:
        self._wid = wid
        self._tasks = tasks
        self._slate = slate
        self._hand = hand
        self._strangers = strangers
        self._joint = joint
        self._relieved = 0  # the slate's number of the last task whose neighbours were answered and given back

    def relieve(self) -> None:
        """Send the answers that are done, and give other tasks back, over another wire.

        The worker's own thread may be at any place by now, and will do all of this again. It then finds its hand
        changed and reads it anew; an answer that comes twice is counted once.
        """
        doing, hand, answers = self._slate.read(), self._hand.tasks, self._hand.answers
        if not doing.busy or doing.begun == self._relieved or doing.seconds < 2 * self._hand.prefetch.expected:
            return  # if all tasks are long, the next one is meant to be in hand
        self._relieved = doing.begun
        if len(hand) <= 1 and not self._hand.asks:
            return  # the hand has no other task
        done: list[bytes] = []
        for raw in hand:
            with contextlib.suppress(BadMessage):
                task = self._tasks.codecs.task.open(raw)
                if (task.job, task.lo, task.hi) == (doing.job, doing.lo, doing.hi):
                    break
                if raw not in self._strangers.here:
                    done.append(raw)
        else:
            return  # the worker has gone on to another task
        joined = self._joint.give_back()  # computed, and it would take this thread too long to answer them
        done = [held for held in done if held not in joined]
        seal = self._tasks.codecs.reply.seal
        tried = self._hand.tried
        replies = [
            (job, seal(Reply(job, self._wid, list(row), list(tried.get(job, ())))))
            for job, row in list(answers.items())
            if row
        ]
        others = Tasks(self._tasks.wire.another(), self._tasks.keys, self._tasks.codecs)
        try:
            others.wire.connect()
            if replies:
                others.settle(self._wid, replies, -1, 0, 0)
            others.drop(self._wid, done)
            others.pass_on(self._wid, [held for held in others.in_hand(self._wid) if held != raw])
        finally:
            others.wire.close()
