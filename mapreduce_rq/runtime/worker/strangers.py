"""Tasks that are signed with another key than this worker's: they are left to workers that may have that key."""

from __future__ import annotations

from collections import OrderedDict

from mapreduce_rq.broker.tasks import Tasks

STRANGER_TRIES = 10
"""A task signed with another key is left to other workers this number of times; then it is dropped."""
STRANGERS_KNOWN = 1000


class Strangers:
    """The tasks with another key that one worker meets."""

    def __init__(self, tasks: Tasks) -> None:
        self.here: list[bytes] = []  # in the batch being computed
        self._tasks = tasks
        self._in_vain = 0  # such tasks since the last task that could be done
        self._left: OrderedDict[int, int] = OrderedDict()  # how often each of them was left to others

    def count(self, *, alone: bool) -> list[bytes]:
        """The tasks of the batch to leave to others; ``alone``: the batch had no other tasks."""
        self._in_vain = self._in_vain + len(self.here) if alone else 0
        back = []
        for raw in self.here:
            seen = self._left[hash(raw)] = self._left.pop(hash(raw), 0) + 1
            if seen <= STRANGER_TRIES:
                back.append(raw)
        self.here = []
        while len(self._left) > STRANGERS_KNOWN:
            self._left.popitem(last=False)
        return back

    def put_back(self, back: list[bytes]) -> bool:
        """Put tasks at the end of the queue. Returns whether the whole queue has passed without a task for us."""
        if not back or self._tasks.put_back(back) > self._in_vain:
            return False
        self._in_vain = 0
        return True
