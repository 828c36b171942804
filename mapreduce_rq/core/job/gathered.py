"""What happens to a job's terms and tasks, gathered: few lines, however often it happens. No clock, no I/O.

A fault may hit one term in a thousand, or each of them. The first one of its kind is told at once, and what follows
within a second in one line with it; while more of the kind comes, that pause grows up to a minute.
"""

from __future__ import annotations

from mapreduce_rq.core.messages import What

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds


class _Kind:
    def __init__(self) -> None:
        self.text = ""  # of the first one since it was last told
        self.times = 0
        self.pause = 0.0
        self.told = float("-inf")


class Gathered:
    """The events of one job that were not told yet."""

    def __init__(self) -> None:
        self._kinds: dict[What, _Kind] = {}

    def note(self, what: What, text: str) -> None:
        """One more of the kind ``what``."""
        kind = self._kinds.setdefault(what, _Kind())
        if not kind.times:
            kind.text = text
        kind.times += 1

    def due(self, now: float, *, all_of_them: bool = False) -> list[tuple[What, str]]:
        """What is to be told now: ``(what, text)``, one for each kind at most."""
        found = []
        for what, kind in self._kinds.items():
            waited = now - kind.told
            if kind.times and (waited >= kind.pause or all_of_them):
                more = f" (and {kind.times - 1} more)" if kind.times > 1 else ""
                found.append((what, kind.text + more))
                busy = waited < 2 * kind.pause
                kind.pause = min(LONGEST_PAUSE, 2 * kind.pause) if busy else FIRST_PAUSE
                kind.told, kind.times = now, 0
        return found
