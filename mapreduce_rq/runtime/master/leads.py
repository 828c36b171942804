"""What the wheel turns: the jobs that one process leads, and what it needs of others to lead them."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from mapreduce_rq.broker.jobs import Jobs
from mapreduce_rq.broker.lent_wire import LentWire
from mapreduce_rq.broker.wire import Wire
from mapreduce_rq.runtime.master.ended import Ended
from mapreduce_rq.runtime.master.master import Master


class Waiting(Protocol):
    """The way in which a thread waits: for sockets, or in the simulation."""

    def wait(self, wires: Sequence[Wire], seconds: float) -> list[Wire]:
        """Those of the wires that have an answer, or are broken; waits ``seconds`` for one, or for the bell."""

    def insist(self) -> None:
        """Ring the bell, from any thread."""

    def close(self) -> None:
        """Close the bell, because no thread waits any more."""


@dataclass(eq=False)
class Lead:
    """One job that is led here. ``wire`` passes commands to the wire of the thread that has its turn."""

    job: str
    wire: LentWire
    token: str = ""  # of its last master
    urgent: bool = False  # it has one of the places of urgent jobs
    master: Master | None = None  # None: not adopted yet
    turns: Generator[float, None, Ended | None] | None = None
    due: float = 0.0  # when its next turn is, without replies
    since: float = 0.0  # when it was adopted, and
    counted: int = 0  # the terms that were counted then
    aside: bool = False  # another thread has its turn
    heavy: bool = False  # its last turn took long


class Door:
    """One blocking pop of the jobs that wait for a master: of the urgent ones, or of the others."""

    def __init__(self, verbs: Jobs, *, urgent: bool) -> None:
        self.verbs = verbs
        self.urgent = urgent
        self.open = False  # a request is on its way


@dataclass(frozen=True)
class Turn:
    """The outcome of a turn: the seconds until the next one, the end of the lead, or an error."""

    lead: Lead
    wait: float = 0.0
    over: bool = False
    ended: Ended | None = None
    error: BaseException | None = field(default=None)


class Steward(Protocol):
    """Finds the jobs to lead, and decides what to do with a job that is over."""

    def adopt(self, lead: Lead) -> Master | None:
        """A master for a job that was found, over the lead's wire; None if the job must not be led here."""

    def over(self, lead: Lead, turn: Turn) -> None:
        """Handle the end of a lead."""

    def look(self) -> float:
        """Look for jobs without a master, over the wheel's verbs. Returns the seconds until the next look."""

    def noticed(self, text: str) -> None:
        """Pass on a line of text that a person may read."""
