"""What has happened, one line for each event, the newest first. Pure."""

from __future__ import annotations

import time
from collections.abc import Sequence

from mapreduce_rq.cli.screen.happenings import STYLES, Happening
from mapreduce_rq.cli.screen.ink import Text
from mapreduce_rq.cli.screen.view import View, fits
from mapreduce_rq.core.text import job_label


def sorted_events(events: Sequence[Happening], view: View) -> list[Happening]:
    """The events that the filter lets pass."""
    return [one for one in events if fits(view, one.what, one.job, one.text)]


def event_lines(events: Sequence[Happening], width: int) -> list[Text]:
    """A line for each."""
    lines = []
    for one in events:
        clock = time.strftime("%H:%M:%S", time.localtime(one.at))
        line = Text.assemble((clock, "dim"), "  ", (f"{one.what:<12}", STYLES.get(one.what, "")), no_wrap=True)
        if one.job:
            line.append(f"  {job_label(one.job)}", "bold")
        line.append(f"  {one.text}")
        line.truncate(width, overflow="crop")
        lines.append(line)
    return lines
