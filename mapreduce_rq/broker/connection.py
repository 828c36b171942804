"""Endpoints and connections: URLs, passwords, TLS, Sentinel, Cluster. All connections are made here.

redis-py retries, pings and negotiates in different ways for different constructors, and a retried pop loses a task. So
all that could repeat or hide a command is switched off here; our own loops decide what to do after an error.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec
from msgspec.structs import replace

from mapreduce_rq.broker.secret_file import read_secret
from mapreduce_rq.errors import BadURL, BrokerDown

if TYPE_CHECKING:
    from redis.connection import AbstractConnection

CONNECT_SECONDS = 3.0
ANSWER_SECONDS = 10.0
"""Seconds that a socket waits for an answer: much more than the five seconds that a blocking command may wait."""
LOOK_SECONDS = 2.0
"""The same for processes that only look, again and again: somebody waits for what they see. Prometheus gives up after
10 s, and a person who presses a key in the dashboard sooner. They lose nothing by giving up: they look again.
"""
SEVERAL_SECONDS = 1.0
"""Of these, the most for one of several servers that are asked one after another."""
_CLUSTERS = {"redis+cluster": False, "rediss+cluster": True}
_SCHEMES = {"redis": False, "valkey": False, "rediss": True, "valkeys": True, "redis+sentinel": False} | _CLUSTERS
"""Whether a scheme means TLS."""
TLS_OPTIONS = {"ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname"}
_CERT_REQS = ("required", "optional", "none")
_YES = {"1": "true", "true": "true", "yes": "true", "0": "false", "false": "false", "no": "false"}
_OPTIONS_OF_OTHERS = {
    *("socket_timeout", "socket_connect_timeout", "socket_keepalive", "socket_read_size", "health_check_interval"),
    *("retry_on_timeout", "retry_on_error", "max_connections", "protocol", "decode_responses", "encoding"),
    *("encoding_errors", "client_name", "lib_name", "lib_version", "username", "password", "host", "port", "path"),
    *("virtual_host", "ssl_ca_path", "ssl_ca_data", "ssl_password", "ssl_min_version", "ssl_ciphers", "timeout"),
}
"""Options in URLs of other programs. A message names only these: any other word may be part of a password with a ?."""

LARGEST_DATABASE = (1 << 31) - 1
"""The largest number of a database that Redis reads."""


class Endpoint(msgspec.Struct, frozen=True):
    """One way to reach a server. ``str()`` is the URL without its password."""

    host: str = "localhost"
    port: int = 6379
    path: str = ""  # a unix socket; host and port are not used then
    db: int = 0
    username: str | None = None
    password: str | None = None
    tls: bool = False
    tls_options: tuple[tuple[str, str], ...] = ()
    sentinels: tuple[tuple[str, int], ...] = ()
    service: str = ""
    sentinel_password: str | None = None
    nodes: tuple[tuple[str, int], ...] = ()  # some nodes of a cluster: each knows which node has a queue's keys
    queue: str = ""  # in a cluster: the queue whose keys are meant
    within: float = 0.0  # seconds that a socket waits for an answer; 0: ANSWER_SECONDS

    def at(self, queue: str) -> Endpoint:
        """The endpoint for a queue's keys: in a cluster each queue is on one node, elsewhere all are on one server."""
        return replace(self, queue=queue) if self.nodes else self

    @property
    def answer_seconds(self) -> float:
        """Seconds that a socket waits for an answer."""
        return self.within or ANSWER_SECONDS

    @property
    def connect_seconds(self) -> float:
        """Seconds that a socket waits for a connection, and for a sentinel or a node that only names another server."""
        several = self.within and (self.sentinels or self.nodes)
        return min(CONNECT_SECONDS, SEVERAL_SECONDS if several else self.answer_seconds)

    @property
    def in_cluster(self) -> str:
        """The advice for a URL of a single server that is a node of a cluster."""
        place = f"redis{'s' if self.tls else ''}+cluster://{'HOST:PORT' if self.path else f'{self.host}:{self.port}'}"
        return f"{self} is a node of a cluster, where each queue is on one of the nodes: write {place}"

    def __repr__(self) -> str:
        return f"<Endpoint {self}>"  # a traceback would show the password

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("url", str(self))]  # as above: Rich would show each field

    def __str__(self) -> str:
        user = f"{self.username or ''}:***@" if self.password else ""
        tail = f"/{self.db}" if self.db else ""
        if self.path:
            return f"unix://{user}{self.path}{f'?db={self.db}' if self.db else ''}"
        if self.sentinels:
            hosts = ",".join(f"{host}:{port}" for host, port in self.sentinels)
            return f"redis+sentinel://{user}{hosts}/{self.service}{tail}"
        kind = "rediss" if self.tls else "redis"
        if self.nodes:
            return f"{kind}+cluster://{user}{','.join(f'{host}:{port}' for host, port in self.nodes)}{tail}"
        return f"{kind}://{user}{self.host}:{self.port}{tail}"


