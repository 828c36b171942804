"""A master's conversation with Redis about one job: a pipelined exchange of replies and commits.

In each turn a master reads replies and sends a commit: tasks to push, a checkpoint when it is due, and always the
lease. The simple way is to send one request, wait for its answer, and send the next:

    master   read -> wait ... count replies, seal tasks, commit -> wait ... read -> wait ...
    server         work                                          work              work

Then each turn has two round trips in which either the master or the server is idle. If tasks take a microsecond, the
master is the slowest part of the whole fleet, and this time counts. So in three cases the master sends a request before
it reads the answer to the previous one:

- **Reading ahead.** If replies come faster than they are read (the last read was as long as a read may be), the master
  asks for the next replies before it seals tasks, and reads the answer afterwards. So the server prepares replies while
  the master signs tasks.
- **Pushing ahead.** If there are replies that were read ahead, a commit with tasks alone is sent, and its answer is
  read after these replies are in the ledger. So the server takes in the tasks while the master folds.
- **Creating ahead.** If the caller waits for the value alone, the request that creates the job is sent together with
  the first read of its replies.

Two rules make this safe.

1. The answer to a commit is read before any other request is sent, except the read of replies that was sent with it. So
   at most one commit is on its way, and the token that the next commit expects is known.
2. A commit with more than tasks (a checkpoint, the lease) is never sent ahead: the master waits for its answer. A
   checkpoint trims the replies that it contains, so it counts as stored only when Redis has said so.

After an error of the connection all requests on their way are forgotten. We cannot know whether they were done, but the
token in Redis tells whether the last commit was, and the replies are read again from the beginning of the stream
(:meth:`Exchange.begin_anew`): those that are counted already are ignored.

While the master waits for replies, it reads the values of those before, if its caller takes them (see
core/reducers/ahead.py). The request is on its way then, and after each body the master looks whether the answer is
there.

With a bell (see bell.py) replies come over a connection of their own, and each commit with tasks alone is sent ahead.
Its answer is read before the next request, and the master does not wait for it.

A master that is led in turns (see wheel.py) never waits: the wheel reads the replies of many jobs together, and gives
each master its own. The master asks for replies itself, without a wait, only while they come faster than they are read.
At the end of its turn no request of it is on its way, because the next request over this connection is another
master's.
"""

from __future__ import annotations

import select
from collections.abc import Iterable, Sequence

from mapreduce_rq.broker.jobs import FIRST_REPLY, Committed, Entry, Jobs, is_behind
from mapreduce_rq.broker.wire import Argument, Pollable
from mapreduce_rq.core.messages import MAP, OK, Reply, Task
from mapreduce_rq.core.reducers.ahead import Ahead
from mapreduce_rq.core.span import Runs
from mapreduce_rq.runtime.master.bell import Bell
from mapreduce_rq.runtime.master.bodies import Bodies
from mapreduce_rq.runtime.master.lease import Lease

Heard = tuple[list[Reply], int]
"""Replies, and how many entries there were, including those that were dropped as forged or malformed."""


