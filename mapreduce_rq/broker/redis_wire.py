"""The wire to a real server: by our own connection over a unix socket, otherwise by a connection of redis-py."""

from __future__ import annotations

import os
import select
import weakref
from collections import deque
from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from mapreduce_rq.broker.cluster import address_of, connect_to_owner, connection_to
from mapreduce_rq.broker.connection import Endpoint, connection
from mapreduce_rq.broker.packing import LARGE_BYTES, joined, pack
from mapreduce_rq.broker.refusals import is_loss, is_of_server, is_refusal, is_unknown_script, translate
from mapreduce_rq.broker.unix_link import UnixLink
from mapreduce_rq.broker.wire import USUAL_BYTES, Argument, Command, Heard, Laden, Script
from mapreduce_rq.errors import (
    BrokerDown,
    BrokerError,
    TooLarge,
)

if TYPE_CHECKING:
    from redis.connection import AbstractConnection

    Link = AbstractConnection | UnixLink

LARGE_LOSSES = 3
"""After this many connections in a row were lost while something large was sent, its size is the reason."""


class _Asked(NamedTuple):
    """A request that was sent and has no answer yet."""

    script: Script | None  # None: a command
    rest: Command  # the script's keys and arguments: a server that does not know it is sent its source with them
    heard: Heard | None
    before: int = 0  # commands that are done in one step with the script, before it


_COMMAND = _Asked(None, (), None)


