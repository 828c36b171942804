"""Who is dead, told without a clock: bytes that have not changed in so many looks of ours.

Counting looks, not seconds, means that a paused observer does not wake up to find everybody dead, and that no two
clocks are ever compared.
"""

from __future__ import annotations

from collections.abc import Mapping

OBITUARY = b"X:"
"""What a supervisor writes in place of a beat: its worker is dead, and why."""
DEAD_AFTER = 5
"""Looks without a change until a worker or a master is given up."""
FORGOTTEN_AFTER = 10
"""Looks after which a dead worker that holds nothing is struck off: a pop on its behalf may still be under way."""


class Watch:
    """Counts, for each name, the looks since its bytes last changed."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[bytes, int]] = {}
        self._moved: set[str] = set()

    def look(self, found: Mapping[str, bytes]) -> None:
        """Take in one look at everybody's bytes."""
        self._moved = {
            name
            for name, value in found.items()
            if name in self._moved or (name in self._seen and self._seen[name][0] != value)
        }
        self._seen = {
            name: (value, self._seen[name][1] + 1 if name in self._seen and self._seen[name][0] == value else 0)
            for name, value in found.items()
        }

    def unchanged(self, name: str) -> int:
        """Looks since the bytes of ``name`` changed."""
        return self._seen[name][1]

    def moved(self, name: str) -> bool:
        """Whether the bytes of ``name`` have ever changed from one look to the next."""
        return name in self._moved

    def dead(self, after: int = DEAD_AFTER) -> list[str]:
        """Names given up: unchanged for so many looks, or with an obituary."""
        return [name for name, (value, count) in self._seen.items() if count >= after or value.startswith(OBITUARY)]

    def forgotten(self) -> list[str]:
        """Names unchanged for so long that they can be struck off."""
        return [name for name, (_, count) in self._seen.items() if count >= FORGOTTEN_AFTER]

    def alive(self) -> int:
        """How many are not dead."""
        return len(self._seen) - len(self.dead())
