"""The fields of a job's hash as its master writes them: sealed, and not larger than Redis accepts."""

from __future__ import annotations

import msgspec

from mapreduce_rq.broker.jobs import Jobs
from mapreduce_rq.broker.wire import SPARE_BYTES, SURE_BYTES, raise_limit
from mapreduce_rq.core.job.ledger import Ledger
from mapreduce_rq.core.job.record import Record, Report
from mapreduce_rq.core.job.timeline import Since, Timeline
from mapreduce_rq.core.messages import Spec
from mapreduce_rq.core.sealing import Codecs, mac_of
from mapreduce_rq.errors import TooLarge


class Fields:
    """Seals the fields of one job's hash. Each is bound to its job and to its place in the hash."""

    def __init__(self, jobs: Jobs, spec: Spec) -> None:
        self.checkpoint_mac = b""  # the MAC of the last sealed checkpoint
        self._wire = jobs.wire
        self._spec = spec
        self._job = spec.job
        self._codecs = jobs.codecs

    def spec(self) -> bytes:
        """The spec. Raises TooLarge."""
        return self._codecs.spec.at(self._job).seal(self._spec)

    def spec_that_fits(self) -> bytes:
        """The spec. Raises TooLarge, also if Redis does not accept it; the message says what the user can do."""
        remedy = "have workers read what is large, or pass it as items"
        try:
            sealed = self.spec()
        except TooLarge as error:
            what = "the function with what it carries" if self._spec.computation == "function" else "the job"
            raise TooLarge(what, error.size, error.limit, remedy) from None
        if len(sealed) > SURE_BYTES and len(sealed) > (limit := self._wire.limit() - SPARE_BYTES):
            raise TooLarge(
                "the function with what it carries", len(sealed), limit, f"{remedy}, or {raise_limit(limit)}"
            )
        return sealed

    def checkpoint(self, ledger: Ledger, now: float) -> bytes:
        """The checkpoint of what is counted now. Raises TooLarge."""
        sealed = self._codecs.checkpoint.at(self._job).seal(ledger.checkpoint(now))
        self.checkpoint_mac = mac_of(sealed)
        return sealed

    def checkpoint_that_fits(self, ledger: Ledger, now: float, *, needed: bool) -> bytes | None:
        """The checkpoint. If it is too large for Redis: None; or, if it is ``needed`` there, raises TooLarge."""
        try:
            sealed = self.checkpoint(ledger, now)
            if len(sealed) > SURE_BYTES and len(sealed) > (limit := self._wire.limit() - SPARE_BYTES):
                raise TooLarge("the checkpoint", len(sealed), limit)
        except TooLarge:
            if needed:
                raise
            self.checkpoint_mac = b""
            return None
        return sealed

    def record(self, record: Record) -> bytes:
        """The record of the job's end. Raises TooLarge."""
        return self._codecs.record.at(self._job).seal(record)

    def report(self, report: Report) -> bytes:
        """The report of the job's progress; without its running value if that is too large."""
        codec = self._codecs.report.at(self._job)
        try:
            return codec.seal(report)
        except TooLarge:
            return codec.seal(msgspec.structs.replace(report, value=None))

    def timeline(self, timeline: Timeline) -> bytes:
        """The timeline; b"" if it is too large."""
        return sealed_timeline(self._codecs, timeline)

    def since(self, since: Since) -> bytes:
        """What happened since the timeline was kept; nothing if it is too large."""
        try:
            return self._codecs.since.at(since.job).seal(since)
        except TooLarge:
            return b""


def sealed_timeline(codecs: Codecs, timeline: Timeline) -> bytes:
    """The timeline; b"" if it is too large, because a job must end even without its timeline."""
    try:
        return codecs.timeline.at(timeline.job).seal(timeline)
    except TooLarge:
        return b""
