"""A master's hold on its job: the token that every commit compares and replaces.

A token is ``epoch:nonce:counter``: a new epoch and nonce for each master, a new counter for each commit. It is a
field of the job's hash, and does three things at once.

- **Fencing.** A master may be paused (a suspended laptop, a slow disk, a debugger) and go on when another master leads
  its job. No clock can prevent this: the pause may come after any check. So each change of the job is a compare-and-set
  in one step (commit.lua): it names the token that the master knows, and changes nothing if another token is there. A
  master that takes a job over writes a token of its own, and from that moment on each commit of the old master fails.
  The old master learns it from its first such commit, and stops.
- **A sign of life.** The token changes at least every second while a master lives. A standby that sees the same token
  in several looks in a row knows that the master is gone or paused. If that is wrong, fencing makes sure that no
  harm is done.
- **A version.** If the answer to a commit is lost, the master does not know whether the commit was done. It looks at
  the token: if it is one of its own, it still leads the job, and goes on from memory.

The nonce is random. After a failover the server may have forgotten the last masters, and an epoch may be used twice;
the nonces differ all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from mapreduce_rq.broker.jobs import FIRST_REPLY, Bodies, Committed, Jobs, Lost
from mapreduce_rq.broker.wire import Argument
from mapreduce_rq.core.messages import Reply
from mapreduce_rq.errors import BrokerError

EPOCH_DIGITS = 15
"""Digits of an epoch at most: a longer one was not written by us."""


def is_first(token: str) -> bool:
    """Whether a token is the one from a job's creation: no master has led the job since. It may be wrong, because any
    client can write a token; then the tasks are only cut a second time.
    """
    epoch, _, rest = token.partition(":")
    return epoch == "1" and rest.partition(":")[2] == "1"


class LeaseLost(Exception):
    """A commit found another token than ours. ``found``: the token and the state that it found."""

    def __init__(self, found: Lost) -> None:
        super().__init__(found)
        self.found = found


class Load(NamedTuple):
    """The load of a commit: sealed tasks, and the large bodies that are stored apart. See ``Jobs.commit``."""

    tasks: Sequence[bytes] = ()
    bodies: Bodies = ()
    items: bool = False


NOTHING = Load()


class Lease:
    """The hold of one master on one job."""

    def __init__(self, jobs: Jobs, job: str, nonce: str, who: str = "master") -> None:
        self._jobs = jobs
        self._job = job
        self._nonce = nonce
        self._who = who
        self._epoch = 1
        self._counter = 0
        self._pushing = ""  # the token of a push, or of the creation, that is on its way
        self.token = ""  # the token that the next commit expects; '' = no job yet

    @property
    def holder(self) -> str:
        """The name of this master in the job's hash."""
        return f"{self._who}:{self._nonce}"

    def owns(self, token: str) -> bool:
        """Whether a token is one of ours."""
        return token.split(":")[1:2] == [self._nonce]

    def succeed(self, token: str) -> None:
        """Follow the master that wrote this token."""
        epoch = token.partition(":")[0]
        readable = len(epoch) <= EPOCH_DIGITS and epoch.isascii() and epoch.isdigit()
        self._epoch = int(epoch) + 1 if readable else 1  # the epoch is for people: the nonce alone makes a token ours
        self.token = token

    def commit(
        self,
        *,
        what: str = "",
        number: int = 0,
        fields: Sequence[tuple[str, Argument]] = (),
        load: Load = NOTHING,
        expect: str | None = None,
    ) -> Committed:
        """Compare and set; see commit.lua for ``what`` and ``number``. Raises LeaseLost, BrokerError."""
        self._pushing = ""  # its answer was read, or lost with its connection
        token = self._next()
        expected = self.token if expect is None else expect
        answer = self._jobs.commit(
            self._job,
            expected,
            token,
            what=what,
            number=number,
            fields=fields,
            tasks=load.tasks,
            bodies=load.bodies,
            items=load.items,
        )
        return self._changed(answer, token)

    def create(self, number: int, fields: Sequence[tuple[str, Argument]], load: Load, listen: float, what: str) -> None:
        """Create the job and ask for its first replies; :meth:`created` reads both answers. Raises BrokerError."""
        self._pushing = self._next()
        self._jobs.ask_to_create(
            self._job,
            self._pushing,
            number=number,
            fields=fields,
            listen=listen,
            what=what,
            tasks=load.tasks,
            bodies=load.bodies,
            items=load.items,
        )

    def created(self) -> tuple[Committed, tuple[str, list[Reply], int]]:
        """The answer, and the first replies, if the job is there now. Raises LeaseLost, BrokerError."""
        token, self._pushing = self._pushing, ""
        answer = self._jobs.created()
        replies = self._jobs.replies_asked(self._job, FIRST_REPLY)
        return self._changed(answer, token), replies

    def end(
        self,
        what: str,
        keep: int,
        fields: Sequence[tuple[str, Argument]],
        heard: Callable[[Committed | Lost | BrokerError], None],
    ) -> None:
        """Ask for the job's end; ``heard`` is called before the next answer is read. Raises BrokerError."""
        self._jobs.ask_to_end(self._job, self.token, self._next(), what=what, keep=keep, fields=fields, heard=heard)

    def push(self, load: Load, what: str = "") -> None:
        """Ask for a commit with tasks alone; :meth:`pushed` reads the answer. Raises BrokerError."""
        self._pushing = self._next()
        self._jobs.ask_to_push(
            self._job, self.token, self._pushing, what=what, tasks=load.tasks, bodies=load.bodies, items=load.items
        )

    def pushed(self) -> Committed:
        """Read the answer to the push. Raises LeaseLost, BrokerError."""
        token, self._pushing = self._pushing, ""
        return self._changed(self._jobs.pushed(), token)

    def _next(self) -> str:
        self._counter += 1
        return f"{self._epoch}:{self._nonce}:{self._counter}"

    def _changed(self, answer: Committed | Lost, token: str) -> Committed:
        if isinstance(answer, Lost):
            raise LeaseLost(answer)
        self.token = token
        return answer

    def keep(self, jobs: Jobs) -> None:
        """Replace only the token, over these verbs; another master's token stays. Raises BrokerError.

        While a push is on its way, its outcome is not known, so the token stays as it is.
        """
        if self._pushing:
            return
        token = self._next()
        if not isinstance(jobs.commit(self._job, self.token, token, what="keep"), Lost):
            self.token = token
