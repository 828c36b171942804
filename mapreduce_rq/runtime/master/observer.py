"""Observers: objects that a master tells how its job goes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from mapreduce_rq.core.job.printed import Printed
from mapreduce_rq.core.job.record import Report


class Observer(Protocol):
    """Is told how the job goes. Its methods are called from the master's loop, so they must be quick."""

    def progressed(self, report: Callable[[], Report]) -> None:
        """Terms were counted, or a second has passed; ``report`` makes the report if it is wanted."""

    def noticed(self, text: str) -> None:
        """A notice for people: a death, an outage, a refusal."""


@runtime_checkable
class Listener(Protocol):
    """An observer that is also given what functions print, of a job that asks for it (``Limits.logs``)."""

    def printed(self, printed: Printed) -> None:
        """Called in the order of arrival. A task is computed at least once, so a line may come twice."""


@runtime_checkable
class Onlooker(Protocol):
    """An observer that is also told what happens to workers and terms, for a person who looks on."""

    def happened(self, what: str, text: str) -> None:
        """An event such as ``worker lost``, with more about it."""


def tell_onlooker(observer: object, what: str, text: str) -> None:
    """Tell it to an observer that looks on."""
    if isinstance(observer, Onlooker):
        observer.happened(what, text)


def pass_on(observer: object, printed: Printed) -> None:
    """Give it to an observer that listens."""
    if isinstance(observer, Listener):
        observer.printed(printed)


class Silent:
    """An observer that does nothing."""

    def progressed(self, report: Callable[[], Report]) -> None:
        """Not interested."""

    def noticed(self, text: str) -> None:
        """Not interested."""
