"""The ledger, event by event: what goes out, what is counted, what goes out again."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Literal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec.structs import replace

from mapreduce_rq.core.job import supply
from mapreduce_rq.core.job.chunking import FIRST_WINDOW, QUICK_WINDOW
from mapreduce_rq.core.job.ends import record_of, used
from mapreduce_rq.core.job.events import Broken, Command, Event, Push, Replied, Resumed, Settled, Source, Surveyed
from mapreduce_rq.core.job.ledger import Ledger
from mapreduce_rq.core.job.timeline import Timeline
from mapreduce_rq.core.messages import (
    DIED,
    ERROR,
    MAP,
    OK,
    OURS,
    REFUSED,
    REQUEST,
    Answer,
    Failure,
    Limits,
    Spec,
    Task,
    encode_failure,
)
from mapreduce_rq.core.reducers.base import Law
from mapreduce_rq.core.span import Span
from mapreduce_rq.errors import BadMessage
from tests.sim.computation import SimComputation, TestParams, fold, items

ENCODE = SimComputation(TestParams(terms=1)).reducer.encode


def ledger(
    terms: int = 100,
    *,
    chunk: int | None = 10,
    attempts: int = 3,
    on_error: Literal["fail", "skip"] = "fail",
    source: Source | None = None,
    patient: bool = False,
    **params: Any,
) -> Ledger:
    computation = SimComputation(TestParams(terms=terms, lazy=source is not None, **params))
    limits = Limits(chunk=chunk, attempts=attempts, on_error=on_error)
    spec = Spec(job="j", computation="sim", params={}, total=computation.total, limits=limits, created=0, version="0")
    return Ledger(spec, computation, 0.0, source=source, patient=patient)


def ok(lo: int, hi: int) -> Answer:
    return Answer(lo, hi, 0, MAP, OK, ENCODE(fold(range(lo, hi), ordered=False)), 1000)


def bad(lo: int, hi: int, status: int, term: int | None = None) -> Answer:
    return Answer(lo, hi, 0, MAP, status, encode_failure(Failure(term, "ValueError", "no", "", "w")), 0)


def mistaken(lo: int, hi: int) -> Answer:
    failure = Failure(OURS, "KeyError", "no", "", "w")
    return Answer(lo, hi, 0, MAP, ERROR, encode_failure(failure), 0)


def replied(*answers: Answer, wid: str = "w") -> Replied:
    return Replied(wid, list(answers))


def feed(one: Ledger, event: Event, now: float = 0.0) -> list[Command]:
    commands = one.receive(event, now)
    one.validate()
    return commands


def pushed(commands: list[Command]) -> list[tuple[int, int]]:
    return [(task.lo, task.hi) for command in commands if isinstance(command, Push) for task in command.tasks]


def begun(**how: Any) -> Ledger:
    """A ledger whose first tasks are out and have been seen in the queue."""
    one = ledger(**how)
    feed(one, Resumed())
    feed(one, seen(one))
    return one


def seen(
    one: Ledger, *, without: tuple[int, ...] = (), held: tuple[int, ...] = (), answered: tuple[Replied, ...] = ()
) -> Surveyed:
    """A look that finds all that is out, but for some; some of it in hands."""
    there = [task for task in one.out.values() if task.lo not in without]
    waiting = [task for task in there if task.lo not in held]
    return Surveyed(waiting, [task for task in there if task.lo in held], 2, slack=not waiting, answered=answered)


def joint(*spans: tuple[int, int]) -> Answer:
    (lo, hi), *also = spans
    terms = [k for low, high in spans for k in range(low, high)]
    return Answer(lo, hi, 0, MAP, OK, ENCODE(fold(terms, ordered=False)), 1000, also)


# -- joint answers -------------------------------------------------------------------------------------------------


def test_a_joint_answer_is_the_answer_to_all_its_tasks() -> None:
    one = begun(terms=50)
    assert feed(one, replied(joint((40, 50), (0, 10), (10, 20)))) == []
    assert (one.counted, one.tasks, sorted(one.out)) == (30, 3, [20, 30])
    feed(one, replied(joint((40, 50), (0, 10), (10, 20))))
    assert (one.counted, one.ignored) == (30, 3)
    assert feed(one, replied(ok(20, 30), ok(30, 40))) == [Settled()]
    outcome = one.outcome()
    assert outcome is not None
    assert outcome.native == fold(range(50), ordered=False)


def test_the_other_tasks_of_a_joint_answer_that_is_refused_go_out_again_at_once() -> None:
    one = begun(terms=50)
    feed(one, replied(ok(10, 20)))
    assert pushed(feed(one, replied(joint((0, 10), (10, 20), (30, 40))))) == [(0, 10), (30, 40)]
    assert (one.counted, one.ignored, sorted(one.out)) == (10, 3, [0, 20, 30, 40])


def test_a_joint_answer_may_end_with_a_part_of_a_task() -> None:
    one = begun(terms=30)
    rest = pushed(feed(one, replied(joint((20, 30), (0, 4)))))
    assert rest[0][0] == 4
    assert rest[-1][1] == 10
    assert (one.counted, sorted(one.out)) == (14, sorted([10, *(lo for lo, _ in rest)]))


@pytest.mark.parametrize("again", [False, True])
def test_a_joint_answer_is_told_as_the_answers_to_its_tasks_together(again: bool) -> None:
    """Its work and its terms, and how quickly tasks are done."""
    spans = [(40, 50), (0, 10), (10, 20)]
    alone, together = begun(terms=60), begun(terms=60)
    feed(alone, Replied("w", [replace(ok(*span), ns=2 * 10**9) for span in spans], again=again), 5.0)
    feed(together, Replied("w", [replace(joint(*spans), ns=6 * 10**9)], again=again), 5.0)
    assert together.worked == alone.worked == 6.0
    assert together.tasks == alone.tasks == 3
    for one in (alone, together):
        one.pace.observe(10, 1, 10**9, 10, 6.0)
    assert together.pace.terms_rate == alone.pace.terms_rate == 40.0
    shown, wanted = (told_by(one) for one in (together, alone))
    assert shown.rows == wanted.rows != []
    assert shown.buckets == wanted.buckets


def told_by(one: Ledger) -> Timeline:
    return one._recorder.timeline("j", version="0", master="m", began=0.0, before=0.0, now=6.0)


@pytest.mark.parametrize("spans", [[(0, 10), (90, 110)], [(0, 10), (5, 5)], [(0, 10), (8, 4)]])
def test_a_joint_answer_with_terms_that_were_never_cut_is_ignored(spans: list[tuple[int, int]]) -> None:
    one = begun(terms=100)
    assert feed(one, replied(joint(*spans))) == []
    assert (one.counted, one.ignored) == (0, 1)


# -- cutting and counting ------------------------------------------------------------------------------------------


def test_all_terms_go_out_once_and_in_order() -> None:
    assert pushed(feed(ledger(25), Resumed())) == [(0, 10), (10, 20), (20, 25)]


def test_a_window_of_tasks_is_out_at_most_and_refills_in_large_steps() -> None:
    one = ledger(10_000, chunk=1)
    assert len(pushed(feed(one, Resumed()))) == FIRST_WINDOW
    assert len(pushed(feed(one, replied(ok(0, 1))))) == QUICK_WINDOW - FIRST_WINDOW + 1  # it took no time
    assert pushed(feed(one, replied(ok(1, 2)))) == []
    quarter = QUICK_WINDOW // 4
    assert len(pushed(feed(one, replied(*(ok(k, k + 1) for k in range(2, quarter + 1)))))) == quarter


def test_every_answer_counts_once_in_any_order() -> None:
    one = begun(terms=25)
    assert feed(one, replied(ok(20, 25))) == []
    assert feed(one, replied(ok(0, 10), ok(0, 10))) == []
    assert feed(one, replied(ok(20, 25))) == []
    assert feed(one, replied(ok(10, 20), wid="v")) == [Settled()]
    assert one.tasks == 3
    assert one.ignored == 2
    outcome = one.outcome()
    assert outcome is not None
    assert outcome.native == fold(range(25), ordered=False)


def test_what_was_never_cut_is_no_answer() -> None:
    one = begun(terms=4000, chunk=1)
    cut = one.next
    assert cut < 4000
    for lo, hi in [(cut, cut + 1), (0, cut + 1), (-1, 1), (5, 5), (7, 3)]:
        assert feed(one, replied(Answer(lo, hi, 0, MAP, OK, b"", 1))) == []
    assert one.counted == 0
    assert one.ignored == 5


def test_a_body_that_cannot_be_read_is_not_counted() -> None:
    one = begun(terms=20)
    assert feed(one, replied(Answer(0, 10, 0, MAP, OK, b"?", 1), ok(10, 20))) == []
    assert one.counted == 10
    assert 0 in one.out
    assert one.tally.malformed == 1


@pytest.mark.parametrize(
    ("torn", "parts"),
    [
        ((0, 10), [(0, 5), (5, 10)]),
        ((0, 5), [(0, 2), (2, 5), (5, 10)]),  # a part answer
        ((0, 1), []),  # the value that cannot be read is alone: its caller has the error
        ((0, 11), []),
        ((5, 10), []),
    ],
)
def test_values_that_cannot_be_read_are_computed_again_in_halves(
    torn: tuple[int, int], parts: list[tuple[int, int]]
) -> None:
    one = begun(terms=20)
    one.tally.reducer.torn = [torn]
    commands = feed(one, replied(Answer(*torn, 0, MAP, OK, b"?", 1), ok(10, 20)))
    assert pushed(commands) == parts
    assert one.counted == 10
    assert sorted(one.out) == (sorted(lo for lo, _ in parts) or [0])


def test_a_failure_that_cannot_be_read_is_counted_as_malformed_once() -> None:
    one = begun(terms=20)
    assert feed(one, replied(replace(bad(0, 10, ERROR), body=b"?"))) == []
    assert (one.tally.malformed, one.ignored, set(one.out)) == (1, 0, {0, 10})


def test_an_answer_to_a_request_that_nobody_made_is_ignored() -> None:
    one = begun(terms=20)
    assert feed(one, replied(Answer(3, 4, 0, REQUEST, OK, b"", 1))) == []
    assert (one.ignored, one.counted) == (1, 0)


@pytest.mark.parametrize("keeps", [False, True])
def test_an_answer_that_was_counted_before_is_in_the_timeline_once(keeps: bool) -> None:
    """One that comes again has been told of if its job keeps all replies; else only what it adds is."""
    one = begun(terms=20)
    one.tally.reducer.__dict__["keeps"] = keeps
    feed(one, Replied("w", [ok(0, 10)], again=True))
    assert (told_by(one).rows == []) == keeps
    rows = told_by(one).rows
    feed(one, Replied("w", [ok(0, 10)], again=True))
    assert told_by(one).rows == rows


def test_more_terms_can_be_asked_for_at_the_end() -> None:
    one = begun(terms=30, first=20)
    assert feed(one, replied(ok(0, 10), ok(10, 20))) == [Settled()]
    assert one.outcome() is None
    assert pushed(feed(one, Resumed())) == [(20, 30)]
    assert feed(one, replied(ok(20, 30))) == [Settled()]
    assert one.outcome() is not None


# -- other cuts ----------------------------------------------------------------------------------------------------


def test_of_a_task_that_another_cut_has_counted_in_part_the_rest_goes_out() -> None:
    one = begun(terms=20)
    assert pushed(feed(one, replied(ok(3, 5)))) == [(0, 3), (5, 10)]
    assert feed(one, replied(ok(0, 3), ok(5, 10), ok(10, 20))) == [Settled()]


def test_the_rest_goes_out_also_where_the_whole_is_answered_in_the_same_breath() -> None:
    one = begun(terms=20)
    rest = pushed(feed(one, replied(ok(0, 5), ok(0, 10))))
    assert [k for lo, hi in rest for k in range(lo, hi)] == [5, 6, 7, 8, 9]


def test_the_rest_of_a_task_that_took_long_goes_out_to_all_in_pieces_that_double() -> None:
    one = begun(terms=300, chunk=100)
    rest = pushed(feed(one, replied(ok(0, 70))))
    assert rest == [(70, 71), (71, 72), (72, 74), (74, 76), (76, 80), (80, 84), (84, 92), (92, 100)]
    assert pushed(feed(one, replied(ok(0, 100)))) == []  # somebody else's whole: the part stays counted, once
    assert feed(one, replied(*(ok(lo, hi) for lo, hi in rest), ok(100, 200), ok(200, 300))) == [Settled()]
    assert one.outcome() is not None
    assert (one.counted, one.ignored) == (300, 1)


@pytest.mark.parametrize("answered", [lambda one: one, lambda one: replace(one, also=[])], ids=["alone", "joint"])
def test_the_rest_goes_out_like_that_also_where_the_first_terms_of_a_long_task_were_given_back(
    answered: Callable[[Answer], Answer],
) -> None:
    one = begun(terms=300, chunk=100)
    rest = pushed(feed(one, replied(answered(replace(ok(140, 170), ns=600_000_000)))))
    assert rest == [
        (100, 140),
        (170, 171),
        (171, 172),
        (172, 174),
        (174, 176),
        (176, 180),
        (180, 184),
        (184, 192),
        (192, 200),
    ]
    assert feed(one, replied(*(ok(lo, hi) for lo, hi in rest), ok(0, 100), ok(200, 300))) == [Settled()]
    assert (one.counted, one.ignored) == (300, 0)


@given(st.integers(1, 60), st.integers(2, 60), st.integers(1, 5))
def test_the_rest_of_items_carries_them_once_each(done: int, size: int, workers: int) -> None:
    assume(done < size)
    one = ledger(size, source=lambda _: (items(0, size), size, True))
    feed(one, Resumed())
    one.pace.workers = workers
    commands = feed(one, replied(ok(0, done)))
    tasks = [task for command in commands if isinstance(command, Push) for task in command.tasks]
    assert b"".join(task.body for task in tasks) == items(done, size)
    assert [len(task.body) for task in tasks] == [8 * (task.hi - task.lo) for task in tasks]


def test_a_wider_cut_strikes_off_all_that_it_covers() -> None:
    one = begun(terms=30)
    assert pushed(feed(one, replied(ok(5, 25)))) == [(0, 5), (25, 30)]
    assert sorted(one.out) == [0, 25]


def test_the_rest_of_a_task_with_items_keeps_its_own() -> None:
    def source(_: int) -> tuple[bytes, int, bool]:
        return items(0, 10), 10, True

    one = ledger(10, source=source)
    feed(one, Resumed())
    commands = feed(one, replied(ok(3, 5)))
    bodies = [task.body for command in commands if isinstance(command, Push) for task in command.tasks]
    assert bodies[:2] == [items(0, 3), items(5, 10)]


# -- what is lost --------------------------------------------------------------------------------------------------


def test_what_two_looks_miss_goes_out_again() -> None:
    one = begun(terms=30)
    assert pushed(feed(one, seen(one, without=(10,)))) == []
    assert pushed(feed(one, seen(one, without=(10,)))) == [(10, 20)]
    assert pushed(feed(one, seen(one))) == []


def test_what_one_look_misses_and_the_next_finds_is_not_lost() -> None:
    one = begun(terms=30)
    for without in [(10,), (), (10,), (20,), (10,)]:
        assert pushed(feed(one, seen(one, without=without))) == []


def test_after_a_reconnect_one_look_is_enough() -> None:
    one = begun(terms=30)
    feed(one, Resumed())
    assert pushed(feed(one, seen(one, without=(0, 20), held=(10,)))) == [(0, 10), (20, 30)]


def test_what_is_pushed_after_a_look_is_not_missing_in_it() -> None:
    one = ledger(4000, chunk=1)
    feed(one, Resumed())
    feed(one, replied(ok(0, 1)))
    many = QUICK_WINDOW // 2
    answered = [replied(*(ok(k, k + 1) for k in range(1, many + 1)))]
    look = Surveyed(list(one.out.values())[many:], [], 2, slack=False, answered=answered)
    fresh = pushed(feed(one, look))
    assert fresh == [(k, k + 1) for k in range(QUICK_WINDOW + 1, QUICK_WINDOW + 1 + many)]


def test_what_an_answer_in_a_look_sends_out_again_is_not_cut_anew() -> None:
    one = ledger(40, on_error="skip")
    feed(one, Resumed())
    look = seen(one, without=(0,), answered=(replied(bad(0, 10, ERROR, term=4)),))
    assert sorted(pushed(feed(one, look))) == [(0, 4), (5, 10)]


def test_what_a_later_answer_counts_of_it_does_not_go_out_again() -> None:
    one = ledger(40, on_error="skip")
    feed(one, Resumed())
    answered = (replied(bad(0, 10, ERROR, term=4)), replied(ok(5, 10)))
    assert pushed(feed(one, seen(one, without=(0,), answered=answered))) == [(0, 4)]


# -- stragglers ----------------------------------------------------------------------------------------------------


def test_a_straggler_has_one_backup_when_nothing_else_waits() -> None:
    one = begun(terms=40)
    feed(one, replied(ok(0, 10)))
    rest = (10, 20, 30)
    assert pushed(feed(one, seen(one, held=rest), now=10)) == []
    assert pushed(feed(one, seen(one, held=rest), now=14.9)) == []
    assert pushed(feed(one, seen(one, held=rest), now=15.1)) == [(10, 20), (20, 30), (30, 40)]
    assert pushed(feed(one, seen(one, held=rest), now=30)) == []


def test_no_backup_of_what_nothing_finished_can_be_compared_with() -> None:
    one = begun(terms=30)
    everything = (0, 10, 20)
    for now in (10, 20, 1000):
        assert pushed(feed(one, seen(one, held=everything), now=now)) == []


def test_a_new_master_compares_with_what_the_old_one_has_seen() -> None:
    old = begun(terms=30)
    feed(old, replied(ok(0, 10)), now=10)
    one = Ledger(old.spec, old.computation, 100.0, checkpoint=old.checkpoint(10))
    out = [Task("j", 10, 20), Task("j", 20, 30)]
    look = Surveyed([], out, 2, slack=True)
    assert pushed(feed(one, look, now=100)) == []
    assert pushed(feed(one, look, now=159)) == []  # ten seconds of two workers for one task, three times
    assert pushed(feed(one, look, now=161)) == [(10, 20), (20, 30)]


def test_no_backup_as_long_as_tasks_wait() -> None:
    one = begun(terms=30)
    feed(one, replied(ok(0, 10)))
    for now in (10, 20, 30):
        assert pushed(feed(one, seen(one, held=(10,)), now=now)) == []


def test_who_takes_it_anew_has_its_time_anew() -> None:
    one = begun(terms=20)
    feed(one, replied(ok(10, 20)))
    feed(one, seen(one, held=(0,)), now=10)
    feed(one, seen(one), now=13)  # back in the queue
    feed(one, seen(one, held=(0,)), now=16)
    assert pushed(feed(one, seen(one, held=(0,)), now=20)) == []
    assert pushed(feed(one, seen(one, held=(0,)), now=22)) == [(0, 10)]


# -- failures ------------------------------------------------------------------------------------------------------


def test_a_term_that_raises_fails_the_job_by_name() -> None:
    one = begun(terms=30)
    (command,) = one.receive(replied(bad(10, 20, ERROR, term=13)), 0)
    assert isinstance(command, Broken)
    assert command.span == Span(13, 14)
    assert one.receive(replied(ok(0, 10)), 0) == [command]  # and nothing else happens any more


def test_a_term_that_raises_is_skipped_where_that_is_wanted() -> None:
    one = begun(terms=30, on_error="skip")
    assert pushed(feed(one, replied(bad(10, 20, ERROR, term=13)))) == [(10, 13), (14, 20)]
    assert feed(one, replied(ok(0, 10), ok(20, 30), ok(10, 13), ok(14, 20))) == [Settled()]
    assert [term for term, _ in one.skipped] == [13]
    outcome = one.outcome()
    assert outcome is not None
    assert outcome.native == fold([k for k in range(30) if k != 13], ordered=False)


def test_the_record_has_the_skipped_terms_in_their_order() -> None:
    one = begun(terms=30, on_error="skip")
    for lo, term in ((20, 27), (0, 3), (10, 15)):  # as their answers came
        feed(one, replied(bad(lo, lo + 10, ERROR, term=term)))
    feed(one, replied(*(ok(lo, hi) for lo, hi in ((0, 3), (4, 10), (10, 15), (16, 20), (20, 27), (28, 30)))))
    outcome = one.outcome()
    assert outcome is not None
    record = record_of(one.spec, one, outcome, ended="all", workers=1, now=1.0)
    assert [skipped.term for skipped in record.skipped] == [3, 15, 27]
    assert (record.terms, record.terms_used, record.counted) == (30, 27, 30)


@pytest.mark.parametrize("status", [ERROR, DIED])
def test_a_failure_that_names_no_term_is_found_by_halving(status: int) -> None:
    one = begun(terms=8, chunk=8, on_error="skip")
    lo, hi = 0, 8
    while hi - lo > 1:
        commands = feed(one, replied(bad(lo, hi, status)))
        middle = (lo + hi + 1) // 2
        assert pushed(commands) == [(lo, middle), (middle, hi)]
        tries = {task.attempt for command in commands if isinstance(command, Push) for task in command.tasks}
        assert tries == ({2} if status == DIED else {0})  # who has died of a whole has one more try for each half
        lo, hi = (lo, middle) if lo <= 5 < middle else (middle, hi)
    feed(one, replied(bad(5, 6, status)))
    assert [term for term, _ in one.skipped] == [5]


@pytest.mark.parametrize("on_error", ["fail", "skip"])
def test_a_mistake_of_ours_ends_the_job_at_once(on_error: Literal["fail", "skip"]) -> None:
    """Each term would meet it: the task was halved until one was alone, and with `skip` all were left out so."""
    one = begun(terms=20, chunk=10, on_error=on_error)
    assert feed(one, replied(mistaken(10, 20))) == [Broken(Span(10, 20), Failure(OURS, "KeyError", "no", "", "w"))]


@pytest.mark.parametrize(("law", "terms"), [(Law.ORDERED, 8), (Law.COMMUTATIVE, 7), (Law.APPROXIMATE, 7)])
def test_terms_that_were_left_out_are_not_in_the_value(law: Law, terms: int) -> None:
    assert used(10, [], law) == 10
    assert used(10, [3, 9, 10], law) == terms


def test_a_failure_of_what_is_counted_is_ignored() -> None:
    one = begun(terms=20)
    feed(one, replied(ok(0, 10)))
    assert feed(one, replied(bad(0, 10, ERROR, term=3))) == []
    assert feed(one, replied(bad(0, 5, ERROR, term=3))) == []
    assert one.ignored == 2


def test_an_answer_of_a_kind_that_is_unknown_is_ignored_and_its_task_stays_out() -> None:
    one = begun(terms=20)
    assert feed(one, replied(bad(0, 10, 99, term=3))) == []
    assert (one.ignored, set(one.out)) == (1, {0, 10})


def test_a_term_outside_its_span_is_a_failure_of_the_kernel() -> None:
    one = begun(terms=20, on_error="skip")
    (command,) = one.receive(replied(bad(0, 10, ERROR, term=15)), 0)
    assert isinstance(command, Broken)


@pytest.mark.parametrize(("kind", "skips"), [("WorkerDied", True), ("WorkerLost", False)])
def test_a_term_is_left_out_only_where_somebody_saw_its_workers_die(kind: str, skips: bool) -> None:
    one = begun(terms=1, on_error="skip")
    body = encode_failure(Failure(0, kind, "its host or supervisor was lost", "", ""))
    (command,) = one.receive(replied(Answer(0, 1, 3, MAP, DIED, body, 0)), 0)
    assert isinstance(command, Settled if skips else Broken)
    assert [term for term, _ in one.skipped] == ([0] if skips else [])


def test_a_job_is_refused_when_every_worker_refuses_it() -> None:
    one = begun(terms=20)  # two workers
    assert pushed(feed(one, replied(bad(0, 10, REFUSED), wid="a"))) == [(0, 10)]
    assert pushed(feed(one, replied(bad(10, 20, REFUSED), wid="a"))) == [(10, 20)]
    (command,) = one.receive(replied(bad(0, 10, REFUSED), wid="b"), 0)
    assert isinstance(command, Broken)


def test_how_many_workers_there_are_the_first_look_tells() -> None:
    one = ledger(terms=20)
    feed(one, Resumed())
    for wid in "abc":
        assert pushed(feed(one, replied(bad(0, 10, REFUSED), wid=wid))) == [(0, 10)]
    assert set(one.refusals) == set("abc")


def test_who_waits_for_workers_waits_for_one_that_can() -> None:
    one = begun(terms=20, patient=True)
    for wid in "abc":
        assert pushed(feed(one, replied(bad(0, 10, REFUSED), wid=wid))) == [(0, 10)]
    assert [command for command in feed(one, replied(ok(0, 10), ok(10, 20))) if isinstance(command, Settled)]


# -- masters -------------------------------------------------------------------------------------------------------


def restored(one: Ledger) -> Ledger:
    return Ledger(one.spec, one.computation, 0.0, checkpoint=one.checkpoint(0.0))


@pytest.mark.parametrize("ordered", [False, True])
def test_a_checkpoint_restores_exactly_what_is_counted(ordered: bool) -> None:
    one = begun(terms=30, ordered=ordered)
    partial = ENCODE(fold(range(10, 20), ordered=ordered))
    feed(one, replied(Answer(10, 20, 0, MAP, OK, partial, 1)))
    again = restored(one)
    assert again.counted == 10
    assert again.tally.runs == one.tally.runs
    assert again.tally.parts() == one.tally.parts()
    assert feed(again, replied(Answer(10, 20, 0, MAP, OK, partial, 1))) == []
    assert again.counted == 10


def test_a_new_master_adopts_what_lies_around_and_cuts_the_gaps() -> None:
    one = begun(terms=60)
    feed(one, replied(ok(10, 20)))
    again = restored(one)
    found = Surveyed([Task("j", 30, 40), Task("j", 35, 45)], [Task("j", 0, 10), Task("j", 15, 25)], 1, slack=False)
    assert sorted(pushed(feed(again, found))) == [(20, 30), (40, 50), (50, 60)]
    assert sorted(again.out) == [0, 20, 30, 40, 50]


def test_a_new_master_cuts_nothing_before_it_has_looked() -> None:
    again = restored(begun(terms=1000, chunk=1))
    assert feed(again, Resumed()) == []
    assert pushed(feed(again, replied(ok(0, 1)))) == []
    assert pushed(feed(again, Surveyed([], [], 1, slack=True)))[0] == (1, 2)


def test_a_new_master_counts_what_was_cut_after_the_checkpoint() -> None:
    one = begun(terms=10_000, chunk=1)
    after = one.next + 6
    again = restored(one)
    feed(again, replied(ok(after, after + 1)))
    assert again.counted == 1
    feed(again, Surveyed([], [], 1, slack=True))
    assert feed(again, replied(ok(9000, 9001))) == []
    assert again.counted == 1


def test_looking_around_in_a_full_window_is_quick() -> None:
    one = ledger(40_000, chunk=1)
    tasks = [Task("j", k, k + 1) for k in range(16_384)]
    one.next = 16_384
    began = time.process_time()
    one.receive(Surveyed(tasks[::2], tasks[1::2], 2, slack=False), 0)
    assert time.process_time() - began < 1.0  # one look at each task; a look at each pair would take a minute
    assert len(one.out) == 16_384


def test_a_checkpoint_of_another_job_is_refused() -> None:
    one = begun()
    other = Spec(job="k", computation="sim", params={}, total=100, limits=Limits(), created=0, version="0")
    with pytest.raises(BadMessage, match="belongs to j"):
        Ledger(other, one.computation, 0.0, checkpoint=one.checkpoint(0.0))


def test_elapsed_time_adds_up_over_masters() -> None:
    one = ledger()
    again = Ledger(one.spec, one.computation, 100.0, checkpoint=one.checkpoint(7.0))
    assert again.elapsed(103.0) == pytest.approx(10.0)


# -- items from an iterator ----------------------------------------------------------------------------------------


def test_an_iterators_end_is_the_jobs_total() -> None:
    row = iter([(items(0, 10), 10, False), (items(10, 13), 3, True)])
    one = ledger(13, source=lambda _: next(row))
    assert (pushed(feed(one, Resumed())), one.waits) == ([(0, 10)], True)  # whatever the iterator does then
    assert (pushed(feed(one, replied())), one.total) == ([(10, 13)], 13)
    assert feed(one, replied(ok(0, 10), ok(10, 13))) == [Settled()]


def test_an_empty_iterator_settles_at_once() -> None:
    one = ledger(0, source=lambda _: (b"", 0, True))
    assert one.receive(Resumed(), 0) == [Settled()]


def test_what_is_out_of_an_iterators_items_is_as_large_as_redis_should_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often there is room in the window: one item more than that is out at most."""
    monkeypatch.setattr(supply, "OUT_BYTES", 3 * len(items(0, 4)))
    at = iter(range(0, 10_000, 4))

    def source(_: int) -> tuple[bytes, int, bool]:
        lo = next(at)
        return items(lo, lo + 4), 4, False

    one = ledger(10_000, chunk=4, source=source)
    out = [pushed(feed(one, Resumed())), *(pushed(feed(one, replied())) for _ in range(8))]
    assert [len(row) for row in out] == [1, 3, 0, 0, 0, 0, 0, 0, 0]
    assert pushed(feed(one, replied(ok(0, 4), ok(4, 8)))) == [(16, 20), (20, 24)]