class Exchange:
    """The conversation about one job. ``keeps``: its replies stay in Redis as the counted values, untrimmed.

    ``ahead``: what to read while it waits.
    """

    def __init__(
        self,
        jobs: Jobs,
        job: str,
        lease: Lease,
        bodies: Bodies,
        *,
        bell: Bell | None,
        keeps: bool,
        ahead: Ahead | None = None,
    ) -> None:
        self.jobs = jobs
        self.bodies = bodies
        self.waiting = False
        """Whether the master waits for Redis. No state is half changed then, so a signal handler may interrupt it."""
        self.in_turns = False
        """Whether replies are given to it, and the connection is shared with other masters."""
        self.cursor = FIRST_REPLY  # the last reply that was read
        self.again = False
        """Whether the replies that were given out last had been counted once before."""
        self.counted_to = FIRST_REPLY  # the last reply that was counted
        self._job = job
        self._lease = lease
        self._bell = bell
        self._keeps = keeps
        self._values = ahead
        self._crowded = False  # whether replies come faster than they are read
        self._ahead: tuple[str, list[Reply], int] | None = None  # read while tasks were sealed
        self.creating = False  # the job's creation and a look at its replies are on their way
        self._pushing = False  # a commit of tasks alone is on its way
        self._out = 0  # tasks of the job in the queue and in hands, with those of the last commit
        self.others = 0  # the least number of other jobs' tasks in the queue, after the last answered commit
        self._in_stream = Runs()  # if replies are kept: the terms of all that were read since the beginning

    # -- the connection --------------------------------------------------------------------------------------------

    def connect(self) -> None:
        """Connect anew, and forget requests on their way. Raises BrokerError."""
        if not self.in_turns:  # otherwise the wheel has connected
            self.jobs.connect()
        self._ahead, self.creating, self._pushing = None, False, False

    def begin_anew(self) -> None:
        """Read the stream from its beginning: it may be new, or in an earlier state."""
        self.begin_before(self.counted_to)
        self.cursor, self._ahead = FIRST_REPLY, None
        self._in_stream = Runs()

    def begin_before(self, entry: str) -> None:
        """The replies up to this entry have been counted once, by this master or the one before."""
        self.counted_to = entry
        if entry != FIRST_REPLY:
            self.jobs.seams[self._job] = entry

    def counted(self) -> None:
        """All replies that were given out are counted."""
        if not self.again:
            self.counted_to = self.cursor

    def over(self) -> None:
        """The job is not led any more."""
        self.jobs.seams.pop(self._job, None)

    # -- replies ---------------------------------------------------------------------------------------------------

    @property
    def has_more(self) -> bool:
        """Whether there are, or probably are, replies that it has not returned yet."""
        return self._ahead is not None or self._crowded

    def give(self, entries: Sequence[Entry], after: str) -> None:
        """Take entries of the job's stream that the wheel has read: all behind ``after``. Those that it has read itself
        are left out; and it takes none if it reads the stream anew, and has not come so far: it would miss some.
        """
        if self._ahead is None and not is_behind(after.encode(), self.cursor):
            later = [entry for entry in entries if is_behind(entry[0], self.cursor)]
            if later:
                self._ahead = self.jobs.opened(self._job, self.cursor, later)

    def hear(self, seconds: float, *, wants_items: bool) -> Heard:
        """Wait ``seconds`` for replies and return them; the caller must count them. Raises LeaseLost, BrokerError.

        ``wants_items``: a new item ends the wait, too.
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
        (self.cursor, replies, dropped), self._ahead = self._ahead, None
        self._crowded = len(replies) + dropped >= self.jobs.most
        self.again = self._job in self.jobs.seams and not is_behind(self.cursor.encode(), self.counted_to)
        if not self.again:
            self.jobs.seams.pop(self._job, None)
        if self._keeps:
            for reply in replies:
                for answer in reply.answers:
                    if answer.status == OK and answer.op == MAP and 0 <= answer.lo < answer.hi:
                        self._in_stream.add(answer.lo, answer.hi)
        return replies, len(replies) + dropped

    def _listen(self, seconds: float, wants_items: bool) -> tuple[str, list[Reply], int] | None:
        """The replies that are there, or that come within ``seconds``; None if the bell rang first."""
        if self.in_turns and seconds > 0:
            if not self._crowded:
                return None
            seconds = 0
        if self._bell is None or seconds <= 0:
            self.hear_of_commit()
            if seconds > 0 and self._values and isinstance(self.jobs.wire, Pollable):
                return self._listen_and_read(self._values, self.jobs.wire, seconds)
            return self.jobs.replies(self._job, self.cursor, seconds)
        try:
            # While the window is full no items are wanted: then a ring for each new item would only cost time.
            seconds = 0 if wants_items and not self._bell.await_it() else seconds
            found = self.jobs.replies_or(self._job, self.cursor, seconds, self._bell.fileno())
        finally:
            self._bell.rest()
        if found is None:
            self._bell.heard()
        return found

    def _listen_and_read(self, values: Ahead, wire: Pollable, seconds: float) -> tuple[str, list[Reply], int]:
        """The replies that come within ``seconds``. Until they are there, values of the ones before are read."""
        self.jobs.ask_for_replies(self._job, self.cursor, seconds)
        there = select.poll()
        there.register(wire.fileno(), select.POLLIN)
        while values and not there.poll(0):
            values.step()
        return self.jobs.replies_asked(self._job, self.cursor)

    def hold(self, terms: Iterable[tuple[int, int]], without: Iterable[int]) -> bool:
        """Whether the stream, read from its beginning, has the values of all these terms, except of ``without``."""
        for term in without:
            self._in_stream.add(term, term + 1)
        return all(self._in_stream.covers(lo, hi) for lo, hi in terms)

    # -- commits ---------------------------------------------------------------------------------------------------

    def create(
        self, number: int, fields: Sequence[tuple[str, Argument]], tasks: Sequence[Task], listen: float, what: str
    ) -> None:
        """Create the job, and have the server wait ``listen`` seconds for its first replies. Raises BrokerError."""
        self._lease.create(number, fields, self.bodies.load(tasks), listen, what)
        self.creating, self._out = True, len(tasks)

    def commit(
        self,
        *,
        number: int,
        fields: Sequence[tuple[str, Argument]],
        tasks: Sequence[Task],
        checkpoint: bool,
        out: int,
        first: bool = False,
    ) -> None:
        """Compare and set; a ``checkpoint`` trims the replies that were read. Raises LeaseLost, BrokerError.

        ``out``: the number of the job's tasks that are out after it. ``first``: these tasks are the next to be taken,
        unless there is something to trim.
        """
        ahead = self._crowded and self._ahead is None and self._bell is None
        if ahead:
            self.jobs.ask_for_replies(self._job, self.cursor)
        try:
            load = self.bodies.load(tasks)
        finally:
            found = self.jobs.replies_asked(self._job, self.cursor) if ahead else None
        if found is not None:
            self._ahead = found if found[1] or found[2] else None
            self._crowded = self._ahead is not None
        what = behind(self.cursor) if checkpoint and not self._keeps else ""  # the replies that are in it
        what = what or ("ahead" if first and tasks else "")
        self._out = out
        if (self._ahead is not None or self._bell is not None) and not fields:
            self._lease.push(load, what)
            self._pushing = True
            return
        self._reopened(self._lease.commit(what=what, number=number, fields=fields, load=load))

    def hear_of_commit(self) -> None:
        """Read the answer to the commit on its way, if there is one. Raises LeaseLost, BrokerError."""
        if self.creating:
            self.creating = False
            self.waiting = True
            try:
                answer, self._ahead = self._lease.created()
            finally:
                self.waiting = False
            self.others = answer.waiting - self._out
        if self._pushing:
            self._pushing = False
            self._reopened(self._lease.pushed())

    def _reopened(self, answer: Committed) -> None:
        self.others = answer.waiting - self._out
        if answer.reopened:
            self.begin_anew()


def behind(entry: str) -> str:
    """The smallest stream id after this one: trimming below it removes exactly the entries that were read."""
    if entry == FIRST_REPLY:
        return ""
    milliseconds, _, sequence = entry.partition("-")
    return f"{milliseconds}-{int(sequence) + 1}"
