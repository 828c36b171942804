"""A master's verbs: create, commit, read replies, survey, reap. The verbs that read jobs are in reading.py."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from time import monotonic
from typing import Any

import msgspec

from mapreduce_rq.broker.job_hash import text_of, token_bytes, token_text
from mapreduce_rq.broker.keys import Keys
from mapreduce_rq.broker.reading import Reading
from mapreduce_rq.broker.tasks import REAP
from mapreduce_rq.broker.wire import Argument, Command, Ear, Script, Wire
from mapreduce_rq.core.messages import Reply
from mapreduce_rq.core.sealing import Codecs
from mapreduce_rq.errors import BadMessage, BrokerError

Bodies = Sequence[tuple[bytes, Argument]]
Entry = tuple[bytes, Sequence[bytes]]
"""An entry of a stream: its id, and its fields with their values in turn."""

COMMIT = Script("commit")

FIRST_REPLY = "0-0"
BLOCK_SECONDS = 1.0
"""Seconds that one request for replies waits for some, over a wire of its own; then it is sent again."""
PATIENCE_SECONDS = 1.0
"""Extra seconds for a server that should have answered already. After them the read fails and says why."""
STRIKE_OFF = "X"
"""In the place of an obituary, it means: delete the worker's entry if the worker holds nothing."""
REPLIES_AT_ONCE = 16
"""Stream entries per read: while a master reads many, the queue may become empty."""
BYTES_AT_ONCE = 8 << 20
"""Bytes of entries per read, about: the server and this process write all of them to memory before one is used."""
SURVEY_TRIES = 10
"""A survey reads at most this number of times, until no worker is new. New workers of the last read count as holding
nothing.
"""


class Survey(msgspec.Struct, frozen=True):
    """The queue and all hands at one moment; sealed tasks."""

    beats: dict[str, bytes]
    waiting: list[bytes]
    held: dict[str, list[bytes]]
    replies: int  # in the job's stream, read or not
    spec_bytes: int  # of the job's spec; 0: it is gone


class Committed(msgspec.Struct, frozen=True):
    """The compare-and-set succeeded."""

    waiting: int  # tasks in the queue after it
    reopened: bool = False  # the stream was lost and is new: its ids may be smaller than those already read


class Lost(msgspec.Struct, frozen=True):
    """The token was not the expected one; nothing was changed. ``token`` is '' if the job is gone."""

    token: str
    state: str


