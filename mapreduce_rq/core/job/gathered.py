"""Events of a job's terms and tasks, gathered into few lines, even if they happen often. No clock, no I/O.

A fault may hit one term in a thousand, or each of them. The first event of a kind is reported at once; those that
follow within a second are reported together in one line. While more events of the kind come, that pause grows up to a
minute.
"""

from __future__ import annotations

from mapreduce_rq.core.messages import What

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds


class _Kind:
    def __init__(self) -> None:
        self.text = ""  # the text of the first event since the last report
        self.times = 0
        self.pause = 0.0
        self.told = float("-inf")


class Gathered:
    """The events of one job that are not reported yet."""

    def __init__(self) -> None:
        self._kinds: dict[What, _Kind] = {}

    def note(self, what: What, text: str) -> None:
        """Add an event of the kind ``what``."""
        kind = self._kinds.setdefault(what, _Kind())
        if not kind.times:
            kind.text = text
        kind.times += 1

    def due(self, now: float, *, all_of_them: bool = False) -> list[tuple[What, str]]:
        """The lines to report now: ``(what, text)``, at most one for each kind."""
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
