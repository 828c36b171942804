"""One queue of a pool: what its supervisor has to report there, and whether it could.

Each post has a wire of its own. In a cluster the queues may be on different nodes: if one is down, the supervisor
cannot report there, but it still reports on the other queues.
"""

from __future__ import annotations

from mapreduce_rq.broker.jobs import Jobs
from mapreduce_rq.broker.keys import Keys
from mapreduce_rq.broker.tasks import Tasks
from mapreduce_rq.broker.wire import Wire
from mapreduce_rq.core.sealing import Codecs
from mapreduce_rq.runtime.pool.child import Child
from mapreduce_rq.runtime.pool.lost_hosts import LostHosts
from mapreduce_rq.runtime.worker.slate import Away

Death = tuple[Child, str, bool]
"""A dead worker, why it died, and whether the task in its hand is to blame."""


class Post:
    """A supervisor's post on one queue. ``wire`` is not connected yet."""

    def __init__(self, wire: Wire, keys: Keys, codecs: Codecs) -> None:
        self.wire = wire
        self.tasks = Tasks(wire, keys, codecs)
        self.jobs = Jobs(wire, keys, codecs)
        self.lost_hosts = LostHosts(self.jobs)
        self.connected = False
        self.away: Away | None = None  # the error here, until the next report succeeds
        self.buried: list[Death] = []  # deaths that are not yet reported here
        self.beat_at = 0.0
        self.watch_at = 0.0

    def due(self, now: float) -> bool:
        """Whether there is something to report."""
        return bool(self.buried) or now >= self.beat_at or now >= self.watch_at

    def connect(self) -> None:
        """Connect, unless the last report succeeded. Raises BrokerError."""
        if not self.connected:
            self.wire.connect()
            self.connected = True

    def failed(self, again: float) -> None:
        """Note that a report failed; the next try is at this time."""
        self.connected = False
        self.beat_at = self.watch_at = again
