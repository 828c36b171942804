"""A wire that tells a hook of every verb before it is sent and after it is answered; the verb by the name it has here.

The names are those of the transitions in broker/PROTOCOL.md, so that a fault can be put at one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mapreduce_rq.broker.redis_wire import RedisWire
from mapreduce_rq.broker.wire import Argument, Command, Heard, Script
from mapreduce_rq.core.computation import Interruption

Hook = Callable[[str, str], None]
"""Called with a verb's name and ``before`` or ``after``. What it raises comes out of the verb."""


IDLE_SECONDS = 0.03
"""The longest an idle worker waits at a time where clocks run fast: so it soon hears that it is to leave."""


class Killed(Interruption):
    """Raised by a hook in place of SIGKILL: nothing in the code under test catches it."""


class Watched:
    """A wire around another. ``speed``: how much faster the clocks run; blocking times are cut by it.

    Whoever is killed over it says nothing more: a process that is gone cannot tidy up behind itself.
    """

    def __init__(self, wire: RedisWire, hook: Hook, speed: float = 1.0) -> None:
        self._wire = wire
        self._hook = hook
        self._speed = speed
        self._asked: list[str] = []
        self._killed = False

    def another(self) -> RedisWire:
        return self._wire.another()

    def limit(self) -> int:
        return self._wire.limit()

    def connect(self) -> None:
        self._watch("connect", self._wire.connect)

    def close(self) -> None:
        self._asked.clear()
        self._wire.close()

    def call(self, *command: Argument) -> Any:
        command = self._quickened(command)
        return self._watch(name_of_command(command), lambda: self._wire.call(*command))

    def pipeline(self, commands: Sequence[Command], *, refusals: bool = False) -> list[Any]:
        name = name_of_pipeline(commands)
        found: list[Any] = self._watch(name, lambda: self._wire.pipeline(commands, refusals=refusals))
        return found

    def transaction(self, commands: Sequence[Command]) -> list[Any]:
        found: list[Any] = self._watch(name_of_transaction(commands), lambda: self._wire.transaction(commands))
        return found

    def script(self, script: Script, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        return self._watch(name_of_script(script, arguments), lambda: self._wire.script(script, keys, arguments))

    def ask(
        self,
        script: Script,
        keys: Sequence[str],
        arguments: Sequence[Argument],
        *,
        then: Command = (),
        heard: Heard | None = None,
    ) -> None:
        name = name_of_script(script, arguments)

        def watched(answer: Any) -> None:
            assert heard is not None
            heard(answer)
            self._tell(name, "after")

        self._tell(name, "before")
        then = self._quickened(then)
        self._wire.ask(script, keys, arguments, then=then, heard=watched if heard is not None else None)
        if heard is None:
            self._asked.append(name)
        if then:
            self._asked.append(name_of_command(then))

    def ask_call(self, *command: Argument, then: Command = ()) -> None:
        self._asked.append(name_of_command(command))
        self._tell(self._asked[-1], "before")
        self._wire.ask_call(*command, then=then)
        if then:
            self._asked.append(name_of_command(then))

    def answer(self) -> Any:
        found = self._wire.answer()
        self._tell(self._asked.pop(0), "after")
        return found

    def hear(self) -> None:
        self._wire.hear()

    def _watch(self, name: str, verb: Callable[[], Any]) -> Any:
        self._tell(name, "before")
        found = verb()
        self._tell(name, "after")
        return found

    def _tell(self, name: str, when: str) -> None:
        if self._killed:
            raise Killed
        try:
            self._hook(name, when)
        except BaseException as error:
            self._killed = isinstance(error, Killed)
            self._wire.close()  # as the kernel does for a process that dies
            raise

    def _quickened(self, command: Command) -> Command:
        if self._speed == 1.0 or not command:
            return command
        row = list(command)
        if row[0] == "XREAD" and "BLOCK" in row:
            at = row.index("BLOCK") + 1
            row[at] = max(1, int(float(row[at]) / self._speed))
        elif row[0] == "BLMOVE":
            row[-1] = str(min(IDLE_SECONDS, float(row[-1]) / self._speed))
        return tuple(row)


def name_of_command(command: Command) -> str:
    """The name of a single command."""
    word = str(command[0])
    if word == "HMGET":
        return "pieces" if ":p:" in str(command[1]) else "spec" if "spec" in command else "token"
    if word == "HGET":
        return "body" if ":b:" in str(command[1]) else "hget"
    if word == "LRANGE":
        return "hand" if ":f:" in str(command[1]) else "queue"
    return {
        "HGETALL": "load",
        "HSET": "beat",
        "HDEL": "forget",
        "XREAD": "replies",
        "BLMOVE": "take",
        "ZRANGE": "listing",
    }.get(word, word.lower())


def name_of_pipeline(commands: Sequence[Command]) -> str:
    """The name of a pipeline."""
    names = {"LREM": "withdraw", "HGET": "states", "HMGET": "leases", "HSTRLEN": "laid"}
    return names.get(str(commands[0][0]), "pipeline")


def name_of_transaction(commands: Sequence[Command]) -> str:
    """The name of a transaction."""
    first, last = commands[0], commands[-1]
    if first[0] == "HSET":
        return "enter" if str(first[1]).endswith(":w") else "survey"
    return "give back" if last[0] == "HDEL" else "drop"


def name_of_script(script: Script, arguments: Sequence[Argument]) -> str:
    """The name of a script's run: a commit has several."""
    if script.name in {"settle", "lay"}:
        return script.name
    if script.name == "reap":
        return "reap" if len(arguments) > 2 else "bury"
    what, count, bodies = arguments[2], int(arguments[5]), int(arguments[6])
    behind = 8 + 2 * count
    fields = dict(zip(arguments[8:behind:2], arguments[9:behind:2], strict=True))
    if what in {"create", "over"}:
        return {"create": "create", "over": "end"}[str(what)]
    if "master" in fields:
        return "claim" if fields["master"] else "release"
    if len(arguments) > behind + 2 * bodies:
        return "push"
    return "checkpoint" if "ck" in fields else "lease"
