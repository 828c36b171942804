"""A worker's verbs: take, settle, lay aside, read its hand, leave. And a supervisor's: beat for its workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import msgspec

from mapreduce_rq.broker.job_hash import text_of
from mapreduce_rq.broker.keys import Keys
from mapreduce_rq.broker.wire import Argument, Command, Laden, Script, Stepping, Wire
from mapreduce_rq.core.job.record import State
from mapreduce_rq.core.messages import Spec
from mapreduce_rq.core.sealing import Codec, Codecs, InPieces
from mapreduce_rq.errors import BadMessage

SETTLE = Script("settle")
REAP = Script("reap", spare=0)
LAY = Script("lay")

APPENDED = "@"
"""In the place of a reply that was appended before the script; no sealed message is that short."""

Replies = Sequence[tuple[str, bytes | InPieces]]
"""By job, its sealed reply."""


class SettleAnswer(msgspec.Struct, frozen=True):
    """The answer to a settle."""

    as_expected: bool  # False: the hand is not what the worker thought, and ``tasks`` is the whole hand
    over: list[int]  # indices of the replies whose job is over
    tasks: list[bytes]  # taken, oldest first; or the whole hand, oldest first


class Tasks:
    """The verbs on tasks of one queue over one wire."""

    def __init__(self, wire: Wire, keys: Keys, codecs: Codecs) -> None:
        self.wire = wire
        self.keys = keys
        self.codecs = codecs
        self._stepping = wire if isinstance(wire, Stepping) else None

    def take(self, wid: str, seconds: float) -> bytes | None:
        """Wait for a task and move it into the worker's hand in one step; None after ``seconds``, which may be 0."""
        if not seconds:  # a blocking command would wait without end
            there: bytes | None = self.wire.call("LMOVE", self.keys.queue, self.keys.in_flight(wid), "RIGHT", "LEFT")
            return there
        found: bytes | None = self.wire.call(
            "BLMOVE", self.keys.queue, self.keys.in_flight(wid), "RIGHT", "LEFT", str(seconds)
        )
        return found

    def ask_for_next(self, wid: str, job: str) -> None:
        """Ask to have a task moved into the worker's hand, and for a job's state; see :meth:`next`."""
        move = ("LMOVE", self.keys.queue, self.keys.in_flight(wid), "RIGHT", "LEFT")
        self.wire.ask_call(*move, then=("HGET", self.keys.job(job), "state"))

    def next(self) -> tuple[bytes | None, str]:
        """Read the answers: the task, None if none waited, and the job's state."""
        task: bytes | None = self.wire.answer()
        return task, text_of(self.wire.answer() or b"")

    def ask_to_watch(self, seconds: float) -> None:
        """Ask to be told when a task waits, within ``seconds``; nothing else may be asked before :meth:`watched`.

        The task that is next is moved from the taken end of the queue to that same end: a wait that takes nothing.
        """
        queue = self.keys.queue
        self.wire.ask_call("BLMOVE", queue, queue, "RIGHT", "RIGHT", str(seconds))

    def watched(self) -> bool:
        """Read the answer: whether a task waited then, or the time was over."""
        return self.wire.answer() is not None

    def settle(
        self, wid: str, replies: Replies, length: int, settled: int, want: int, *, least: int = 0
    ) -> SettleAnswer:
        """In one step: answer jobs, remove the ``settled`` oldest of ``length`` tasks from the hand, take up to
        ``want``.

        A worker gets at most its fair share of the queue, or ``least`` if that is more. A negative ``want`` is the
        number of the newest tasks to give back; they are the next to be taken.

        Raises BrokerFull when Redis is out of memory; nothing is changed then.
        """
        self.ask_to_settle(wid, replies, length, settled, want, least=least)
        return self.settled()

    def ask_to_settle(
        self, wid: str, replies: Replies, length: int, settled: int, want: int, *, least: int = 0
    ) -> None:
        """The first half of :meth:`settle`. Ask nothing else before :meth:`settled` has the answer."""
        keys = self.keys
        names = [keys.in_flight(wid), keys.queue, keys.workers]
        arguments: list[Argument] = [str(length), str(settled), str(want)]
        before: list[Laden] = []
        stepping = self._stepping
        for job, sealed in replies:
            stream = keys.replies(job)
            names.append(stream)
            if stepping is not None and len(sealed) >= stepping.large:
                before.append(("XADD", stream, "NOMKSTREAM", "*", "a", sealed))
                arguments.append(APPENDED)
            else:
                arguments.append(bytes(sealed))
        arguments.append(str(least))
        if before and stepping is not None:
            stepping.ask_after(before, SETTLE, names, arguments)
        else:
            self.wire.ask(SETTLE, names, arguments)

    def settled(self) -> SettleAnswer:
        """The second half of :meth:`settle`. Raises BrokerFull, as ``settle``."""
        word, over, tasks = self.wire.answer()
        as_expected = word == b"ok"
        if not as_expected:
            tasks.reverse()  # LRANGE gives the newest first
        return SettleAnswer(as_expected, [int(index) - 1 for index in over], tasks)

    def enter(self, wid: str, beat: bytes) -> list[bytes]:
        """Register this worker, and read its hand, as :meth:`in_hand`.

        Both happen in one step and before the first take: for masters, tasks of an unregistered worker are lost.
        """
        look: list[Command] = [("HSET", self.keys.workers, wid, beat), ("LRANGE", self.keys.in_flight(wid), 0, -1)]
        found: list[bytes] = self.wire.transaction(look)[1]
        found.reverse()
        return found

    def in_hand(self, wid: str) -> list[bytes]:
        """The tasks in this worker's hand, oldest first. Redis decides: what the worker remembers may be wrong."""
        found: list[bytes] = self.wire.call("LRANGE", self.keys.in_flight(wid), 0, -1)
        found.reverse()
        return found

    def drop(self, wid: str, tasks: Sequence[bytes]) -> None:
        """Remove answered or void tasks from the hand, at any position in it."""
        if tasks:
            self.wire.transaction([("LREM", self.keys.in_flight(wid), -1, task) for task in tasks])

    def put_back(self, tasks: Sequence[bytes]) -> int:
        """Put tasks at the end of the queue, for other workers. Returns the queue's new length. The hand stays as it
        is.
        """
        return int(self.wire.call("LPUSH", self.keys.queue, *tasks)) if tasks else 0

    def pass_on(self, wid: str, tasks: Sequence[bytes]) -> None:
        """Return these tasks (oldest first), if they are still in hand, to the taken end of the queue."""
        if tasks:
            moves: list[Argument] = [wid, ""]
            for task in reversed(tasks):
                moves += [task, task]
            self.wire.script(REAP, [self.keys.in_flight(wid), self.keys.queue, self.keys.workers], moves)

    def give_back(self, wid: str, tasks: Sequence[bytes]) -> None:
        """Leave: move these tasks (oldest first) back, where they are taken next, and delete the worker's entry."""
        moves: list[Command] = []
        for task in reversed(tasks):
            moves += [("LREM", self.keys.in_flight(wid), -1, task), ("RPUSH", self.keys.queue, task)]
        self.wire.transaction([*moves, ("HDEL", self.keys.workers, wid)])

    def spec(self, job: str) -> tuple[Spec | None, str]:
        """``(spec, state)`` of a job; ``(None, '')`` if it is gone. Raises BadMessage."""
        sealed, state = self.wire.call("HMGET", self.keys.job(job), "spec", "state")
        if sealed is None:
            return None, ""
        return self.codecs.spec.at(job).open(sealed), text_of(state)

    def body(self, job: str, laid: bytes) -> bytes:
        """The body of a task, which is stored apart from it. Raises BadMessage if it is gone, or is another body."""
        digest, name = laid[:32], laid[32:]
        found = self.wire.call("HGET", self.keys.bodies(job), name)
        if not isinstance(found, bytes):
            raise BadMessage(f"the body of a task of {job} is not in Redis any more")
        if sha256(found).digest() != digest:
            raise BadMessage(f"the body of a task of {job} is another than its master laid there")
        return found

    def lay(self, job: str, name: str, pieces: Sequence[bytes]) -> bool:
        """Lay the pieces of a fold of this job's shuffle aside under a new name. Returns False if the job is over.

        Raises BrokerFull and NoPermission, in which case nothing is laid; TooLarge; BrokerDown.
        """
        sealed = [self._sealing(job, name, number).seal(piece) for number, piece in enumerate(pieces)]
        laid = self.wire.script(LAY, [self.keys.replies(job), self.keys.pieces(job)], [name, *sealed])
        return bool(laid)

    def are_laid(self, job: str, names: Sequence[str]) -> list[bool]:
        """For each of the folds with these names, whether its pieces are there."""
        place = self.keys.pieces(job)
        rows = self.wire.pipeline([("HSTRLEN", place, f"{name}:0") for name in names], refusals=True)
        return [isinstance(row, int) and row > 0 for row in rows]

    def pieces(self, job: str, names: Sequence[str], number: int) -> list[bytes]:
        """The pieces with this number of the folds with these names. Raises BadMessage if one is gone, or differs."""
        row = self.wire.call("HMGET", self.keys.pieces(job), *(f"{name}:{number}" for name in names))
        if None in row:
            raise BadMessage(f"a piece of the shuffle of {job} is not in Redis any more")
        return [self._sealing(job, name, number).open(piece) for name, piece in zip(names, row, strict=True)]

    def _sealing(self, job: str, name: str, number: int) -> Codec:
        """The codec for one piece. A piece can be opened only with the name and number that it was laid with."""
        return self.codecs.piece.at(f"{job}/{name}:{number}")

    def waiting(self) -> int:
        """The number of tasks that wait in the queue."""
        return int(self.wire.call("LLEN", self.keys.queue))

    def state(self, job: str) -> str:
        """A job's state from its hash, where any client can write it; '' if the job is gone."""
        return text_of(self.wire.call("HGET", self.keys.job(job), "state") or b"")

    def cancelled_now(self, jobs: Sequence[str]) -> set[str]:
        """Those of these jobs whose records say that they were cancelled together with the tasks in hand.

        ``state`` alone is not enough: a program without the key can write it, and it must not kill workers that way.
        """
        rows = self.wire.pipeline([("HGET", self.keys.job(job), "state") for job in jobs], refusals=True)
        said = [job for job, state in zip(jobs, rows, strict=True) if state == State.CANCELLED_NOW.encode()]
        if not said:
            return set()
        records = self.wire.pipeline([("HGET", self.keys.job(job), "record") for job in said], refusals=True)
        return {job for job, sealed in zip(said, records, strict=True) if self._says_so(job, sealed)}

    def _says_so(self, job: str, sealed: Any) -> bool:
        if not isinstance(sealed, bytes):
            return False
        try:
            record = self.codecs.record.at(job).open(sealed)
        except BadMessage:
            return False
        return bool(record.job == job and record.state is State.CANCELLED_NOW)

    def beat(self, beats: Mapping[str, bytes]) -> None:
        """Write the signs of life of several workers at once."""
        command: list[Argument] = ["HSET", self.keys.workers]
        for wid, sealed in beats.items():
            command += [wid, sealed]
        if beats:
            self.wire.call(*command)
