"""Faults at places: what happens to whom, at which verb, before or after it, the how manyth time."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from mapreduce_rq.errors import BrokerDown
from tests.chaos.wires import Killed


@dataclass(frozen=True)
class Place:
    """Where: an actor's verb, before or after it, the ``nth`` time (from 1)."""

    actor: str
    verb: str
    when: str = "before"
    nth: int = 1

    def __str__(self) -> str:
        return f"{self.when} {self.actor}'s {self.verb}" + (f" #{self.nth}" if self.nth > 1 else "")


@dataclass
class Faults:
    """A hook for an arena: does at each place what is to be done there, once."""

    at: dict[Place, Callable[[], None]] = field(default_factory=dict)
    seen: Counter[Place] = field(default_factory=Counter)
    """How often each place, taken as its first time, has been passed."""
    done: set[Place] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, actor: str, verb: str, when: str) -> None:
        place = Place(actor, verb, when)
        with self._lock:
            self.seen[place] += 1
            place = Place(actor, verb, when, self.seen[place])
            act = self.at.get(place)
            if act is not None:
                self.done.add(place)
        if act is not None:
            act()


def kill() -> None:
    """The actor dies here, as by SIGKILL."""
    raise Killed


def cut() -> None:
    """The connection is lost here."""
    raise BrokerDown("cut by the test")
