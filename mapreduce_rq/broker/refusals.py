"""What the errors of Redis, of redis-py and of sockets are called here. No other module reads their texts."""

from __future__ import annotations

import ssl

import redis

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


def translate(error: BaseException, endpoint: Endpoint) -> BrokerError:
    """Our error for an error of redis-py or of the socket."""
    text = str(error)
    if isinstance(error, redis.exceptions.NoPermissionError) or text.startswith("NOPERM"):
        who = f"user {endpoint.username}" if endpoint.username else "this user"
        return NoPermission(f"{endpoint} does not let {who} use a command: {text.removeprefix('NOPERM ')}")
    if isinstance(error, _REFUSED_TYPES) or text.startswith(("NOAUTH", "WRONGPASS")):
        return BrokerRefused(f"{endpoint} refuses us: {text} (password in the URL, MRQ_PASSWORD or MRQ_PASSWORD_FILE)")
    if isinstance(error, _REPLICA_TYPES) or text.startswith(("READONLY", "MASTERDOWN")):
        return ReadOnly(REPLICA.format(endpoint))
    if isinstance(error, redis.exceptions.OutOfMemoryError) or "OOM " in text:
        return BrokerFull(f"{endpoint} is out of memory (maxmemory): free some memory, or raise maxmemory")
    if isinstance(error, redis.exceptions.AskError):  # or MovedError, which is one
        if endpoint.nodes:
            return BrokerDown(f"queue {endpoint.queue} of {endpoint} moves to another node")
        return BrokerRefused(endpoint.in_cluster)
    if isinstance(error, _TRANSIENT_TYPES) or text.startswith(TRANSIENT):
        return BrokerDown(f"{endpoint} is not ready: {text}")
    if "WRONGTYPE" in text:
        return ForeignKey(f"a key under our prefix is not ours: {text}; `mrq doctor` names it")
    if isinstance(error, redis.exceptions.InvalidResponse) or "Protocol error" in text:
        return BrokerRefused(f"{endpoint} answers, but it is not a Redis: check host and port")
    if isinstance(error, redis.TimeoutError | TimeoutError):
        hint = ": does this port speak TLS?" if endpoint.tls else ""
        return BrokerDown(f"{endpoint} does not answer in time{hint}")
    if isinstance(error, redis.ResponseError):
        return BrokerError(f"{endpoint} refused a command: {text}")
    cause = error.__context__ if isinstance(error, redis.ConnectionError) else error  # redis-py rewords the system's
    if isinstance(cause, ssl.SSLCertVerificationError):
        return BrokerRefused(
            f"{endpoint} shows a certificate that we do not trust: {cause.verify_message} "
            "(?ssl_ca_certs=FILE in the URL names the certificate authority)"
        )
    reason = cause.strerror if isinstance(cause, OSError) and cause.strerror else text.rstrip(".")
    return BrokerDown(f"cannot reach {endpoint}: {reason}")
