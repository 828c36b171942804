"""Observers: objects that a master informs of its job's progress."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from mapreduce_rq.core.job.printed import Printed
from mapreduce_rq.core.job.record import Report


class Observer(Protocol):
    """Gets a job's progress. The master's loop calls the methods, so they must be quick."""

    def progressed(self, report: Callable[[], Report]) -> None:
        """Terms were counted, or a second has passed; ``report`` makes the report if it is wanted."""

    def noticed(self, text: str) -> None:
        """A notice for people: a death, an outage, a refusal."""


@runtime_checkable
class Listener(Protocol):
    """An observer that also gets what functions print, if the job asks for it (``Limits.logs``)."""

    def printed(self, printed: Printed) -> None:
        """Take output, in the order of arrival. A task may be computed twice, so a line may come twice."""


@runtime_checkable
class Onlooker(Protocol):
    """An observer that also gets events of workers and terms, for a person who watches."""

    def happened(self, what: str, text: str) -> None:
        """An event such as ``worker lost``, with more about it."""


def tell_onlooker(observer: object, what: str, text: str) -> None:
    """Give an event to an observer that takes events."""
    if isinstance(observer, Onlooker):
        observer.happened(what, text)


def pass_on(observer: object, printed: Printed) -> None:
    """Give output to an observer that takes output."""
    if isinstance(observer, Listener):
        observer.printed(printed)


class Silent:
    """An observer that does nothing."""

    def progressed(self, report: Callable[[], Report]) -> None:
        """Do nothing."""

    def noticed(self, text: str) -> None:
        """Do nothing."""