def parse_url(url: str) -> Endpoint:
    """The endpoint of a URL. Raises BadURL with one line that never shows a password.

    redis:// rediss:// valkey:// valkeys:// host[:port][/db], unix://[user:password@]/path[?db=N],
    redis+sentinel://host[:port][,host…]/service[/db], redis+cluster:// or rediss+cluster://host[:port][,host…].
    A password may come from MRQ_PASSWORD or the file named by MRQ_PASSWORD_FILE instead, which keeps it out of the
    process list.
    """
    scheme, separator, rest = url.strip().partition("://")
    if not separator or not scheme.replace("+", "").isalnum():
        raise BadURL(
            "the URL cannot be read: write redis://host:6379/0, rediss://…, unix:///path, "
            "redis+sentinel://host:26379/service or redis+cluster://host:6379"
        )
    if scheme not in _SCHEMES and scheme != "unix":
        raise BadURL(f"unknown URL scheme {scheme}://: use {', '.join(_SCHEMES)} or unix")
    try:
        netloc = re.split("[/?#]", rest, maxsplit=1)[0]  # urlsplit reads only one host, and there may be several
        parts = urlsplit(f"x://{rest[len(netloc) :]}")
        options = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
        credentials, at, hosts = netloc.rpartition("@")
        username, _, password = credentials.partition(":") if at else ("", "", "")
        endpoint = Endpoint(
            username=unquote(username) or None,
            password=unquote(password) or _password(),
            db=int(options.pop("db", "0")),
        )
        if scheme == "unix":
            if hosts or not parts.path:
                raise BadURL("the unix URL cannot be read: write unix:///path/to/socket (three slashes)")
            endpoint = replace(endpoint, path=unquote(parts.path))
        elif scheme == "redis+sentinel":
            service, _, db = parts.path.strip("/").partition("/")
            if not service:
                raise BadURL("the sentinel URL names no service: write redis+sentinel://host:26379/service")
            addresses = tuple(_address(host, 26379) for host in hosts.split(","))
            endpoint = replace(endpoint, sentinels=addresses, service=service, db=int(db or endpoint.db))
        elif scheme in _CLUSTERS:
            nodes = tuple(_address(host, 6379) for host in hosts.split(","))
            db = parts.path.strip("/")
            endpoint = replace(endpoint, nodes=nodes, db=int(db or endpoint.db), tls=_SCHEMES[scheme])
        else:
            host, port = _address(hosts, 6379)
            db = parts.path.strip("/")
            endpoint = replace(endpoint, host=host, port=port, db=int(db or endpoint.db), tls=_SCHEMES[scheme])
        if not 0 <= endpoint.db <= LARGEST_DATABASE:
            raise ValueError
        endpoint = replace(endpoint, sentinel_password=options.pop("sentinel_password", None))
        tls = {name: options.pop(name) for name in list(options) if name in TLS_OPTIONS}
        if options:
            known = ", ".join(["db", "sentinel_password", *sorted(TLS_OPTIONS)])
            other = min(options.keys() & _OPTIONS_OF_OTHERS, default="")
            what = f"{other} is not an option of mrq" if other else "there is an unknown option"
            raise BadURL(f"{what} in the URL: leave it out; options are {known} (a ? in a password is %3F)")
        if tls and not endpoint.tls:
            raise BadURL(f"{min(tls)} in the URL needs TLS: write rediss://, valkeys:// or rediss+cluster://")
        tls = {name: _tls_value(name, value) for name, value in tls.items()}
        if endpoint.tls and tls:
            _check_tls(tls)
    except ValueError:
        raise BadURL(f"cannot read the {scheme}:// URL: check its host, port (1 to 65535) and database") from None
    return replace(endpoint, tls_options=tuple(tls.items()))