def test_what_an_iterator_has_goes_out_and_it_is_asked_again() -> None:
    row = iter([(items(0, 4), 4, False), (b"", 0, False), (items(4, 14), 10, False), (b"", 0, True)])
    one = ledger(14, source=lambda _: next(row))
    assert (pushed(feed(one, Resumed())), one.waits) == ([(0, 4)], True)
    assert (pushed(feed(one, replied())), one.waits) == ([], True)
    assert (pushed(feed(one, replied())), one.waits, one.total) == ([(4, 14)], False, 14)
    assert feed(one, replied(ok(4, 14), ok(0, 4))) == [Settled()]


class Waiting:
    """A source that knows whether it has items; ``asked``: how often it was asked for some."""

    def __init__(self) -> None:
        self.there = self.taken = self.asked = 0
        self.over = False

    def news(self) -> bool:
        return self.there > 0 or self.over

    def __call__(self, count: int) -> tuple[bytes, int, bool]:
        self.asked += 1
        got = min(count, self.there)
        self.there, self.taken = self.there - got, self.taken + got
        return items(self.taken - got, self.taken) if got else b"", got, self.over and not self.there


def test_a_source_that_says_that_it_has_nothing_is_not_asked_for_items() -> None:
    source = Waiting()
    one = ledger(2, chunk=1, source=source)
    assert (pushed(feed(one, Resumed())), one.waits, source.asked) == ([], True, 0)
    source.there = 1
    assert (pushed(feed(one, replied())), one.waits, source.asked) == ([(0, 1)], True, 1)
    assert (feed(one, replied(ok(0, 1))), one.waits, source.asked) == ([], True, 1)
    source.there = 1
    assert (pushed(feed(one, replied())), one.waits, source.asked) == ([(1, 2)], True, 2)
    source.over = True  # of which it says, too
    assert (feed(one, replied()), one.total, source.asked) == ([], 2, 3)
    assert feed(one, replied(ok(1, 2))) == [Settled()]
