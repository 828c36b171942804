"""One queue of a pool: what its supervisor has to say there, and whether it could.

Each has a wire of its own. In a cluster the queues may be on different nodes, and one that is down keeps the supervisor
from speaking for its workers there, and nowhere else.
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
    """``wire`` is not connected yet."""

    def __init__(self, wire: Wire, keys: Keys, codecs: Codecs) -> None:
        self.wire = wire
        self.tasks = Tasks(wire, keys, codecs)
        self.jobs = Jobs(wire, keys, codecs)
        self.lost_hosts = LostHosts(self.jobs)
        self.connected = False
        self.away: Away | None = None  # what was met here, until the next conversation that goes well
        self.buried: list[Death] = []  # deaths that are not yet reported here
        self.beat_at = 0.0
        self.watch_at = 0.0

    def due(self, now: float) -> bool:
        """Whether there is something to say."""
        return bool(self.buried) or now >= self.beat_at or now >= self.watch_at

    def connect(self) -> None:
        """Connect, unless the last conversation went well. Raises BrokerError."""
        if not self.connected:
            self.wire.connect()
            self.connected = True

    def failed(self, again: float) -> None:
        """It did not go well; try at this moment."""
        self.connected = False
        self.beat_at = self.watch_at = again
