"""Who wants to know how a job goes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from mapreduce_rq.core.job.record import Report


class Observer(Protocol):
    """Who wants to know how the job goes. Called from the master's loop: be quick."""

    def progressed(self, report: Callable[[], Report]) -> None:
        """Something was counted, or a second went by; ``report`` makes the report if it is wanted."""

    def noticed(self, text: str) -> None:
        """Something a person should read: a death, an outage, a refusal."""


class Silent:
    """An observer that wants to know nothing."""

    def progressed(self, report: Callable[[], Report]) -> None:
        """Not interested."""

    def noticed(self, text: str) -> None:
        """Not interested."""
