"""Limits the wait for a server that has become a replica: a failover ends, but a wrong URL does not."""

from __future__ import annotations

from mapreduce_rq.errors import BrokerError, BrokerRefused, ReadOnly
from mapreduce_rq.runtime.clock import Clock

REPLICA_SECONDS = 60.0
"""Seconds that a server may be a replica. A failover, and the change of the name to the new server, take less."""


class Demotion:
    """Measures for how long a server has refused writes because it is a replica."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since: float | None = None

    def met(self, error: BrokerError, remedy: str = "") -> None:
        """Note an error of a command. Raises BrokerRefused if the server has been a replica for REPLICA_SECONDS."""
        if not isinstance(error, ReadOnly):
            return
        now = self._clock.now()
        if self._since is None:
            self._since = now
        elif now - self._since >= REPLICA_SECONDS:
            raise BrokerRefused(f"{error}; it has been one for {now - self._since:.0f} s{remedy}") from None

    def over(self) -> None:
        """Note that the server accepted a write."""
        self._since = None
