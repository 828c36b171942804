"""The picture: horizontal bars on a logarithmic scale, one panel a figure, as an SVG file."""

from __future__ import annotations

import math
from collections.abc import Iterable
from xml.sax.saxutils import escape

from benchmarks.report import number, target
from benchmarks.sampling import Figure, Row

WIDTH, LABELS, VALUES = 860, 210, 120
"""Of the picture; of the names at the left; of the numbers at the right."""
BAR, GAP, HEAD, FOOT = 20, 6, 46, 30
OURS, THEIRS, GOAL, INK, LINES = "#c0392b", "#8c9aa6", "#2c7a3f", "#222222", "#dddddd"


def picture(caption: str, figures: Iterable[Figure], rows: Iterable[Row]) -> str:
    """The bars of every figure that is to be drawn."""
    found = list(rows)
    parts: list[str] = []
    top = 10
    for figure in figures:
        mine = [row for row in found if row.figure == figure.name and row.median > 0]
        if figure.drawn and mine:
            panel, height = _panel(figure, mine, top)
            parts += panel
            top += height
    parts.append(_text(10, top + 14, caption, size=10))
    height = top + 24
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" font-family="sans-serif">'
    )
    return "\n".join([head, f'<rect width="{WIDTH}" height="{height}" fill="white"/>', *parts, "</svg>"]) + "\n"


def _panel(figure: Figure, rows: list[Row], top: int) -> tuple[list[str], int]:
    """One figure's bars, the best first, and how high it is."""
    rows = sorted(rows, key=lambda row: row.median, reverse=figure.more_is_better)
    values = [row.median for row in rows] + ([figure.target] if figure.target else [])
    low = 10.0 ** math.floor(math.log10(min(values) * 0.8))
    high = 10.0 ** math.ceil(math.log10(max(values)))
    room = WIDTH - LABELS - VALUES

    def across(value: float) -> float:
        return LABELS + room * math.log(value / low) / math.log(high / low)

    foot = top + HEAD + len(rows) * (BAR + GAP)
    better = "more" if figure.more_is_better else "less"
    parts = [_text(10, top + 20, f"{figure.title} ({figure.unit}, {better} is better)", size=14, weight="bold")]
    decade = low
    while decade <= high * 1.001:
        x = across(decade)
        parts.append(_line(x, top + HEAD - 8, x, foot, LINES))
        parts.append(_text(x, foot + 12, number(decade), size=10, anchor="middle"))
        decade *= 10
    for at, row in enumerate(rows):
        y = top + HEAD + at * (BAR + GAP)
        ours = row.subject.startswith("mrq")
        width = max(1.0, across(row.median) - LABELS)
        parts.append(_text(LABELS - 8, y + 14, row.subject, anchor="end", weight="bold" if ours else "normal"))
        parts.append(
            f'<rect x="{LABELS}" y="{y}" width="{width:.1f}" height="{BAR}" fill="{OURS if ours else THEIRS}"/>'
        )
        parts.append(_text(LABELS + width + 6, y + 14, number(row.median)))
    if figure.target:
        x = across(figure.target)
        parts.append(_line(x, top + HEAD - 8, x, foot, GOAL))
        parts.append(
            _text(x, top + HEAD - 12, f"target {target(figure, figure.target)}", size=10, anchor="middle", fill=GOAL)
        )
    return parts, HEAD + len(rows) * (BAR + GAP) + FOOT


def _line(x1: float, y1: float, x2: float, y2: float, stroke: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{stroke}"/>'


def _text(
    x: float, y: float, text: str, *, size: int = 12, anchor: str = "start", weight: str = "normal", fill: str = INK
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" font-weight="{weight}" '
        f'fill="{fill}">{escape(text)}</text>'
    )
