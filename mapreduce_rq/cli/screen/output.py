"""A job's record as text for people and for programs. Pure: a record in, text out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from mapreduce_rq.core.job.record import Report
from mapreduce_rq.core.text import duration, plural, short, without_value
from mapreduce_rq.core.written import untorn

FORMATS = ("text", "value", "json")
NO_BOUND = "no bound: "
"""How a computation's note about a missing bound begins."""
MAX_SKIPPED = 5
MAX_EXACT = 100
"""At most this many characters of an exact number are shown; JSON has all of them."""


def as_json(data: Any, other: Callable[[Any], Any] | None = None) -> str:
    """One line of JSON in printable ASCII, so that any terminal can show it. Infinity and nan become null.

    ``other``: makes what JSON has of objects of other types.
    """
    try:
        text = msgspec.json.encode(data, enc_hook=other).decode()
    except UnicodeEncodeError:
        text = msgspec.json.encode(untorn(data), enc_hook=other).decode()
    return text if text.isascii() and text.isprintable() else re.sub(r"[^\x00-\x7e]", _escaped, text)


def _escaped(match: re.Match[str]) -> str:
    units = match[0].encode("utf-16-be")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


def about(record: Mapping[str, Any]) -> list[str]:
    """What is to be known about a value: one line for each fact."""
    rows = list(_rows(record))
    width = max(len(name) for name, _ in rows)
    return [f"  {name:<{width}}  {text}" for name, text in rows]


def _rows(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    details = dict(record.get("details") or {})
    notes = list(record.get("notes") or ())
    yield "error bound", _bound(record, notes)
    if "x" in details:
        yield "x", f"{short(details.pop('x'), MAX_EXACT)} (exact)"
    for name, value in details.items():
        if isinstance(value, bool):
            if value:
                yield name, "yes"
        elif value is not None:
            yield name, str(value)
    yield "terms", _terms(record)
    yield "tasks", str(record["tasks"])
    yield "workers", str(record["workers"])
    yield "seconds", f"{record['elapsed_s']:.3f}"
    if record["digest"] is not None:
        yield "digest", str(record["digest"])
    if record.get("ended") not in {None, "all"}:
        yield "ended by", str(record["ended"])
    if skipped := record.get("skipped"):
        yield "skipped", without_value(len(skipped))
        yield from _listed([f"term {one['term']}" for one in skipped], skipped)
    if retried := record.get("retried"):
        yield "retried", f"{len(retried)} of the terms took more than one call"
        yield from _listed([f"term {one['term']}: {one['tries']} calls" for one in retried], retried)
    for note in notes:
        if not note.startswith(NO_BOUND):
            yield "note", note


def _listed(names: list[str], failures: list[Any]) -> Iterator[tuple[str, str]]:
    """The first of these terms with what each has raised, and how many more there are."""
    for name, one in zip(names[:MAX_SKIPPED], failures, strict=False):
        yield "", f"{name}: {one['kind']}: {short(one['message'], 100)}"
    if len(names) > MAX_SKIPPED:
        yield "", f"and {len(names) - MAX_SKIPPED} more (--json has them)"


def _bound(record: Mapping[str, Any], notes: list[str]) -> str:
    kind = record.get("bound_kind", "none")
    if record.get("bound") is not None:
        return f"{record['bound']} ({kind})"
    return next((note for note in notes if note.startswith(NO_BOUND)), "no bound: none is known for this value")


def _terms(record: Mapping[str, Any]) -> str:
    used, asked = record.get("terms_used"), record.get("terms")
    return str(used) if asked in {None, used} else f"{used} used, {asked} asked"


def progress_line(report: Report) -> str:
    """A job's progress in one plain line: ``142/1000 14.2% 310/s ETA 3.4 s est=7.389 +-3e-9``."""
    counted, total, per_second = report.counted, report.total, report.rate
    words = [f"{counted}/{total} {100 * counted / total:.1f}%" if total else plural(counted, "term")]
    words.append(f"{per_second:.0f}/s")
    if total and per_second > 0:
        words.append(f"ETA {duration((total - counted) / per_second)}")
    if report.value is not None:
        words.append(f"est={short(report.value, 40)}")
    if report.error is not None:
        words.append(f"+-{report.error:.3g}")
    return " ".join(words)
