"""The records of the three ends of a job: done, failed, cancelled."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from operator import attrgetter, itemgetter
from types import NoneType
from typing import Any

from msgspec.structs import replace

from mapreduce_rq.core.computation import Computation, More, Outcome
from mapreduce_rq.core.job.ledger import Ledger
from mapreduce_rq.core.job.record import Cancelled, Done, Failed, Retried, Skipped
from mapreduce_rq.core.messages import Failure, Spec
from mapreduce_rq.core.reducers.base import Law
from mapreduce_rq.core.span import Span
from mapreduce_rq.core.text import plural

_PLAIN = frozenset({str, int, float, bool, NoneType})
"""Types of parameters that are bytes, and hold bytes, in no case."""


def digest_of(total: bytes) -> str:
    """128 bits of the exact total, as hex: equal for equal totals, whatever the schedule."""
    return hashlib.blake2b(total, digest_size=16, person=b"mrq digest").hexdigest()


def shown_params(spec: Spec) -> dict[str, Any]:
    """The parameters, without those that only workers read."""
    return spec.params if _PLAIN.issuperset(map(type, spec.params.values())) else _without_bytes(spec.params)


def _without_bytes(params: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _without_bytes(value) if isinstance(value, dict) else value
        for name, value in params.items()
        if not isinstance(value, bytes)
    }


def outcome_so_far(computation: Computation[Any], ledger: Ledger) -> Outcome | None:
    """The outcome of the terms that are counted; None if there is none yet. It may take a long time."""
    terms, partial = ledger.tally.prefix()
    found = computation.conclude(partial, terms) if terms else None
    if found is not None and not isinstance(found, More):
        return found
    peek = computation.peek(partial, terms) if terms else None
    return None if peek is None else Outcome(value=peek.value, number=peek.number, bound_kind="none")


def without_terms(spec: Spec, ledger: Ledger, outcome: Outcome) -> Outcome:
    """An outcome that lacks terms, with its bound only if the bound is still true.

    A statistical bound is still true if the terms are samples: any subset of them is a sample, too. This does not hold
    for items that are drawn at random and were ended by a deadline: the missing ones are those that take long. A proven
    bound is still true if the computation ended early after its first terms, and knows how many they are. For a user's
    function there is no bound, since it does not say what the missing terms can be.
    """
    gaps = bool(ledger.skipped) or [lo for lo, _ in ledger.tally.runs] not in ([], [0])
    if outcome.bound is None or (outcome.bound_kind == "statistical" and ledger.computation.samples):
        return outcome
    if (
        outcome.bound_kind not in {"exact", "statistical"}
        and not gaps
        and spec.computation not in {"function", "files"}
    ):
        return outcome
    notes = (*(note for note in outcome.notes if not note.startswith("bound: ")), "no bound: terms are missing")
    return replace(outcome, bound=None, bound_kind="none", notes=notes)


def used(terms: int, skipped: Iterable[int], law: Law) -> int:
    """The number of terms in a value, of ``terms`` that are counted: without those that were left out. If terms have an
    order, those that were left out behind the last one are not counted.
    """
    return terms - sum(law is not Law.ORDERED or term < terms for term in skipped)


def record_of(spec: Spec, ledger: Ledger, outcome: Outcome, *, ended: str, workers: int, now: float) -> Done:
    """The record of a job that ends with a value. ``ended``: the reason, see ``Result.ended``."""
    reducer = ledger.computation.reducer
    terms, total = ledger.tally.prefix()
    if ended == "deadline" or ledger.skipped:
        outcome = without_terms(spec, ledger, outcome)
    large = outcome.text is not None  # then text and digest are made only when a caller asks for them
    return Done(
        job=spec.job,
        computation=spec.computation,
        params=shown_params(spec),
        value=None if large else outcome.value,
        number=outcome.number,
        bound=outcome.bound,
        bound_kind=outcome.bound_kind,
        terms=spec.params.get("terms") or ledger.total,
        terms_used=used(terms, (term for term, _ in ledger.skipped), ledger.computation.law),
        tasks=ledger.tasks,
        workers=workers,
        elapsed_s=round(ledger.elapsed(now), 6),
        # A value that needed no term has no total, so it has no digest.
        digest=None if large else digest_of(reducer.canonical(total) if terms else outcome.value.encode()),
        ended=ended,
        skipped=[
            Skipped(ledger.computation.place(term), failure.kind, failure.message, failure.where)
            for term, failure in sorted(ledger.skipped, key=itemgetter(0))
        ],
        retried=[
            Retried(ledger.computation.place(one.term), one.tries, one.kind, one.message, one.where)
            for one in sorted(ledger.tried, key=attrgetter("term"))
        ],
        details=outcome.details,
        notes=[
            *outcome.notes,
            *(_further(ledger.tried_more) if ledger.tried_more else ()),
            *(_left(ledger.taken - terms) if ended == "deadline" and ledger.taken is not None else ()),
        ],
    )


def _left(items: int) -> list[str]:
    """What is said of items that the iterable gave, and does not give again."""
    words = plural(items, "item", shown=f"{items:,} further")
    verb = "was" if items == 1 else "were"
    return [f"{words} {verb} taken from the iterable and {verb} not counted before the deadline"] if items else []


def _further(tried: int) -> list[str]:
    return [f"{tried:,} further terms took more than one call, too"]


def failed_record(spec: Spec, computation: Computation[Any], span: Span, failure: Failure) -> Failed:
    """The record of a job that ends without a value because these terms failed."""
    return Failed(
        job=spec.job,
        computation=spec.computation,
        params=shown_params(spec),
        term=computation.place(span.lo) if span.size == 1 else None,
        span=(span.lo, span.hi),
        kind=failure.kind,
        message=failure.message,
        traceback=failure.traceback,
        where=failure.where,
    )


def cancelled_record(spec: Spec, why: str, *, now: bool) -> Cancelled:
    """The record of a job that is cancelled; ``now``: also the tasks that workers have in hand for it."""
    return Cancelled(job=spec.job, computation=spec.computation, message=why, now=now)
