"""Requests of a long ``finish``: they are sent to workers, and the master computes those to which no answer comes.

A request is known by a hash of its body. So an answer is right also if an earlier master asked for it. Without answers
the job only takes longer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

from mapreduce_rq.core.computation import Ask, Computation, More, Outcome
from mapreduce_rq.core.job.whereabouts import Errands
from mapreduce_rq.core.messages import OK, REQUEST, Answer, Task


class Requests(Errands):
    """The requests of the ``finish`` of one job."""

    def __init__(self, job: str, computation: Computation[Any]) -> None:
        super().__init__(job)
        self.malformed = 0  # answers that the computation could not use
        self._computation = computation
        self._asked: Ask | None = None
        self._tasks: list[Task] = []  # one for each of its bodies
        self._given: dict[int, bytes] = {}  # answers, by lo

    @property
    def asked(self) -> bool:
        """Whether ``finish`` has made requests, and has not got the answers yet."""
        return self._asked is not None

    def ask(self, ask: Ask) -> None:
        """Make tasks for these requests."""
        self._asked = ask
        self._tasks = [task_of(self._job, body) for body in ask.bodies]
        self._out = {task.lo: task for task in self._tasks if task.lo not in self._given}
        self.fresh = list(self._out.values())

    def go_on(self) -> Outcome | More | Ask:
        """Give the answers to ``finish`` and return its result. Missing or unusable answers are made here."""
        assert self._asked is not None
        then, self._asked = self._asked.then, None
        work = self._computation.work
        given = [self._given.pop(task.lo, None) for task in self._tasks]
        found = zip(self._tasks, given, strict=True)
        try:
            return then([work(task.body) if answer is None else answer for task, answer in found])
        except ValueError:
            if given.count(None) == len(given):
                raise
            self.malformed += 1
        return then([work(task.body) for task in self._tasks])

    def answered(self, answer: Answer, *, early: bool) -> bool:
        """Take in an answer. Returns whether it was of use. ``early``: we may have yet to ask for it again."""
        task = self._out.get(answer.lo)
        if task is None and not (early and answer.status == OK):
            return False
        if answer.status == OK:
            self._given[answer.lo] = answer.body
        if task is not None:
            if answer.status == OK:
                self._where.patience.learn(answer.ns / 1e9, len(task.body))
            self._end(answer.lo)
        return True

    def look_after(self, waiting: Iterable[Task], held: Iterable[Task], now: float) -> None:
        """Give up requests that are lost, or late in a worker's hand: the master computes them."""
        in_hands = [task for task in held if task.op == REQUEST]
        mine = [task for task in waiting if task.op == REQUEST]
        there = {task.lo for task in in_hands + mine}
        self.fresh = [task for task in self.fresh if task.lo not in there]  # an earlier master has asked for the same
        self._where.look(self._out, mine + self.fresh, in_hands, now)
        for lo in self._where.absent | set(self._where.late(self._out, now)):
            self._end(lo)

    def _end(self, lo: int) -> None:
        del self._out[lo]
        self._where.forget(lo)
        self.fresh = [task for task in self.fresh if task.lo != lo]


def task_of(job: str, body: bytes) -> Task:
    """The task of one request."""
    name = int.from_bytes(hashlib.blake2b(body, digest_size=8, person=b"mrq request").digest(), "big") >> 2
    return Task(job, name, name + 1, 0, REQUEST, body)
