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

**Only what is not begun.** The other thread needs some round trips, and the long task may end meanwhile: then nothing
is given back. First it reads from Redis what is in hand. Then it takes the rest of the batch: this is one iterator, and
each task in it comes to one thread only. If the slate still shows the same task, the worker has begun no other one and
will not begin one of this batch. From then on ``Hand.changed`` is set, under the lock with which a batch ends; so after
its batch the worker reads its hand anew before it begins more, and leaves out what is still on its way to the queue.
"""

from __future__ import annotations

from typing import NamedTuple

from mapreduce_rq.broker.tasks import Tasks
from mapreduce_rq.core.job.chunking import WIDE_TASK_SECONDS
from mapreduce_rq.core.messages import Answer, Reply, Tried
from mapreduce_rq.errors import BadMessage
from mapreduce_rq.runtime.worker.hand import Hand
from mapreduce_rq.runtime.worker.joint_answers import JointAnswer
from mapreduce_rq.runtime.worker.known_jobs import Ready
from mapreduce_rq.runtime.worker.slate import Doing, Slate
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


class Taken(NamedTuple):
    """What the other thread has taken from the worker's own."""

    answers: list[tuple[str, list[Answer], list[Tried]]]  # by job
    done: list[bytes]  # the tasks that they answer
    rest: list[bytes]  # the tasks to give back, oldest first


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

        The worker's own thread sends these answers again; an answer that comes twice is counted once.
        """
        doing = self._slate.read()
        if not doing.busy or doing.begun == self._relieved or doing.seconds < 2 * self._hand.prefetch.expected:
            return  # if all tasks are long, the next one is meant to be in hand
        self._relieved = doing.begun
        if len(self._hand.tasks) <= 1 and not self._hand.asks:
            return  # the hand has no other task
        others = Tasks(self._tasks.wire.another(), self._tasks.keys, self._tasks.codecs)
        try:
            others.wire.connect()
            taken = self._take(doing, others.in_hand(self._wid))
            if taken is None:
                return
            seal = self._tasks.codecs.reply.seal
            replies = [(job, seal(Reply(job, self._wid, row, tried))) for job, row, tried in taken.answers]
            if replies:
                others.settle(self._wid, replies, -1, 0, 0)
            others.drop(self._wid, taken.done)
            others.pass_on(self._wid, taken.rest)
        finally:
            self._hand.leaving = frozenset()
            others.wire.close()

    def _take(self, doing: Doing, held: list[bytes]) -> Taken | None:
        """Take from the worker's own thread all but the task that it is ``doing``. None if it has gone on from there.

        ``held``: the tasks in hand, as Redis has just had them.
        """
        hand = self._hand
        with hand.giving:
            if hand.batch is None or not self._still(doing):
                return None
            unbegun = set(hand.batch)
            if not self._still(doing):
                return None  # the task that was begun meanwhile is not among these; the others are begun a batch later
            current = next((raw for raw in hand.tasks if raw not in unbegun and self._is(raw, doing)), None)
            if current is None:
                return None
            joined = self._joint.give_back()  # computed, and it would take this thread too long to answer them
            not_done = joined.union(self._strangers.here)
            done = [raw for raw in hand.tasks[: hand.tasks.index(current)] if raw not in not_done]
            self._strangers.here = []
            kept = {current, *done}
            rest = [raw for raw in held if raw not in kept]
            hand.leaving, hand.changed = frozenset(rest), True
            answers = [(job, list(row), list(hand.tried.get(job, ()))) for job, row in hand.answers.items() if row]
            return Taken(answers, done, rest)

    def _still(self, doing: Doing) -> bool:
        """Whether the worker is in the same task."""
        now = self._slate.read()
        return now.busy and now.begun == doing.begun

    def _is(self, raw: bytes, doing: Doing) -> bool:
        try:
            task = self._tasks.codecs.task.open(raw)
        except BadMessage:
            return False
        return (task.job, task.lo, task.hi) == (doing.job, doing.lo, doing.hi)
