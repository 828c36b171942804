"""One connection and what can be sent over it: a command, a pipeline, a transaction, a script.

A wire is broken after any error but a plain refusal of the server, and stays broken until ``connect``:
whether the lost command was done is not known, so everybody reloads from Redis then. Errors come out as
ours: BrokerDown (try again), BrokerFull (Redis is out of memory), BrokerRefused, ForeignKey.
"""

from __future__ import annotations

import hashlib
import os
import ssl
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import redis
from hiredis import pack_command  # redis-py's own packing looks at every argument again
from redis.connection import AbstractConnection

from mapreduce_rq.broker.connection import Endpoint, connection
from mapreduce_rq.errors import BrokerDown, BrokerError, BrokerFull, BrokerRefused, ForeignKey, NoPermission, ReadOnly

Argument = bytes | str | int
Command = tuple[Argument, ...]
Heard = Callable[[Any], None]

TRANSIENT = (*("LOADING", "UNBLOCKED", "NOREPLICAS", "TRYAGAIN", "CLUSTERDOWN", "BUSY", "MISCONF"),)
"""Refusals that pass: the server starts, is busy, or cannot write its disk just now."""
_TRANSIENT_TYPES = (
    redis.exceptions.BusyLoadingError,
    redis.exceptions.TryAgainError,
    redis.exceptions.ClusterDownError,
)
_REPLICA_TYPES = (redis.exceptions.ReadOnlyError, redis.exceptions.MasterDownError)
_REFUSED_TYPES = (
    redis.exceptions.AuthenticationError,
    redis.exceptions.AuthorizationError,
)


LARGE_BYTES = 64 * 1024
"""Arguments from this size on are joined here: hiredis packs them at 0.4 GB/s, a join at ten times that."""


def _pack(command: Command) -> bytes:
    for argument in command:
        if isinstance(argument, bytes) and len(argument) >= LARGE_BYTES:
            break
    else:
        packed: bytes = pack_command(command)  # type: ignore[arg-type]  # its stub means a tuple of any length
        return packed
    pieces = [b"*%d\r\n" % len(command)]
    for argument in command:
        word = argument if isinstance(argument, bytes) else str(argument).encode()
        pieces += (b"$%d\r\n" % len(word), word, b"\r\n")
    return b"".join(pieces)


