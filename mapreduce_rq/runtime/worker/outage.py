"""A time in which a worker's server does not answer, or takes no write; and the time of the next try."""

from __future__ import annotations

from mapreduce_rq.errors import BrokerError
from mapreduce_rq.runtime.clock import Backoff, Clock
from mapreduce_rq.runtime.demotion import Demotion


class Outage:
    """The outages of one worker's queue, one after another."""

    def __init__(self, clock: Clock) -> None:
        self.on = False  # whether there is one
        self._clock = clock
        self._backoff = Backoff()
        self._demotion = Demotion(clock)
        self._again = 0.0

    def wait(self) -> float:
        """Seconds until the next try."""
        return max(0.0, self._again - self._clock.now())

    def met(self, error: BrokerError | None) -> None:
        """Note an error. None: it is not the server's. Raises BrokerRefused if the server is a replica for too long."""
        if error is not None:
            self._demotion.met(error)
            self.on = True
        self._again = self._clock.now() + self._backoff.next()

    def over(self) -> None:
        """Note that the server works again."""
        self.on = False
        self._backoff = Backoff()
        self._demotion.over()
