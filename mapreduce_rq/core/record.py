"""The record of a finished job: what `mrq compute --json` prints and what stays in Redis a while. Keys are stable."""

from __future__ import annotations

import hashlib
from typing import Any

from mapreduce_rq.core.computation import Outcome
from mapreduce_rq.core.ledger import Ledger
from mapreduce_rq.core.messages import Spec

SCHEMA = 1


def digest_of(total: bytes) -> str:
    """128 bits of the exact total, as hex: equal for equal totals, whatever the schedule."""
    return hashlib.blake2b(total, digest_size=16, person=b"mrq digest").hexdigest()


def shown_params(spec: Spec) -> dict[str, Any]:
    """The parameters, less what only workers read."""
    return {name: value for name, value in spec.params.items() if not isinstance(value, bytes)}


def record_of(spec: Spec, ledger: Ledger, outcome: Outcome, *, ended: str, workers: int, now: float) -> dict[str, Any]:
    """The record of a job that ends with a value. ``ended``: why it did."""
    terms, total = ledger.tally.prefix()
    skipped = [
        {"term": term, "kind": failure.kind, "message": failure.message, "where": failure.where}
        for term, failure in ledger.skipped
    ]
    return {
        "schema": SCHEMA,
        "job": spec.job,
        "computation": spec.computation,
        "params": shown_params(spec),
        "value": outcome.value,
        "float": outcome.number,
        "bound": outcome.bound,
        "bound_kind": outcome.bound_kind,
        "terms": spec.params.get("terms") or ledger.total,
        "terms_used": terms,
        "tasks": ledger.tasks,
        "workers": workers,
        "elapsed_s": round(ledger.elapsed(now), 6),
        # What was decided without a term has no total to tell answers apart.
        "digest": digest_of(ledger.computation.reducer.encode(total) if terms else outcome.value.encode()),
        "ended": ended,
        "skipped": skipped,
        "details": outcome.details,
        "notes": list(outcome.notes),
    }
