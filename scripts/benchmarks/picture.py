"""The picture: horizontal bars on a logarithmic scale, one panel a figure, as an SVG file.

It is narrow, so that its letters can be read on a phone, where a picture is as wide as the page.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable
from xml.sax.saxutils import escape

from benchmarks.report import number, target
from benchmarks.sampling import Figure, Row

WIDTH, LABELS, VALUES = 480, 170, 70
"""Of the picture; of the names at the left; of the numbers at the right."""
BAR, GAP, LINE, FOOT = 18, 5, 18, 32
LETTERS = 58, 68
"""The most letters of a line: of a title, and of the caption."""
DECADES = 4
"""The most numbers below the bars, but for one: more of them would touch."""
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
    for line in textwrap.wrap(caption, LETTERS[1]):
        parts.append(_text(10, top + 14, line))
        top += LINE
    height = top + 12
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

    better = "more" if figure.more_is_better else "less"
    title = textwrap.wrap(f"{figure.title} ({figure.unit}, {better} is better)", LETTERS[0])
    parts = [_text(10, top + 20 + LINE * at, line, size=14, weight="bold") for at, line in enumerate(title)]
    bars = top + LINE * len(title) + 32
    foot = bars + len(rows) * (BAR + GAP)
    decades = round(math.log10(high / low))
    for at in range(decades + 1):
        x = across(low * 10.0**at)
        parts.append(_line(x, bars - 8, x, foot, LINES))
        if at % -(-decades // DECADES) == 0:
            parts.append(_text(x, foot + 14, number(low * 10.0**at), anchor="middle"))
    for at, row in enumerate(rows):
        y = bars + at * (BAR + GAP)
        ours = row.subject.startswith("mrq")
        width = max(1.0, across(row.median) - LABELS)
        parts.append(_text(LABELS - 8, y + 14, row.subject, anchor="end", weight="bold" if ours else "normal"))
        parts.append(
            f'<rect x="{LABELS}" y="{y}" width="{width:.1f}" height="{BAR}" fill="{OURS if ours else THEIRS}"/>'
        )
        parts.append(_text(LABELS + width + 6, y + 14, number(row.median)))
    if figure.target:
        x = across(figure.target)
        parts.append(_line(x, bars - 8, x, foot, GOAL))
        parts.append(_text(x, bars - 12, f"target {target(figure, figure.target)}", anchor="middle", fill=GOAL))
    return parts, foot - top + FOOT


def _line(x1: float, y1: float, x2: float, y2: float, stroke: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{stroke}"/>'


def _text(
    x: float, y: float, text: str, *, size: int = 12, anchor: str = "start", weight: str = "normal", fill: str = INK
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" font-weight="{weight}" '
        f'fill="{fill}">{escape(text)}</text>'
    )
