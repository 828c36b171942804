"""The answers to one job's tasks: what each of them changes in the ledger.

It is the middle one of the ledger's three layers (see ledger.py). The tally counts a good answer, and its span leaves
the tasks that are out. A failed one ends the job, leaves a term out, or has the task cut again.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import chain

from mapreduce_rq.core.job.cutting import task_of
from mapreduce_rq.core.job.events import Broken, Replied
from mapreduce_rq.core.job.supply import Supply
from mapreduce_rq.core.messages import (
    DIED,
    ERROR,
    MAP,
    MERGE,
    OK,
    OURS,
    REFUSED,
    REQUEST,
    WORKER_LOST,
    Answer,
    Task,
    Tried,
    decode_failure,
)
from mapreduce_rq.core.span import NO_TERMS, Runs, Span
from mapreduce_rq.errors import BadMessage, MrqError

MOST_TRIED = 1000
"""The number of retried terms that are listed one by one; more of them are only counted."""
LONG_SECONDS = 0.2
"""Seconds of a task that was answered in part because it took long. A supervisor has one cut short after 0.4 s."""


class Answers(Supply):
    """What becomes of answers."""

    def _replied(self, event: Replied, now: float) -> None:
        good = []
        joint: list[Answer] = []
        terms = nanoseconds = largest = 0
        cut = self.next
        for answer in event.answers:
            if answer.attempt:
                self._note_reclaimed(answer)
            if answer.op == MAP and answer.status == OK and answer.also is None:  # nearly always
                lo, hi = answer.lo, answer.hi
                size = hi - lo
                if size <= 0 or lo < 0 or (hi > cut and not self._was_cut(hi)):
                    self.ignored += 1  # terms that were never cut: not an answer to any task of ours
                    continue
                good.append((lo, hi, answer.body))
                terms += size
                nanoseconds += answer.ns
                if size > largest:
                    largest = size
            elif answer.op == MERGE:
                if self.merges.answered(answer):
                    self._delegate()
                else:
                    self.ignored += 1
            elif answer.op == REQUEST:
                self.ignored += not self.requests.answered(answer, early=self._restored)
            elif answer.also is not None:
                joint.append(answer)
            else:
                self._bad(event.wid, answer)
        self.worked += nanoseconds / 1e9
        for answer in joint:
            self._joint(event.wid, answer, now, again=event.again)
        if not good:
            return
        counted = self.tally.count(good)
        if event.tried:
            self._note_tried(event.tried, counted)
        if self.tally.reducer.torn:
            self._read_apart(self.tally.reducer.torn)
        self._forget(event.wid, good, counted, terms, nanoseconds)
        self._delegate()
        volume = sum([len(body) for _, _, body in good])
        self.pace.observe(terms, len(good), nanoseconds, largest, now, size=volume)
        if not event.again or (counted and not self.tally.reducer.keeps):  # otherwise the timeline has it
            self._recorder.answered(event.wid, len(good), terms, nanoseconds, now=now, first=good[0][:2])

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
        self.reclaimed = True
        task = self.out.get(seen.lo) if seen.op == MAP else None
        if task is not None and seen.attempt > max(task.attempt, self._attempts.get(seen.lo, 0)):
            self._attempts[seen.lo] = seen.attempt
            why = f": {seen.why}" if isinstance(seen, Task) else ""
            self.gathered.note("reclaimed", f"terms {task.lo}..{task.hi - 1}, for their worker is gone{why}")

    def _forget(
        self,
        wid: str,
        answers: list[tuple[int, int, bytes]],
        counted: list[tuple[int, int]],
        terms: int,
        nanoseconds: int,
    ) -> None:
        """Remove counted spans from the tasks out. The answers have ``terms`` terms in all, and took ``nanoseconds``
        together.
        """
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
        long = nanoseconds >= LONG_SECONDS * 1e9 * len(answers)
        inside = sorted([(hi, lo) for lo, hi, _ in answers]) if long else []
        for lo, task in list(self.out.items()):
            if self.tally.runs.touches(lo, task.hi):
                del self.out[lo]
                place = bisect_left(inside, (task.hi, 0)) - 1
                if place >= 0 and inside[place][1] > lo:
                    # It took long, and its first terms were given back with the tasks before it (see joint_answers.py).
                    end = inside[place][0]
                    self._again.append(self._parts.part(task, Span(lo, end), task.attempt))
                    self._again.extend(self._parts.rest(task, end, self.pace.workers))
                else:
                    self._again.append(task)

    def _read_apart(self, torn: list[tuple[int, int]]) -> None:
        """Have unreadable answers computed again in halves, until the value that cannot be read is alone."""
        while torn:
            lo, hi = torn.pop()
            task = self.out.get(lo)
            if task is not None and task.hi >= hi > lo + 1:
                cuts = [(lo + hi) // 2, hi] if hi < task.hi else [(lo + hi) // 2]
                self._again.extend(self._parts.cut_before(self._recall(task), cuts))

    def _joint(self, wid: str, answer: Answer, now: float, *, again: bool) -> None:
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
        self._forget(wid, [(lo, hi, b"") for lo, hi in spans], counted, terms, answer.ns)
        largest = max(hi - lo for lo, hi in spans)
        self.pace.observe(terms, len(spans), answer.ns, largest, now, size=len(answer.body))
        if not again or not self.tally.reducer.keeps:
            self._recorder.answered(wid, len(spans), terms, answer.ns, now=now, first=spans[0])

    def _delegate(self) -> None:
        """Ask workers for heavy merges, as long as there are other tasks."""
        if self.tally.wishes:
            last = self.next == self.goal and 0 < len(self.out) <= self.pace.workers
            self.merges.delegate(more=bool(self.out) or self.counted != self.goal, last=last)

    def _bad(self, wid: str, answer: Answer) -> None:
        """Take in an answer without a partial: a worker refused the task, failed in it, or died in it.

        A failure that names its term ends the job, or leaves that term out. If it names no term, the span is halved. A
        mistake of ours ends the job at once: each of its terms would meet it.
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
        if failure.term == OURS:
            self._broken = Broken(span, failure)
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
        known = chain(self.out.values(), self._again)
        if self.tally.runs.touches(lo, hi) or any(task.lo < hi and lo < task.hi for task in known):
            return None
        self.out[lo] = task_of(self.spec.job, Span(lo, hi), answer.attempt)
        return self.out[lo]


def _host(wid: str) -> str:
    return wid.rpartition(":")[0] or wid
