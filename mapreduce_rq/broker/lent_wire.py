"""Wires between a job's verbs and the one connection over which many jobs are led.

A lent wire passes commands on to the wire of the thread that has the turn. The verbs of a job, its lease and its keeper
hold the same lent wire. A turn that takes a long time goes on over another connection than the next turns: then the
connection behind the lent wire changes, and the lent wire itself does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mapreduce_rq.broker.wire import Argument, Command, Heard, Script, Wire
from mapreduce_rq.errors import BrokerFull

MOST_KEPT = 200
"""The most events that wait until the server is no longer full, the newest."""


class GatheringWire:
    """Gathers the events of many jobs. No step depends on them, so they are sent together when the owner says so."""

    def __init__(self) -> None:
        self._gathered: list[Command] = []

    def transaction(self, commands: Sequence[Command]) -> list[Any]:
        """Have these commands sent later. Their answers are not read. Any thread may call this."""
        self._gathered += commands
        return []

    def send(self, through: Wire) -> None:
        """Send all commands. Raises BrokerError only if the wire is broken.

        Events that a full server refuses are sent again with the next ones. (Not the word that wakes those who wait for
        a job's end: without the command that limits its time it would stay for ever.)
        """
        gathered, self._gathered = self._gathered, []
        if gathered:
            answers = through.pipeline(gathered, refusals=True)
            refused = [
                command
                for command, answer in zip(gathered, answers, strict=True)
                if isinstance(answer, BrokerFull) and "MAXLEN" in command
            ]
            self._gathered[:0] = refused[-MOST_KEPT:]


class LentWire:
    """Passes all calls on to the wire ``to``, which may change from turn to turn. Its lender connects it."""

    def __init__(self, to: Wire) -> None:
        self.to = to

    def another(self) -> Wire:
        """See Wire."""
        return self.to.another()

    def limit(self) -> int:
        """See Wire."""
        return self.to.limit()

    def connect(self) -> None:
        """See Wire."""
        self.to.connect()

    def close(self) -> None:
        """See Wire."""
        self.to.close()

    def call(self, *command: Argument) -> Any:
        """See Wire."""
        return self.to.call(*command)

    def pipeline(self, commands: Sequence[Command], *, refusals: bool = False) -> list[Any]:
        """See Wire."""
        return self.to.pipeline(commands, refusals=refusals)

    def transaction(self, commands: Sequence[Command]) -> list[Any]:
        """See Wire."""
        return self.to.transaction(commands)

    def script(self, script: Script, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        """See Wire."""
        return self.to.script(script, keys, arguments)

    def ask(
        self,
        script: Script,
        keys: Sequence[str],
        arguments: Sequence[Argument],
        *,
        then: Command = (),
        heard: Heard | None = None,
    ) -> None:
        """See Wire."""
        self.to.ask(script, keys, arguments, then=then, heard=heard)

    def ask_call(self, *command: Argument, then: Command = ()) -> None:
        """See Wire."""
        self.to.ask_call(*command, then=then)

    def answer(self) -> Any:
        """See Wire."""
        return self.to.answer()

    def hear(self) -> None:
        """See Wire."""
        self.to.hear()
