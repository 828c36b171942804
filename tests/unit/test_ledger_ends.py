"""What a ledger says at the end of its job: an outcome, whether a tolerance is met, and what is kept of the terms."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from mapreduce_rq.core.computation import More
from mapreduce_rq.core.job.ends import record_of
from mapreduce_rq.core.job.events import Source
from mapreduce_rq.core.job.ledger import Ledger
from mapreduce_rq.core.job.tally import HEAVY_BYTES, Tally
from mapreduce_rq.core.messages import ERROR, Failure, Limits, Spec, Tried
from mapreduce_rq.core.outcome import Outcome
from tests.sim.computation import Laid, LaidTerms, RowOfTerms, SimComputation, SumOfTerms, TestParams, fold, items
from tests.unit.test_ledger import bad, begun, feed, ledger, ok, replied

TERMS = 100


def counted(computation: SimComputation, limits: Limits) -> Ledger:
    """A ledger of this computation, all of whose terms are counted."""
    spec = Spec(job="j", computation="sim", params={}, total=TERMS, limits=limits, created=0, version="0")
    one = Ledger(spec, computation, 0.0)
    encode = computation.reducer.encode
    one.tally.count([(0, TERMS, encode(computation.map(0, TERMS)))])
    return one


def ends_with(outcome: Any, limits: Limits) -> Ledger:
    """A ledger whose computation ends with this."""
    computation = SimComputation(TestParams(terms=TERMS))
    computation.finish = lambda *_: outcome  # type: ignore[method-assign]
    one = counted(computation, limits)
    one.met = False  # at the last look, the error was not known
    return one


@pytest.mark.parametrize(
    ("limits", "bound", "met"),
    [
        (Limits(abs_tol=0.5), "0.5", True),
        (Limits(abs_tol=0.5), "0.25", True),
        (Limits(abs_tol=0.5), "0.75", False),
        (Limits(rel_tol=0.5), "2", True),
        (Limits(rel_tol=0.5), "2.5", False),
        (Limits(abs_tol=0.5), None, False),
    ],
)
def test_a_tolerance_is_met_if_the_bound_of_the_outcome_is_within_it(
    limits: Limits, bound: str | None, met: bool
) -> None:
    one = ends_with(Outcome(value="4", number=4.0, bound=bound, bound_kind="proven"), limits)
    assert one.outcome() is not None
    assert one.met is met


def test_of_a_value_that_is_no_number_no_relative_tolerance_is_met() -> None:
    one = ends_with(Outcome(value="(1, 2)", bound="0.1", bound_kind="proven"), Limits(rel_tol=0.5))
    assert one.outcome() is not None
    assert one.met is False


def test_a_computation_may_ask_for_more_terms_and_for_no_fewer() -> None:
    for total in (TERMS - 1, TERMS):
        with pytest.raises(ValueError, match=f"sim asked for {total} terms having {TERMS}"):
            ends_with(More(total), Limits()).outcome()
    one = ends_with(More(TERMS + 1), Limits())
    assert one.outcome() is None
    assert (one.total, one.goal, one.settled()) == (TERMS + 1, TERMS + 1, False)


def test_a_running_value_needs_a_term() -> None:
    one = ledger(TERMS)
    peeked: list[int] = []
    one.computation.peek = lambda _, terms: peeked.append(terms)  # type: ignore[method-assign,assignment]
    one.progress()
    assert peeked == []
    one = begun()
    one.computation.peek = lambda _, terms: peeked.append(terms)  # type: ignore[method-assign,assignment]
    one.receive(replied(ok(0, 10)), 0.1)
    one.progress()
    assert peeked == [10]


# -- what others find --------------------------------------------------------------------------------------------------


def laid(*, lasts: bool) -> Ledger:
    computation = SimComputation(TestParams(terms=TERMS, laid=True))
    assert isinstance(computation.reducer, LaidTerms)
    if not lasts:
        computation.reducer.lasting = lambda _: None  # type: ignore[method-assign,assignment,return-value]
    return counted(computation, Limits())


def test_an_outcome_takes_the_place_of_what_refers_to_pieces() -> None:
    one = laid(lasts=True)
    whole = fold(range(TERMS), ordered=False)
    assert one.conclude(Outcome(value="", native=whole)) is True
    assert one.checkpoint(1.0).runs == [(0, TERMS)]
    assert one.tally.prefix() == (TERMS, Laid(whole, (), whole))


def test_what_its_caller_alone_has_is_not_kept() -> None:
    one = laid(lasts=False)
    before = one.tally
    assert one.conclude(Outcome(value="")) is False
    assert one.tally is before


@pytest.mark.parametrize("kind", [SumOfTerms(), RowOfTerms()], ids=["commutative", "ordered"])
def test_a_concluded_tally_has_the_same_terms_and_the_other_partial(kind: SumOfTerms) -> None:
    ordered = isinstance(kind, RowOfTerms)
    tally = Tally(kind)
    tally.count([(0, 7, kind.encode(fold(range(7), ordered=ordered)))])
    tally.count([(9, 12, kind.encode(fold(range(9, 12), ordered=ordered)))])
    terms, _ = tally.prefix()
    found = tally.concluded(terms, (5, 6, 7))
    assert found.prefix() == (terms, (5, 6, 7)) == (7 if ordered else 10, (5, 6, 7))
    assert found.runs.pairs() == ([(0, 7)] if ordered else [(0, 7), (9, 12)])


def test_of_kept_replies_a_checkpoint_has_the_terms_left_out() -> None:
    """All others are in the stream."""
    one = begun(terms=100, chunk=1, on_error="skip", kept=True, ordered=True)
    for term in (3, 4, 7):
        one.receive(replied(bad(term, term + 1, ERROR, term)), 0.1)
    found = one.checkpoint(2.0)
    assert found.runs == [(3, 5), (7, 8)]
    assert [part[:2] for part in found.parts] == [(3, 5), (7, 8)]
    assert [term for term, _ in found.skipped] == [3, 4, 7]
    assert found.tasks == 0


def test_a_checkpoint_has_what_the_next_master_needs_and_no_pickles() -> None:
    one = begun(terms=100, on_error="skip")
    one.receive(replied(ok(0, 10)), 0.1)
    one.elapsed_before = 5.0
    one.skipped.append((77, one_failure(b"a pickle")))
    found = one.checkpoint(2.0)
    assert (found.job, found.runs, found.next, found.total, found.goal) == ("j", [(0, 10)], one.next, 100, one.goal)
    assert (found.tasks, found.elapsed) == (1, 7.0)
    assert found.skipped == [(77, one_failure(b""))]


@pytest.mark.parametrize("kept", [False, True])
def test_a_checkpoint_has_the_retries_that_no_kept_reply_tells(kept: bool) -> None:
    one = begun(terms=100, kept=kept, ordered=True)
    one.tried.append(Tried(3, 2, "ValueError", "no"))
    one.tried_more = 7
    found = one.checkpoint(2.0)
    assert (found.tried, found.tried_more) == (([], 0) if kept else (one.tried, 7))


def one_failure(pickled: bytes) -> Failure:
    return replace(Failure(77, "ValueError", "no", "", "w"), pickled=pickled)


def test_heavy_neighbours_of_one_batch_wait_to_be_merged_elsewhere() -> None:
    kind = RowOfTerms()
    kind.weight = lambda partial: HEAVY_BYTES * len(partial)  # type: ignore[method-assign]
    kind.decode = lambda data: (len(data), 0, 0)  # type: ignore[method-assign]
    heavy = bytes(HEAVY_BYTES // 2)
    tally = Tally(kind)
    assert tally.count([(0, 1, heavy), (1, 2, heavy)]) == [(0, 2)]
    assert tally.wishes == [(0, 1, 2)]
    tally = Tally(kind)
    assert tally.count([(0, 1, heavy[1:]), (1, 2, heavy)]) == [(0, 2)]
    assert tally.wishes == []


def first_items(most: int) -> Source:
    """A source that gives ``most`` items, and then none for now."""
    at = 0

    def take(count: int) -> tuple[bytes, int, bool]:
        nonlocal at
        lo, at = at, min(most, at + count)
        return items(lo, at), at - lo, False

    return take


@pytest.mark.parametrize(
    ("answered", "note"),
    [
        (0, "30 further items were taken from the iterable and were not counted before the deadline"),
        (1, "20 further items were taken from the iterable and were not counted before the deadline"),
        (3, None),
    ],
)
def test_items_that_were_taken_and_are_not_counted_at_a_deadline_are_told(answered: int, note: str | None) -> None:
    """The iterable does not give them again, so a caller that goes on with it must know of them."""
    one = ledger(terms=0, chunk=10, source=first_items(30))
    one.receive(replied(), 0)
    while one.next < 30:
        one.receive(replied(), 0)
    feed(one, replied(*(ok(lo, lo + 10) for lo in range(0, 10 * answered, 10))))
    outcome = Outcome(value="0")
    for ended in ("deadline", "all"):
        record = record_of(one.spec, one, outcome, ended=ended, workers=1, now=1.0)
        told = [text for text in record.notes if "taken" in text]
        assert told == ([note] if note and ended == "deadline" else [])
        assert (record.terms, record.terms_used) == (None, 10 * answered)


def test_one_item_is_told_in_the_singular() -> None:
    one = ledger(terms=0, chunk=1, source=first_items(1))
    one.receive(replied(), 0)
    (note,) = record_of(one.spec, one, Outcome(value="0"), ended="deadline", workers=1, now=1.0).notes[-1:]
    assert note == "1 further item was taken from the iterable and was not counted before the deadline"