def _tls_value(name: str, value: str) -> str:
    """The value as redis-py reads it: ``CERT_NONE`` and ``none`` are the same. Raises BadURL, without the value."""
    if name == "ssl_cert_reqs":
        word = value.lower().removeprefix("cert_")
        if word not in _CERT_REQS:
            raise BadURL(f"ssl_cert_reqs in the URL has an unknown value: write {', '.join(_CERT_REQS)}")
        return word
    if name == "ssl_check_hostname":
        if value.lower() not in _YES:
            raise BadURL("ssl_check_hostname in the URL has an unknown value: write true or false")
        return _YES[value.lower()]
    return value


def _check_tls(options: dict[str, str]) -> None:
    """Raise BadURL for files that cannot be used: the network is not at fault, and waiting would not help."""
    import ssl  # few URLs need it

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    name = "ssl_ca_certs"
    try:
        if name in options:
            context.load_verify_locations(options[name])
        name = "ssl_certfile"
        if name in options:
            context.load_cert_chain(options[name], options.get("ssl_keyfile"), password="")
    except ssl.SSLError:
        raise BadURL(f"{name} in the URL: the file, or its key's, must be PEM without a password, and is not") from None
    except OSError as error:
        raise BadURL(f"{name} in the URL: the file, or its key's, cannot be read: {error.strerror}") from None


def _address(text: str, port: int) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    found = parts.port if parts.port is not None else port
    if not 1 <= found <= 65535:
        raise ValueError(text)
    return parts.hostname or "localhost", found


def _password() -> str | None:
    if path := os.environ.get("MRQ_PASSWORD_FILE"):
        try:
            return read_secret(path).strip()
        except OSError as error:
            raise BadURL(f"cannot read MRQ_PASSWORD_FILE: {error.strerror}") from None
        except UnicodeDecodeError:
            raise BadURL("cannot read MRQ_PASSWORD_FILE: it is not text") from None
    return os.environ.get("MRQ_PASSWORD") or None


def connection(endpoint: Endpoint) -> AbstractConnection:
    """A connection object that is not connected yet: no retries, no pings, no negotiation, RESP2.

    It is for all endpoints but clusters. Raises BrokerDown if no sentinel knows the master.
    """
    kind, options = how_to_connect(endpoint)
    return kind(**options)


def how_to_connect(endpoint: Endpoint) -> tuple[type[AbstractConnection], dict[str, Any]]:
    """A connection's class and its arguments. Raises BrokerDown if no sentinel knows the master."""
    import redis  # takes 0.1 s, and a program that only reads a URL does not need it
    from redis.backoff import NoBackoff  # with it
    from redis.maint_notifications import MaintNotificationsConfig  # with it
    from redis.retry import Retry  # with it

    options: dict[str, Any] = {
        "db": endpoint.db,
        "username": endpoint.username,
        "password": endpoint.password,
        "socket_timeout": endpoint.answer_seconds,
        "socket_connect_timeout": endpoint.connect_seconds,
        "retry": Retry(NoBackoff(), 0),
        "health_check_interval": 0,
        "protocol": 2,
        "driver_info": None,
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    }
    if endpoint.path:
        return redis.UnixDomainSocketConnection, options | {"path": endpoint.path}
    host, port = _ask_sentinels(endpoint, options) if endpoint.sentinels else (endpoint.host, endpoint.port)
    options |= {"host": host, "port": port, "socket_keepalive": True}
    if endpoint.tls:
        tls: dict[str, Any] = dict(endpoint.tls_options)
        if "ssl_check_hostname" in tls:
            tls["ssl_check_hostname"] = tls["ssl_check_hostname"] == "true"
        return redis.SSLConnection, options | tls
    return redis.Connection, options


def _ask_sentinels(endpoint: Endpoint, options: dict[str, Any]) -> tuple[str, int]:
    """The address of the master, from the first sentinel that knows it."""
    import redis  # as above

    for host, port in endpoint.sentinels:
        asked = redis.Connection(
            host=host,
            port=port,
            **options
            | {
                "db": 0,
                "username": None,
                "password": endpoint.sentinel_password,
                "socket_timeout": endpoint.connect_seconds,
            },
        )
        try:
            asked.connect()
            asked.send_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", endpoint.service)
            found = asked.read_response()
        except (redis.RedisError, OSError):
            continue
        finally:
            asked.disconnect()
        if found:
            return found[0].decode(), int(found[1])
    raise BrokerDown(f"no sentinel of {endpoint} knows a master with the name {endpoint.service}")
