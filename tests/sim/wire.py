"""What the real code is handed in place of a connection and of the machine's clocks."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import redis

from mapreduce_rq.broker.refusals import translate
from mapreduce_rq.broker.wire import USUAL_BYTES, Argument, Command, Heard, Laden, Script
from mapreduce_rq.core.sealing import InPieces
from mapreduce_rq.errors import BrokerDown
from mapreduce_rq.runtime.clock import Clock
from tests.sim.network import ENDPOINT, EPOCH, Connection, Reply, Request, Server
from tests.sim.scheduler import Scheduler
from tests.sim.store import Refusal

LARGE_BYTES = 130
"""Some replies are larger than that and some are smaller: both ways are gone."""


class SimWire:
    """A wire to the simulated server, of one actor."""

    def __init__(self, server: Server) -> None:
        self.large = LARGE_BYTES
        self._server = server
        self.connection: Connection | None = None
        self._asked: deque[tuple[Reply, Heard | None]] = deque()

    def another(self) -> SimWire:
        return SimWire(self._server)

    def limit(self) -> int:
        return USUAL_BYTES

    def connect(self) -> None:
        self.close()
        self.connection = self._server.connect()

    def close(self) -> None:
        broken, self.connection = self.connection, None
        if broken is not None:
            self._server.hang_up(broken)
        asked, self._asked = self._asked, deque()
        for _, heard in asked:
            if heard is not None:
                heard(BrokerDown("sim: left before it answered"))

    def lose_power(self) -> None:
        """The host is gone; the server hears nothing of it."""
        broken, self.connection = self.connection, None
        if broken is not None:
            self._server.hang_up(broken, silently=True)

    def call(self, *command: Argument) -> Any:
        return self._ask(Request("call", (command,)))

    def pipeline(self, commands: Sequence[Command], *, refusals: bool = False) -> list[Any]:
        return list(self._ask(Request("pipeline", tuple(commands))))

    def transaction(self, commands: Sequence[Command]) -> list[Any]:
        return list(self._ask(Request("transaction", tuple(commands))))

    def script(self, script: Script, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        self.ask(script, keys, arguments)
        return self.answer()

    def ask(
        self,
        script: Script,
        keys: Sequence[str],
        arguments: Sequence[Argument],
        *,
        then: Command = (),
        heard: Heard | None = None,
    ) -> None:
        self._nothing_awaited()
        self._send(Request("script", (tuple(keys), tuple(arguments)), script.name), heard)
        if then:
            self._send(Request("call", (then,)))

    def ask_after(
        self, commands: Sequence[Laden], script: Script, keys: Sequence[str], arguments: Sequence[Argument]
    ) -> None:
        self._nothing_awaited()
        plain = [tuple(bytes(word) if isinstance(word, InPieces) else word for word in command) for command in commands]
        self._send(Request("step", (tuple(keys), tuple(arguments), *plain), script.name))

    def ask_call(self, *command: Argument, then: Command = ()) -> None:
        self._nothing_awaited()
        self._send(Request("call", (command,)))
        if then:
            self._send(Request("call", (then,)))

    def answered(self, ticket: int) -> bool:
        """Whether an answer has come, or none will; else its coming ends the wait of this ticket."""
        if self.connection is None or not self._asked:
            return True
        self.connection.actor = self._server.scheduler.actor()
        self._asked[0][0].watched = ticket
        return self._asked[0][0].come

    def answer(self) -> Any:
        self.hear()
        if self.connection is None or not self._asked:
            raise BrokerDown("sim: not connected")
        asked, _ = self._asked.popleft()
        answer = self._read(asked)
        if isinstance(answer, Refusal):
            if self._asked:
                self.close()
            raise translate(redis.ResponseError(str(answer)), ENDPOINT)
        return answer

    def hear(self) -> None:
        while self._asked and (heard := self._asked[0][1]) is not None:
            answer = self._read(self._asked[0][0])
            self._asked.popleft()
            refused = isinstance(answer, Refusal)
            heard(translate(redis.ResponseError(str(answer)), ENDPOINT) if refused else answer)

    def _ask(self, request: Request) -> Any:
        self._nothing_awaited()
        self._send(request)
        return self.answer()

    def _nothing_awaited(self) -> None:
        assert all(heard is not None for _, heard in self._asked), "another answer is on its way"

    def _send(self, request: Request, heard: Heard | None = None) -> None:
        if self.connection is None:
            raise BrokerDown("sim: not connected")
        self._asked.append((self._server.send(self.connection, request), heard))

    def _read(self, asked: Reply) -> Any:
        try:
            if self.connection is not None:
                self.connection.actor = self._server.scheduler.actor()
            return self._server.receive(asked)
        except BaseException:  # a signal's too: the answer may still be on its way
            self.close()
            raise


class SimClock(Clock):
    """Virtual time as one host sees it."""

    def __init__(self, scheduler: Scheduler, *, started: float = 0.0, skew: float = 0.0) -> None:
        self._scheduler = scheduler
        self._started = started
        self.skew = skew  # of the wall clock

    def now(self) -> float:
        return self._scheduler.now + self._started

    def nanoseconds(self) -> int:
        return int(self.now() * 1e9)

    def wall(self) -> float:
        return EPOCH + self._scheduler.now + self.skew

    def sleep(self, seconds: float) -> None:
        self._scheduler.actor().sleep(seconds)

    def random(self, size: int) -> bytes:
        return self._scheduler.rng.randbytes(size)
