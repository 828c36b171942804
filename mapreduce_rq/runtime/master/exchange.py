"""A master's conversation with Redis about one job: what is asked, what is on its way, and what may overlap.

A master reads replies and commits: tasks to push, a checkpoint when it is due, always the lease. One after the other,
each with its answer awaited, that costs two round trips a turn in which the master or the server has nothing to do.
With tasks of a microsecond the master is the narrowest place of all, so three things overlap:

- **Reading ahead.** Where replies come quicker than they are read (the last read was as long as a read may be), the
  next ones are asked for before the tasks are sealed, and their answer is read afterwards: the server prepares the
  replies while the master signs tasks.
- **Pushing ahead.** Where replies wait that were read ahead, a commit of tasks alone is sent, and its answer is read
  when those replies are in the ledger: the master folds while the server takes the tasks in.
- **Creating ahead.** Where the caller waits for the value alone, the creation of the job goes out together with the
  first read of its replies.

Two rules keep that safe. What became of a commit is heard before anything else is asked, but for the replies that were
read ahead: so at most one commit is on its way, and the token that the next one expects is known. And a commit that
holds more than tasks (a checkpoint, the lease) is always awaited: a checkpoint trims the replies that it contains, and
is counted as stored only when it is. An error of the connection forgets all that was on its way; then the token says
what was done, and the stream is read from its beginning (:meth:`Exchange.begin_anew`).

With a bell (see bell.py) replies come over a connection of their own, and every commit of tasks alone is sent ahead:
what became of it is heard when something else is to be asked, and nobody waits for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mapreduce_rq.broker.jobs import FIRST_REPLY, Committed, Jobs
from mapreduce_rq.broker.wire import Argument
from mapreduce_rq.core.messages import MAP, OK, Reply, Task
from mapreduce_rq.core.span import Runs
from mapreduce_rq.runtime.master.bell import Bell
from mapreduce_rq.runtime.master.lease import Lease

Heard = tuple[list[Reply], int]
"""Replies, and how many entries there were with those that were dropped as forged or malformed."""


class Exchange:
    """The conversation about one job. ``keeps``: its replies are what is counted, and are not trimmed."""

    def __init__(self, jobs: Jobs, job: str, lease: Lease, *, bell: Bell | None, keeps: bool) -> None:
        self.jobs = jobs
        self.waiting = False
        """Whether the master waits for Redis: nothing is half changed then, and a signal's handler may interrupt it."""
        self._job = job
        self._lease = lease
        self._bell = bell
        self._keeps = keeps
        self._cursor = FIRST_REPLY
        self._crowded = False  # replies come quicker than they are read
        self._ahead: tuple[str, list[Reply], int] | None = None  # read while tasks were sealed
        self._creating = False  # the job's creation and a look at its replies are on their way
        self._pushing = False  # a commit of tasks alone is on its way
        self._in_stream = Runs()  # what the replies hold that were read since the beginning, where they are kept

    # -- the connection --------------------------------------------------------------------------------------------

    def connect(self) -> None:
        """Connect anew; what was on its way is forgotten. Raises BrokerError."""
        self.jobs.connect()
        self._ahead, self._creating, self._pushing = None, False, False

    def begin_anew(self) -> None:
        """Read the stream from its beginning: it may be a new one, or the past one."""
        self._cursor, self._ahead = FIRST_REPLY, None
        self._in_stream = Runs()

    # -- replies ---------------------------------------------------------------------------------------------------

    def hear(self, seconds: float, *, wants_items: bool) -> Heard:
        """The next replies, waiting so many seconds for one; they must be counted. Raises LeaseLost, BrokerError.

        ``wants_items``: an item that is given ends the wait, too.
        """
        if self._ahead is None and self._bell is None:
            self.hear_of_commit()
        if self._ahead is None:
            self.waiting = True
            try:
                self._ahead = self._listen(seconds, wants_items)
            finally:
                self.waiting = False
        if self._ahead is None:
            return [], 0
        (self._cursor, replies, dropped), self._ahead = self._ahead, None
        self._crowded = len(replies) + dropped == self.jobs.at_once
        if self._keeps:
            for reply in replies:
                for answer in reply.answers:
                    if answer.status == OK and answer.op == MAP and 0 <= answer.lo < answer.hi:
                        self._in_stream.add(answer.lo, answer.hi)
        return replies, len(replies) + dropped

    def _listen(self, seconds: float, wants_items: bool) -> tuple[str, list[Reply], int] | None:
        """The replies that are there, or come in so many seconds; None if the bell was quicker."""
        if self._bell is None or seconds <= 0:
            self.hear_of_commit()
            return self.jobs.replies(self._job, self._cursor, seconds)
        try:
            # While the window is full no item is wanted: to be told of each would only cost.
            seconds = 0 if wants_items and not self._bell.await_it() else seconds
            return self.jobs.replies_or(self._job, self._cursor, seconds, self._bell.fileno())
        finally:
            self._bell.heard()

    def hold(self, terms: Iterable[tuple[int, int]], without: Iterable[int]) -> bool:
        """Whether the stream holds values of all these terms but some, as far as it was read since the beginning."""
        for term in without:
            self._in_stream.add(term, term + 1)
        return all(self._in_stream.covers(lo, hi) for lo, hi in terms)

    # -- commits ---------------------------------------------------------------------------------------------------

    def create(self, number: int, fields: Sequence[tuple[str, Argument]], tasks: Sequence[Task], listen: float) -> None:
        """Ask for the job and its first replies at once; these are waited for so many seconds. Raises BrokerError."""
        self._lease.create(number, fields, self.jobs.codecs.task.seal_all(tasks), listen)
        self._creating = True

    def commit(
        self, *, number: int, fields: Sequence[tuple[str, Argument]], tasks: Sequence[Task], checkpoint: bool
    ) -> None:
        """Compare and set; a ``checkpoint`` trims the replies that were read. Raises LeaseLost, BrokerError."""
        ahead = self._crowded and self._ahead is None and self._bell is None
        if ahead:
            self.jobs.ask_for_replies(self._job, self._cursor)
        try:
            sealed = self.jobs.codecs.task.seal_all(tasks)
        finally:
            found = self.jobs.replies_asked(self._job, self._cursor) if ahead else None
        if found is not None:
            self._ahead = found if found[1] or found[2] else None
        what = behind(self._cursor) if checkpoint and not self._keeps else ""  # of what is in it, not of what came now
        if (self._ahead is not None or self._bell is not None) and not fields:
            self._lease.push(sealed)
            self._pushing = True
            return
        self._reopened(self._lease.commit(what=what, number=number, fields=fields, tasks=sealed))

    def hear_of_commit(self) -> None:
        """Hear of the commit on its way, before anything else is asked. Raises LeaseLost, BrokerError."""
        if self._creating:
            self._creating = False
            self.waiting = True
            try:
                self._ahead = self._lease.created()
            finally:
                self.waiting = False
        if self._pushing:
            self._pushing = False
            self._reopened(self._lease.pushed())

    def _reopened(self, answer: Committed) -> None:
        if answer.reopened:
            self.begin_anew()


def behind(entry: str) -> str:
    """The smallest stream id after this one: trimming below it removes exactly what was read."""
    if entry == FIRST_REPLY:
        return ""
    milliseconds, _, sequence = entry.partition("-")
    return f"{milliseconds}-{int(sequence) + 1}"
