"""The notices and events of a job, which its master reports.

A notice is a line for the person who waits for the job; the job's timeline has it, too. An event goes to the queue's
journal, for other processes, to the timeline, and to an observer that takes events. Events are written to the journal
together, when the master next talks to Redis.

A call whose caller waits for the value (``Client.map_reduce``) may take a third of a millisecond, and a program may
make thousands of them in a second. To write that such a call began and ended would cost it a round trip more, and the
journal, which keeps the newest 10 000 events, would soon have nothing else: no one could find in it the worker that was
lost. So the events of a call are ``withheld``: its master keeps them in memory until one of three things happens.

- The call has lasted LASTING_SECONDS: a person may look for it by now, and its next commit is due anyway.
- Something happened to it that people look for: a worker was lost, a task came back, a term was tried again or left
  out, a worker died of a task, Redis was full, the job was let go of.
- It fails.

From then on the call is like each other job: what came before is written with the times at which it happened, then what
follows, and at last its end. A short call to which nothing happened leaves only its record.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mapreduce_rq.broker.journal import Journal
from mapreduce_rq.core.job.recorder import Recorder
from mapreduce_rq.core.messages import Failure, What
from mapreduce_rq.runtime.clock import Clock
from mapreduce_rq.runtime.master.news import News, event_of
from mapreduce_rq.runtime.master.observer import Observer, tell_onlooker

LASTING_SECONDS = 1.0
"""A call that has lasted this long is told of, even if nothing has happened to it."""
MOST_SKIPPED_TOLD = 20
"""The most events of terms left out that are reported at one time: the record lists all terms."""
MOST_KEPT = 200
"""The most events that wait until Redis is no longer full: the first one, and the newest."""
OF_THE_JOB = frozenset(["submitted", "done", "failed", "cancelled"])
"""Events that are not shown to an observer or in the timeline, because the end of the job shows them anyway."""


class Telling:
    """The notices and events of one job. Without a ``journal``, other processes do not get them.

    ``withheld``: they get them only when there is a reason; see above.
    """

    def __init__(
        self,
        clock: Clock,
        job: str,
        observer: Observer,
        recorder: Recorder,
        journal: Journal | None,
        *,
        withheld: bool = False,
    ) -> None:
        self.told_skipped = 0  # the number of terms left out that were reported
        self._clock = clock
        self._job = job
        self._observer = observer
        self._recorder = recorder
        self._journal = journal
        self._withheld = withheld
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
            if what not in OF_THE_JOB:
                self._withheld = False
        if not noticed and what not in OF_THE_JOB:
            self.seen(what, text)

    def note_once(self, what: What, text: str) -> None:
        """Add an event, unless the timeline has it: a master that led the job before has told of it."""
        if not self._recorder.has_mark(f"{what}: {text}"):
            self.note(what, text)

    def seen(self, what: str, text: str) -> None:
        """Add an event that other processes see by themselves, for the observer and the timeline."""
        self._recorder.mark(f"{what}: {text}" if text else what, self._clock.now())
        tell_onlooker(self._observer, what, text)

    def skipped(self, terms: Sequence[tuple[int, Failure]], place: Callable[[int], object]) -> None:
        """Report terms left out since the last time. ``terms``: all of them; ``place`` returns a term's name."""
        for term, failure in terms[self.told_skipped :][:MOST_SKIPPED_TOLD]:
            self.note("term skipped", f"{place(term)}: {failure.kind}: {failure.message}")
        self.told_skipped = len(terms)

    def release(self) -> None:
        """Withhold nothing from here on."""
        self._withheld = False

    @property
    def has_news(self) -> bool:
        """Whether there are events to write."""
        return bool(self._news) and not self._withheld

    @property
    def has_readers(self) -> bool:
        """Whether there is a journal, and nothing is withheld from it."""
        return self._journal is not None and not self._withheld

    def tell(self, *, ended: bool, keep: int) -> None:
        """Write the events. ``ended``: write also that the job is over; its record stays for ``keep`` seconds.

        Commits pass while Redis is full, and events do not, not even the one that says so: it stays for the next time.
        """
        if self._journal is not None:
            news, self._news = self._news, []
            if not self._journal.tell(news, ended=self._job if ended else "", keep=keep):
                self._news = [*news[:1], *news[1:][-MOST_KEPT:]]
