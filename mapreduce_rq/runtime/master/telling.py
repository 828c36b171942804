"""What a master tells of its job: notices to the one who waits for it, and events to the queue's journal.

A notice is a line for people, and stands in the job's timeline, too. An event is for other processes. Events are
written together, when the master next talks to Redis.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mapreduce_rq.broker.journal import Journal
from mapreduce_rq.core.job.timeline import Recorder
from mapreduce_rq.core.messages import Failure
from mapreduce_rq.runtime.clock import Clock
from mapreduce_rq.runtime.master.news import News, What, event_of
from mapreduce_rq.runtime.master.observer import Observer

MOST_SKIPPED_TOLD = 20
"""Events of terms left out, at one time: the record lists all of them."""


class Telling:
    """The notices and events of one job. Without a ``journal`` there are no events."""

    def __init__(self, clock: Clock, job: str, observer: Observer, recorder: Recorder, journal: Journal | None) -> None:
        self.told_skipped = 0  # terms left out that other processes know of
        self._clock = clock
        self._job = job
        self._observer = observer
        self._recorder = recorder
        self._journal = journal
        self._news: list[News] = []  # not told yet

    def notice(self, text: str) -> None:
        """Give the observer a line."""
        self._recorder.mark(text, self._clock.now())
        self._observer.noticed(text)

    def note(self, what: What, text: str = "") -> None:
        """Have an event told with the next news."""
        if self._journal is not None:
            self._news.append(event_of(self._journal, self._job, what, text, self._clock))

    def has_news(self, skipped: Sequence[tuple[int, Failure]], place: Callable[[int], object], *, ended: bool) -> bool:
        """Whether there is something to ``tell``. ``skipped``: all terms left out; ``place`` gives a term's name."""
        if self._journal is None:
            return False
        for term, failure in skipped[self.told_skipped :][:MOST_SKIPPED_TOLD]:
            self.note("term skipped", f"{place(term)}: {failure.kind}: {failure.message}")
        self.told_skipped = len(skipped)
        return bool(self._news) or ended

    def tell(self, *, ended: bool, keep: int) -> None:
        """Write the news; ``ended``: also the word that the job is over, whose record stays for ``keep`` seconds."""
        if self._journal is not None:
            news, self._news = self._news, []
            self._journal.tell(news, ended=self._job if ended else "", keep=keep)
