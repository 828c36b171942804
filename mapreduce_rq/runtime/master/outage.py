"""A time in which Redis does not answer a master, or takes no write: the notices about it, and the pauses during it."""

from __future__ import annotations

from mapreduce_rq.errors import BrokerError
from mapreduce_rq.runtime.clock import Backoff, Clock
from mapreduce_rq.runtime.demotion import Demotion
from mapreduce_rq.runtime.master.telling import Telling


class Outage:
    """The outages of one master, one after another."""

    def __init__(self, clock: Clock, telling: Telling) -> None:
        self.shared = False
        """Whether other masters of this process have the outage, too: then the process reports it once for all."""
        self._clock = clock
        self._telling = telling
        self._since: float | None = None  # the beginning of the present outage
        self._backoff: Backoff | None = None  # of this outage
        self._demotion: Demotion | None = None

    @property
    def on(self) -> bool:
        """Whether there is an outage that may not be over."""
        return self._since is not None

    def met(self, error: BrokerError, kept: str) -> None:
        """Note an error of Redis. Raises the error if the server is a replica for good. ``kept``: what is not lost
        then.
        """
        if self._demotion is None:
            self._demotion = Demotion(self._clock)
        self._demotion.met(error, kept)

    def begin(self, error: BrokerError) -> None:
        """Report the outage, once."""
        if self._since is None:
            self._since = self._clock.now()
            self._tell(f"{error}; trying again")

    def pause(self) -> float:
        """Seconds to wait before the next try."""
        if self._backoff is None:
            self._backoff = Backoff()
        return self._backoff.next()

    def over(self, *, told: bool) -> None:
        """Note that Redis took a write, or said how the job ended. Any other answer proves little: replicas answer."""
        if self._since is None:
            return
        self._demotion = None
        if told:
            self._tell(f"Redis is back after {self._clock.now() - self._since:.1f} s")
        self._since = self._backoff = None

    def _tell(self, text: str) -> None:
        if self.shared:
            self._telling.mark(text)
        else:
            self._telling.notice(text)
