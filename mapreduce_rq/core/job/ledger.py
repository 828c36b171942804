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

A task may be pushed any number of times (lost, backed up, given back). The tally alone protects the value. The rest of
this file only makes sure that the master never waits for a term that no worker will answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, pairwise
from typing import Any

from msgspec.structs import replace

from mapreduce_rq.core.bodies import size_of
from mapreduce_rq.core.computation import Ask, Computation, More, Outcome, Progress
from mapreduce_rq.core.job.asks import Requests
from mapreduce_rq.core.job.chunking import Pace
from mapreduce_rq.core.job.cutting import Parts, task_of
from mapreduce_rq.core.job.events import Broken, Command, Event, Push, Replied, Settled, Source, Surveyed
from mapreduce_rq.core.job.gathered import Gathered
from mapreduce_rq.core.job.goal import allowed, further
from mapreduce_rq.core.job.merges import Merges
from mapreduce_rq.core.job.tally import Tally
from mapreduce_rq.core.job.timeline import Recorder
from mapreduce_rq.core.job.whereabouts import Whereabouts
from mapreduce_rq.core.messages import (
    DIED,
    ERROR,
    MAP,
    MERGE,
    OK,
    REFUSED,
    REQUEST,
    WORKER_LOST,
    Answer,
    Checkpoint,
    Failure,
    Spec,
    Task,
    Tried,
    decode_failure,
)
from mapreduce_rq.core.span import NO_TERMS, Runs, Span
from mapreduce_rq.errors import BadMessage, MrqError

OUT_BYTES = 64 << 20
"""The most bytes of items that the tasks out may have: further items wait in their iterable."""
MOST_TRIED = 1000
"""The number of retried terms that are listed one by one; more of them are only counted."""
PUSH_TASKS = 2048
"""The most tasks in one push: while the server takes in a large push, it answers no other client."""


