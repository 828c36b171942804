"""Decides which workers and masters are dead, without a clock: their bytes did not change in several looks of ours.

We count looks, not seconds. So an observer that was paused does not take all others for dead when it goes on, and
clocks of two machines are never compared. An observer that looks more often than it must counts each look as a part of
one: so it sees sooner that bytes have stopped changing, and still waits as long before it takes anyone for dead.
"""

from __future__ import annotations

from collections.abc import Mapping

OBITUARY = b"X:"
"""The first bytes of an obituary: the text that a supervisor writes in place of a beat, which says that its worker is
dead, and why."""
DEAD_AFTER = 5
"""The number of looks without a change after which a worker or a master counts as dead."""
FORGOTTEN_AFTER = 10
"""The number of looks without a change after which a dead worker with an empty hand is removed from the fleet. It is
more than DEAD_AFTER, because a task for this worker may still be on its way into the hand.
"""


class Watch:
    """Counts, for each name, the looks since its bytes last changed."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[bytes, float]] = {}
        self._moved: set[str] = set()

    def look(self, found: Mapping[str, bytes], worth: float = 1) -> None:
        """Take in one look: the bytes of each name that is there. ``worth``: as how many looks it counts, 0 to 1."""
        self._moved = {
            name
            for name, value in found.items()
            if name in self._moved or (name in self._seen and self._seen[name][0] != value)
        }
        self._seen = {
            name: (value, self._seen[name][1] + worth if name in self._seen and self._seen[name][0] == value else 0)
            for name, value in found.items()
        }

    def unchanged(self, name: str) -> float:
        """Looks since the bytes of ``name`` changed."""
        return self._seen[name][1]

    def moved(self, name: str) -> bool:
        """Whether the bytes of ``name`` have ever changed from one look to the next."""
        return name in self._moved

    def dead(self, after: int = DEAD_AFTER) -> list[str]:
        """Names that count as dead: unchanged for ``after`` looks or more, or with an obituary."""
        return [name for name, (value, count) in self._seen.items() if count >= after or value.startswith(OBITUARY)]

    def forgotten(self) -> list[str]:
        """Names unchanged for FORGOTTEN_AFTER looks or more, which can be removed."""
        return [name for name, (_, count) in self._seen.items() if count >= FORGOTTEN_AFTER]

    def alive(self) -> int:
        """The number of names that are not dead."""
        return len(self._seen) - len(self.dead())
