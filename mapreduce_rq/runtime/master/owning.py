"""How a job becomes a master's own: it is created, taken over, or written anew after Redis has lost it.

It is the middle one of a master's three layers (see master.py).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from mapreduce_rq.broker.job_hash import JobState
from mapreduce_rq.broker.jobs import FIRST_REPLY, Lost
from mapreduce_rq.broker.wire import Argument
from mapreduce_rq.core.job.events import Broken, Push, Resumed
from mapreduce_rq.core.job.ledger import Ledger
from mapreduce_rq.core.job.record import State
from mapreduce_rq.core.job.timeline import Timeline
from mapreduce_rq.core.messages import Checkpoint, Task
from mapreduce_rq.core.text import duration, plural
from mapreduce_rq.errors import BrokerError, NoSuchJob, Superseded, TooLarge
from mapreduce_rq.runtime.master.commits import Commits
from mapreduce_rq.runtime.master.ended import Ended
from mapreduce_rq.runtime.master.lease import LeaseLost, is_first
from mapreduce_rq.runtime.master.oversize import large_item

INLINE_SPEC_BYTES = 2048
INLINE_SPEC_TASKS = 32
"""How many of the first tasks carry the job's spec, if it is small: this saves a new worker a round trip."""
MAX_RESUBMITTED = 100
"""How often at most a job is written again after it is gone from Redis, or was overwritten there."""


