"""A time in which a pool's workers cannot reach their queue: it is logged once at its begin and once at its end.

Each worker notes the error on its slate, and the supervisor logs it for all of them.
"""

from __future__ import annotations

from collections.abc import Iterable

from mapreduce_rq.runtime.worker.slate import Away, Slate

FIRST_QUIET_SECONDS = 1.0
"""Seconds at the start in which no outage is logged, because a private server may still be starting. For a private
server none is logged later, either: it is gone because its owner ends, which ends this pool next. An outage that only
the supervisor sees, while its workers work, is logged after this time.
"""


class Outage:
    """The outages of one pool, one after another. ``private``: it works with a private server."""

    def __init__(self, *, private: bool) -> None:
        self._private = private
        self._quiet = FIRST_QUIET_SECONDS
        self._since: float | None = None  # the beginning of the outage that was logged

    def look(self, now: float, slates: Iterable[Slate], own: Away | None) -> str:
        """The line to log; '' for none. ``own``: the supervisor's own outage."""
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
