"""What must hold in every history of a server, whatever has happened to it, its clients and the network.

chain        a job's tokens form one chain: a master counts on from its own last one, or a new master follows it with
             the next epoch and a name never seen before, or somebody cancels; after the end nothing follows. Nothing
             in a job changes without its token.
fold         every checkpoint is the fold of exactly the terms in its runs: computed here anew, term by term.
growth       runs only grow; what was skipped stays skipped.
trim         a reply leaves the stream only with a checkpoint that has counted its terms, or with the job's end.
end          a job that is done has counted every term, and its digest is that of their fold.
bounds       no list and no stream grows beyond what is allowed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mapreduce_rq.broker.keys import Keys
from mapreduce_rq.computations import load
from mapreduce_rq.core.computation import Computation
from mapreduce_rq.core.job.ends import digest_of
from mapreduce_rq.core.job.tally import Tally
from mapreduce_rq.core.messages import MAP, OK, Checkpoint, Reply, Spec
from mapreduce_rq.core.reducers.base import Law
from mapreduce_rq.core.sealing import Codecs, Keyring
from mapreduce_rq.core.span import Runs
from mapreduce_rq.errors import BadMessage
from tests.chaos.aof import BadHistory, Step, Store, Stream, steps_of

ENDED = {b"done", b"failed", b"cancelled", b"cancelled-now"}


@dataclass
class Bounds:
    """The most there may be at any time; entries and bytes."""

    waiting: int = 2 * 16_384
    hand: int = 600
    replies: int = 20_000
    reply_bytes: int = 64 << 20


@dataclass
class Found:
    """What a history held."""

    steps: int = 0
    jobs: int = 0
    ended: int = 0
    commits: int = 0
    checkpoints: int = 0
    takeovers: int = 0
    replies: int = 0
    trimmed: int = 0
    most_waiting: int = 0
    most_in_hand: int = 0
    most_replies: int = 0
    most_reply_bytes: int = 0

    def __str__(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in vars(self).items())


@dataclass
class Known:
    """One job, as the steps so far have shown it."""

    spec_bytes: bytes
    spec: Spec
    computation: Computation[Any]
    runs: Runs = field(default_factory=Runs)
    skipped: set[int] = field(default_factory=set)
    masters: set[bytes] = field(default_factory=set)
    folded: Any = None  # of a commutative law: the fold of the runs
    checkpoint: bytes = b""


def computation_of(spec: Spec) -> Computation[Any]:
    """The computation of a job."""
    return load(spec.computation).create(spec.params)


class History:
    """Checks histories of queues whose messages are signed with these keys.

    ``computing``: what computes a job's terms anew; for tests whose functions misbehave where they ran.
    """

    def __init__(
        self,
        keys: tuple[bytes, ...] = (),
        bounds: Bounds | None = None,
        computing: Callable[[Spec], Computation[Any]] = computation_of,
    ) -> None:
        self.found = Found()
        self._computing = computing
        self._keyring = Keyring(keys)
        self._bounds = bounds or Bounds()
        self._store = Store()
        self._jobs: dict[bytes, Known] = {}
        self._codecs: dict[str, Codecs] = {}

    def check(self, path: Path, note: Callable[[str], None] = lambda _: None) -> Found:
        """Go through the append-only file at ``path``. Raises BadHistory at the first step that must not be."""
        for number, step in enumerate(steps_of(path), 1):
            try:
                self._step(step)
            except BadHistory as error:
                raise BadHistory(f"step {number}: {error}") from None
            self.found.steps = number
            if number % 100_000 == 0:
                note(f"{number} steps")
        return self.found

    def _step(self, step: Step) -> None:
        before: dict[bytes, dict[bytes, bytes]] = {}
        removed: dict[bytes, list[dict[bytes, bytes]]] = {}
        touched: set[bytes] = set()
        for command in step:
            word = command[0].upper()
            if word in {b"FLUSHALL", b"FLUSHDB"}:
                self._jobs.clear()
            elif word in {b"DEL", b"UNLINK"}:
                for key in command[1:]:
                    self._jobs.pop(key, None)
            key = command[1] if len(command) > 1 else b""
            touched.update((key, command[2]) if word == b"LMOVE" else (key,))
            if _is(key, b"j:") and key not in before:
                before[key] = dict(self._store.keys.get(key, {}))
            gone = self._store.apply(command)
            if gone:
                removed.setdefault(key, []).extend(fields for _, fields in gone)
        for key, old in before.items():
            new = self._store.keys.get(key)
            if new is not None and new != old:
                self._changed(key, old, new, removed)
        for key in touched:
            self._measure(key)

    # -- one change of one job -------------------------------------------------------------------------------------

    def _changed(
        self,
        key: bytes,
        old: dict[bytes, bytes],
        new: dict[bytes, bytes],
        removed: dict[bytes, list[dict[bytes, bytes]]],
    ) -> None:
        name = key.decode()
        self.found.commits += 1
        if not old:
            self.found.jobs += 1
            self._jobs[key] = self._meet(name, new)
        known = self._jobs[key]
        self._chain(name, known, old, new)
        if new[b"spec"] != known.spec_bytes:
            raise BadHistory(f"{name}: its spec changed")
        if new.get(b"ck") != known.checkpoint:
            self._checkpoint(name, known, new[b"ck"])
        stream = key.replace(b"}:j:", b"}:r:", 1)
        for fields in removed.get(stream, ()):
            self._trimmed(name, known, fields, ended=new[b"state"] in ENDED)
        if new[b"state"] in ENDED:
            self.found.ended += 1
            self._end(name, known, new)

    def _meet(self, name: str, new: dict[bytes, bytes]) -> Known:
        try:
            spec = self._codecs_of(name).spec.at(job_of(name)).open(new[b"spec"])
        except (KeyError, BadMessage) as error:
            raise BadHistory(f"{name}: no spec of ours: {error}") from None
        return Known(new[b"spec"], spec, self._computing(spec))

    def _chain(self, name: str, known: Known, old: dict[bytes, bytes], new: dict[bytes, bytes]) -> None:
        if old.get(b"state", b"running") in ENDED:
            raise BadHistory(f"{name}: changed after its end ({old[b'tok']!r} to {new[b'tok']!r})")
        if old.get(b"tok") == new[b"tok"]:
            raise BadHistory(f"{name}: changed under the token {new[b'tok']!r}")
        epoch, nonce, counter = new[b"tok"].split(b":")
        last_epoch, last_nonce, last_counter = old.get(b"tok", b"0::0").split(b":")
        if counter == b"cancel":
            if not new[b"state"].startswith(b"cancelled"):
                raise BadHistory(f"{name}: a cancel's token on a job that is {new[b'state']!r}")
        elif nonce == last_nonce:
            if epoch != last_epoch or int(counter) <= int(last_counter):
                raise BadHistory(f"{name}: {new[b'tok']!r} does not follow {old[b'tok']!r}")
        elif old and int(epoch) != int(last_epoch) + 1:
            raise BadHistory(f"{name}: {new[b'tok']!r} does not follow {old[b'tok']!r}")
        elif nonce in known.masters:
            raise BadHistory(f"{name}: the master {nonce!r} is back after it was followed by another")
        elif old:
            self.found.takeovers += 1
        known.masters.add(nonce)

    def _checkpoint(self, name: str, known: Known, sealed: bytes) -> None:
        self.found.checkpoints += 1
        checkpoint: Checkpoint = self._codecs_of(name).checkpoint.at(job_of(name)).open(sealed)
        runs = Runs(checkpoint.runs)
        if not all(runs.covers(lo, hi) for lo, hi in known.runs):
            raise BadHistory(f"{name}: counted before and not any more: {known.runs} became {runs}")
        skipped = {term for term, _ in checkpoint.skipped}
        if not known.skipped <= skipped:
            raise BadHistory(f"{name}: skipped before and not any more: {sorted(known.skipped - skipped)}")
        reducer = known.computation.reducer
        tally = Tally.restore(reducer, checkpoint.runs, checkpoint.parts)  # refuses parts that do not fit the runs
        if reducer.refers:  # to what only its workers can read: but it must be there
            there = self._store.keys.get(name.replace("}:j:", "}:p:", 1).encode(), {})
            for reference in (each for _, _, body in checkpoint.parts for each in reducer.refers_to(body)):
                if reference + b":0" not in there:
                    raise BadHistory(f"{name}: it counted {reference!r}, which is not there")
        elif reducer.law is Law.ORDERED:
            for lo, hi, body in checkpoint.parts:
                if reducer.encode(self._fold(known, [(lo, hi)], skipped, reducer.zero())) != body:
                    raise BadHistory(f"{name}: the part [{lo}, {hi}) is not the fold of its terms")
        else:
            start = reducer.zero() if known.folded is None else known.folded
            fresh = [gap for lo, hi in runs for gap in known.runs.gaps(lo, hi)]
            known.folded = self._fold(known, fresh, skipped, start)
            if reducer.encode(known.folded) != reducer.encode(tally.prefix()[1]):
                raise BadHistory(f"{name}: its accumulator is not the fold of {runs}")
        known.runs, known.skipped, known.checkpoint = runs, skipped, sealed

    @staticmethod
    def _fold(known: Known, spans: list[Any], skipped: set[int], start: Any) -> Any:
        """The fold of the terms in ``spans`` that were not skipped onto ``start``."""
        reducer, computation = known.computation.reducer, known.computation
        for lo, hi in spans:
            at = lo
            for stop in [*sorted(term for term in skipped if lo <= term < hi), hi]:
                if at < stop:
                    start = reducer.merge(start, computation.map(at, stop))
                if stop < hi and reducer.law is Law.ORDERED:
                    start = reducer.merge(start, reducer.gap(stop, stop + 1))
                at = stop + 1
        return start

    def _trimmed(self, name: str, known: Known, fields: dict[bytes, bytes], *, ended: bool) -> None:
        if b"a" not in fields:
            return
        self.found.trimmed += 1
        try:
            reply: Reply = self._codecs_of(name).reply.open(fields[b"a"])
        except BadMessage:
            return  # forged: dropped
        if ended or reply.job != known.spec.job:
            return
        for answer in reply.answers:
            if answer.status == OK and answer.op == MAP and not any(known.runs.touches(*span) for span in answer.spans):
                raise BadHistory(f"{name}: the reply for {answer.spans} was trimmed and never counted")

    def _end(self, name: str, known: Known, new: dict[bytes, bytes]) -> None:
        for kind in ("b", "p", "r"):
            if (left := name.replace("}:j:", f"}}:{kind}:", 1)).encode() in self._store.keys:
                raise BadHistory(f"{name}: it is over and has left {left}")
        if new[b"state"] != b"done":
            return
        record = self._codecs_of(name).record.at(job_of(name)).open(new[b"record"])
        if record.ended == "all" and list(known.runs) != [(0, record.terms)] and record.terms:
            raise BadHistory(f"{name}: done with {known.runs} counted of {record.terms} terms")
        if known.computation.reducer.law is not Law.ORDERED and record.digest is not None:
            digest = digest_of(known.computation.reducer.encode(known.folded))
            if record.digest != digest:
                raise BadHistory(f"{name}: its digest {record.digest} is not that of its terms, {digest}")

    # -- bounds ----------------------------------------------------------------------------------------------------

    def _measure(self, key: bytes) -> None:
        found, bounds = self.found, self._bounds
        if key.endswith(b"}:q"):
            found.most_waiting = max(found.most_waiting, len(self._store.row(key)))
        elif _is(key, b"f:"):
            found.most_in_hand = max(found.most_in_hand, len(self._store.row(key)))
        elif _is(key, b"r:"):
            stream = self._store.keys.get(key, Stream())
            found.most_replies = max(found.most_replies, len(stream))
            found.most_reply_bytes = max(found.most_reply_bytes, stream.bytes)
            found.replies += 1
        for what, most, allowed in (
            ("tasks in the queue", found.most_waiting, bounds.waiting),
            ("tasks in one hand", found.most_in_hand, bounds.hand),
            ("replies", found.most_replies, bounds.replies),
            ("bytes of replies", found.most_reply_bytes, bounds.reply_bytes),
        ):
            if most > allowed:
                raise BadHistory(f"{most} {what}, and {allowed} are allowed")

    def _codecs_of(self, name: str) -> Codecs:
        queue = name[name.index("{") + 1 : name.index("}")]
        if queue not in self._codecs:
            self._codecs[queue] = Codecs(Keys(queue).name, self._keyring)
        return self._codecs[queue]


def _is(key: bytes, part: bytes) -> bool:
    """Whether a key is one of ours of that kind."""
    return key.startswith(b"mrq1:{") and key.partition(b"}:")[2].startswith(part)


def job_of(key: str) -> str:
    """The id of the job whose hash this key holds."""
    return key.partition("}:j:")[2]
