"""What was found, for people (a Markdown table) and for machines (JSON)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from benchmarks.sampling import Figure, Row

SCHEMA = "mrq-bench/1"


def number(value: float) -> str:
    """Three significant digits, thousands apart."""
    if abs(value) >= 1000:
        digits = len(str(int(abs(value))))
        return f"{round(value, 3 - digits):,.0f}".replace(",", " ")
    return f"{value:.3g}" if abs(value) >= 1e-3 or not value else f"{value:.1e}"


def verdict(figure: Figure, row: Row) -> str:
    """Whether a row of ours reaches its target."""
    aim = aim_of(figure, row)
    if aim is None:
        return ""
    reached = row.median >= aim if figure.more_is_better else row.median <= aim
    return "yes" if reached else "no"


def aim_of(figure: Figure, row: Row) -> float | None:
    """What this row is to reach; None where it is only there to be compared with."""
    return figure.target if row.ours else row.target


def advantage(figure: Figure, row: Row, rows: Iterable[Row]) -> str:
    """How many times better ours is than this peer, where a figure compares."""
    ours = next((other for other in rows if other.figure == figure.name and other.ours), None)
    if row.ours or ours is None or not figure.drawn:
        return ""
    ratio = ours.median / row.median if figure.more_is_better else row.median / ours.median
    return f"mrq: {number(ratio)} x"


def target(figure: Figure, aim: float | None) -> str:
    """The target in words."""
    if aim is None:
        return ""
    return f"{'≥' if figure.more_is_better else '≤'} {number(aim)}"


def heading(machine: Mapping[str, Any]) -> str:
    """One paragraph: when, on what, with which versions."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    return (
        f"Measured {machine['date']} UTC on {machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB, "
        f"{machine['system']}, {machine['python']}, {machine['server']}, mapreduce-rq {machine['mapreduce-rq']} "
        f"({machine['commit']}); {versions}. Load before: {machine['load']}. A step of a plain Python loop took "
        f"{min(machine['step_ns']):.0f} to {max(machine['step_ns']):.0f} ns in the course of the run: how fast the "
        "machine was, and how steady. Medians; in brackets the lowest and the highest."
    )


def markdown(machine: Mapping[str, Any], figures: Iterable[Figure], rows: Iterable[Row]) -> str:
    """The table of RESULTS.md."""
    lines = [
        heading(machine),
        "",
        "| figure | who | median | unit | target | reached | |",
        "|---|---|---:|---|---|---|---|",
    ]
    found = list(rows)
    for figure in figures:
        title = figure.title
        for row in (row for row in found if row.figure == figure.name):
            spread = f" ({number(min(row.samples))} – {number(max(row.samples))})" if len(row.samples) > 1 else ""
            who = f"**{row.subject}**" if row.ours else row.subject
            goal = target(figure, aim_of(figure, row))
            note = row.note or advantage(figure, row, found)
            cells = (title, who, number(row.median) + spread, figure.unit, goal, verdict(figure, row), note)
            lines.append(f"| {' | '.join(cells)} |")
            title = ""
    return "\n".join(lines) + "\n"


def document(machine: Mapping[str, Any], figures: Iterable[Figure], rows: Iterable[Row]) -> dict[str, Any]:
    """The same for machines, with every sample."""
    found = list(rows)
    return {
        "schema": SCHEMA,
        "machine": dict(machine),
        "figures": [
            {
                "name": figure.name,
                "title": figure.title,
                "unit": figure.unit,
                "target": figure.target,
                "more_is_better": figure.more_is_better,
                "rows": [
                    {
                        "subject": row.subject,
                        "ours": row.ours,
                        "median": row.median,
                        "samples": row.samples,
                        "note": row.note,
                        "reached": verdict(figure, row) == "yes" if verdict(figure, row) else None,
                    }
                    for row in found
                    if row.figure == figure.name
                ],
            }
            for figure in figures
        ],
    }
