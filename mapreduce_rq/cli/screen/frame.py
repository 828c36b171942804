"""What every picture needs beside a snapshot, and how lines are put together. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import chop_cells
from rich.console import Group, RenderableType
from rich.panel import Panel

from mapreduce_rq.cli.screen.charts import ASCII, UNICODE, Glyphs
from mapreduce_rq.cli.screen.ink import Text

STYLES = {
    "running": "cyan",
    "busy": "cyan",
    "done": "green",
    "idle": "green",
    "no master": "magenta",
    "no workers": "magenta",
    "stopped": "yellow",
    "cancelled": "yellow",
    "silent": "yellow",
    "failed": "red",
    "dead": "red",
}
CUT = "..."
LABEL_WIDTH = 13


@dataclass(frozen=True)
class Frame:
    """With ``height`` None the picture is as high as it needs to be."""

    url: str  # redacted
    round_trip: float  # seconds
    width: int = 80
    height: int | None = None
    unicode: bool = True
    trouble: str = ""  # why there is no newer snapshot
    keys: str = ""  # the last line

    @property
    def glyphs(self) -> Glyphs:
        """The characters that can be shown."""
        return UNICODE if self.unicode else ASCII


def apart(left: Text, right: Text, width: int) -> Text:
    """One line with a text at each end; the left text is cut where both do not fit."""
    room = max(0, width - right.cell_len - 2)
    if left.cell_len > room:
        left.truncate(max(0, room - len(CUT)), overflow="crop")
        left.append(CUT[:room])
    return Text.assemble(left, " " * max(0, width - left.cell_len - right.cell_len), right, no_wrap=True)


def heading(title: str, states: Sequence[str], order: Sequence[str], frame: Frame) -> Text:
    """A panel's title, with how many there are in each state."""
    made = Text.assemble(" ", (title, "bold"), " ")
    for index, word in enumerate(word for word in order if word in states):
        made.append(f" {frame.glyphs.dot} " if index else " ", style="dim")
        made.append(f"{states.count(word)} {word}", style=STYLES[word])
    return made.append(" ")


def panel(
    title: Text, lines: Sequence[Text], frame: Frame, *, below: str = "", focused: bool = False
) -> RenderableType:
    """Lines in a frame, each of them one line. ``below``: stands in its lower edge."""
    for line in lines:
        line.no_wrap, line.overflow = True, "crop"
    under = Text(f" {below} ", style="dim")
    for edge in (title, under):  # Rich would end it in a character that not every terminal has
        edge.truncate(max(1, frame.width - 8), overflow="crop")
    return Panel(
        Group(*lines),
        title=title,
        title_align="left",
        subtitle=under if below else None,
        subtitle_align="right",
        border_style="cyan" if focused else "bright_black",
        width=frame.width,
    )


def cropped(line: Text, width: int) -> Text:
    """The line, cut at the width."""
    line.truncate(width, overflow="crop")
    return line


def labelled(label: str, text: str, style: str, width: int, *, indent: int = LABEL_WIDTH + 2) -> list[Text]:
    """A label and its text behind it, in as many lines as it needs. ``indent`` 0: no label."""
    room = max(8, width - indent)
    pieces = chop_cells(text, room) or [""]
    first = f"{label:<{indent}}" if indent else ""
    lines = [Text.assemble((first, "dim"), (pieces[0], style), no_wrap=True)]
    lines += [Text.assemble(" " * indent, (piece, style), no_wrap=True) for piece in pieces[1:]]
    return [cropped(line, width) for line in lines]


def window(sizes: Sequence[int], chosen: int, room: int) -> tuple[int, int]:
    """The items ``[first, last)`` of these heights that are shown in ``room`` lines, with the chosen one among them.

    The list moves no more than it must: it begins at its top as long as the chosen item fits there.
    """
    if not sizes:
        return 0, 0
    chosen = min(chosen, len(sizes) - 1)
    first = 0
    while first < chosen and sum(sizes[first : chosen + 1]) > room:
        first += 1
    last, used = first, 0
    while last < len(sizes) and (used + sizes[last] <= room or last == first):
        used += sizes[last]
        last += 1
    return first, last
