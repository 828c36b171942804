"""What must hold in every state that the server ever has, checked after each atomic step.

I1  a checkpoint is the fold of exactly its runs
I2  only a commit that names the job's token changes a job; a token is used once, in all histories; along a history
    what is counted only grows, and a job that is over stays as it is
I3  runs are disjoint, maximal, and below what has been cut
I4  an answer leaves the stream only counted, or void (what it refers to is gone, too), or with the job
I5  a job that is done has the exact value; it fails or is cancelled only where it should
I6  queue, hands, stream and the number of keys are bounded
I7  no body that stands apart from its task, and no piece of a shuffle, is left of a job that is over
I8  what a checkpoint refers to is there, as long as its job runs
I9  what a checkpoint has counted stands in the timeline beside it
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from mapreduce_rq.broker.job_hash import timeline_of
from mapreduce_rq.broker.keys import Keys
from mapreduce_rq.core.job.timeline import cells_of
from mapreduce_rq.core.messages import MAP, OK, Checkpoint, Reply
from mapreduce_rq.core.sealing import Codecs
from mapreduce_rq.errors import BadMessage
from tests.sim.computation import Oracle, text_of
from tests.sim.network import Request
from tests.sim.store import Hash, Snapshot, Stream, Value, encoded, is_hash


class Broken(AssertionError):
    """An invariant does not hold."""


@dataclass
class Job:
    """The facts about one job, and the ends that it may have."""

    name: str
    oracle: Oracle
    raising: frozenset[int] = frozenset()
    on_error: str = "fail"
    may_be_cancelled: bool = False
    kept: bool = False  # its replies are what is counted
    laid: bool = False  # what is counted refers to pieces that workers have laid aside
    tokens: set[bytes] = field(default_factory=set)
    checked: bytes = b""  # the last checkpoint looked at
    checkpoint: Checkpoint | None = None

    @property
    def may_fail(self) -> bool:
        """Whether failing is its right end."""
        return bool(self.raising) and self.on_error == "fail"

    @property
    def value(self) -> str:
        """The exact value."""
        return text_of(self.oracle.runs([(0, self.oracle.terms)], self.raising))


@dataclass
class Bounds:
    """The largest sizes that lists, streams and the number of keys may reach."""

    queue: int
    hand: int
    stream: int
    keys: int


class Invariants:
    """Checks the steps of one world."""

    def __init__(self, keys: Keys, codecs: Codecs, bounds: Bounds) -> None:
        self.keys = keys
        self.codecs = codecs
        self.bounds = bounds
        self._hands = keys.in_flight("").encode()
        self._queue = keys.queue.encode()
        self.jobs: dict[bytes, Job] = {}
        self._streams: Hash = {}  # stream's key -> job's key

    def add(self, job: Job) -> None:
        """Watch a job."""
        self.jobs[self.keys.job(job.name).encode()] = job
        self._streams[self.keys.replies(job.name).encode()] = self.keys.job(job.name).encode()

    def stepped(self, before: Snapshot, after: Snapshot, what: Request | str) -> None:
        """One atomic step was done. Raises Broken."""
        for key, job in self.jobs.items():
            old, new = before.keys.get(key), after.keys.get(key)
            if old is not new and not (new is None and key in before.expires):
                self._changed(job, key, _hash(old), _hash(new), what)
                if _hash(new).get(b"state") != b"running" and not isinstance(what, str):
                    for left in (self.keys.bodies(job.name), self.keys.pieces(job.name)):
                        require(left.encode() not in after.keys, f"{job.name} left {left} behind")
                if job.laid and _hash(new).get(b"state") == b"running":
                    self._refers(job, _hash(after.keys.get(self.keys.pieces(job.name).encode())))
                if job.kept and _hash(new).get(b"state") == b"done" and not isinstance(what, str):
                    self._kept(job, after)
        for stream, key in self._streams.items():
            old_stream, new_stream = before.keys.get(stream), after.keys.get(stream)
            if old_stream is None and isinstance(new_stream, Stream):
                require(isinstance(what, str) or not new_stream.entries, f"{stream!r} was opened with something in it")
            if new_stream is None and stream in before.expires:
                continue  # its master is gone, and nobody else has the items of its job
            if old_stream is new_stream or not isinstance(old_stream, Stream) or isinstance(what, str):
                continue
            state = _hash(after.keys.get(key))
            if state.get(b"state") == b"running":
                pieces = _hash(before.keys.get(self.keys.pieces(self.jobs[key].name).encode()))
                self._trimmed(self.jobs[key], old_stream, new_stream, _hash(before.keys.get(key)), state, pieces=pieces)
        self._bounded(before, after)

    # -- the job ---------------------------------------------------------------------------------------------------

    def _changed(self, job: Job, key: bytes, old: Hash, new: Hash, what: Request | str) -> None:
        if new:
            self._looks_right(job, new)
        if isinstance(what, str):  # a fault: the past comes back, or nothing is left
            return
        require(what.how == "script" and what.name == "commit", f"{what} changed {job.name}")
        arguments = [encoded(argument) for argument in what.commands[1]]
        require(
            arguments[0] == old.get(b"tok", b""), f"a commit that expects {arguments[0]!r} found {old.get(b'tok')!r}"
        )
        require(new[b"tok"] not in job.tokens, f"token {new[b'tok']!r} is used twice")
        job.tokens.add(new[b"tok"])
        if old:
            require(old[b"state"] == b"running", f"{job.name} was {old[b'state']!r} and changed")
            self._grew(job, old, new)
        if old.get(b"ck") != new[b"ck"]:
            self._timed(job, new)

    def _timed(self, job: Job, new: Hash) -> None:
        checkpoint = self._checkpoint(job, new[b"ck"])
        counted = sum(hi - lo for lo, hi in checkpoint.runs) - len(checkpoint.skipped)
        timeline = timeline_of(self.codecs, job.name, new.get(b"timeline"), new.get(b"since"))
        rows = timeline.rows if timeline is not None else []
        answered = sum(terms for row in rows for _, _, terms, _ in cells_of(row))
        require(answered >= counted, f"{job.name} has counted {counted} terms, and {answered} stand in its timeline")

    def _looks_right(self, job: Job, new: Hash) -> None:
        require({b"tok", b"state", b"spec", b"ck"} <= new.keys(), f"{job.name} holds only {sorted(new)}")
        checkpoint = self._checkpoint(job, new[b"ck"])
        state = new[b"state"]
        if state == b"running":
            return
        require(b"record" in new, f"{job.name} is over and has no record")
        record = self.codecs.record.at(job.name).open(new[b"record"])
        if state == b"done":
            require(record.value == job.value, f"{job.name} is done with {record.value}, exact is {job.value}")
            if not job.kept:
                require(checkpoint.runs == [(0, job.oracle.terms)], f"{job.name} is done with runs {checkpoint.runs}")
            require(not job.raising or job.on_error == "skip", f"{job.name} is done though terms raise")
            skipped = sorted(item.term for item in record.skipped)
            require(skipped == sorted(job.raising), f"{job.name} skipped {skipped}, not {sorted(job.raising)}")
        elif state == b"failed":
            require(bool(job.raising) and job.on_error == "fail", f"{job.name} failed: {record}")
            require(record.term in job.raising, f"{job.name} failed at term {record.term}, which does not raise")
        else:
            require(job.may_be_cancelled, f"{job.name} is {state!r}")

    def _grew(self, job: Job, old: Hash, new: Hash) -> None:
        if old[b"ck"] == new[b"ck"]:
            return
        earlier, later = self._checkpoint(job, old[b"ck"]), self._checkpoint(job, new[b"ck"])
        require(covers(later.runs, earlier.runs), f"{job.name} counted {earlier.runs} and then only {later.runs}")
        require(later.next >= earlier.next, f"{job.name} had cut {earlier.next} terms and then only {later.next}")

    def _checkpoint(self, job: Job, sealed: bytes) -> Checkpoint:
        if sealed == job.checked and job.checkpoint is not None:
            return job.checkpoint
        checkpoint: Checkpoint = self.codecs.checkpoint.at(job.name).open(sealed)
        at = -1
        for lo, hi in checkpoint.runs:
            require(at < lo < hi <= checkpoint.next, f"runs {checkpoint.runs} of {checkpoint.next} terms cut")
            at = hi
        skipped = {term for term, _ in checkpoint.skipped}
        require(skipped <= job.raising, f"skipped {skipped}, and {sorted(job.raising)} raise")
        reducer_parts = checkpoint.parts
        if job.oracle.ordered:
            require(
                covers(checkpoint.runs, [(lo, hi) for lo, hi, _ in reducer_parts])
                and sum(hi - lo for lo, hi in checkpoint.runs) == sum(hi - lo for lo, hi, _ in reducer_parts),
                "parts and runs differ",
            )
            for lo, hi, body in reducer_parts:
                require(_partial(body) == job.oracle.runs([(lo, hi)], skipped), f"the part [{lo}, {hi}) is wrong")
        else:
            require(len(reducer_parts) == 1, "a commutative checkpoint has one part")
            found, expected = _partial(reducer_parts[0][2]), job.oracle.runs(checkpoint.runs, skipped)
            require(found == expected, f"the accumulator of {checkpoint.runs} is {found}, not {expected}")
        job.checked, job.checkpoint = sealed, checkpoint
        return checkpoint

    def _refers(self, job: Job, there: Hash) -> None:
        assert job.checkpoint is not None
        for _, _, body in job.checkpoint.parts:
            for name in body[48:].split():
                require(name + b":0" in there and name + b":1" in there, f"{job.name} counted {name!r}, which is gone")

    def _kept(self, job: Job, after: Snapshot) -> None:
        """Where the replies of a job that is done are its value, every term is in them, and right."""
        stream = after.keys.get(self.keys.values(job.name).encode())
        if not isinstance(stream, Stream):
            return  # its master had counted replies that were lost, and knew it
        assert job.checkpoint is not None
        found = set()
        for lo, hi in job.checkpoint.runs:
            found |= set(range(lo, hi))
        for _, fields in stream.entries:
            reply = self._reply(fields)
            for answer in reply.answers if reply is not None and reply.job == job.name else ():
                if answer.status == OK and answer.op == MAP:
                    found |= set(range(answer.lo, answer.hi))
                    require(_partial(answer.body) == job.oracle.span(answer.lo, answer.hi), f"{answer} is wrong")
        missing = set(range(job.oracle.terms)) - found
        require(not missing, f"{job.name} is done, and its values lack the terms {sorted(missing)}")

    # -- the stream ------------------------------------------------------------------------------------------------

    def _trimmed(self, job: Job, old: Stream, new: object, earlier: Hash, state: Hash, *, pieces: Hash) -> None:
        if not isinstance(new, Stream):
            raise Broken(f"the replies of {job.name} are gone, and it runs")
        least = new.entries[0][0] if new.entries else None
        gone = [fields for name, fields in old.entries if least is None or name < least]
        if not gone:
            return
        # A master ignores answers above what it knows to be cut: another master's, whose commits have been lost.
        cut = self._checkpoint(job, earlier[b"ck"]).next
        checkpoint = self._checkpoint(job, state[b"ck"])
        for fields in gone:
            reply = self._reply(fields)
            if reply is None or reply.job != job.name:
                continue
            for answer in reply.answers:
                void = job.laid and any(name + b":0" not in pieces for name in answer.body[48:].split())
                if answer.status == OK and answer.op == MAP and all(hi <= cut for _, hi in answer.spans) and not void:
                    require(  # of a joint answer it is enough that one span was counted: then it is refused whole
                        any(touches(checkpoint.runs, lo, hi) for lo, hi in answer.spans),
                        f"the answer {answer.spans} was trimmed uncounted",
                    )

    def _reply(self, fields: tuple[bytes, ...]) -> Reply | None:
        if fields[0] != b"a":
            return None
        try:
            found: Reply = self.codecs.reply.open(fields[1])
        except BadMessage:
            return None
        return found

    # -- sizes -----------------------------------------------------------------------------------------------------

    def _bounded(self, before: Snapshot, after: Snapshot) -> None:
        hands, queue, earlier = self._hands, self._queue, before.keys
        for key, value in after.keys.items():
            if earlier.get(key) is value:
                continue
            if isinstance(value, Stream):
                require(len(value.entries) <= self.bounds.stream, f"{len(value.entries)} replies in {key!r}")
            elif key == queue:
                require(len(value) <= self.bounds.queue, f"{len(value)} tasks wait")
            elif key.startswith(hands):
                require(len(value) <= self.bounds.hand, f"{len(value)} tasks in {key!r}")
        require(len(after.keys) <= self.bounds.keys, f"{len(after.keys)} keys")


def require(holds: bool, otherwise: str) -> None:
    """Raises Broken."""
    if not holds:
        raise Broken(otherwise)


def covers(runs: Iterable[tuple[int, int]], spans: Iterable[tuple[int, int]]) -> bool:
    """Whether each span lies in one of the runs."""
    row = list(runs)
    return all(any(lo <= start and stop <= hi for lo, hi in row) for start, stop in spans)


def touches(runs: Iterable[tuple[int, int]], lo: int, hi: int) -> bool:
    """Whether a span has a term in one of the runs."""
    return any(start < hi and lo < stop for start, stop in runs)


def _hash(value: Value | None) -> Hash:
    return value if is_hash(value) else {}


def _partial(body: bytes) -> tuple[int, int, int]:
    numbers = [int.from_bytes(body[at : at + 8], "little") for at in (0, 8, 16)]
    return numbers[0], numbers[1], numbers[2]
