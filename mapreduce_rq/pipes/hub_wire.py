"""A master's wire over pipes: the methods of a wire, done on the hub in the master's own thread."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from mapreduce_rq.broker.wire import SURE_BYTES, USUAL_BYTES, Argument, Command, Heard, Script
from mapreduce_rq.errors import BrokerDown
from mapreduce_rq.pipes.hub import Hub
from mapreduce_rq.pipes.lines import check_size
from mapreduce_rq.pipes.store import Store


class Read(NamedTuple):
    """A read of replies that was asked for, the time until which it waits for some, and whether there are some."""

    command: Command
    until: float
    ready: Callable[[], bool]

    @classmethod
    def of(cls, command: Command, store: Store) -> Read:
        """The read of this command, asked for now."""
        block = int(command[command.index("BLOCK") + 1]) / 1000 if "BLOCK" in command else 0.0
        ready = store.has_after(str(command[-2]), str(command[-1]))
        return cls(command, time.monotonic() + block if block else 0.0, ready)


class HubWire:
    """A master's wire. Its steps are done at once, in this thread. A read that waits serves the workers meanwhile."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._asked: deque[Any] = deque()  # answers, and reads
        self._unheard: deque[tuple[Heard, Any]] = deque()
        self._bell = -1  # for which the hub waits, too
        self._connected = False

    def another(self) -> HubWire:
        """Another wire to the same hub, not connected yet."""
        return HubWire(self._hub)

    def limit(self) -> int:
        """The most bytes of one argument: the same as over Redis, so that a job runs on both."""
        return USUAL_BYTES

    def connect(self) -> None:
        """Begin anew. Raises ServerFailed if the workers are gone for good."""
        self.close()
        self._hub.check()
        self._connected = True

    def close(self) -> None:
        """Forget requests without an answer."""
        self._connected = False
        self._asked.clear()
        if self._bell >= 0:
            self._hub.forget_bell(self._bell)
            self._bell = -1
        self.hear()

    def call(self, *command: Argument) -> Any:
        """One command's answer; for a read, wait until it has one."""
        self._check()
        return self._read(Read.of(command, self._hub.store)) if command[0] == "XREAD" else self._hub.call(command)

    def pipeline(self, commands: Sequence[Command], *, refusals: bool = False) -> list[Any]:
        """The answers of several commands; here none is refused."""
        return self.transaction(commands)

    def transaction(self, commands: Sequence[Command]) -> list[Any]:
        """The answers of several commands that are done in one step."""
        self._check()
        return self._hub.all(commands)

    def script(self, script: Script, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        """A script's answer."""
        self._check()
        for argument in arguments:
            if type(argument) is bytes and len(argument) > SURE_BYTES:
                check_size(len(argument) + script.spare)
        return self._hub.script(script.name, keys, arguments)

    def ask(
        self,
        script: Script,
        keys: Sequence[str],
        arguments: Sequence[Argument],
        *,
        then: Command = (),
        heard: Heard | None = None,
    ) -> None:
        """Run a script now; a read ``then`` waits when ``answer`` is called. See :class:`Wire`."""
        answer = self.script(script, keys, arguments)
        if heard is not None:
            self._unheard.append((heard, answer))
            return
        self._asked.append(answer)
        if then:
            self.ask_call(*then)

    def ask_call(self, *command: Argument, then: Command = ()) -> None:
        """As ``ask``, for a command."""
        self._check()
        hub = self._hub
        self._asked.append(Read.of(command, hub.store) if command[0] == "XREAD" else hub.call(command))
        if then:
            self.ask_call(*then)

    def answer(self) -> Any:
        """The answer to the oldest request."""
        self._check()
        found = self._asked.popleft()
        return self._read(found) if type(found) is Read else found

    def answers_within(self, seconds: float, bell: int) -> bool:
        """See Ear."""
        self._check()
        (read,) = self._asked
        self._bell = bell
        return self._hub.wait(read.ready, seconds, bell) or time.monotonic() >= read.until

    def hear(self) -> None:
        """Call the functions that wait for the answers."""
        while self._unheard:
            heard, answer = self._unheard.popleft()
            heard(answer)

    def _read(self, read: Read) -> Any:
        self._hub.wait(read.ready, read.until - time.monotonic() if read.until else 0.0)
        return self._hub.call(read.command)

    def _check(self) -> None:
        if self._unheard:
            self.hear()
        if not self._connected:
            self._hub.check()
            raise BrokerDown("not connected")
