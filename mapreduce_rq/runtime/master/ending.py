"""Writes the end of a job to Redis in one commit: its record, and all that other processes may need of the job later.

If the caller waits only for the value, the master does not wait for the answer to a small end. The end is then in doubt
until Redis has answered, and until then the master keeps all that it needs to end the job again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec

from mapreduce_rq.broker.jobs import Committed, Jobs, Lost
from mapreduce_rq.broker.wire import Argument
from mapreduce_rq.core.job.ledger import Ledger
from mapreduce_rq.core.job.record import Done, Failed, Record, Report
from mapreduce_rq.core.job.timeline import Timeline
from mapreduce_rq.core.messages import Spec
from mapreduce_rq.core.outcome import Deferred, Outcome
from mapreduce_rq.errors import BrokerError, TooLarge
from mapreduce_rq.runtime.master.aside import LaidAside
from mapreduce_rq.runtime.master.ended import Ended
from mapreduce_rq.runtime.master.exchange import Exchange
from mapreduce_rq.runtime.master.fields import Fields
from mapreduce_rq.runtime.master.lease import Lease
from mapreduce_rq.runtime.master.news import told_of_end
from mapreduce_rq.runtime.master.telling import Telling

PIPELINED_BYTES = 64 * 1024
"""The master does not wait for the answer to an end of at most this number of bytes: it keeps all parts until it has
the answer.
"""


class Closing(NamedTuple):
    """The facts for a job's end beside its record."""

    ledger: Ledger
    report: Callable[[], Report]
    timeline: Callable[[], Timeline]
    now: float  # by the master's clock
    stored: bool  # the checkpoint in Redis has all that is counted
    lasts: bool  # other processes can make the value from the checkpoint after this end
    swept: bool  # the master has looked around, so perhaps one commit cannot remove all that is left
    sure: bool  # Redis answered the last request
    hear: Callable[[], bool]  # reads more replies; False if there are none


