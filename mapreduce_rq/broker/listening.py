"""One blocking read for the reply streams of many jobs, over a wire of its own.

    ask {job: last id} ──> XREAD BLOCK … STREAMS r:a r:b … k:<name> ──> the entries of each job that has some

A request that waits at the server cannot be changed. To read another job, too, the reader knocks: it adds an entry to a
stream of its own, which is the last stream in each of its requests. So the server answers at once, and the next request
names all jobs. The same is done if a stream is to be read anew, from an earlier id than the request has: what lies in
between would be left out. We do not use CLIENT UNBLOCK, which only administrators may call; a new connection costs more
than an entry; and short waits would be polling.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mapreduce_rq.broker.jobs import FIRST_REPLY, REPLIES_AT_ONCE, Entry, is_behind
from mapreduce_rq.broker.keys import Keys
from mapreduce_rq.broker.wire import Wire

KNOCK_SECONDS = 60
"""Seconds after which the stream of knocks expires, if its reader was killed. A living reader reads it at once."""


class Listening:
    """Reads for one process; ``name`` is unique to it. ``at_once``: the most entries of each job in one answer."""

    def __init__(self, wire: Wire, keys: Keys, name: str, *, at_once: int = REPLIES_AT_ONCE) -> None:
        self.wire = wire
        self.asked: Mapping[str, str] = {}
        """The jobs of the open request, and the id after which each is read; empty if there is none."""
        self._keys = keys
        self._knocks = keys.knocks(name)
        self._knocked = FIRST_REPLY
        self._at_once = at_once
        self._jobs: dict[str, str] = {}  # jobs by the names of their streams

    def connect(self) -> None:
        """Connect anew, and forget the open request. Raises BrokerError."""
        self.asked = {}
        self._knocked = FIRST_REPLY  # the server may have lost the stream
        self.wire.connect()

    def ask(self, cursors: Mapping[str, str], seconds: float) -> None:
        """Ask for the entries of these jobs after the given ids, and wait ``seconds`` for some. One request at a time.

        Raises BrokerError.
        """
        self._jobs = {self._keys.replies(job): job for job in cursors}
        self.wire.ask_call(
            "XREAD",
            "COUNT",
            self._at_once,
            "BLOCK",
            max(1, int(seconds * 1000)),
            "STREAMS",
            *self._jobs,
            self._knocks,
            *cursors.values(),
            self._knocked,
        )
        self.asked = dict(cursors)

    def lacks(self, job: str, cursor: str) -> bool:
        """Whether the open request does not give all entries of a job after ``cursor``."""
        return job not in self.asked or is_behind(self.asked[job].encode(), cursor)

    def knock(self, through: Wire) -> None:
        """Have the server answer the open request. ``through`` is another wire. Raises BrokerError."""
        through.transaction(
            [("XADD", self._knocks, "MAXLEN", "=", 1, "*", "k", ""), ("EXPIRE", self._knocks, KNOCK_SECONDS)]
        )

    def answer(self) -> dict[str, Sequence[Entry]]:
        """The entries of each job that has some. Raises BrokerError."""
        found = self.wire.answer() or ()
        self.asked = {}
        entries = {}
        for key, rows in found:
            name = key.decode()
            if name == self._knocks:
                self._knocked = rows[-1][0].decode()
            else:
                entries[self._jobs[name]] = rows
        return entries
