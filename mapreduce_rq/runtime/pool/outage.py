"""A time in which a pool's workers cannot reach their queue: said once when it begins and once when it is over.

Each worker notes on its slate what it met, and its supervisor says it for all of them.
"""

from __future__ import annotations

from collections.abc import Iterable

from mapreduce_rq.runtime.worker.slate import Away, Slate

FIRST_QUIET_SECONDS = 1.0
"""Seconds at the start in which nothing is said: a private server may still be starting. Of a private server it is so
later, too: it is gone because its owner ends, who ends this pool next. What a supervisor alone meets, while its workers
work, is said after this time."""


class Outage:
    """The outages of one pool, one after another. ``private``: its server is."""

    def __init__(self, *, private: bool) -> None:
        self._private = private
        self._quiet = FIRST_QUIET_SECONDS
        self._since: float | None = None  # of the outage that was said

    def look(self, now: float, slates: Iterable[Slate], own: Away | None) -> str:
        """What to log; '' for nothing. ``own``: what the supervisor itself has met."""
        reached = False
        met: list[Away] = []
        for slate in slates:
            reached = reached or slate.has_reached
            if (away := slate.why_away()) is not None:
                met.append(away)
        if own is not None and now - own.since >= FIRST_QUIET_SECONDS:
            met.append(own)
        if met:
            first = min(met)
            if self._since is None and now - first.since >= self._quiet:
                self._since = first.since
                return f"{first.why}; trying again"
        elif reached:
            self._quiet = FIRST_QUIET_SECONDS if self._private else 0.0
            if self._since is not None:
                seconds, self._since = now - self._since, None
                return f"Redis is back after {seconds:.1f} s"
        return ""