class Owning(Commits):
    """The layer that creates a job, takes it over, and submits it again from memory."""

    def submit(self, *, hand_over: bool = False) -> None:
        """Create the job with its first tasks. Safe to repeat after BrokerDown.

        With ``hand_over`` set, another master is to lead it.

        Raises BrokerError, Superseded; TooLarge, with nothing queued, for a spec or first item that Redis cannot take.
        """
        sealed = self._fields.spec_that_fits()
        commands = self.ledger.receive(Resumed(), self._now)
        while True:
            pushed = [task for command in commands if isinstance(command, Push) for task in command.tasks]
            self._spec_bytes = len(sealed)
            if len(sealed) <= INLINE_SPEC_BYTES:
                first = [msgspec.structs.replace(task, spec=sealed) for task in pushed[:INLINE_SPEC_TASKS]]
                pushed = [*first, *pushed[INLINE_SPEC_TASKS:]]
            try:
                self._create(pushed, sealed, pipelined=self._pipelined, hand_over=hand_over)
            except LeaseLost as lost:
                if not self._lease.owns(lost.found.token):
                    raise Superseded(f"{self._job} is there already, led by another master") from None
                self._lease.token = lost.found.token  # an earlier try was done, and its answer was lost
            except TooLarge as error:
                commands = self._in_parts(pushed, error)
                for command in commands:
                    if isinstance(command, Broken):
                        raise large_item(pushed[0], error) from None
                continue
            if hand_over:
                self.jobs.hand_over(self._job, urgent=self.spec.limits.urgent)
            self._telling.note("submitted", self.spec.label)
            self._tell()
            return

    def _create(
        self,
        tasks: list[Task],
        sealed: bytes,
        *,
        pipelined: bool,
        expect: str = "",
        hand_over: bool = False,
        more: Sequence[tuple[str, Argument]] = (),
    ) -> None:
        number = int(self.spec.created)
        row: list[tuple[str, Argument]] = [("state", State.RUNNING), ("spec", sealed)]
        if not self._unseen:
            row.append(("ck", self._fields.checkpoint(self.ledger, self._now)))
            row.append(("master", "" if hand_over else self._lease.holder))
        row += more
        if self._host:
            row.append(("host", self._host))
        if hand_over:
            row.append(("detached", "1"))  # no process has waited for it: its record stays longer than others
        if self.spec.limits.urgent:
            row.append(("urgent", "1"))
        self._last_commit = self._now
        self._checkpoints.began(self._now)
        what = "create, ahead" if self.spec.limits.urgent else "create"
        if pipelined:
            self._exchange.create(number, row, tasks, self._patience(), what)
        else:
            load = self._exchange.bodies.load(tasks)
            answer = self._lease.commit(expect=expect, what=what, number=number, fields=row, load=load)
            self._exchange.others = answer.waiting - len(tasks)

    def begin_with(self, checkpoint: Checkpoint) -> None:
        """Begin with the counted terms of a failed job over the same terms. Call it before ``submit``.

        Nothing is taken from a checkpoint that refers to data which was deleted with that job.
        """
        if self.computation.reducer.refers:
            return
        self.ledger = self._restored_ledger(msgspec.structs.replace(checkpoint, job=self._job))
        self._now = self.clock.now()

    def take_over(self, state: JobState) -> None:
        """Claim a job whose master is gone or has let go. Raises Superseded if another master was quicker."""
        self._lease.succeed(state.token)
        self._go_on(state.timeline)
        self._restored = True  # all that is left may be the end, of which others have despaired
        self.ledger = self._restored_ledger(state.checkpoint, cut_on=bool(state.master) or not is_first(state.token))
        try:
            self._commit(fields=[("master", self._lease.holder), ("state", State.RUNNING)])
        except LeaseLost as lost:
            raise Superseded(f"{self._job} was claimed by another master ({lost.found.state})") from None
        if state.master:
            self._checkpoints.hurry()
        self._telling.told_skipped = len(self.ledger.skipped)
        self._telling.note("taken over", f"{plural(self.ledger.counted, 'term')} counted{self._silence}")
        self._tell()

    def _go_on(self, kept: Timeline | None) -> None:
        """Go on with the timeline of an earlier master."""
        if kept is None:
            return
        silence = self._recorder.go_on(kept, now=self.clock.now(), wall=self.clock.wall())
        if silence is not None:
            self._silence = f"; nothing was heard for {duration(silence)}"
            self._began, self._before = kept.began, kept.before
            self._exchange.begin_before(kept.upto or FIRST_REPLY)

    def _restored_ledger(self, checkpoint: Checkpoint | None, *, cut_on: bool = True) -> Ledger:
        return Ledger(
            self.spec,
            self.computation,
            self.clock.now(),
            checkpoint=checkpoint,
            cut_on=cut_on,
            source=self._source,
            workers=self.workers,
            patient=self._patient,
            recorder=self._recorder,
        )

    def _write_spec_anew(self) -> None:
        """Write the spec again if it is gone: without it no new worker and no other master could take the job.

        A master that has taken the job over has read the spec, and does not know its size yet.
        """
        sealed = self._fields.spec()
        self._spec_bytes = len(sealed)
        if self._sweeper.spec_bytes != self._spec_bytes:
            self._telling.notice(f"the spec of {self._job} was gone from Redis, or overwritten: it is written anew")
            self._commit(fields=[("spec", sealed)])

    def _go_back(self) -> None:
        """Return to the checkpoint in Redis: what was counted since may refer to data that a failover has lost."""
        state = self.jobs.load(self._job)
        self.ledger = self._restored_ledger(state.checkpoint if state is not None else None)

    def _submit_again(self, expect: str, why: str) -> None:
        """Write the whole job again, from memory, after it was deleted or overwritten: the fold in memory is exact.

        If the fold refers to data that was in Redis, the job begins at its first term.

        Tasks that were out are pushed again after the next look around. The job may be overwritten many times, so this
        is done after a pause, and at most MAX_RESUBMITTED times.
        """
        if self._resubmitted >= MAX_RESUBMITTED:
            key = self.jobs.keys.job(self._job)
            raise BrokerError(f"{why}, the {self._resubmitted + 1}th time: something else deletes or overwrites {key}")
        if self._resubmitted > 0:
            self._pause(min(1.0, 0.05 * 2**self._resubmitted))
        was_there = bool(self._lease.token)
        self._exchange.begin_anew()
        if self._refers:
            self.ledger = self._restored_ledger(None)
            self._now = self.clock.now()
        timeline = self._fields.timeline(self._timeline())
        self._create([], self._fields.spec_that_fits(), pipelined=False, expect=expect, more=[("timeline", timeline)])
        self._resubmitted += 1
        if was_there:
            how = "it begins anew" if self._refers else "submitted again with what is counted"
            self._telling.notice(f"{why}: {how}")

    def _ended(self, state: str = "") -> Ended:
        """How the job ended: as its record says or, if the record is gone, as this master ended it."""
        found = self.jobs.load(self._job)
        if found is not None and found.record is None:
            # The past came back between the two looks, or the job only says that it is over.
            raise LeaseLost(Lost(found.token, State.RUNNING))
        self.jobs.forget_master(self._job)
        self._aside.clear()
        state = found.state if found is not None else state
        mine = self._ending.made
        mine = mine if mine is not None and state in (mine.state, "") else None
        if found is not None and found.record is not None:
            return Ended(found.record, mine.outcome, mine.errors) if mine else Ended(found.record, None)
        if mine is None:
            raise NoSuchJob(f"{self._job} has ended and its record has expired")
        return mine
