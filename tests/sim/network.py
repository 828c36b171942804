"""The server with the model, the connections to it, and all that can go wrong between.

A request travels, is done in one atomic step or several, and its answer travels back. On the way the request or the
answer can be lost, or the request can arrive after its sender has given up. The server can be down, stall, restart,
fail over to an earlier state with another clock, or run out of memory. A blocking pop of a dead client may go on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from mapreduce_rq.broker.connection import ANSWER_SECONDS, Endpoint
from mapreduce_rq.broker.wire import Argument, Command
from mapreduce_rq.errors import BrokerDown
from tests.sim.model import Flavour, Model
from tests.sim.scheduler import Actor, Scheduler
from tests.sim.scripts import Run
from tests.sim.store import OOM, Refusal, Snapshot, encoded

ENDPOINT = Endpoint(host="sim")
EPOCH = 1_750_000_000.0
"""Unix time of the start of every world."""


class Request(NamedTuple):
    """What a wire asks for."""

    how: str  # call | pipeline | transaction | script | step
    commands: tuple[Command, ...]  # of a script: its keys and its arguments; of a step: these, and the commands before
    name: str = ""  # of a script

    def __str__(self) -> str:
        if self.how in {"script", "step"}:
            keys, arguments, *_ = self.commands
            return f"{self.name} {shown(keys[:1])} {shown(arguments[:4])} +{max(0, len(arguments) - 4)}"
        return f"{self.how if self.how != 'call' else ''} {' ; '.join(shown(command) for command in self.commands[:4])}"


def shown(words: Sequence[Argument]) -> str:
    """Words for the trace, each cut short."""
    texts = (word if isinstance(word, str) else repr(word) if isinstance(word, bytes) else str(word) for word in words)
    return " ".join(text if len(text) < 40 else text[:24] + "…" + text[-8:] for text in texts)


@dataclass(eq=False)
class Connection:
    """Both ends of one."""

    actor: Actor
    number: int
    client: bool = True  # its client listens
    server: bool = True  # its server listens
    reset: bool = False  # the server it led to is no more
    asked: list[Reply] = field(default_factory=list)  # the questions under way
    arrived: float = 0.0  # nothing comes in before that: what was sent first does
    late: bool = False  # it has come to a stop: its client gives up before anything arrives


@dataclass(eq=False)
class Reply:
    """Where an answer goes."""

    connection: Connection
    ticket: int
    sent: float
    lost: bool = False
    come: bool = False  # it came before its receiver waited for it
    watched: int = -1  # the ticket of a wait that it ends, and that does not receive it
    value: Any = None
    error: BaseException | None = None


@dataclass(eq=False)
class Parked:
    """A client that waits at the server."""

    connection: Connection
    reply: Reply | None
    command: Command
    keys: list[bytes]
    gone: bool = False


@dataclass
class Weather:
    """How bad the ways are now."""

    latency: float = 0.0005
    spread: float = 0.0  # share of messages that take up to a hundred times as long
    lost: float = 0.0  # share of requests
    answer_lost: float = 0.0
    late: float = 0.0  # share of requests that arrive after their sender gave up
    ghost: float = 0.0  # share of dead clients' pops that go on
    resets: float = 0.6  # share of losses that a client sees at once; else it waits for its time limit


OnStep = Callable[[Snapshot, Snapshot, Request | str], None]


class Server:
    """The model behind a network."""

    def __init__(
        self,
        scheduler: Scheduler,
        on_step: OnStep,
        flavour: Flavour,
        on_script: Callable[[str, Run], None] | None = None,
    ) -> None:
        self.scheduler = scheduler
        self.model = Model(flavour, self._stepped, on_script)
        self.weather = Weather()
        self._on_step = on_step
        self._doing: Request | str = ""
        self.skew_ms = 0
        self.steps = 0
        self._under_way = 0  # requests that have been sent and have not arrived
        self._up = True
        self._stalled_until = 0.0
        self._backlog: list[tuple[Connection, Request, Reply | None]] = []
        self._parked: dict[bytes, list[Parked]] = {}
        self._connections: list[Connection] = []
        self._count = 0

    # -- the clients' side -----------------------------------------------------------------------------------------

    def connect(self) -> Connection:
        """A new connection, from an actor. Raises BrokerDown."""
        actor = self.scheduler.actor()
        actor.sleep(self._latency())
        if self._up and self.scheduler.now < self._stalled_until and self._loses(0.5):
            actor.sleep(3.0)
            raise BrokerDown("sim: no answer to a connect")
        if not self._up or self._loses(self.weather.lost):
            raise BrokerDown("sim: connection refused")
        self._count += 1
        made = Connection(actor, self._count)
        self._connections.append(made)
        return made

    def ask(self, connection: Connection, request: Request) -> Any:
        """The answer to a request, from an actor; a Refusal is an answer. Raises BrokerDown."""
        return self.receive(self.send(connection, request))

    def send(self, connection: Connection, request: Request) -> Reply:
        """Where the answer to a request will be, from an actor that goes on meanwhile."""
        scheduler, weather = self.scheduler, self.weather
        reply = Reply(connection, -1, scheduler.now)
        connection.asked.append(reply)
        if not connection.server:
            scheduler.at(self._latency(), self._fail, reply)
        elif self._loses(weather.lost):
            self._say(connection, f"LOST {request}")
            connection.server = False
            scheduler.at(self._patience(), self._fail, reply)
        elif connection.late or self._loses(weather.late):
            connection.late = True
            patience = self._patience()
            self._say(connection, f"LATE {request}")
            scheduler.at(patience, self._fail, reply)
            self._send(patience + 20 * scheduler.rng.random() ** 2, connection, request, None)
        else:
            reply.lost = self._loses(weather.answer_lost)
            self._send(self._latency(), connection, request, reply)
        return reply

    def _send(self, seconds: float, connection: Connection, request: Request, reply: Reply | None) -> None:
        connection.arrived = max(connection.arrived + 1e-9, self.scheduler.now + seconds)
        self.scheduler.at(connection.arrived - self.scheduler.now, self._arrive, connection, request, reply)
        self._under_way += 1

    def receive(self, reply: Reply) -> Any:
        """The answer, from the actor that sent the request; a Refusal is an answer. Raises BrokerDown."""
        connection = reply.connection
        try:
            if not reply.come:
                reply.ticket = connection.actor.ticket()
                return connection.actor.wait()
            if reply.error is not None:
                raise reply.error
            return reply.value
        finally:
            with contextlib.suppress(ValueError):  # it hung up meanwhile
                connection.asked.remove(reply)

    def _deliver(self, reply: Reply, value: Any, error: BaseException | None = None) -> None:
        if reply.ticket < 0:
            if not reply.come:
                reply.come, reply.value, reply.error = True, value, error
                if reply.watched >= 0:
                    reply.connection.actor.wake(reply.watched)
        else:
            reply.connection.actor.wake(reply.ticket, value, error)

    def hang_up(self, connection: Connection, *, silently: bool = False) -> None:
        """The client is gone; ``silently``: the server is not told, as when a host loses its power."""
        connection.client = False
        connection.asked.clear()
        if not silently and not self._loses(self.weather.ghost):
            self.scheduler.at(self._latency(), self._unpark, connection)

    def _fail(self, reply: Reply) -> None:
        reply.connection.server = False
        self._deliver(reply, None, BrokerDown("sim: connection lost"))

    def _latency(self) -> float:
        rng, weather = self.scheduler.rng, self.weather
        base = weather.latency * (0.5 + rng.random())
        return base * 100 * rng.random() if weather.spread and rng.random() < weather.spread else base

    def _patience(self) -> float:
        """How long a client takes to see that nothing comes: at once by a reset, or at its time limit."""
        return self._latency() if self.scheduler.rng.random() < self.weather.resets else ANSWER_SECONDS

    def _loses(self, share: float) -> bool:
        return share > 0 and self.scheduler.rng.random() < share

    # -- the server's side -----------------------------------------------------------------------------------------

    @property
    def quiet(self) -> bool:
        """Whether nothing is on its way, not even from the dead."""
        return not self._under_way and not self._backlog

    @property
    def now_ms(self) -> int:
        """The server's clock."""
        return int((EPOCH + self.scheduler.now) * 1000) + self.skew_ms

    def _arrive(self, connection: Connection, request: Request, reply: Reply | None) -> None:
        self._under_way -= 1
        if connection.reset or (reply is not None and not connection.server):
            if reply in connection.asked:  # the connection was lost with what was sent behind it
                self.scheduler.at(self._patience(), self._fail, reply)
            return
        if self.scheduler.now < self._stalled_until:
            self._backlog.append((connection, request, reply))
            if reply is not None:
                self.scheduler.at(max(0.0, reply.sent + ANSWER_SECONDS - self.scheduler.now), self._give_up, reply)
            return
        self._execute(connection, request, reply)

    def _give_up(self, reply: Reply) -> None:
        if reply in reply.connection.asked:
            self._fail(reply)

    def _execute(self, connection: Connection, request: Request, reply: Reply | None) -> None:
        model, now_ms = self.model, self.now_ms
        answer: Any
        try:
            if request.how == "call":
                command = request.commands[0]
                answer = self._step(request, partial(model.call, command, now_ms))
                if answer is None and _blocks(command):
                    self._park(connection, command, reply)
                    return
            elif request.how == "script":
                keys, arguments = request.commands
                answer = self._step(request, partial(model.script, request.name, keys, arguments, now_ms))
            elif request.how == "step":
                keys, arguments, *before = request.commands
                answer = self._step(request, partial(model.step, before, request.name, keys, arguments, now_ms))
            elif request.how == "transaction":
                answer = self._step(request, partial(model.transaction, request.commands, now_ms))
                answer = next((item for item in answer if isinstance(item, Refusal)), answer)
            else:
                answer = self._pipeline(connection, request, reply)
                if answer is None:
                    return
        except Refusal as error:
            answer = error
        if self.scheduler.listen:
            self._say(connection, f"{request} -> {_brief(answer)}{' (answer lost)' if reply and reply.lost else ''}")
        self._answer(reply, answer)
        self._serve()

    def _pipeline(self, connection: Connection, request: Request, reply: Reply | None) -> Any:
        """Each command is a step of its own; the connection can break between two."""
        answers: list[Any] = []
        for command in request.commands:
            if answers and self._loses(self.weather.lost):
                self._say(connection, f"CUT {request}")
                self._cut(connection)
                return None
            try:
                answers.append(self._step(request, partial(self.model.call, command, self.now_ms)))
            except Refusal as error:
                answers.append(error)
        return next((item for item in answers if isinstance(item, Refusal)), answers)

    def _step(self, what: Request | str, act: Callable[[], Any]) -> Any:
        self.steps += 1
        self._doing = what
        return act()

    def _stepped(self, before: Snapshot, after: Snapshot) -> None:
        self._on_step(before, after, self._doing)

    def _answer(self, reply: Reply | None, answer: Any) -> None:
        if reply is None or not reply.connection.client:
            return
        if reply.lost:
            reply.connection.server = False
            self.scheduler.at(self._patience(), self._fail, reply)
        else:
            self.scheduler.at(self._latency(), self._deliver, reply, answer)

    # -- who waits at the server -----------------------------------------------------------------------------------

    def _park(self, connection: Connection, command: Command, reply: Reply | None) -> None:
        if command[0] == "BLMOVE":
            keys, seconds = [command[1]], float(command[5])
        elif command[0] == "BLMPOP":
            keys, seconds = [command[3]], float(command[1])
        else:
            named = command[command.index("STREAMS") + 1 :]
            keys, seconds = list(named[: len(named) // 2]), float(command[command.index("BLOCK") + 1]) / 1000
        parked = Parked(connection, reply, command, [encoded(key) for key in keys])
        for key in parked.keys:
            self._parked.setdefault(key, []).append(parked)
        if not connection.client:  # it hung up before its request came in: the server reads the end of it next
            self.scheduler.at(self._latency(), self._unpark, connection)
        self.scheduler.at(seconds, self._time_out, parked)

    def _time_out(self, parked: Parked) -> None:
        if self.scheduler.now < self._stalled_until:
            self.scheduler.at(self._stalled_until - self.scheduler.now, self._time_out, parked)
        elif not parked.gone:
            self._drop(parked)
            self._answer(parked.reply, None)

    def _unpark(self, connection: Connection) -> None:
        for row in list(self._parked.values()):
            for parked in list(row):
                if parked.connection is connection and not parked.gone:
                    self._drop(parked)

    def _drop(self, parked: Parked) -> None:
        parked.gone = True
        for key in parked.keys:
            row = self._parked[key]
            row.remove(parked)
            if not row:
                del self._parked[key]

    def _serve(self) -> None:
        """Give those who wait what has come, in the order they came; each in a step of its own."""
        for key in list(self._parked):
            for parked in list(self._parked.get(key, ())):
                if key not in self.model.now.keys:
                    break
                if parked.gone:
                    continue
                request = Request("call", (parked.command,))
                answer: Any
                was_full = self.model.full
                if was_full and parked.command[0] == "BLMOVE":
                    if self.model.flavour == "valkey":
                        self._drop(parked)
                        self._answer(parked.reply, Refusal(OOM))
                        continue
                    self.model.full = False
                try:
                    answer = self._step(request, partial(self.model.call, parked.command, self.now_ms))
                except Refusal as error:
                    answer = error
                finally:
                    self.model.full = was_full
                if answer is None:
                    continue
                ghost = parked.reply is None or not parked.connection.client
                if self.scheduler.listen:
                    word = "GHOST " if ghost else ""
                    self._say(parked.connection, f"{word}served {request} -> {_brief(answer)}")
                self._drop(parked)
                self._answer(parked.reply, answer)

    # -- what happens to it ----------------------------------------------------------------------------------------

    def fault(self, text: str, *commands: Command) -> None:
        """Another client changes the data; or, without commands, only the trace gets a line."""
        self.scheduler.say(f"!! {text}")
        full, self.model.full = self.model.full, False
        for command in commands:
            self._step(text, partial(self.model.call, command, self.now_ms))
        self.model.full = full
        self._serve()

    def cut(self, connection: Connection) -> None:
        """CLIENT KILL."""
        self.scheduler.say(f"!! cut connection {connection.number} of {connection.actor.name}")
        self._cut(connection)

    def _cut(self, connection: Connection) -> None:
        connection.server = False
        self._unpark(connection)
        for reply in connection.asked:
            self.scheduler.at(self._latency(), self._fail, reply)

    def connections(self) -> list[Connection]:
        """Those that are open on both sides."""
        return [one for one in self._connections if one.client and one.server]

    def have_room(self) -> None:
        """The memory limit is far away again."""
        self.model.full = False

    def stall(self, seconds: float) -> None:
        """Do nothing for a while, then all that has come meanwhile, that of one client in its order."""
        self.scheduler.say(f"!! stall {seconds:.1f} s")
        self._stalled_until = max(self._stalled_until, self.scheduler.now + seconds)
        for connection in self.connections():
            for reply in connection.asked:
                left = reply.sent + ANSWER_SECONDS - self.scheduler.now
                self.scheduler.at(max(0.0, left), self._give_up, reply)
        self.scheduler.at(self._stalled_until - self.scheduler.now, self._go_on)

    def _go_on(self) -> None:
        if self.scheduler.now >= self._stalled_until:
            backlog, self._backlog = self._backlog, []
            order = [connection for connection, *_ in backlog]
            self.scheduler.rng.shuffle(order)
            for connection in order:  # of each its first one
                self._execute(*backlog.pop(next(i for i, item in enumerate(backlog) if item[0] is connection)))

    def restart(self, seconds: float, *, index: int | None = None, skew_ms: int = 0) -> None:
        """Go down, and come back after a while as it was, or as after the step ``index`` and with another clock."""
        size = len(self.model.history)
        word = "restart" if index is None else f"failover {size - 1 - index} steps back, clock {skew_ms:+} ms"
        self.scheduler.say(f"!! {word}, down {seconds:.1f} s")
        self._up = False
        self._stalled_until = 0.0
        self._backlog.clear()
        for connection in self._connections:
            connection.reset = True
            if connection.server:
                self._cut(connection)
        for row in self._parked.values():
            for parked in row:
                parked.gone = True
        self._parked.clear()
        self._connections.clear()
        self.skew_ms += skew_ms
        if index is not None:
            self._step("failover", partial(self.model.go_back, index))
        self.scheduler.at(seconds, self._come_up)

    def _come_up(self) -> None:
        self._up = True

    def _say(self, connection: Connection, text: str) -> None:
        if self.scheduler.listen:
            self.scheduler.say(f"{connection.actor.name:>8} {text}")


def _blocks(command: Command) -> bool:
    return command[0] in {"BLMOVE", "BLMPOP"} or (command[0] == "XREAD" and "BLOCK" in command)


def _brief(answer: Any) -> str:
    if isinstance(answer, Refusal):
        return f"({answer})"
    text = repr(answer)
    return text if len(text) < 90 else text[:60] + "…" + text[-20:]