class RedisWire:
    """A wire to a real server. In a process that was forked from its owner's process it is not connected."""

    def __init__(self, endpoint: Endpoint) -> None:
        _wires.add(self)
        self.large = LARGE_BYTES
        self.endpoint = endpoint
        self._connection: Link | None = None
        self._asked: deque[_Asked] = deque()
        self._known: set[str] = set()  # scripts that have answered on this connection
        self._limit = 0  # as ``limit``; 0: not asked yet
        self._most = USUAL_BYTES  # the limit of a server that does not tell it, as we have found out
        self._tells = True
        self._large = 0  # bytes of a large argument that is on its way to a server that does not tell its limit
        self._losses = 0  # connections in a row that were lost while such an argument was on its way

    def another(self) -> RedisWire:
        """Another wire to the same server, not connected yet."""
        return RedisWire(self.endpoint)

    def limit(self) -> int:
        """The number of bytes that the server accepts in one argument, asked once per connection. Raises BrokerDown.

        The question goes over another connection, because answers may be on their way over this one. If this user may
        not ask, the default is assumed, until LARGE_LOSSES connections in a row are lost while a large argument is
        sent.
        """
        if not self._limit:
            asked = RedisWire(self.endpoint)
            asked.connect()
            try:
                found = asked.call("CONFIG", "GET", "proto-max-bulk-len", "client-query-buffer-limit")
                self._tells = True
                self._limit = min([USUAL_BYTES, *(int(size) for size in found[1::2] if int(size) > 0)])
            except BrokerDown:
                raise
            except BrokerError:
                self._limit = self._most
                self._tells = False
            finally:
                asked.close()
        return self._limit

    def _check(self, size: int, spare: int = 0) -> None:
        if size > (limit := self.limit() - spare):
            raise TooLarge("what is to be sent", size, limit)
        self._large = 0 if self._tells else size

    def connect(self) -> None:
        """Make a new connection. Raises BrokerDown or BrokerRefused."""
        self.close()
        self._limit = 0  # it may be another server
        self._connection = self._connected()

    def _connected(self) -> Link:
        fresh: Link | None = None
        try:
            if self.endpoint.nodes:
                return connect_to_owner(self.endpoint)
            fresh = UnixLink(self.endpoint) if self.endpoint.path else connection(self.endpoint)
            fresh.connect()
        except BrokerError:
            raise
        except Exception as error:
            if fresh is not None:
                fresh.disconnect()
            raise translate(error, self.endpoint) from None
        return fresh

    def close(self) -> None:
        """Disconnect, if connected."""
        broken, self._connection = self._connection, None
        if broken is not None:
            broken.disconnect()
        self._known.clear()
        asked, self._asked = self._asked, deque()
        for one in asked:
            if one.heard is not None:
                one.heard(BrokerDown(f"the connection to {self.endpoint} was closed before its answer came"))

    def disown(self) -> None:
        """In a forked child: close our copy of the parent's connection, and send nothing to the server."""
        inherited, self._connection = self._connection, None
        self._known.clear()
        self._asked = deque()
        socket = getattr(inherited, "_sock", None)
        if socket is not None:
            socket.close()  # no shutdown: the parent still uses the connection

    def call(self, *command: Argument) -> Any:
        """One command's answer. Raises TooLarge, like every method that sends, before any byte is sent."""
        packed = pack(command, self._check)
        open_ = self._opened()
        try:
            open_.send_packed_command(packed, check_health=False)
            if self._asked:
                self._hear(open_)
            return open_.read_response()
        except BaseException as error:
            if self.endpoint.nodes and type(error).__name__ == "AskError":
                return self._call_elsewhere(error, packed)
            raise self._failed(error) from None

    def _call_elsewhere(self, found: BaseException, packed: list[bytes]) -> Any:
        """The answer of the node to which a cluster is moving the slot: the key is there by now, or does not exist."""
        there = connection_to(self.endpoint, address_of(found, self.address))
        try:
            there.connect()
            there.send_command("ASKING", check_health=False)
            there.read_response()
            there.send_packed_command(packed, check_health=False)
            return there.read_response()
        except BaseException as error:
            raise self._failed(error) from None
        finally:
            there.disconnect()

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the server that it is connected to. Raises BrokerDown."""
        open_: Any = self._opened()
        return open_.host, open_.port

    def pipeline(self, commands: Sequence[Command], *, refusals: bool = False) -> list[Any]:
        """The answers of several commands that are sent together. The first refusal is raised after all are read.

        With ``refusals``, a BrokerError stands in the place of such an answer, unless it breaks the wire.
        """
        packed = joined(chain.from_iterable([pack(command, self._check) for command in commands]))
        open_ = self._opened()
        answers: list[Any] = []
        try:
            open_.send_packed_command(packed, check_health=False)
            if self._asked:
                self._hear(open_)
            for _ in commands:
                try:
                    answers.append(open_.read_response())
                except Exception as error:
                    if not is_refusal(error):
                        raise
                    answers.append(error)
        except BaseException as error:
            raise self._broken(error) from None
        for at, answer in enumerate(answers):
            if isinstance(answer, Exception):
                refused = self._refused(answer)
                if not refusals or isinstance(refused, BrokerDown):
                    raise refused from None
                answers[at] = refused
        return answers

    def transaction(self, commands: Sequence[Command]) -> list[Any]:
        """The answers of several commands that are done in one step."""
        answers = self.pipeline([("MULTI",), *commands, ("EXEC",)])[-1]
        if answers is None:
            raise BrokerDown(f"{self.endpoint} did not execute a transaction")
        for answer in answers:
            if isinstance(answer, Exception):
                raise self._refused(answer)
        return list(answers)

    def script(self, script: Script, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        """A script's answer. The source is sent if the server does not know the script yet."""
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
        """Send a script, and a command ``then`` after it; see :class:`Wire`."""
        rest = (str(len(keys)), *keys, *arguments)
        known = script.sha in self._known or not (then or heard)  # if requests follow, it cannot be sent a second time

        def largest(size: int) -> None:
            self._check(size, script.spare)

        packed = pack(("EVALSHA", script.sha, *rest) if known else ("EVAL", script.source, *rest), largest)
        self._send(joined(packed + pack(then, self._check)) if then else packed)
        self._asked.append(_Asked(script, rest, heard))
        if then:
            self._asked.append(_COMMAND)

    def ask_after(
        self, commands: Sequence[Laden], script: Script, keys: Sequence[str], arguments: Sequence[Argument]
    ) -> None:
        """See Stepping."""
        rest = (str(len(keys)), *keys, *arguments)
        run = ("EVALSHA", script.sha, *rest) if script.sha in self._known else ("EVAL", script.source, *rest)

        def largest(size: int) -> None:
            self._check(size, script.spare)

        step: list[Laden] = [("MULTI",), *commands, run, ("EXEC",)]
        self._send(joined(chain.from_iterable([pack(command, largest) for command in step])))
        self._asked.append(_Asked(script, rest, None, len(commands)))

    def ask_call(self, *command: Argument, then: Command = ()) -> None:
        """As ``ask``, for a command."""
        packed = pack(command, self._check)
        self._send(packed + pack(then, self._check) if then else packed)
        self._asked.append(_COMMAND)
        if then:
            self._asked.append(_COMMAND)

    def answer(self) -> Any:
        """The answer to the oldest request."""
        open_ = self._connection or self._opened()
        try:
            if self._asked[0].heard is not None:
                self._hear(open_)
            asked = self._asked.popleft()
            answer = self._of_step(open_, asked.before) if asked.before else open_.read_response()
        except BaseException as error:
            if not is_refusal(error):
                raise self._broken(error) from None
            if not is_unknown_script(error):
                if self._asked:
                    self.close()  # the answers after it will not be read
                raise self._refused(error) from None
            if self._asked or asked.before:  # the commands before it are done, and must not be done again
                self.close()
                raise BrokerDown(f"{self.endpoint} has forgotten its scripts") from None
            assert asked.script is not None
            answer = self.call("EVAL", asked.script.source, *asked.rest)
        if asked.script is not None:
            self._known.add(asked.script.sha)
        if self._large:
            self._large = self._losses = 0
        return answer

    @staticmethod
    def _of_step(open_: Link, before: int) -> Any:
        """The answer of the script at the end of a transaction. Raises the first refusal in it."""
        refused: BaseException | None = None
        for _ in range(before + 2):  # MULTI, the commands, and the script: each is queued or refused
            try:
                open_.read_response()
            except Exception as error:
                if not is_refusal(error):
                    raise refused or error from None
                refused = refused or error
        try:
            answers = open_.read_response()
        except Exception as error:
            raise refused or error from None
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers[-1]

    def hear(self) -> None:
        """Read the answers of requests with ``heard``."""
        open_ = self._opened()
        try:
            self._hear(open_)
        except BaseException as error:
            raise self._broken(error) from None

    def fileno(self) -> int:
        """See Pollable. Raises BrokerDown."""
        mine: int = self._opened()._sock.fileno()  # type: ignore[union-attr]  # noqa: SLF001  redis-py has no other way
        return mine

    def answers_within(self, seconds: float, bell: int) -> bool:
        """See Ear. Raises BrokerDown."""
        mine = self.fileno()
        poll = select.poll()
        poll.register(mine, select.POLLIN)
        poll.register(bell, select.POLLIN)
        return mine in {descriptor for descriptor, _ in poll.poll(seconds * 1000)}

    def _send(self, packed: list[bytes]) -> None:
        open_ = self._connection or self._opened()
        try:
            open_.send_packed_command(packed, check_health=False)
        except BaseException as error:
            raise self._broken(error) from None

    def _hear(self, open_: Link) -> None:
        while self._asked and (heard := self._asked[0].heard) is not None:
            try:
                answer = open_.read_response()
            except Exception as error:
                if not is_refusal(error):
                    raise
                answer = translate(error, self.endpoint)
            else:
                asked = self._asked[0].script
                assert asked is not None
                self._known.add(asked.sha)
            self._asked.popleft()
            heard(answer)

    def _opened(self) -> Link:
        if self._connection is None:
            raise BrokerDown(f"not connected to {self.endpoint}")
        return self._connection

    def _failed(self, error: BaseException) -> BaseException:
        """The error to raise for a request after which no other one was sent."""
        return self._refused(error) if is_refusal(error) else self._broken(error)

    def _broken(self, error: BaseException) -> BaseException:
        """The error to raise. A signal's exception breaks the wire, too, because an answer may still be on its way."""
        self.close()
        if not is_of_server(error):
            return error
        if self._large and is_loss(error):
            self._lost_large()
        return translate(error, self.endpoint)

    def _lost_large(self) -> None:
        """Count a connection lost while a large argument was sent: a server closes it without an error if it is too
        large.
        """
        size, self._large = self._large, 0
        self._losses += 1
        if self._losses >= LARGE_LOSSES:
            self._losses, self._most = 0, size - 1

    def _refused(self, error: BaseException) -> BrokerError:
        found = translate(error, self.endpoint)
        if self._large and "invalid bulk length" in str(error):
            found = BrokerDown(f"{self.endpoint} does not accept {self._large:,} bytes in one piece")
            self._lost_large()
        if isinstance(found, BrokerDown):
            self.close()
        return found


_wires: weakref.WeakSet[RedisWire] = weakref.WeakSet()


def _disown_all() -> None:
    for wire in list(_wires):
        wire.disown()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disown_all)
