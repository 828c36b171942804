"""What has happened on a queue, for people: the journal's events, and what one look shows that the look before did not.

Masters write of jobs, and of workers that are lost; see broker/journal.py. That workers come, go and fall silent, that
Redis was away and is back, or fills up, is seen from here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from mapreduce_rq.broker.snapshot import Snapshot
from mapreduce_rq.cli.screen.views import Seen, worker_name, worker_state
from mapreduce_rq.core.messages import Event
from mapreduce_rq.core.text import duration, size

MOST = 500
FULL_SHARE = 0.9
"""Of maxmemory: from here on a server is said to be filling up."""
STYLES = {
    "done": "green",
    "joined": "green",
    "back": "green",
    "failed": "red",
    "died": "red",
    "worker lost": "red",
    "poison": "red",
    "reclaimed": "yellow",
    "part answer": "cyan",
    "term retried": "yellow",
    "away": "red",
    "term skipped": "yellow",
    "cancelled": "yellow",
    "silent": "yellow",
    "full": "yellow",
    "taken over": "magenta",
    "let go": "magenta",
    "retried": "magenta",
}


@dataclass(frozen=True)
class Happening:
    """One line of the events; ``number``: its own, among all of them."""

    number: int
    at: float  # unix seconds
    what: str
    job: str
    text: str

    @property
    def id(self) -> str:
        """``number job``: what a view selects."""
        return f"{self.number} {self.job}"


class Happenings:
    """The newest ones, the newest first."""

    def __init__(self) -> None:
        self._found: deque[Happening] = deque(maxlen=MOST)
        self._number = 0
        self._states: dict[str, str] | None = None  # of the workers at the last look
        self._full = False

    def listed(self) -> list[Happening]:
        """All of them, by time."""
        return sorted(self._found, key=lambda one: (-one.at, -one.number))

    def note(self, at: float, what: str, text: str = "", job: str = "") -> None:
        """One more."""
        self._number += 1
        self._found.append(Happening(self._number, at, what, job, text))

    def read(self, events: Iterable[Event]) -> None:
        """Events of the journal."""
        for event in events:
            by = f"by {event.by}" if event.by else ""
            self.note(event.at, event.what, event.text or by, event.job)

    def look(self, snapshot: Snapshot, seen: Seen) -> None:
        """Compare with the look before. The first one tells nothing."""
        states = {one.wid: worker_state(one, seen) for one in snapshot.workers}
        names = {one.wid: worker_name(one) for one in snapshot.workers}
        obituaries = {one.wid: one.obituary for one in snapshot.workers}
        before, self._states = self._states, states
        if before is not None:
            for wid, state in states.items():
                was = before.get(wid)
                if was is None and state != "dead":
                    self.note(seen.at, "joined", names[wid])
                elif state == "dead" and was not in {"dead", None}:
                    self.note(seen.at, "died", f"{names[wid]}: {obituaries[wid]}")
                elif state == "silent" and was not in {"silent", None}:
                    self.note(seen.at, "silent", f"{names[wid]}: no sign of life")
                elif was == "silent" and state in {"idle", "busy"}:
                    self.note(seen.at, "back", names[wid])
            for wid in before.keys() - states.keys():
                if before[wid] != "dead":
                    self.note(seen.at, "left", wid.rpartition(":")[0])
        server = snapshot.server
        full = server.maxmemory > 0 and server.used_memory > FULL_SHARE * server.maxmemory
        if full and not self._full:
            self.note(seen.at, "full", f"Redis holds {size(server.used_memory)} of {size(server.maxmemory)}")
        self._full = full

    def rest(self) -> None:
        """There was no look for a while: the next look tells nothing, as the first one."""
        self._states = None

    def away(self, at: float) -> None:
        """Redis does not answer."""
        self.note(at, "away", "Redis does not answer")

    def back(self, at: float, seconds: float) -> None:
        """Redis answers again."""
        self.note(at, "back", f"Redis answers again, after {duration(seconds)}")
