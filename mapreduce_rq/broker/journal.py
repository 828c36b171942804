"""The events of a queue, and the message that a job has ended, for processes that would otherwise ask again and again.

Both are hints. If an event is lost, its readers miss it. A process that waits for the end of a job reads the job's
state from time to time, too. Events are signed, so a process with the key wrote them.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Protocol

from mapreduce_rq.broker.keys import Keys
from mapreduce_rq.broker.wire import Command, Wire
from mapreduce_rq.core.messages import Event
from mapreduce_rq.core.sealing import Codecs
from mapreduce_rq.errors import BadMessage, BrokerError, BrokerFull, TooLarge

MAX_EVENTS = 10_000
"""The number of events that a queue remembers: the newest ones."""
AT_ONCE = 500
LONGEST_TEXT = 2000
"""The most characters of an event's text: an exception's message may have any length."""
BEGINNING = "0-0"


class Through(Protocol):
    """The thing that events are written to: a wire, or an object that gathers them."""

    def transaction(self, commands: Sequence[Command]) -> list[Any]:
        """As ``Wire.transaction``."""


class Journal:
    """The events of one queue, over one wire. ``by``: the writing process, ``user@host:pid``. ``through``: events are
    written there instead.
    """

    def __init__(self, wire: Wire, keys: Keys, codecs: Codecs, by: str = "", through: Through | None = None) -> None:
        self.by = by
        self._wire = wire
        self._through = through or wire
        self._keys = keys
        self._codecs = codecs

    def tell(self, events: Sequence[Event], *, ended: str = "", keep: int = 0) -> bool:
        """Write events, and wake the processes that wait for the job ``ended``, whose record stays for ``keep``
        seconds. Returns False, and has written nothing, if Redis is full.

        It does not raise: after an error of the connection, the next request raises the error again.
        """
        commands: list[Command] = []
        for event in events:
            with suppress(TooLarge):
                commands.append(
                    ("XADD", self._keys.events, "MAXLEN", "=", MAX_EVENTS, "*", "e", self._codecs.event.seal(event))
                )
        if ended:
            values = self._keys.values(ended)
            commands += [("XADD", values, "*", "end", ""), ("EXPIRE", values, keep)]
        with suppress(BrokerError):
            try:
                if commands:
                    self._through.transaction(commands)
            except BrokerFull:
                return False
        return True

    def await_end(self, job: str, after: str, seconds: float) -> str:
        """Wait ``seconds`` for the message that a job has ended. Returns its id, or ``after`` if none came."""
        command = ("XREAD", "COUNT", 1, "BLOCK", max(1, int(seconds * 1000)), "STREAMS", self._keys.values(job), after)
        found = self._wire.call(*command)
        return found[0][1][0][0].decode() if found else after

    def read(self, after: str, seconds: float = 0.0) -> tuple[str, list[Event], int]:
        """``(last id read, events, how many could not be read)`` after the id ``after``; waits ``seconds`` for one."""
        block: Command = ("BLOCK", max(1, int(seconds * 1000))) if seconds > 0 else ()
        found = self._wire.call("XREAD", "COUNT", AT_ONCE, *block, "STREAMS", self._keys.events, after)
        events: list[Event] = []
        bad = 0
        for entry, fields in found[0][1] if found else ():
            after = entry.decode()
            try:
                events.append(self._codecs.event.open(fields[1]))
            except BadMessage:
                bad += 1
        return after, events, bad
