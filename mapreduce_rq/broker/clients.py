"""Finds the server of a redis-py client that is not ours, such as RQ's, and makes a client of our own for it.

We take the address, the user and the TLS options, and no other settings (timeouts, retries, decoding). An option that
we do not know, and that could change which server we trust, is refused by its name.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator, Mapping
from typing import Any

import redis

from mapreduce_rq.broker.connection import TLS_OPTIONS, Endpoint, how_to_connect
from mapreduce_rq.broker.refusals import translate
from mapreduce_rq.errors import UsageError

_TLS_WORDS = {ssl.CERT_NONE: "none", ssl.CERT_OPTIONAL: "optional", ssl.CERT_REQUIRED: "required"}


def endpoint_of(client: Any) -> Endpoint:
    """The endpoint of a redis-py client. Raises UsageError for a client whose way to its server we cannot use."""
    pool = getattr(client, "connection_pool", None)
    if pool is None:
        raise UsageError(f"a {type(client).__name__} leads to no single server: a Redis Cluster cannot carry RQ either")
    options: dict[str, Any] = pool.connection_kwargs
    username, password = _credentials(options)
    endpoint: dict[str, Any] = {"db": int(options.get("db") or 0), "username": username, "password": password}
    if manager := getattr(pool, "sentinel_manager", None):
        sentinels = [each.connection_pool.connection_kwargs for each in manager.sentinels]
        endpoint |= {
            "sentinels": tuple(
                (str(each.get("host", "localhost")), int(each.get("port", 26379))) for each in sentinels
            ),
            "service": pool.service_name,
            "sentinel_password": _credentials(sentinels[0])[1],
        }
    elif "path" in options:
        endpoint["path"] = options["path"]
    else:
        endpoint |= {"host": str(options.get("host", "localhost")), "port": int(options.get("port", 6379))}
    if issubclass(pool.connection_class, redis.SSLConnection):
        if endpoint.get("sentinels"):
            raise UsageError("this connection goes through sentinels with TLS, which we cannot do: give a plain one")
        endpoint |= {"tls": True, "tls_options": _tls_options(options)}
    return Endpoint(**endpoint)


def client_of(endpoint: Endpoint) -> redis.Redis:
    """A client of redis-py with our own timeouts that retries nothing.

    Raises BrokerDown if no sentinel answers, UsageError for a cluster.
    """
    if endpoint.nodes:
        raise UsageError(f"{endpoint} is a cluster, which cannot carry RQ: give RQ a server of its own")
    kind, options = how_to_connect(endpoint)
    return redis.Redis(connection_pool=redis.ConnectionPool(connection_class=kind, **options))


@contextlib.contextmanager
def asking(endpoint: Endpoint) -> Iterator[None]:
    """Turn errors of redis-py in the block into ours. Raises BrokerError."""
    try:
        yield
    except (redis.RedisError, OSError) as error:
        raise translate(error, endpoint) from None


def _credentials(options: Mapping[str, Any]) -> tuple[str | None, str | None]:
    if provider := options.get("credential_provider"):
        found = provider.get_credentials()
        return (found[0], found[1]) if len(found) > 1 else (None, found[0])
    return options.get("username"), options.get("password")


def _tls_options(options: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    found = []
    for name, value in options.items():
        if not name.startswith("ssl_") or value is None or value is False or type(value) is object:
            if name == "ssl_check_hostname" and value is False:
                found.append((name, "false"))
            continue
        if name not in TLS_OPTIONS:
            raise UsageError(f"this connection is made with {name}, which we do not know: leave it out")
        if name == "ssl_check_hostname":
            found.append((name, "true"))
        elif name == "ssl_cert_reqs":
            found.append((name, _TLS_WORDS.get(value) or str(value).lower().removeprefix("cert_")))
        else:
            found.append((name, str(value)))
    return tuple(found)
