"""A Redis in plain Python that runs the broker's own scripts, with its whole history.

Values are immutable, and a step that changes something makes a new table of keys; so every state that ever was is
kept at the cost of its differences, and the server can go back to any of them, as a failover does.

``tests/broker/test_model.py`` holds it against real servers. It does not block: a blocking command that finds nothing
answers None, and who waits for how long is up to the caller.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from mapreduce_rq.broker.wire import Argument, Command
from tests.sim.commands import COMMANDS, DENY_OOM
from tests.sim.scripts import SCRIPTS, Run
from tests.sim.store import EMPTY, OOM, Database, Refusal, Snapshot, encoded

Flavour = Literal["valkey", "redis"]


class Model:
    """The server's data. Each method is one atomic step; ``history`` holds the state after each that changed it.

    ``on_step`` is told of those, ``on_script`` of every script that was run.

    ``flavour``: at its memory limit Redis 7.0 (``redis``) queues nothing in a MULTI, and serves a pop that waits
    already; Valkey and Redis 8 queue what needs no memory, and refuse a pop that waits when its time has come.
    """

    def __init__(
        self,
        flavour: Flavour = "valkey",
        on_step: Callable[[Snapshot, Snapshot], None] | None = None,
        on_script: Callable[[str, Run], None] | None = None,
    ) -> None:
        self.flavour = flavour
        self.on_step = on_step
        self.on_script = on_script
        self.now = EMPTY
        self.history: list[Snapshot] = [EMPTY]
        self.full = False  # at its memory limit

    def call(self, command: Command, now_ms: int) -> Any:
        """One command. Raises Refusal."""
        name, args = _split(command)
        if self.full and name in DENY_OOM:
            raise Refusal(OOM)
        db = self._begin(now_ms)
        answer = COMMANDS[name](db, args)
        self._end(db)
        return answer

    def transaction(self, commands: Sequence[Command], now_ms: int) -> list[Any]:
        """MULTI, the commands, EXEC: all answers, refusals among them. Raises Refusal if one cannot be queued."""
        split = [_split(command) for command in commands]
        if self.full and any(self.flavour == "redis" or name in DENY_OOM for name, _ in split):
            raise Refusal(OOM)
        db = self._begin(now_ms)
        answers: list[Any] = []
        for name, args in split:
            try:
                answers.append(COMMANDS[name](db, args))
            except Refusal as error:
                answers.append(error)
        self._end(db)
        return answers

    def script(self, name: str, keys: Sequence[Argument], arguments: Sequence[Argument], now_ms: int) -> Any:
        """A script. Raises Refusal; what it had done before stands, as in Redis."""
        program = SCRIPTS[name]
        if self.full and not program.allow_oom:
            raise Refusal(OOM)
        db = self._begin(now_ms)
        before = Snapshot(dict(db.keys) if db.dirty else db.keys, db.expires)
        words = _encoded(keys), _encoded(arguments)
        try:
            answer = program(db, *words)
        except Refusal as refusal:
            answer = refusal
        self._end(db)
        if self.on_script is not None:
            self.on_script(name, Run(*words, before, self.now, answer, now_ms))
        if isinstance(answer, Refusal):
            raise answer
        return answer

    def step(
        self,
        commands: Sequence[Command],
        name: str,
        keys: Sequence[Argument],
        arguments: Sequence[Argument],
        now_ms: int,
    ) -> Any:
        """MULTI, the commands, a script, EXEC: the script's answer. Its contract is asked about the whole step, as if
        it had been given what the commands append. Raises Refusal, the first one if the commands have some.
        """
        if self.full:
            raise Refusal(OOM)
        db = self._begin(now_ms)
        before = Snapshot(dict(db.keys) if db.dirty else db.keys, db.expires)
        refused: Refusal | None = None
        for command, args in map(_split, commands):
            try:
                COMMANDS[command](db, args)
            except Refusal as error:
                refused = refused or error
        try:
            answer = SCRIPTS[name](db, _encoded(keys), _encoded(arguments))
        except Refusal as error:
            answer = refused or error
        self._end(db)
        appended = iter([_encoded(command)[-1] for command in commands])
        argv = [next(appended) if word == b"@" else word for word in _encoded(arguments)]
        if self.on_script is not None:
            self.on_script(name, Run(_encoded(keys), argv, before, self.now, answer, now_ms))
        if isinstance(answer, Refusal):
            raise answer
        return answer

    def go_back(self, index: int) -> None:
        """Be as after the step of this index in the history, as a failover to a replica that lags behind."""
        before, self.now = self.now, self.history[index]
        self.history.append(self.now)
        if self.on_step is not None:
            self.on_step(before, self.now)

    def _begin(self, now_ms: int) -> Database:
        db = Database(self.now, now_ms)
        if db.expires:
            for key in [key for key, at in db.expires.items() if at <= now_ms]:
                db.delete(key)
        return db

    def _end(self, db: Database) -> None:
        if db.dirty:
            before, self.now = self.now, Snapshot(db.keys, db.expires)
            self.history.append(self.now)
            if self.on_step is not None:
                self.on_step(before, self.now)


def _split(command: Command) -> tuple[str, list[bytes]]:
    return str(command[0]), _encoded(command[1:])


def _encoded(arguments: Sequence[Argument]) -> list[bytes]:
    return [item if type(item) is bytes else encoded(item) for item in arguments]
