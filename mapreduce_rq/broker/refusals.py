"""Translates errors of Redis, of redis-py and of sockets into ours. No other module reads their texts.

A process whose connections are all over unix sockets does not import redis-py (see ``unix_link.py``), so this module
does not, either.
"""

from __future__ import annotations

import socket

from mapreduce_rq.broker.connection import Endpoint
from mapreduce_rq.broker.wire import REPLICA
from mapreduce_rq.errors import (
    BrokerDown,
    BrokerError,
    BrokerFull,
    BrokerRefused,
    ForeignKey,
    NoPermission,
    ReadOnly,
)

TRANSIENT = (*("LOADING", "UNBLOCKED", "NOREPLICAS", "TRYAGAIN", "CLUSTERDOWN", "BUSY", "MISCONF"),)
"""Refusals that pass after a while: the server starts, is busy, or cannot write to its disk."""


class Refusal(Exception):
    """A server has refused a command: its text, as it came. For unix sockets; redis-py has classes of its own."""


class NotRedis(Exception):
    """The bytes that came are not an answer of a Redis."""


_TRANSIENT = {"BusyLoadingError", "TryAgainError", "ClusterDownError"}
_REPLICA = {"ReadOnlyError", "MasterDownError"}
_REFUSED = {"AuthenticationError", "AuthorizationError"}
_OPEN_TO_ALL = "without any password configured"
_GIVEN_IN = "the URL, MRQ_PASSWORD or MRQ_PASSWORD_FILE"


def names_of(error: BaseException) -> set[str]:
    """The names of an error's classes in redis-py. Comparing names, we need not import redis-py."""
    return {kind.__name__ for kind in type(error).__mro__ if kind.__module__ == "redis.exceptions"}


def is_refusal(error: BaseException) -> bool:
    """Whether the server has answered, and refused a command: then the connection is as good as before."""
    return isinstance(error, Refusal) or "ResponseError" in names_of(error)


def is_unknown_script(error: BaseException) -> bool:
    """Whether the server does not know the script, so that its source must be sent."""
    return str(error).startswith("NOSCRIPT") or "NoScriptError" in names_of(error)


def is_of_server(error: BaseException) -> bool:
    """Whether a server, or the way to it, is at fault, and not our own program."""
    return isinstance(error, (Refusal, NotRedis, OSError)) or "RedisError" in names_of(error)


def is_loss(error: BaseException) -> bool:
    """Whether the other side has ended the connection, or sent bytes that are not an answer."""
    if isinstance(error, (NotRedis, OSError)):
        return not isinstance(error, TimeoutError)
    return bool(names_of(error) & {"ConnectionError", "InvalidResponse"})


def translate(error: BaseException, endpoint: Endpoint) -> BrokerError:
    """Our error for an error of redis-py, of a unix socket's connection or of the socket itself."""
    text, names = str(error), names_of(error)
    if "NoPermissionError" in names or text.startswith("NOPERM"):
        who = f"user {endpoint.username}" if endpoint.username else "this user"
        return NoPermission(f"{endpoint} does not let {who} use a command: {text.removeprefix('NOPERM ')}")
    if _OPEN_TO_ALL in text:
        return BrokerRefused(f"{endpoint} has no password, and one was given: take it out of {_GIVEN_IN}")
    if names & _REFUSED or text.startswith(("NOAUTH", "WRONGPASS")):
        why = text.removeprefix("WRONGPASS ").removeprefix("NOAUTH ").rstrip(".")
        return BrokerRefused(f"{endpoint} refuses us: {why} (the password comes from {_GIVEN_IN})")
    if names & _REPLICA or text.startswith(("READONLY", "MASTERDOWN")):
        return ReadOnly(REPLICA.format(endpoint))
    if "OutOfMemoryError" in names or "OOM " in text:
        return BrokerFull(f"{endpoint} is out of memory (maxmemory): free some memory, or raise maxmemory")
    if "AskError" in names:  # or MovedError, which is one
        if endpoint.nodes:
            return BrokerDown(f"queue {endpoint.queue} of {endpoint} moves to another node")
        return BrokerRefused(endpoint.in_cluster)
    if names & _TRANSIENT or text.startswith(TRANSIENT):
        return BrokerDown(f"{endpoint} is not ready: {text}")
    if "WRONGTYPE" in text:
        return ForeignKey(f"a key under our prefix is not ours: {text}; `mrq doctor` names it")
    if isinstance(error, NotRedis) or "InvalidResponse" in names or "Protocol error" in text:
        return BrokerRefused(f"{endpoint} answers, but it is not a Redis: check host and port")
    if isinstance(error, TimeoutError) or "TimeoutError" in names:
        hint = ": does this port speak TLS?" if endpoint.tls else ""
        return BrokerDown(f"{endpoint} does not answer in time{hint}")
    if endpoint.db and (why := _without_database(text, endpoint)):
        return BrokerRefused(why)
    if isinstance(error, Refusal) or "ResponseError" in names:
        return BrokerError(f"{endpoint} refused a command: {text.removeprefix('ERR ')}")
    cause = error.__context__ if "ConnectionError" in names else error  # redis-py changes the system's words
    if (verdict := getattr(cause, "verify_message", None)) is not None:  # an attribute of ssl.SSLCertVerificationError
        return BrokerRefused(
            f"{endpoint} shows a certificate that we do not trust: {verdict} "
            "(?ssl_ca_certs=FILE in the URL names the certificate authority)"
        )
    reason = cause.strerror if isinstance(cause, OSError) and cause.strerror else text.rstrip(".")
    return BrokerDown(f"cannot reach {endpoint}: {reason}{_remedy(cause)}")


def _without_database(text: str, endpoint: Endpoint) -> str:
    """Why a server does not choose the database that the URL names, and what helps; '' for other refusals."""
    if "SELECT is not allowed in cluster mode" in text:
        return endpoint.in_cluster
    if "DB index is out of range" in text:
        return (
            f"{endpoint} has no database {endpoint.db}: correct the number at the end of the URL (most servers have "
            "0 to 15), or raise `databases` in the server's configuration"
        )
    if "unknown command 'SELECT'" in text:
        return f"{endpoint} does not let us choose a database: leave out the number at the end of the URL"
    return ""


def _remedy(cause: object) -> str:
    """What helps if no server can be found at an address; '' for other causes."""
    if isinstance(cause, ConnectionRefusedError | FileNotFoundError):
        return " (no server listens there: start it, or correct the URL)"
    return " (correct the host in the URL)" if isinstance(cause, socket.gaierror) else ""