class Jobs(Reading):
    """All verbs on jobs of one queue over one wire."""

    def __init__(self, wire: Wire, keys: Keys, codecs: Codecs, *, at_once: int = REPLIES_AT_ONCE) -> None:
        super().__init__(wire, keys, codecs)
        self.at_once = at_once
        self.most = at_once
        """The most entries that the last read could return."""
        self._bytes_each = 0  # of the entries of the last read
        self.seams: dict[str, str] = {}
        """By job, the entry of its stream at which a read of replies ends: the next read has the entries behind it."""
        self.ear: Ear | None = None  # a second wire that waits for replies while commits use the first
        self._wids: set[str] = set()  # workers of the last survey
        self._awaited = ""  # the id after which they are asked for
        self._asked_at = 0.0
        self._keys_of = ""  # a job, and the keys of its commits:
        self._keys: tuple[str, ...] = ()

    def connect(self) -> None:
        """Make a new connection. Raises BrokerError."""
        self.wire.connect()
        if self.ear is not None:
            self.ear.connect()
            self._awaited = ""

    def commit(
        self,
        job: str,
        expect: str,
        token: str,
        *,
        what: str = "",
        number: int = 0,
        fields: Sequence[tuple[str, Argument]] = (),
        tasks: Iterable[bytes] = (),
        bodies: Bodies = (),
        items: bool = False,
    ) -> Committed | Lost:
        """Change the job if its token is ``expect``; all in one step. Raises BrokerError, TooLarge.

        See commit.lua for ``what``, ``number`` and ``items``. ``bodies``: the large bodies of tasks, by name; an empty
        one means that this body is deleted.
        """
        self.wire.ask(
            COMMIT,
            self._commit_keys(job),
            _commit(
                job, expect, token, what=what, number=number, fields=fields, tasks=tasks, bodies=bodies, items=items
            ),
        )
        return self._committed(what, self.wire.answer())

    def ask_to_create(
        self,
        job: str,
        token: str,
        *,
        number: int,
        fields: Sequence[tuple[str, Argument]],
        tasks: Iterable[bytes],
        listen: float,
        bodies: Bodies = (),
        items: bool = False,
        what: str = "create",
    ) -> None:
        """Ask for a new job and its first replies; first :meth:`created`, then :meth:`replies_asked` have the answers.

        The server waits ``listen`` seconds for replies.
        """
        arguments = _commit(
            job, "", token, what=what, number=number, fields=fields, tasks=tasks, bodies=bodies, items=items
        )
        self.wire.ask(COMMIT, self._commit_keys(job), arguments, then=self._read(job, FIRST_REPLY, listen))

    def created(self) -> Committed | Lost:
        """The answer to :meth:`ask_to_create`, as of :meth:`commit`."""
        return self._committed("create", self.wire.answer())

    def ask_to_end(
        self,
        job: str,
        expect: str,
        token: str,
        *,
        what: str,
        keep: int,
        fields: Sequence[tuple[str, Argument]],
        heard: Callable[[Committed | Lost | BrokerError], None],
    ) -> None:
        """Ask for the job's end. ``heard`` is called with the answer before the next answer is read."""

        def read(answer: Any) -> None:
            heard(answer if isinstance(answer, BrokerError) else self._committed(what, answer))

        arguments = _commit(job, expect, token, what=what, number=keep, fields=fields)
        self.wire.ask(COMMIT, self._commit_keys(job), arguments, heard=read)

    def ask_to_push(
        self,
        job: str,
        expect: str,
        token: str,
        tasks: Iterable[bytes],
        *,
        bodies: Bodies = (),
        items: bool = False,
        what: str = "",
    ) -> None:
        """Ask for a commit that only pushes tasks. Ask nothing else before :meth:`pushed` has the answer."""
        arguments = _commit(job, expect, token, what=what, tasks=tasks, bodies=bodies, items=items)
        self.wire.ask(COMMIT, self._commit_keys(job), arguments)

    def pushed(self) -> Committed | Lost:
        """The answer to :meth:`ask_to_push`, as of :meth:`commit`."""
        return self._committed("", self.wire.answer())

    def _commit_keys(self, job: str) -> tuple[str, ...]:
        if self._keys_of != job:  # a master's commits are of one job
            self._keys_of, self._keys = job, self.keys.of_commit(job)
        return self._keys

    def _committed(self, what: str, answer: Any) -> Committed | Lost:
        if answer[0] == b"ok":
            return Committed(waiting=int(answer[1]), reopened=bool(answer[2]) and not what.startswith("create"))
        return Lost(token_text(answer[1]), text_of(answer[2]))

    def token(self, job: str) -> Lost:
        """The job's token and state now; '' for a job that is not there."""
        token, state = self._of_hash(job, "HMGET", "tok", "state")
        return Lost(token_text(token), text_of(state))

    def hand_over(self, job: str, *, urgent: bool, first: bool = False) -> None:
        """Say that a job waits for a master. It is a hint: without it masters find the job at their next look.

        ``first``: the job is the next one of its line to be taken. Urgent jobs have a line of their own.
        """
        self.wire.call("RPUSH" if first else "LPUSH", self._line(urgent=urgent), job)

    def ask_for_handed_over(self, most: int, seconds: float, *, urgent: bool) -> None:
        """Ask for the next jobs that wait for a master, and wait ``seconds`` for one. See :meth:`handed_over`."""
        self.wire.ask_call("BLMPOP", f"{seconds:.3f}", 1, self._line(urgent=urgent), "RIGHT", "COUNT", most)

    def handed_over(self) -> list[str]:
        """The answer to :meth:`ask_for_handed_over`: oldest first. Each is given to one asker."""
        found = self.wire.answer()
        return [text_of(job) for job in found[1]] if found else []

    def urgent(self, jobs: Sequence[str]) -> set[str]:
        """Those of these jobs that are urgent. A hint: it is not signed."""
        rows = self.wire.pipeline([("HGET", self.keys.job(job), "urgent") for job in jobs], refusals=True)
        return {job for job, row in zip(jobs, rows, strict=True) if row == b"1"}

    def replies(self, job: str, after: str, block_seconds: float) -> tuple[str, list[Reply], int]:
        """``(last id read, replies, how many were dropped as forged or malformed)`` after the id ``after``."""
        return self._replies(job, after, self.wire.call(*self._read(job, after, block_seconds)))

    def values(self, job: str) -> Iterator[Reply]:
        """The replies that are kept of an ended job, in the order in which they came."""
        after = FIRST_REPLY
        while True:
            command = ("XREAD", "COUNT", self.at_once, "STREAMS", self.keys.values(job), after)
            last, replies, _ = self._replies(job, after, self.wire.call(*command))
            if last == after:
                return
            after = last
            yield from replies

    def ask_for_replies(self, job: str, after: str, block_seconds: float = 0.0) -> None:
        """Ask for replies that are there now, or that come in time. Ask nothing else before :meth:`replies_asked` has
        the answer.
        """
        self.wire.ask_call(*self._read(job, after, block_seconds))

    def replies_asked(self, job: str, after: str) -> tuple[str, list[Reply], int]:
        """The answer to :meth:`ask_for_replies`, as of :meth:`replies`."""
        return self._replies(job, after, self.wire.answer())

    def replies_or(self, job: str, after: str, seconds: float, bell: int) -> tuple[str, list[Reply], int] | None:
        """As :meth:`replies`, over the wire ``ear``; None if none came in time, or the descriptor ``bell`` can be read.

        In that case the request stays open, and the next call returns its answer, which may hold replies that were read
        meanwhile.
        """
        assert self.ear is not None
        if self._awaited and self._awaited != after and is_behind(self._awaited.encode(), after):
            self.ear.connect()  # the stream is read anew, and the open request would leave a part of it out
            self._awaited = ""
        if not self._awaited:
            self.ear.ask_call(*self._read(job, after, BLOCK_SECONDS))
            self._awaited, self._asked_at = after, monotonic()
        in_time = self.ear.answers_within(seconds, bell)
        if not in_time and monotonic() - self._asked_at < BLOCK_SECONDS + PATIENCE_SECONDS:
            return None
        asked, self._awaited = self._awaited, ""
        last, replies, bad = self._replies(job, asked, self.ear.answer())
        return (last if replies or bad else after), replies, bad

    def _read(self, job: str, after: str, block_seconds: float) -> Command:
        block: Command = ("BLOCK", str(max(1, int(block_seconds * 1000)))) if block_seconds > 0 else ()
        self.most = min(self.at_once, max(1, BYTES_AT_ONCE // max(1, self._bytes_each)))
        return "XREAD", "COUNT", str(self.most), *block, "STREAMS", self.keys.replies(job), after

    def _replies(self, job: str, after: str, answer: Any) -> tuple[str, list[Reply], int]:
        return self.opened(job, after, answer[0][1] if answer else ())

    def opened(self, job: str, after: str, entries: Iterable[Entry]) -> tuple[str, list[Reply], int]:
        """The replies in these entries of the job's stream, as :meth:`replies`; none: the id is ``after``."""
        found: list[Reply] = []
        bad = 0
        open_ = self.codecs.reply.open
        size = count = 0
        if job in self.seams:
            entries = self._before_seam(entries, self.seams[job])
        for entry, fields in entries:
            after = entry.decode()
            if fields[0] == b"end":  # it only wakes processes that wait for the end of the job
                continue
            size, count = size + len(fields[1]), count + 1
            try:
                reply = open_(fields[1])
            except BadMessage:
                bad += 1
                continue
            if reply.job == job:
                found.append(reply)
            else:
                bad += 1
        self._bytes_each = size // count if count else self._bytes_each
        return after, found, bad

    @staticmethod
    def _before_seam(entries: Iterable[Entry], seam: str) -> list[Entry]:
        """The entries up to the seam; all of them, if they are behind it."""
        entries = list(entries)
        return [entry for entry in entries if not is_behind(entry[0], seam)] or entries

    def survey(self, job: str, sign_of_life: int) -> Survey:
        """Read queue and hands in one step that also writes, so it raises BrokerFull when beats are refused, too."""
        known = self._wids
        for tries in range(SURVEY_TRIES):
            wids = sorted(known)
            look: list[Command] = [
                ("HSET", self.keys.masters, job, sign_of_life),
                ("HGETALL", self.keys.workers),
                ("XLEN", self.keys.replies(job)),
                ("HSTRLEN", self.keys.job(job), "spec"),
                ("LRANGE", self.keys.queue, 0, -1),
                *(("LRANGE", self.keys.in_flight(wid), 0, -1) for wid in wids),
            ]
            _, raw, replies, spec_bytes, waiting, *held = self.wire.transaction(look)
            beats = {text_of(wid): beat for wid, beat in zip(raw[::2], raw[1::2], strict=True)}
            if beats.keys() <= known or tries == SURVEY_TRIES - 1:
                self._wids = set(beats)
                hands: dict[str, list[bytes]] = {wid: [] for wid in beats}
                hands |= {wid: hand for wid, hand in zip(wids, held, strict=True) if wid in beats}
                return Survey(beats, waiting, hands, replies, spec_bytes)
            known = set(beats)
        raise AssertionError("unreachable")

    def registry(self) -> dict[str, bytes]:
        """The entry of every worker: its beat or its obituary."""
        raw = self.wire.call("HGETALL", self.keys.workers)
        return {text_of(wid): beat for wid, beat in zip(raw[::2], raw[1::2], strict=True)}

    def hand(self, wid: str) -> list[bytes]:
        """The tasks that one worker holds, newest first."""
        found: list[bytes] = self.wire.call("LRANGE", self.keys.in_flight(wid), 0, -1)
        return found

    def reap(self, wid: str, obituary: str, moves: Iterable[tuple[bytes, bytes]]) -> int:
        """Move a dead worker's tasks back to the queue, and leave, write or delete its entry. See reap.lua."""
        arguments: list[Argument] = [wid, obituary]
        for old, new in moves:
            arguments += [old, new]
        keys = (self.keys.in_flight(wid), self.keys.queue, self.keys.workers)
        return int(self.wire.script(REAP, keys, arguments))

    def strike(self, wid: str, tasks: Sequence[bytes]) -> None:
        """Remove answered tasks from a dead worker's hand."""
        if tasks:
            self.wire.transaction([("LREM", self.keys.in_flight(wid), -1, task) for task in tasks])

    def forget_master(self, job: str) -> None:
        """Delete the sign of life of a job's master."""
        self.wire.call("HDEL", self.keys.masters, job)

    def forget(self, job: str) -> None:
        """Delete all of a job that has ended: no process asks for it any more."""
        self.wire.transaction([("DEL", self.keys.job(job)), ("ZREM", self.keys.jobs, job)])

    def withdraw(self, job: str) -> None:
        """Remove an ended job's tasks from the queue, so that no worker takes them in vain."""
        waiting = self.wire.call("LRANGE", self.keys.queue, 0, -1)
        mine = [raw for raw in waiting if self._belongs(raw, job)]
        if mine:
            self.wire.pipeline([("LREM", self.keys.queue, 1, raw) for raw in mine])

    def _belongs(self, raw: bytes, job: str) -> bool:
        try:
            return bool(self.codecs.task.open(raw).job == job)
        except BadMessage:
            return False


def _commit(
    job: str,
    expect: str,
    token: str,
    *,
    what: str = "",
    number: int = 0,
    fields: Sequence[tuple[str, Argument]] = (),
    tasks: Iterable[bytes] = (),
    bodies: Bodies = (),
    items: bool = False,
) -> list[Argument]:
    """The arguments of commit.lua."""
    counts = str(len(fields)), str(len(bodies)), "1" if items else "0"
    rows: Iterable[Iterable[Argument]] = chain(fields, bodies)
    pairs = chain.from_iterable(rows)
    return [token_bytes(expect), token, what, str(number), job, *counts, *pairs, *tasks]


def is_behind(entry: bytes, other: str) -> bool:
    """Whether a stream id is greater than another."""
    return _numbers(entry.decode()) > _numbers(other)


def _numbers(entry: str) -> tuple[int, int]:
    milliseconds, _, sequence = entry.partition("-")
    return int(milliseconds), int(sequence)
