"""A ledger in a careless world: any cuts, duplicates, losses, failures and restarts; the result is the serial one."""

from __future__ import annotations

from typing import Any, Literal

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mapreduce_rq.core.job.events import Broken, Command, Event, Push, Replied, Resumed, Settled, Surveyed
from mapreduce_rq.core.job.ledger import Ledger
from mapreduce_rq.core.job.merges import compute_merge
from mapreduce_rq.core.messages import DIED, ERROR, MAP, MERGE, OK, Answer, Failure, Limits, Spec, Task, encode_failure
from tests.sim.computation import SimComputation, TestParams, fold

WORKERS = ["a", "b", "c"]


class Careless(RuleBasedStateMachine):
    """A queue, three hands and a pile of answers, all of which lose, double and reorder what they hold."""

    @initialize(
        terms=st.integers(1, 60),
        chunk=st.sampled_from([None, 1, 3, 7]),
        ordered=st.booleans(),
        more=st.booleans(),
        raising=st.sets(st.integers(0, 59), max_size=2),
        on_error=st.sampled_from(["fail", "skip"]),
    )
    def begin(
        self,
        *,
        terms: int,
        chunk: int | None,
        ordered: bool,
        more: bool,
        raising: set[int],
        on_error: Literal["fail", "skip"],
    ) -> None:
        self.raising = {k for k in raising if k < terms}
        self.terms, self.ordered, self.on_error = terms, ordered, on_error
        first = terms // 2 if more and terms > 1 else None
        self.computation = SimComputation(TestParams(terms=terms, ordered=ordered, first=first))
        limits = Limits(chunk=chunk, attempts=2, on_error=on_error)
        total = self.computation.total
        self.spec = Spec(job="j", computation="sim", params={}, total=total, limits=limits, created=0, version="0")
        self.now = 0.0
        self.ledger = Ledger(self.spec, self.computation, 0.0, workers=2)
        self.queue: list[Task] = []
        self.hands: dict[str, list[Task]] = {wid: [] for wid in WORKERS}
        self.stream: list[Replied] = []  # not yet received
        self.read: list[Replied] = []  # received, perhaps not yet in a checkpoint
        self.saved = self.ledger.checkpoint(0.0)
        self.ended: Command | None = None
        self.feed(Resumed())

    # -- the ledger's shell ----------------------------------------------------------------------------------------

    def feed(self, event: Event) -> None:
        if self.ended is None:
            self.perform(self.ledger.receive(event, self.now))

    def perform(self, commands: list[Command]) -> None:
        for command in commands:
            if isinstance(command, Push):
                self.queue += command.tasks
            elif isinstance(command, Broken):
                self.ended = command
            elif isinstance(command, Settled):
                outcome = self.ledger.outcome()
                if outcome is None:
                    self.perform(self.ledger.receive(Resumed(), self.now))
                else:
                    self.ended = command
                    kept = [k for k in range(self.terms) if k not in self.skipped]
                    assert outcome.native == fold(kept, ordered=self.ordered)

    @property
    def skipped(self) -> set[int]:
        return {term for term, _ in self.ledger.skipped}

    # -- what workers do -------------------------------------------------------------------------------------------

    @precondition(lambda self: self.queue)
    @rule(wid=st.sampled_from(WORKERS), count=st.integers(1, 5), data=st.data())
    def take(self, wid: str, count: int, data: st.DataObject) -> None:
        for _ in range(min(count, len(self.queue))):
            self.hands[wid].append(self.queue.pop(data.draw(st.integers(0, len(self.queue) - 1))))

    @rule(wid=st.sampled_from(WORKERS), count=st.integers(1, 5))
    def answer(self, wid: str, count: int) -> None:
        tasks, self.hands[wid] = self.hands[wid][:count], self.hands[wid][count:]
        if tasks:
            self.stream.append(Replied(wid, [self.answered(task) for task in tasks]))

    def answered(self, task: Task) -> Answer:
        ns = 1_000_000 * (task.hi - task.lo)
        if task.op == MERGE:
            body = compute_merge(self.computation, task.body)
            return Answer(task.lo, task.hi, task.attempt, MERGE, OK, body, ns)
        bad = sorted(k for k in self.raising if task.lo <= k < task.hi)
        if bad:
            failure = encode_failure(Failure(bad[0], "ValueError", "no", "", "w"))
            return Answer(task.lo, task.hi, task.attempt, MAP, ERROR, failure, ns)
        partial = self.computation.reducer.encode(fold(range(task.lo, task.hi), ordered=self.ordered))
        return Answer(task.lo, task.hi, task.attempt, MAP, OK, partial, ns)

    @precondition(lambda self: self.raising)
    @rule(wid=st.sampled_from(WORKERS))
    def die_of_it(self, wid: str) -> None:
        """A worker that dies of a raising term instead of answering; at its attempts' end somebody says so."""
        for task in self.hands[wid]:
            if task.op == MAP and any(task.lo <= k < task.hi for k in self.raising):
                failure = Failure(task.lo if task.hi - task.lo == 1 else None, "WorkerDied", "", "", "")
                answer = Answer(task.lo, task.hi, task.attempt, MAP, DIED, encode_failure(failure), 0)
                self.hands[wid].remove(task)
                self.stream.append(Replied(wid, [answer]))
                return

    @rule(spans=st.lists(st.tuples(st.integers(0, 59), st.integers(1, 12)), min_size=1, max_size=3))
    def answer_other_cuts(self, spans: list[tuple[int, int]]) -> None:
        """Tasks of another master, who cut differently."""
        tasks = [Task("j", lo, min(lo + size, self.ledger.next)) for lo, size in spans if lo < self.ledger.next]
        if tasks:
            self.stream.append(Replied("z", [self.answered(task) for task in tasks]))

    @precondition(lambda self: self.ledger.out)
    @rule(data=st.data(), size=st.integers(1, 6))
    def answer_a_part_and_the_whole(self, data: st.DataObject, size: int) -> None:
        """In one reply, as a worker with tasks of two masters in its hand."""
        task = data.draw(st.sampled_from(sorted(self.ledger.out.values(), key=lambda task: task.lo)))
        part = Task("j", task.lo, min(task.lo + size, task.hi))
        self.stream.append(Replied("z", [self.answered(part), self.answered(task)]))

    # -- what goes wrong -------------------------------------------------------------------------------------------

    @rule(wid=st.sampled_from(WORKERS))
    def lose_a_hand(self, wid: str) -> None:
        self.hands[wid].clear()

    @rule()
    def lose_the_queue(self) -> None:
        self.queue.clear()

    @precondition(lambda self: self.queue)
    @rule(data=st.data())
    def double_a_task(self, data: st.DataObject) -> None:
        self.queue.append(data.draw(st.sampled_from(self.queue)))

    @precondition(lambda self: self.stream or self.read)
    @rule(data=st.data())
    def double_an_answer(self, data: st.DataObject) -> None:
        self.stream.append(data.draw(st.sampled_from(self.stream + self.read)))

    @precondition(lambda self: len(self.stream) > 1)
    @rule(data=st.data())
    def lose_an_answer(self, data: st.DataObject) -> None:
        del self.stream[data.draw(st.integers(0, len(self.stream) - 1))]

    @rule(lo=st.integers(-3, 80), size=st.integers(-1, 20), status=st.sampled_from([OK, ERROR, DIED, 7]))
    def answer_nonsense(self, lo: int, size: int, status: int) -> None:
        self.stream.append(Replied("z", [Answer(lo, lo + size, 0, MAP, status, b"nonsense", 1)]))

    # -- what the master does --------------------------------------------------------------------------------------

    @rule()
    def hear(self) -> None:
        heard, self.stream = self.stream, []
        for replied in heard:
            self.read.append(replied)
            self.feed(replied)

    @rule(seconds=st.sampled_from([0.0, 3.0, 30.0]), hidden=st.sets(st.sampled_from(WORKERS), max_size=1))
    def look_around(self, seconds: float, hidden: set[str]) -> None:
        self.now += seconds
        heard, self.stream = self.stream, []
        self.read += heard
        held = [task for wid in WORKERS if wid not in hidden for task in self.hands[wid]]
        self.feed(Surveyed(list(self.queue), held, 2, slack=not self.queue, answered=heard))

    @rule()
    def reconnect(self) -> None:
        self.stream = self.read + self.stream
        self.read = []
        self.feed(Resumed())

    @precondition(lambda self: self.ended is None)
    @rule()
    def save(self) -> None:
        self.saved = self.ledger.checkpoint(self.now)
        self.read.clear()

    @precondition(lambda self: self.ended is None)
    @rule()
    def take_over(self) -> None:
        """Another master goes on from the last checkpoint; answers not in it are still in the stream."""
        self.ledger = Ledger(self.spec, self.computation, self.now, checkpoint=self.saved, workers=2)
        self.stream = self.read + self.stream
        self.read = []

    # -- what must hold --------------------------------------------------------------------------------------------

    @invariant()
    def the_books_are_right(self) -> None:
        if not hasattr(self, "ledger") or isinstance(self.ended, Broken):
            return
        self.ledger.validate()
        counted = [k for lo, hi in self.ledger.tally.runs for k in range(lo, hi)]
        reducer: Any = self.computation.reducer
        whole = reducer.zero()
        for _, _, body in self.ledger.tally.parts():
            whole = reducer.merge(whole, reducer.decode(body))
        assert whole == fold([k for k in counted if k not in self.skipped], ordered=self.ordered)

    def teardown(self) -> None:
        """With nothing more going wrong it comes to its right end."""
        if not hasattr(self, "ledger"):
            return
        for _ in range(400):
            if self.ended is not None:
                break
            self.look_around(3.0, set())
            while self.queue and self.ended is None:
                self.hands["a"].append(self.queue.pop(0))
                self.answer("a", 1)
            for wid in WORKERS:
                self.answer(wid, len(self.hands[wid]))
            self.hear()
            self.the_books_are_right()
        if isinstance(self.ended, Broken):
            assert self.on_error == "fail"
            assert self.ended.span.lo in self.raising
        else:
            assert isinstance(self.ended, Settled), "no end"
            assert self.skipped == self.raising
            assert not (self.raising and self.on_error == "fail")


TestCareless = Careless.TestCase
