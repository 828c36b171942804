"""The ledger: what a master knows of one job, and what it has to do next. It does no I/O and reads no clock.

It has one entry point: ``receive(event, now) -> commands``. The master performs the commands, and reports what happens
as further events.

    events                                      commands
    Replied    one worker's answers             Push     tasks for the queue
    Surveyed   what lies in queue and hands     Settled  every term is counted: ask ``outcome()``
    Resumed    connected (again): look around   Broken   the job has failed, and why

Where a term is:

    uncut     at or above ``next``: no task made yet
    out       in a task of ``out``: in the queue, in a worker's hands, or lost; a survey tells which
    counted   in the tally: done for good. Nothing ever leaves it

The ledger has three layers, each a class that uses only those below it: ``Supply`` (supply.py) cuts terms into tasks,
``Answers`` (answers.py) takes answers in, and ``Ledger`` here has the entry point, the surveys, and the questions of a
master.

A task may be pushed any number of times (lost, backed up, given back). The tally alone protects the value. The
layers only make sure that the master never waits for a term that no worker will answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, pairwise

from msgspec.structs import replace

from mapreduce_rq.core.computation import Ask, More, Outcome, Progress
from mapreduce_rq.core.job.answers import Answers
from mapreduce_rq.core.job.events import Command, Event, Push, Replied, Settled, Surveyed
from mapreduce_rq.core.job.goal import allowed, further
from mapreduce_rq.core.job.tally import Tally
from mapreduce_rq.core.messages import (
    MAP,
    Checkpoint,
    Task,
)
from mapreduce_rq.core.span import Runs


class Ledger(Answers):
    """The state of one job.

    ``checkpoint`` restores what an earlier master had counted. ``cut_on``: that master may have cut more than the
    checkpoint says. ``patient``: the job does not end if all workers refuse it, because others may come.
    """

    # -- what others may ask ---------------------------------------------------------------------------------------

    def settled(self) -> bool:
        """Whether every term up to the goal is counted."""
        return self.tally.runs.count == self.goal and not self.merges and not self.requests

    def elapsed(self, now: float) -> float:
        """Seconds of work on the job, over all its masters."""
        return self.elapsed_before + now - self._started

    def progress(self) -> Progress | None:
        """The running value, if the computation can give one."""
        terms, partial = self.tally.first()
        return self.computation.peek(partial, terms) if terms else None

    @property
    def keeps(self) -> bool:
        """Whether the replies in Redis are kept as what is counted: they are not trimmed, nor put in a checkpoint."""
        return self.tally.reducer.keeps

    def checkpoint(self, now: float) -> Checkpoint:
        """What is counted, so that another master can go on; if replies are kept, what it cannot read from them."""
        reducer = self.tally.reducer
        keeps = reducer.keeps
        if keeps:
            runs = [(lo, hi) for lo, hi in Runs((term, term + 1) for term, _ in self.skipped)]
            parts = [(lo, hi, reducer.encode(reducer.gap(lo, hi))) for lo, hi in runs]
        else:
            runs, parts = self.tally.runs.pairs(), self.tally.parts()
        return Checkpoint(
            job=self.spec.job,
            runs=runs,
            parts=parts,
            next=self.next,
            total=self.total,
            goal=self.goal,
            tasks=0 if keeps else self.tasks,
            skipped=[(term, replace(failure, pickled=b"")) for term, failure in self.skipped],
            elapsed=self.elapsed(now),
            tried=[] if keeps else self.tried,
            tried_more=0 if keeps else self.tried_more,
        )

    def all_out(self) -> Iterator[Task]:
        """All tasks that are out: of terms, merges and requests."""
        return chain(self.out.values(), self.merges.out(), self.requests.out())

    def conclude(self, outcome: Outcome) -> bool:
        """End the job with this outcome. The pieces that its workers have laid are deleted with the job, so the last
        checkpoint must not refer to them. Returns whether there is a checkpoint to store.
        """
        terms, partial = self.tally.prefix()[0], self.tally.reducer.lasting(outcome)
        if partial is None:
            return False
        self.tally = self.tally.concluded(terms, partial)
        return True

    def forget(self) -> None:
        """Free the memory of what is counted: the job is over, and its value is made."""
        self.tally = Tally(self.computation.reducer)

    def outcome(self) -> Outcome | None:
        """The outcome; None if the computation first wants more terms or help (then call ``receive`` again)."""
        if self.requests.asked:
            found = self.requests.go_on()
        else:
            terms, partial = self.tally.prefix()
            found = self.computation.finish(partial, terms)
        if isinstance(found, Ask):
            self.requests.ask(found)
            return None
        if isinstance(found, More):
            if self.total is None or found.total <= self.total:
                raise ValueError(f"{self.computation.name} asked for {found.total} terms having {self.total}")
            self.total = self.goal = found.total
            return None
        if self.met is False and found.bound is not None:  # perhaps the error is known only at the end
            most = allowed(self.spec.limits, found.number)
            self.met = most is not None and float(found.bound) <= most
        return found

    def validate(self) -> None:
        """Assert what must always be true; tests call it after every step."""
        for lo, task in self.out.items():
            assert task.lo == lo < task.hi <= self.next, f"{task} is out at {lo} of {self.next} terms cut"
        out = [(task.lo, task.hi) for task in self.out.values()]
        for one, other in pairwise(sorted([*out, *self.tally.runs])):
            assert one[1] <= other[0], f"{one} and {other} are both out, or one is counted"
        held = sum(hi - lo for lo, hi in out)
        lost = self.next - held - sum(min(hi, self.next) - lo for lo, hi in self.tally.runs if lo < self.next)
        assert lost == 0 or self._look_around, f"{lost} terms are neither out nor counted nor uncut"

    # -- the door --------------------------------------------------------------------------------------------------

    def receive(self, event: Event, now: float) -> list[Command]:
        """Take in an event, and return the commands that follow from it."""
        if isinstance(event, Replied):
            self._replied(event, now)
        elif isinstance(event, Surveyed):
            self._surveyed(event, now)
        else:
            self._look_around = True
            self._where.begin_anew()
        return self._consequences()

    def _consequences(self) -> list[Command]:
        if self._broken is not None:
            return [self._broken]
        if self.settled() and self._good_enough():
            return [Settled()]
        pushed = self._refill()
        if self.settled():  # an iterator may turn out to be empty
            return [Settled()]
        return [Push(pushed)] if pushed else []

    def _good_enough(self) -> bool:
        """At the goal: whether the tolerance is met, or there are no more terms. If neither, set the next goal."""
        if not self.spec.limits.tolerant or self.goal is None:
            return True
        terms, partial = self.tally.prefix()
        found = self.computation.peek(partial, terms)
        error = found.error if found is not None else None
        most = allowed(self.spec.limits, found.number if found is not None else None)
        self.met = error is not None and most is not None and error <= most
        if self.met or self.goal == self.total:
            return True
        self.goal = further(self.goal, self.total, error, most)
        return False

    # -- surveys ---------------------------------------------------------------------------------------------------

    def _surveyed(self, event: Surveyed, now: float) -> None:
        for replied in event.answered:
            self._replied(replied, now)
        self.pace.workers = max(1, event.workers)
        self.merges.look_after(event.waiting, event.held, now, idle=self.counted == self.goal)
        self._delegate()
        self.requests.look_after(event.waiting, event.held, now)
        event = event._replace(
            waiting=[task for task in event.waiting if task.op == MAP],
            held=[task for task in event.held if task.op == MAP],
        )
        if self._look_around:
            self._adopt(event)
        self._where.look(self.out, event.waiting, event.held, now)
        for task in chain(event.waiting, event.held):
            if task.attempt:
                self._note_reclaimed(task)
        self._attempts = {lo: attempt for lo, attempt in self._attempts.items() if lo in self.out}
        for lo in self._where.absent if self._look_around else self._where.lost:
            self._again.append(self._recall(self.out[lo]))
        self._backed &= self.out.keys()
        if self._restored and self.tasks:  # the only thing known of the tasks that an earlier master saw finish
            each = self.elapsed_before * event.workers / self.tasks
            self.pace.patience.learn(each, self.counted / self.tasks)
        if event.slack and event.workers > 1:  # one worker alone would compute the same task twice
            for lo in self._where.late(self.out, now):
                if lo not in self._backed:
                    self._backed.add(lo)
                    self._again.append(self.out[lo])
        self._look_around = self._restored = self._unseen = False

    def _adopt(self, event: Surveyed) -> None:
        """After a restore: take over the tasks that an earlier master left in queue and hands; cut other gaps anew."""
        self._again = [rest for task in self._again for rest in self._parts.uncounted(task, self.tally.runs)]
        taken = Runs((task.lo, task.hi) for task in [*self.out.values(), *self._again])
        for task in [*event.held, *event.waiting]:
            fits = 0 <= task.lo < task.hi and self._was_cut(task.hi) and not self.tally.runs.touches(task.lo, task.hi)
            if fits and taken.add(task.lo, task.hi):
                self.out[task.lo] = task
        for gap in list(self.tally.runs.gaps(0, self.next)):
            for rest in taken.gaps(gap.lo, gap.hi):
                self._again.extend(self._cut_gap(rest))
