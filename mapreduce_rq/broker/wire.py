"""The interface that the verbs need of a connection: commands, pipelines, transactions, scripts.

``redis_wire.py`` has the wire to a server. ``pipes`` has the wires of workers over pipes, which do not need redis-py:
importing that takes a tenth of a second.

After any error except a refusal by the server, a wire is broken until ``connect`` is called: we do not know whether the
lost command was done, so the caller reads its state from Redis again. All errors are our own: BrokerDown (try again),
BrokerFull (Redis is out of memory), BrokerRefused, ForeignKey.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from mapreduce_rq.core.sealing import InPieces

Argument = bytes | str | int
Command = tuple[Argument, ...]
Laden = tuple[Argument | InPieces, ...]
"""A command that may have a large argument in pieces."""
Heard = Callable[[Any], None]

SPARE_BYTES = 8 * 1024
"""Bytes left free in arguments of commit.lua and settle.lua: a task that goes back also has the reason of its worker's
death.
"""
SURE_BYTES = (1 << 20) - SPARE_BYTES
"""Every server accepts this size in one piece: none can be configured to less."""
USUAL_BYTES = 512 << 20
"""The default limit of a server, which is also assumed where the server does not tell its limit."""
REPLICA = "{} is a replica, which takes no writes: give the URL of the primary, or of the sentinels"


def raise_limit(limit: int) -> str:
    """The advice for a server that accepts at most this size in one piece."""
    if limit > USUAL_BYTES - SURE_BYTES:
        return "run it on a private server, where large pieces go around Redis"
    return "raise proto-max-bulk-len and client-query-buffer-limit on the server"


class Script:
    """A Lua script of this package, by the name of its file. ``spare``: bytes to leave free in each argument."""

    def __init__(self, name: str, *, spare: int = SPARE_BYTES) -> None:
        self.name = name
        self.spare = spare
        self.source = Path(__file__).with_name("lua").joinpath(f"{name}.lua").read_text(encoding="utf-8")
        self.sha = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()


class Wire(Protocol):
    """A connection to Redis, or to a store that stands in for it. Methods raise BrokerError."""

    def another(self) -> Wire:
        """Another wire to the same server, not connected yet."""

    def limit(self) -> int:
        """The number of bytes that the server accepts in one argument."""

    def connect(self) -> None:
        """Close the old connection, if there is one, and make a new one."""

    def close(self) -> None:
        """Disconnect."""

    def call(self, *command: Argument) -> Any:
        """One command's answer."""

    def pipeline(self, commands: Sequence[Command], *, refusals: bool = False) -> list[Any]:
        """The answers of several commands that are sent together; they are not atomic.

        With ``refusals``, a BrokerError stands in the place of the answer to a command that the server refused.
        """

    def transaction(self, commands: Sequence[Command]) -> list[Any]:
        """The answers of several commands that are all done in one step, or not at all."""

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
        """Send a script, and a command ``then`` after it. Call ``answer`` for each before anything else is sent.

        With ``heard``, other requests may follow at once: it is called with the answer, or with a BrokerError, before
        the next answer is read.
        """

    def ask_call(self, *command: Argument, then: Command = ()) -> None:
        """As ``ask``, for a command."""

    def answer(self) -> Any:
        """The answer to the oldest request."""

    def hear(self) -> None:
        """Read the answers of requests with ``heard``."""


@runtime_checkable
class Stepping(Wire, Protocol):
    """A wire that can send commands and a script as one step."""

    large: int
    """Bytes of an argument from which on a command of its own is quicker than a script, which copies it twice."""

    def ask_after(
        self, commands: Sequence[Laden], script: Script, keys: Sequence[str], arguments: Sequence[Argument]
    ) -> None:
        """As ``ask``, with commands that are done before the script, in the same step. Their answers are dropped, and
        the script should raise what they raise: as in every transaction, it is run even if one of them has failed.
        """


@runtime_checkable
class Pollable(Protocol):
    """Something on which a process can wait together with others, by a descriptor: a wire to a server, for one."""

    def fileno(self) -> int:
        """A descriptor that can be read when there is an answer. Raises BrokerDown."""


@runtime_checkable
class Ear(Wire, Protocol):
    """A wire on whose answer a thread can wait together with a bell."""

    def answers_within(self, seconds: float, bell: int) -> bool:
        """Whether the answer comes before ``seconds`` are over, or the descriptor ``bell`` can be read.

        Raises BrokerDown.
        """