class Ending:
    """Ends one job.

    ``pipelined``: the caller waits only for the value. ``value_stays``: a value that is too large for the record stays
    in Redis for the time of the record. ``unseen``: no other process can see a job that has ended with a value.
    """

    def __init__(  # noqa: PLR0917  the parts of a master that its end needs
        self,
        jobs: Jobs,
        spec: Spec,
        lease: Lease,
        exchange: Exchange,
        fields: Fields,
        aside: LaidAside,
        telling: Telling,
        *,
        pipelined: bool,
        value_stays: bool,
        unseen: bool,
    ) -> None:
        self.made: Ended | None = None  # the end that this master has made; Redis may not have answered yet
        self.in_doubt = False  # Redis has not answered yet
        self.pipelined = pipelined
        self.when_sure: Callable[[], None] | None = None  # called once Redis has answered, if that was in doubt
        self._jobs = jobs
        self._spec = spec
        self._lease = lease
        self._exchange = exchange
        self._fields = fields
        self._aside = aside
        self._telling = telling
        self._value_stays = value_stays
        self._unseen = unseen

    def well(self, record: Done, outcome: Outcome, errors: Mapping[int | None, Deferred], closing: Closing) -> Ended:
        """End the job with a value. Raises TooLarge if the end does not fit even without it; LeaseLost, BrokerError."""
        if self._unseen:
            return self._without_trace(Ended(record, outcome, errors), closing)
        try:
            return self._well(Ended(record, outcome, errors), record, closing)
        except TooLarge:
            if record.value is None:
                raise
        # Other processes make the value from the checkpoint; our caller has it here.
        record = msgspec.structs.replace(record, value=None)
        return self._well(Ended(record, outcome, errors), record, closing)

    def _well(self, ended: Ended, record: Done, closing: Closing) -> Ended:
        row: list[tuple[str, Argument]] = []
        if not closing.lasts or (record.value is None and not self._value_stays):  # our caller alone has the value
            self._fields.checkpoint_mac = b""
            row.append(("ck", b""))
        elif not closing.stored:
            needed = record.value is None and self._value_stays
            row.append(("ck", self._fields.checkpoint_that_fits(closing.ledger, closing.now, needed=needed) or b""))
        record = msgspec.structs.replace(record, checkpoint=self._fields.checkpoint_mac)
        self.made = Ended(record, ended.outcome, ended.errors)
        self._end(record, row, closing)
        return self.made

    def badly(self, record: Failed, error: Deferred, closing: Closing) -> Ended:
        """End the job with a failure. Raises LeaseLost, BrokerError."""
        self._telling.release()
        self.made = Ended(record, None, {None: error})
        try:
            self._end(record, [], closing)
        except TooLarge:  # the message repeats a parameter of the job
            record = msgspec.structs.replace(record, params={})
            self.made = Ended(record, None, {None: error})
            self._end(record, [], closing)
        return self.made

    def _without_trace(self, ended: Ended, closing: Closing) -> Ended:
        """End a job that no other process can see: nothing of it stays. Raises LeaseLost, BrokerError."""
        self.made = ended
        self._exchange.hear_of_commit()
        untidy = closing.ledger.out or closing.swept
        if untidy or self._aside.any or closing.ledger.reclaimed or not closing.sure:  # as below
            self._aside.clear()
        self._lease.commit(what="over", number=self._spec.limits.keep, fields=[("state", ended.record.state)])
        if untidy:
            self._jobs.withdraw(self._spec.job)
            self._jobs.forget_master(self._spec.job)
        self._jobs.forget(self._spec.job)
        return ended

    def _end(self, record: Record, fields: list[tuple[str, Argument]], closing: Closing) -> None:
        row: list[tuple[str, Argument]] = [
            ("state", record.state),
            ("master", ""),
            ("progress", self._fields.report(closing.report())),  # the value stands in the record
            ("record", self._fields.record(record)),
            ("timeline", self._fields.timeline(closing.timeline())),
            *fields,
        ]
        self._exchange.hear_of_commit()
        ledger = closing.ledger
        untidy = ledger.out or closing.swept
        what = (
            "over, kept" if isinstance(record, Done) and ledger.keeps and self._is_to_stay(record, closing) else "over"
        )
        # This master keeps a large value while its end is in doubt.
        small = sum(map(len, [value for _, value in row if type(value) is bytes])) <= PIPELINED_BYTES
        small = small and not (isinstance(record, Done) and record.value is None)
        keep = self._spec.limits.keep
        # Else no worker has laid anything aside, nor will.
        laid = untidy or self._aside.any or ledger.reclaimed or not closing.sure
        if self.pipelined and small and not untidy and closing.sure and not self._telling.has_readers:
            self._lease.end(what, keep, row, self._heard)
            self.in_doubt = True
            if laid:
                self._aside.clear()
            return
        if laid:
            self._aside.clear()
        self._lease.commit(what=what, number=keep, fields=row)
        if self._telling.has_readers:
            self._telling.note(*told_of_end(record))
            self._telling.tell(ended=True, keep=keep)
        if untidy:
            self._jobs.withdraw(self._spec.job)
            self._jobs.forget_master(self._spec.job)

    def _is_to_stay(self, record: Done, closing: Closing) -> bool:
        """Whether the replies of a job stay in Redis as its value. They do not if the value is large and the caller has
        it: the record of a large value has None, and the private server ends with the caller.
        """
        if not self._value_stays and record.value is None:
            return False
        without = [term for term, _ in closing.ledger.skipped]
        while not self._exchange.hold(closing.ledger.tally.runs, without):
            # The other replies were read before an outage, and Redis may have lost them in it.
            if not closing.hear():
                return False
        return True

    def _heard(self, answer: Committed | Lost | BrokerError) -> None:
        self.in_doubt = not isinstance(answer, Committed)
        if not self.in_doubt and self.when_sure is not None:
            self.when_sure()
