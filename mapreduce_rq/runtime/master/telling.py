"""What a master tells of its job: notices to the one who waits for it, and events.

A notice is a line for people, and stands in the job's timeline, too. An event stands in the queue's journal, for other
processes, and in the timeline; and an observer that looks on is told of it. Events are written to the journal together,
when the master next talks to Redis.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mapreduce_rq.broker.journal import Journal
from mapreduce_rq.core.job.timeline import Recorder
from mapreduce_rq.core.messages import Failure, What
from mapreduce_rq.runtime.clock import Clock
from mapreduce_rq.runtime.master.news import News, event_of
from mapreduce_rq.runtime.master.observer import Observer, tell_onlooker

MOST_SKIPPED_TOLD = 20
"""Events of terms left out, at one time: the record lists all of them."""
OF_THE_JOB = frozenset(["submitted", "done", "failed", "cancelled"])
"""Events that the one who waits for the job sees anyway, as does a reader of its timeline."""


class Telling:
    """The notices and events of one job. Without a ``journal`` none is told to other processes."""

    def __init__(self, clock: Clock, job: str, observer: Observer, recorder: Recorder, journal: Journal | None) -> None:
        self.told_skipped = 0  # terms left out that are told of
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

    def mark(self, text: str) -> None:
        """Have a line stand in the job's timeline alone: another process tells people of it."""
        self._recorder.mark(text, self._clock.now())

    def note(self, what: What, text: str = "", *, noticed: bool = False) -> None:
        """Something has happened. ``noticed``: a notice says the same, so only other processes are told."""
        if self._journal is not None:
            self._news.append(event_of(self._journal, self._job, what, text, self._clock))
        if not noticed and what not in OF_THE_JOB:
            self.seen(what, text)

    def seen(self, what: str, text: str) -> None:
        """Something has happened that other processes see by themselves."""
        self._recorder.mark(f"{what}: {text}" if text else what, self._clock.now())
        tell_onlooker(self._observer, what, text)

    def skipped(self, terms: Sequence[tuple[int, Failure]], place: Callable[[int], object]) -> None:
        """Tell of terms left out since the last time. ``terms``: all that were; ``place`` gives a term's name."""
        for term, failure in terms[self.told_skipped :][:MOST_SKIPPED_TOLD]:
            self.note("term skipped", f"{place(term)}: {failure.kind}: {failure.message}")
        self.told_skipped = len(terms)

    @property
    def has_news(self) -> bool:
        """Whether there is something to ``tell``."""
        return bool(self._news)

    @property
    def has_readers(self) -> bool:
        """Whether other processes are told."""
        return self._journal is not None

    def tell(self, *, ended: bool, keep: int) -> None:
        """Write the news; ``ended``: also the word that the job is over, whose record stays for ``keep`` seconds."""
        if self._journal is not None:
            news, self._news = self._news, []
            self._journal.tell(news, ended=self._job if ended else "", keep=keep)
