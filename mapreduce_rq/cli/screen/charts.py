"""Charts of characters: a bar, a line of heights on a logarithmic scale, and the map of a job's terms. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from mapreduce_rq.cli.screen.ink import Text


class Glyphs(NamedTuple):
    """The characters to draw with. Each state also has a word or a number, for those who cannot see the character."""

    marks: dict[str, str]
    full: str
    half: str
    empty: str
    dot: str
    plus_minus: str
    heights: str  # from low to high
    counted: str
    partly: str
    waiting: str
    uncut: str


UNICODE = Glyphs(
    marks={"running": "●", "no master": "◌", "no workers": "○", "done": "✓", "failed": "✗", "cancelled": "■"},
    full="━",
    half="╸",
    empty="─",
    dot="·",
    plus_minus="±",
    heights="▁▂▃▄▅▆▇█",
    counted="█",
    partly="▒",
    waiting="░",
    uncut="·",
)
ASCII = Glyphs(
    marks={"running": ">", "no master": "?", "no workers": "0", "done": "+", "failed": "!", "cancelled": "-"},
    full="#",
    half="#",
    empty=".",
    dot="|",
    plus_minus="+-",
    heights="_.-:=+*#",
    counted="#",
    partly="+",
    waiting="-",
    uncut=".",
)
HANDS = "abcdefghijklmnopqrstuvwxyz"
"""Workers in the map of terms, by a letter each; the others share the last one."""


def bar(share: float | None, width: int, glyphs: Glyphs, style: str) -> Text:
    """A bar ``width`` columns long, of which ``share`` (0 to 1) is full; None: the total is not known."""
    if share is None:
        return Text(glyphs.empty * width, style="bright_black")
    halves = int(min(1.0, max(0.0, share)) * width * 2)
    drawn = glyphs.full * (halves // 2) + glyphs.half * (halves % 2)
    return Text.assemble((drawn, style), (glyphs.empty * (width - len(drawn)), "bright_black"))


def sparkline(values: Sequence[float], width: int, glyphs: Glyphs) -> str:
    """The values from left to right as heights, by their logarithms; the newest ``width`` of them.

    What has no logarithm (0, and what is not finite) has no height, and is a blank.
    """
    logs = [math.log10(value) if value > 0 and math.isfinite(value) else None for value in values[-width:]]
    known = [one for one in logs if one is not None]
    if not known:
        return ""
    low, high = min(known), max(known)
    steps = len(glyphs.heights) - 1
    return "".join(
        " " if one is None else glyphs.heights[round((one - low) / (high - low) * steps) if high > low else 0]
        for one in logs
    )


class Hand(NamedTuple):
    """The terms that a worker computes now."""

    lo: int
    hi: int
    letter: str


def term_map(
    total: int, cut: int, counted: Iterable[tuple[int, int]], hands: Sequence[Hand], *, cells: int, glyphs: Glyphs
) -> Text:
    """The terms 0 to ``total`` in ``cells`` characters, an equal range in each.

    A range is counted, partly counted, in a worker's hand (its letter), waiting in a task, or not cut into tasks yet.
    ``counted``: spans, in order, which do not overlap.
    """
    cells = max(1, min(cells, total))
    edges = [total * k // cells for k in range(cells + 1)]
    found = [0] * cells
    for lo, hi in counted:
        for cell in _cells(lo, hi, total, cells):
            found[cell] += max(0, min(hi, edges[cell + 1]) - max(lo, edges[cell]))
    out = {cell: hand.letter for hand in hands for cell in _cells(hand.lo, hand.hi, total, cells)}
    drawn = Text(no_wrap=False)
    for cell in range(cells):
        lo, hi = edges[cell], edges[cell + 1]
        if found[cell] >= hi - lo:
            drawn.append(glyphs.counted, "green")
        elif cell in out:
            drawn.append(out[cell], "bold cyan")
        elif found[cell]:
            drawn.append(glyphs.partly, "green")
        elif lo < cut:
            drawn.append(glyphs.waiting, "yellow")
        else:
            drawn.append(glyphs.uncut, "bright_black")
    return drawn


def _cells(lo: int, hi: int, total: int, cells: int) -> range:
    """The cells that a span touches."""
    if not 0 <= lo < hi <= total:
        return range(0)
    # The last cell that begins at or before lo, and at or before hi - 1; the division may be one off.
    first, last = lo * cells // total, min(cells - 1, (hi - 1) * cells // total)
    while first > 0 and total * first // cells > lo:
        first -= 1
    while first + 1 < cells and total * (first + 1) // cells <= lo:
        first += 1
    while last + 1 < cells and total * (last + 1) // cells <= hi - 1:
        last += 1
    return range(first, last + 1)
