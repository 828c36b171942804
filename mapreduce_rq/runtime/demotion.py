"""Patience with a server that has become a replica: a failover is waited out, and nothing is waited for without end."""

from __future__ import annotations

from mapreduce_rq.errors import BrokerError, BrokerRefused, ReadOnly
from mapreduce_rq.runtime.clock import Clock

REPLICA_SECONDS = 60.0
"""A failover, with the time until its sentinels or a name service tell of it, is over sooner."""


class Demotion:
    """How long a server has refused writes as a replica."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since: float | None = None

    def met(self, error: BrokerError, remedy: str = "") -> None:
        """Something was refused, or could not be asked. Raises BrokerRefused when a replica has lasted too long."""
        if not isinstance(error, ReadOnly):
            return
        now = self._clock.now()
        if self._since is None:
            self._since = now
        elif now - self._since >= REPLICA_SECONDS:
            raise BrokerRefused(f"{error}; it has been one for {now - self._since:.0f} s{remedy}") from None

    def over(self) -> None:
        """A write was taken."""
        self._since = None