class Script:
    """A Lua script of this package, by the name of its file."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.source = Path(__file__).with_name("lua").joinpath(f"{name}.lua").read_text(encoding="utf-8")
        self.sha = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()


class Wire(Protocol):
    """What the broker needs of a connection."""

    def another(self) -> Wire:
        """Another wire to the same server, not connected yet."""

    def connect(self) -> None:
        """Connect anew, whatever was before."""

    def close(self) -> None:
        """Disconnect."""

    def call(self, *command: Argument) -> Any:
        """One command's answer."""

    def pipeline(self, commands: Sequence[Command], *, refusals: bool = False) -> list[Any]:
        """The answers of several commands sent at once; not atomic.

        With ``refusals`` a BrokerError stands in place of the answer to a command that the server refused.
        """

    def transaction(self, commands: Sequence[Command]) -> list[Any]:
        """The answers of several commands done as one step, or none of them."""

    def script(self, script: Script, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        """A script's answer."""

    def ask(
        self,
        script: Script,
        keys: Sequence[str],
        arguments: Sequence[Argument],
        *,
        then: Command = (),
        heard: Heard | None = None,
    ) -> None:
        """Send a script, with a command behind it if there is one; nothing else before each has had its ``answer``.

        With ``heard`` that gets the answer, or a BrokerError, before the next one is read, and anything may be sent.
        """

    def ask_call(self, *command: Argument) -> None:
        """As ``ask``, a command."""

    def answer(self) -> Any:
        """The answer to what was asked."""

    def hear(self) -> None:
        """Read the answers that ``heard`` wants."""


class Ear(Wire, Protocol):
    """A wire that can be waited for together with other descriptors."""

    def fileno(self) -> int:
        """The descriptor that can be read when an answer comes. Raises BrokerDown."""


class _Asked(NamedTuple):
    """What was sent and has no answer yet."""

    script: str  # its sum; '' for a command
    whole: Command  # for a server that does not know the script
    heard: Heard | None


class RedisWire:
    """A wire to a real server. In a process that was forked from its owner's it is not connected any more."""

    def __init__(self, endpoint: Endpoint) -> None:
        _wires.add(self)
        self.endpoint = endpoint
        self._connection: AbstractConnection | None = None
        self._asked: deque[_Asked] = deque()
        self._known: set[str] = set()  # scripts that have answered on this connection

    def another(self) -> RedisWire:
        """Another wire to the same server, not connected yet."""
        return RedisWire(self.endpoint)

    def connect(self) -> None:
        """Connect anew. Raises BrokerDown or BrokerRefused."""
        self.close()
        fresh = connection(self.endpoint)
        try:
            fresh.connect()
        except Exception as error:
            fresh.disconnect()
            raise translate(error, self.endpoint) from None
        self._connection = fresh

    def close(self) -> None:
        """Disconnect; harmless when not connected."""
        broken, self._connection = self._connection, None
        if broken is not None:
            broken.disconnect()
        self._known.clear()
        asked, self._asked = self._asked, deque()
        for one in asked:
            if one.heard is not None:
                one.heard(BrokerDown(f"{self.endpoint} was left before it answered"))

    def disown(self) -> None:
        """In a forked child: the connection is the parent's. It is closed here without a word to the server."""
        inherited, self._connection = self._connection, None
        self._known.clear()
        self._asked = deque()
        socket = getattr(inherited, "_sock", None)
        if socket is not None:
            socket.close()  # not shut down: the parent goes on with it

    def call(self, *command: Argument) -> Any:
        """One command's answer."""
        open_ = self._opened()
        try:
            open_.send_packed_command((_pack(command),), check_health=False)
            if self._asked:
                self._hear(open_)
            return open_.read_response()
        except redis.ResponseError as error:
            raise self._refused(error) from None
        except BaseException as error:
            raise self._broken(error) from None

    def pipeline(self, commands: Sequence[Command], *, refusals: bool = False) -> list[Any]:
        """The answers of several commands sent at once; the first refusal is raised after all were read.

        With ``refusals`` a BrokerError stands in its place, unless it is one that breaks the wire.
        """
        open_ = self._opened()
        answers: list[Any] = []
        try:
            open_.send_packed_command([b"".join(map(_pack, commands))], check_health=False)
            if self._asked:
                self._hear(open_)
            for _ in commands:
                try:
                    answers.append(open_.read_response())
                except redis.ResponseError as error:
                    answers.append(error)
        except BaseException as error:
            raise self._broken(error) from None
        for at, answer in enumerate(answers):
            if isinstance(answer, redis.ResponseError):
                refused = self._refused(answer)
                if not refusals or isinstance(refused, BrokerDown):
                    raise refused from None
                answers[at] = refused
        return answers

    def transaction(self, commands: Sequence[Command]) -> list[Any]:
        """The answers of several commands done as one step."""
        answers = self.pipeline([("MULTI",), *commands, ("EXEC",)])[-1]
        if answers is None:
            raise BrokerDown(f"{self.endpoint} gave up a transaction")
        for answer in answers:
            if isinstance(answer, redis.ResponseError):
                raise self._refused(answer)
        return list(answers)

    def script(self, script: Script, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        """A script's answer; the script is sent whole where the server does not know it yet."""
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
        """Send a script, with a command behind it if there is one; nothing else before each has had its ``answer``.

        With ``heard`` that gets the answer, or a BrokerError, before the next one is read, and anything may be sent.
        """
        whole = ("EVAL", script.source, len(keys), *keys, *arguments)
        known = script.sha in self._known or not (then or heard)  # where others follow it cannot be sent again
        packed = _pack(("EVALSHA", script.sha, *whole[2:]) if known else whole)
        self._send(packed + _pack(then) if then else packed)
        self._asked.append(_Asked(script.sha, whole, heard))
        if then:
            self._asked.append(_Asked("", (), None))

    def ask_call(self, *command: Argument) -> None:
        """As ``ask``, a command."""
        self._send(_pack(command))
        self._asked.append(_Asked("", (), None))

    def answer(self) -> Any:
        """The answer to what was asked."""
        open_ = self._opened()
        try:
            self._hear(open_)
            asked = self._asked.popleft()
            answer = open_.read_response()
        except redis.exceptions.NoScriptError:
            if self._asked:
                self.close()
                raise BrokerDown(f"{self.endpoint} has forgotten its scripts") from None
            answer = self.call(*asked.whole)
        except redis.ResponseError as error:
            if self._asked:
                self.close()  # nobody will read the answers behind it
            raise self._refused(error) from None
        except BaseException as error:
            raise self._broken(error) from None
        if asked.script:
            self._known.add(asked.script)
        return answer

    def hear(self) -> None:
        """Read the answers that ``heard`` wants."""
        open_ = self._opened()
        try:
            self._hear(open_)
        except BaseException as error:
            raise self._broken(error) from None

    def fileno(self) -> int:
        """The descriptor that can be read when an answer comes. Raises BrokerDown."""
        found: int = self._opened()._sock.fileno()  # type: ignore[attr-defined]  # noqa: SLF001  it offers no other way
        return found

    def _send(self, packed: bytes) -> None:
        open_ = self._opened()
        try:
            open_.send_packed_command((packed,), check_health=False)
        except BaseException as error:
            raise self._broken(error) from None

    def _hear(self, open_: AbstractConnection) -> None:
        while self._asked and (heard := self._asked[0].heard) is not None:
            try:
                answer = open_.read_response()
            except redis.ResponseError as error:
                answer = translate(error, self.endpoint)
            else:
                self._known.add(self._asked[0].script)
            self._asked.popleft()
            heard(answer)

    def _opened(self) -> AbstractConnection:
        if self._connection is None:
            raise BrokerDown(f"not connected to {self.endpoint}")
        return self._connection

    def _broken(self, error: BaseException) -> BaseException:
        """What to raise. Also after a signal's exception an answer may still be on its way: the wire is broken."""
        self.close()
        return translate(error, self.endpoint) if isinstance(error, (redis.RedisError, OSError)) else error

    def _refused(self, error: redis.ResponseError) -> BrokerError:
        found = translate(error, self.endpoint)
        if isinstance(found, BrokerDown):
            self.close()
        return found


_wires: weakref.WeakSet[RedisWire] = weakref.WeakSet()


def _disown_all() -> None:
    for wire in list(_wires):
        wire.disown()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disown_all)


REPLICA = "{} is a replica, which takes no writes: give the URL of the primary, or of the sentinels"


def translate(error: BaseException, endpoint: Endpoint) -> BrokerError:
    """Our error for one of redis-py's or the socket's."""
    text = str(error)
    if isinstance(error, redis.exceptions.NoPermissionError) or text.startswith("NOPERM"):
        who = f"user {endpoint.username}" if endpoint.username else "this user"
        return NoPermission(f"{endpoint} does not let {who} do all that is needed: {text.removeprefix('NOPERM ')}")
    if isinstance(error, _REFUSED_TYPES) or text.startswith(("NOAUTH", "WRONGPASS")):
        return BrokerRefused(f"{endpoint} refuses us: {text} (password in the URL, MRQ_PASSWORD or MRQ_PASSWORD_FILE)")
    if isinstance(error, _REPLICA_TYPES) or text.startswith(("READONLY", "MASTERDOWN")):
        return ReadOnly(REPLICA.format(endpoint))
    if isinstance(error, redis.exceptions.OutOfMemoryError) or "OOM " in text:
        return BrokerFull(f"{endpoint} is out of memory (maxmemory): free some or raise it")
    if isinstance(error, _TRANSIENT_TYPES) or text.startswith(TRANSIENT):
        return BrokerDown(f"{endpoint} is not ready: {text}")
    if "WRONGTYPE" in text:
        return ForeignKey(f"a key under our prefix is not ours: {text}; `mrq doctor` names it")
    if isinstance(error, redis.exceptions.InvalidResponse) or "Protocol error" in text:
        return BrokerRefused(f"{endpoint} answers, but not as a Redis does")
    if isinstance(error, redis.TimeoutError | TimeoutError):
        hint = ": does this port speak TLS?" if endpoint.tls else ""
        return BrokerDown(f"{endpoint} does not answer in time{hint}")
    if isinstance(error, redis.ResponseError):
        return BrokerError(f"{endpoint} refused a command: {text}")
    cause = error.__context__ if isinstance(error, redis.ConnectionError) else error  # it words the system's own word
    if isinstance(cause, ssl.SSLCertVerificationError):
        return BrokerRefused(
            f"{endpoint} shows a certificate that we do not trust: {cause.verify_message} "
            "(?ssl_ca_certs=FILE in the URL names the authority)"
        )
    reason = cause.strerror if isinstance(cause, OSError) and cause.strerror else text.rstrip(".")
    return BrokerDown(f"cannot reach {endpoint}: {reason}")
