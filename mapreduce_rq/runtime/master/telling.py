"""The notices and events of a job, which its master reports.

A notice is a line for the person who waits for the job; the job's timeline has it, too. An event goes to the queue's
journal, for other processes, to the timeline, and to an observer that takes events. Events are written to the journal
together, when the master next talks to Redis.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mapreduce_rq.broker.journal import Journal
from mapreduce_rq.core.job.recorder import Recorder
from mapreduce_rq.core.messages import Failure, What
from mapreduce_rq.runtime.clock import Clock
from mapreduce_rq.runtime.master.news import News, event_of
from mapreduce_rq.runtime.master.observer import Observer, tell_onlooker

MOST_SKIPPED_TOLD = 20
"""The most events of terms left out that are reported at one time: the record lists all terms."""
OF_THE_JOB = frozenset(["submitted", "done", "failed", "cancelled"])
"""Events that are not shown to an observer or in the timeline, because the end of the job shows them anyway."""


class Telling:
    """The notices and events of one job. Without a ``journal``, other processes do not get them."""

    def __init__(self, clock: Clock, job: str, observer: Observer, recorder: Recorder, journal: Journal | None) -> None:
        self.told_skipped = 0  # the number of terms left out that were reported
        self._clock = clock
        self._job = job
        self._observer = observer
        self._recorder = recorder
        self._journal = journal
        self._news: list[News] = []  # events that are not written yet

    def notice(self, text: str) -> None:
        """Give the observer a line, and the timeline a mark."""
        self._recorder.mark(text, self._clock.now())
        self._observer.noticed(text)

    def mark(self, text: str) -> None:
        """Put a line into the job's timeline only, because another process shows it to people."""
        self._recorder.mark(text, self._clock.now())

    def note(self, what: What, text: str = "", *, noticed: bool = False) -> None:
        """Add an event. ``noticed``: a notice says the same, so the event goes only to other processes."""
        if self._journal is not None:
            self._news.append(event_of(self._journal, self._job, what, text, self._clock))
        if not noticed and what not in OF_THE_JOB:
            self.seen(what, text)

    def seen(self, what: str, text: str) -> None:
        """Add an event that other processes see by themselves, for the observer and the timeline."""
        self._recorder.mark(f"{what}: {text}" if text else what, self._clock.now())
        tell_onlooker(self._observer, what, text)

    def skipped(self, terms: Sequence[tuple[int, Failure]], place: Callable[[int], object]) -> None:
        """Report terms left out since the last time. ``terms``: all of them; ``place`` returns a term's name."""
        for term, failure in terms[self.told_skipped :][:MOST_SKIPPED_TOLD]:
            self.note("term skipped", f"{place(term)}: {failure.kind}: {failure.message}")
        self.told_skipped = len(terms)

    @property
    def has_news(self) -> bool:
        """Whether there are events to write."""
        return bool(self._news)

    @property
    def has_readers(self) -> bool:
        """Whether there is a journal."""
        return self._journal is not None

    def tell(self, *, ended: bool, keep: int) -> None:
        """Write the events. ``ended``: write also that the job is over; its record stays for ``keep`` seconds."""
        if self._journal is not None:
            news, self._news = self._news, []
            self._journal.tell(news, ended=self._job if ended else "", keep=keep)