class Ledger:
    """The state of one job.

    ``checkpoint`` restores what an earlier master had counted. ``cut_on``: that master may have cut more than the
    checkpoint says. ``patient``: the job does not end if all workers refuse it, because others may come.
    """

    def __init__(
        self,
        spec: Spec,
        computation: Computation[Any],
        now: float,
        *,
        checkpoint: Checkpoint | None = None,
        cut_on: bool = True,
        source: Source | None = None,
        workers: int = 1,
        patient: bool = False,
        recorder: Recorder | None = None,
    ) -> None:
        self.spec = spec
        self.computation = computation
        self.total = computation.total if spec.total is None else spec.total
        self.next = 0
        self.goal = self.total  # the term at which to ask whether the tolerance is met; without one, the total
        self.met: bool | None = None  # whether the tolerance is met; None: there is none, or not known yet
        self.tasks = 0  # answers counted
        self.ignored = 0  # answers that came twice
        self.worked = 0.0  # seconds of workers' time, as far as this master knows
        self.skipped: list[tuple[int, Failure]] = []
        self.tried: list[Tried] = []  # terms that took more than one call, and are counted
        self.tried_more = 0  # such terms beyond MOST_TRIED
        self.out: dict[int, Task] = {}  # by first term; disjoint spans, no term of which is counted
        self.waits = False  # the source gave fewer items than were wanted: ask it again soon
        even = self.total if computation.even else None
        self.pace = Pace(
            spec.limits.chunk,
            computation.seconds_per_term,
            even=even,
            workers=workers,
            vectorised=computation.vectorised,
            brisk=computation.reducer.brisk,
            wide=computation.reducer.wide,
            joins=spec.joins,
        )
        self.gathered = Gathered()
        self._recorder = recorder or Recorder(now)
        self._source = source
        self._ready: Callable[[], int] | None = getattr(source, "ready", None)  # how many items it has, if it knows
        self._most_bytes = 0  # bytes of the items of one task
        self._again: list[Task] = []  # to be pushed before anything new is cut
        self._parts = Parts(computation)
        self._where = Whereabouts(self.pace.patience, lambda task: task.hi - task.lo)
        self._backed: set[int] = set()
        self._attempts: dict[int, int] = {}  # tasks out that came back from workers that died: the deaths that we saw
        self.refusals: dict[str, Failure] = {}  # by worker
        self._patient = patient
        self._broken: Broken | None = None
        self._look_around = True  # the next survey alone decides which tasks are lost
        self._unseen = checkpoint is not None  # what is out is not known before the next survey
        self._restored = self._unseen and cut_on  # an earlier master may have cut more: the next survey tells how much
        self._started = now
        self.elapsed_before = 0.0
        if checkpoint is None:
            self.tally = Tally(computation.reducer)
        else:
            if checkpoint.job != spec.job:
                raise BadMessage(f"the checkpoint of {spec.job} belongs to {checkpoint.job}")
            try:
                self.tally = Tally.restore(computation.reducer, checkpoint.runs, checkpoint.parts)
            except ValueError as error:
                raise BadMessage(f"the checkpoint of {spec.job} does not hold together: {error}") from None
            self.next, self.total, self.tasks = checkpoint.next, checkpoint.total, checkpoint.tasks
            self.goal = checkpoint.goal
            self.skipped = list(checkpoint.skipped)
            self.tried, self.tried_more = list(checkpoint.tried), checkpoint.tried_more
            self.elapsed_before = checkpoint.elapsed
        self.merges = Merges(spec.job, self.tally)
        self.requests = Requests(spec.job, computation)
        if checkpoint is None and spec.limits.tolerant:
            self.goal = computation.first_stage if self.total is None else min(self.total, computation.first_stage)

    # -- what others may ask ---------------------------------------------------------------------------------------

    @property
    def counted(self) -> int:
        """Terms counted, skipped ones included."""
        return self.tally.runs.count

    def settled(self) -> bool:
        """Whether every term up to the goal is counted."""
        return self.counted == self.goal and not self.merges and not self.requests

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
        if self.keeps:
            runs = [(lo, hi) for lo, hi in Runs((term, term + 1) for term, _ in self.skipped)]
            parts = [(lo, hi, reducer.encode(reducer.gap(lo, hi))) for lo, hi in runs]
        else:
            runs, parts = [(lo, hi) for lo, hi in self.tally.runs], self.tally.parts()
        return Checkpoint(
            job=self.spec.job,
            runs=runs,
            parts=parts,
            next=self.next,
            total=self.total,
            goal=self.goal,
            tasks=0 if self.keeps else self.tasks,
            skipped=[(term, replace(failure, pickled=b"")) for term, failure in self.skipped],
            elapsed=self.elapsed(now),
            tried=[] if self.keeps else self.tried,
            tried_more=0 if self.keeps else self.tried_more,
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

    # -- answers ---------------------------------------------------------------------------------------------------

    def _replied(self, event: Replied, now: float) -> None:
        good = []
        joint: list[Answer] = []
        terms = nanoseconds = largest = volume = 0
        for answer in event.answers:
            if answer.attempt:
                self._note_reclaimed(answer)
            if answer.op == MERGE:
                if self.merges.answered(answer):
                    self._delegate()
                else:
                    self.ignored += 1
            elif answer.op == REQUEST:
                self.ignored += not self.requests.answered(answer, early=self._restored)
            elif answer.also is not None:
                joint.append(answer)
            elif answer.status == OK:
                size = answer.hi - answer.lo
                if size <= 0 or answer.lo < 0 or not self._was_cut(answer.hi):
                    self.ignored += 1  # terms that were never cut: not an answer to any task of ours
                    continue
                body = answer.body
                good.append((answer.lo, answer.hi, body))
                terms += size
                nanoseconds += answer.ns
                volume += len(body)
                if size > largest:
                    largest = size
            else:
                self._bad(event.wid, answer)
        self.worked += nanoseconds / 1e9
        for answer in joint:
            self._joint(event.wid, answer, now)
        if not good:
            return
        counted = self.tally.count(good)
        if event.tried:
            self._note_tried(event.tried, counted)
        if self.tally.reducer.torn:
            self._read_apart(self.tally.reducer.torn)
        self._forget(event.wid, good, counted, terms)
        self._delegate()
        self.pace.observe(terms, len(good), nanoseconds, largest, now, size=volume)
        self._recorder.answered(event.wid, len(good), terms, nanoseconds, now=now, first=good[0][:2])

    def _joint(self, wid: str, answer: Answer, now: float) -> None:
        """Count a joint answer, whole or not at all.

        If it is not counted, those of its tasks that are out go out again at once: their worker has struck them off its
        hand.
        """
        spans = answer.spans
        if answer.status != OK or not all(0 <= lo < hi and self._was_cut(hi) for lo, hi in spans):
            self.ignored += 1
            return
        self.worked += answer.ns / 1e9
        counted = self.tally.count_joint(spans, answer.body)
        if not counted:
            self.ignored += len(spans)
            self._again.extend(self._recall(self.out[lo]) for lo, _ in spans if lo in self.out)
            return
        terms = sum(hi - lo for lo, hi in spans)
        self._forget(wid, [(lo, hi, b"") for lo, hi in spans], counted, terms)
        largest = max(hi - lo for lo, hi in spans)
        self.pace.observe(terms, len(spans), answer.ns, largest, now, size=len(answer.body))
        self._recorder.answered(wid, len(spans), terms, answer.ns, now=now, first=spans[0])

    def _note_tried(self, tried: Sequence[Tried], counted: list[tuple[int, int]]) -> None:
        """Remember those of these terms whose values are counted now. A second answer to a term is not noted."""
        spans = Runs(counted)
        fresh = [one for one in tried if spans.touches(one.term, one.term + 1)]
        for one in fresh:
            place = self.computation.place(one.term)
            self.gathered.note("term retried", f"{place}: {one.tries} calls: {one.kind}: {one.message}")
        room = max(0, MOST_TRIED - len(self.tried))
        self.tried += fresh[:room]
        self.tried_more += len(fresh[room:])

    def _note_reclaimed(self, seen: Answer | Task) -> None:
        """Note that a task of terms came back from a worker that died, once for each death."""
        task = self.out.get(seen.lo) if seen.op == MAP else None
        if task is not None and seen.attempt > max(task.attempt, self._attempts.get(seen.lo, 0)):
            self._attempts[seen.lo] = seen.attempt
            why = f": {seen.why}" if isinstance(seen, Task) else ""
            self.gathered.note("reclaimed", f"terms {task.lo}..{task.hi - 1}, for their worker is gone{why}")

    def _was_cut(self, hi: int) -> bool:
        """Whether terms up to ``hi`` have been made into tasks. Also learns here what an earlier master has cut."""
        if hi <= self.next:
            return True
        if not self._restored or self.goal is None or hi > self.goal:
            return False
        self.next = hi
        return True

    def _forget(
        self, wid: str, answers: list[tuple[int, int, bytes]], counted: list[tuple[int, int]], terms: int
    ) -> None:
        """Remove counted spans from the tasks out. The answers have ``terms`` terms in all."""
        fresh = sum(hi - lo for lo, hi in counted)
        covers = self.tally.runs.covers
        out = self.out
        all_fresh = fresh == terms  # nearly always, so there is no need to ask for each
        new, credited = (None, None) if all_fresh else (Runs(counted), Runs())
        struck = tasks = 0
        for lo, hi, _ in answers:
            task = out.get(lo)
            if task is not None and task.hi >= hi and (all_fresh or covers(lo, hi)):
                del out[lo]
                struck += hi - lo
                tasks += 1
                if credited is not None:
                    credited.add(lo, hi)
                if hi < task.hi:
                    self._again.extend(self._parts.rest(task, hi, self.pace.workers))
                    left = f"{hi}..{task.hi - 1}"
                    self.gathered.note("part answer", f"{_host(wid)} is long: the terms {left} behind go to others")
            elif new is None or credited is None or (new.covers(lo, hi) and credited.add(lo, hi)):
                tasks += 1  # an earlier master has cut it like this
            else:
                self.ignored += 1
        self.tasks += tasks
        if struck == fresh:
            return
        # Tasks that were cut differently were counted: by another master, or before a task was halved. Tasks that are
        # out lose the terms that are counted, and the rest of them goes out anew.
        for lo, task in list(self.out.items()):
            if self.tally.runs.touches(lo, task.hi):
                del self.out[lo]
                self._again.append(task)

    def _read_apart(self, torn: list[tuple[int, int]]) -> None:
        """Have unreadable answers computed again in halves, until the value that cannot be read is alone."""
        while torn:
            lo, hi = torn.pop()
            task = self.out.get(lo)
            if task is not None and task.hi >= hi > lo + 1:
                cuts = [(lo + hi) // 2, hi] if hi < task.hi else [(lo + hi) // 2]
                self._again.extend(self._parts.cut_before(self._recall(task), cuts))

    def _delegate(self) -> None:
        """Ask workers for heavy merges, as long as there are other tasks."""
        if self.tally.wishes:
            last = self.next == self.goal and 0 < len(self.out) <= self.pace.workers
            self.merges.delegate(more=bool(self.out) or self.counted != self.goal, last=last)

    def _bad(self, wid: str, answer: Answer) -> None:
        """Take in an answer without a partial: a worker refused the task, failed in it, or died in it.

        A failure that names its term ends the job, or leaves that term out. If it names no term, the span is halved.
        """
        task = self.out.get(answer.lo) or self._left_behind(answer)
        if task is None or task.hi != answer.hi:
            self.ignored += 1  # already counted, or cut anew since
            return
        try:
            failure = decode_failure(answer.body)
        except BadMessage:
            self.tally.malformed += 1
            return
        span = Span(task.lo, task.hi)
        if answer.status == REFUSED:
            self.refusals[wid] = failure
            # The first look tells how many workers there are.
            if len(self.refusals) >= self.pace.workers and not self._look_around and not self._patient:
                self._broken = Broken(NO_TERMS, failure)  # they would refuse each other task, too
            else:
                self._again.append(self._recall(task))
            return
        if answer.status not in (ERROR, DIED):
            self.ignored += 1
            return
        if failure.term is None and span.size > 1:
            # We cannot tell which term failed. Each half has one more try, and in the end the bad term is alone.
            attempt = max(0, self.spec.limits.attempts - 1) if answer.status == DIED else 0
            try:
                halves = [self._parts.part(task, half, attempt) for half in span.halves()]
            except MrqError:  # an item of it cannot be read here either, so it cannot be cut
                self._broken = Broken(span, failure)
                return
            if answer.status == DIED:
                why = f"workers die of the terms {span.lo}..{span.hi - 1}: each half is tried alone"
                self.gathered.note("poison", f"{why}: {failure.message}")
            self._recall(task)
            self._again.extend(halves)
            return
        term = span.lo if failure.term is None else failure.term
        # Anyone who can write to Redis can pretend that a worker was lost, so such a failure leaves no term out.
        unseen = answer.status == DIED and failure.kind == WORKER_LOST
        if answer.status == DIED:
            self.gathered.note("poison", f"workers die of term {term}: {failure.message}")
        if self.spec.limits.on_error == "fail" or unseen or not span.lo <= term < span.hi:
            self._broken = Broken(Span(term, term + 1), failure)
            return
        self._recall(task)
        try:
            self.tally.skip(term, term + 1)
        except ValueError:
            self._broken = Broken(Span(term, term + 1), failure)
            return
        self.skipped.append((term, failure))
        self.computation.left_out(term, failure)
        for rest in (Span(span.lo, term), Span(term + 1, span.hi)):
            if rest.size:
                self._again.append(self._parts.part(task, rest, 0))

    def _left_behind(self, answer: Answer) -> Task | None:
        """Before the first look: the task, cut by an earlier master, that failed. None if it had items, because they
        are not known here.
        """
        lo, hi = answer.lo, answer.hi
        if not self._unseen or self.spec.lazy or not 0 <= lo < hi or not self._was_cut(hi):
            return None
        if self.tally.runs.touches(lo, hi) or any(task.lo < hi and lo < task.hi for task in self.out.values()):
            return None
        self.out[lo] = task_of(self.spec.job, Span(lo, hi), answer.attempt)
        return self.out[lo]

    def _recall(self, task: Task) -> Task:
        """Remove a task from those that are out; it will go out again, whole or in parts."""
        del self.out[task.lo]
        self._where.forget(task.lo)
        self._backed.discard(task.lo)
        return task

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

    def _cut_gap(self, gap: Span) -> list[Task]:
        size = max(1, self.pace.size(gap.size), -(-gap.size // self.pace.window()))
        return [task_of(self.spec.job, Span(lo, min(lo + size, gap.hi)), 0) for lo in range(gap.lo, gap.hi, size)]

    # -- pushing ---------------------------------------------------------------------------------------------------

    def _refill(self) -> list[Task]:
        self.waits = False
        tasks, self._again = [rest for task in self._again for rest in self._parts.uncounted(task, self.tally.runs)], []
        for task in tasks:
            self.out[task.lo] = task
        tasks, self.merges.fresh = self.merges.fresh + tasks, []
        if self._restored:  # the next look shows which tasks an earlier master has left
            return tasks
        tasks, self.requests.fresh = self.requests.fresh + tasks, []
        window = self.pace.window()
        free = window - len(self.out)
        # A push takes a round trip: wait until a part of the window is free, unless workers may run out of tasks.
        if free <= 0 or (free < min(window // 4, PUSH_TASKS // 2) and len(self.out) > 2 * self.pace.workers):
            return tasks
        free = min(free, PUSH_TASKS)
        if self._laden():
            return tasks
        if self._source is None and self.spec.limits.chunk == 1:
            return tasks + self._cut_singles(free)
        while free > 0 and not self.waits and (self.goal is None or self.next < self.goal):
            fresh = self._cut()
            if fresh is None:
                break
            tasks.append(fresh)
            free -= 1
            if fresh.body and self._laden():
                break
        return tasks

    def _laden(self) -> bool:
        """Whether the items of the tasks out have reached the bytes that Redis should hold for one job."""
        if not self._most_bytes:
            return False
        if self._most_bytes * len(self.out) <= OUT_BYTES:  # nearly always, so there is no need to ask each
            return False
        return sum(size_of(task.body) for task in self.out.values()) > OUT_BYTES

    def _cut_singles(self, free: int) -> list[Task]:
        job = self.spec.job
        hi = self.next + free if self.goal is None else min(self.next + free, self.goal)
        fresh = {lo: Task(job, lo, lo + 1) for lo in range(self.next, hi)}
        self.out.update(fresh)
        self.next = hi
        return list(fresh.values())

    def _cut(self) -> Task | None:
        lo = self.next
        left = None if self.goal is None else self.goal - lo
        size = self.pace.size(self._ready() if self._ready is not None else left)
        if self.goal is not None:
            size = min(size, self.goal - lo)
        body = b""
        if self._source is not None:
            body, got, over = self._source(size)
            if over:
                self.total = self.goal = lo + got
            # The first items go out alone: the next ones may be long in coming, and no worker would see the job until
            # then.
            self.waits = (got < size or lo == 0) and not over
            size = got
            self._most_bytes = max(self._most_bytes, size_of(body))
        if size == 0:
            return None
        task = task_of(self.spec.job, Span(lo, lo + size), 0, body)
        self.out[lo] = task
        self.next = lo + size
        return task


def _host(wid: str) -> str:
    return wid.rpartition(":")[0] or wid
