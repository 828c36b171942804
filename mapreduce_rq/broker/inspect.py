"""Finds out which server this is, and whether it can be used: once, before anything is queued.

`mrq doctor` prints what `ServerInfo.warning` says.
"""

from __future__ import annotations

from dataclasses import dataclass

from mapreduce_rq.broker.connection import Endpoint
from mapreduce_rq.broker.keys import Keys
from mapreduce_rq.broker.wire import REPLICA, Wire
from mapreduce_rq.errors import BrokerDown, BrokerRefused, ForeignKey, NoPermission, ReadOnly

OLDEST_REDIS = (7, 0)
"""It has script flags, and XADD NOMKSTREAM with exact MINID trims. All Valkey versions have them."""


@dataclass(frozen=True)
class ServerInfo:
    """The parts of INFO that we need. If the user may not call INFO, these are defaults, without an eviction policy."""

    product: str  # Redis | Valkey
    version: str
    role: str
    eviction_policy: str = ""  # '': not known, because this user may not ask
    maxmemory: int = 0  # bytes; 0: no limit
    used_memory: int = 0  # bytes
    aof: bool = False
    snapshots: bool = False  # RDB saves have been configured and done
    clients: int = 0
    clustered: bool = False  # it is a node of a cluster

    @property
    def told(self) -> bool:
        """Whether the server has told us about its memory and its disk."""
        return self.eviction_policy != ""

    @property
    def is_replica(self) -> bool:
        """Whether it is a copy of another server, and accepts no writes."""
        return self.role in {"slave", "replica"}

    @property
    def warning(self) -> str | None:
        """A warning that a user should read before a job runs on the server; None if nothing is wrong."""
        if not self.told:
            return None
        if self.eviction_policy != "noeviction" and self.maxmemory:
            return (
                f"this server evicts keys when full (maxmemory-policy {self.eviction_policy}) and may drop jobs: "
                "set `maxmemory-policy noeviction`"
            )
        if self.eviction_policy != "noeviction":
            return f"maxmemory-policy is {self.eviction_policy}: set it to noeviction before setting maxmemory"
        return None


UNTOLD = ServerInfo("a server", "of unknown version", "")


def inspect(wire: Wire) -> ServerInfo:
    """Ask the server. Raises BrokerRefused if it is too old, BrokerDown if it is loading.

    INFO is needed only for warnings: if this user may not call it, the answer to HELLO is enough.
    """
    try:
        return parse_info(wire.call("INFO"))
    except NoPermission:
        return greet(wire)


def greet(wire: Wire) -> ServerInfo:
    """The facts from HELLO; UNTOLD if this user may not even call HELLO. Raises as :func:`inspect`."""
    try:
        answer = wire.call("HELLO")
    except NoPermission:
        return UNTOLD
    words = [word.decode(errors="replace") if isinstance(word, bytes) else word for word in answer]
    found = dict(zip(words[::2], words[1::2], strict=True))
    product = "Valkey" if found.get("server") == "valkey" else "Redis"
    version = str(found.get("version", ""))
    _check_age(product, version)
    return ServerInfo(product, version, str(found.get("role", "")), clustered=found.get("mode") == "cluster")


def require_primary(info: ServerInfo, endpoint: Endpoint) -> None:
    """Raise BrokerRefused for a replica; ReadOnly if sentinels named it, because they will soon name another server."""
    if info.is_replica:
        raise (ReadOnly if endpoint.sentinels else BrokerRefused)(REPLICA.format(endpoint))


def require_kind(info: ServerInfo, endpoint: Endpoint) -> None:
    """Raise BrokerRefused if the URL is for a single server and this is a node of a cluster, or the other way round."""
    if info.clustered and not endpoint.nodes:
        raise BrokerRefused(endpoint.in_cluster)
    if endpoint.nodes and info is not UNTOLD and not info.clustered:
        kind = "rediss" if endpoint.tls else "redis"
        raise BrokerRefused(f"{endpoint} is in no cluster: write {kind}:// in the place of {kind}+cluster://")


def parse_info(raw: bytes) -> ServerInfo:
    """The facts in an answer to INFO. Raises as :func:`inspect`."""
    found = dict(line.split(":", 1) for line in raw.decode().splitlines() if ":" in line)
    if "redis_version" not in found:
        raise BrokerRefused("the server answers, but it is not a Redis: check host and port")
    product = "Valkey" if "valkey_version" in found else "Redis"
    version = found.get("valkey_version", found["redis_version"])
    _check_age(product, version)
    if found.get("loading") == "1":
        raise BrokerDown("the server is loading its data set")
    return ServerInfo(
        product=product,
        version=version,
        role=found.get("role", ""),
        eviction_policy=found.get("maxmemory_policy", "noeviction"),
        maxmemory=int(found.get("maxmemory", 0)),
        used_memory=int(found.get("used_memory", 0)),
        aof=found.get("aof_enabled") == "1",
        snapshots=int(found.get("rdb_last_save_time", 0)) > 0 and found.get("rdb_saves", "0") != "0",
        clients=int(found.get("connected_clients", 0)),
        clustered=found.get("cluster_enabled") == "1",
    )


def _check_age(product: str, version: str) -> None:
    if product == "Redis" and tuple(int(part) for part in version.split(".")[:2]) < OLDEST_REDIS:
        raise BrokerRefused(f"Redis {version} is too old: mrq needs Redis 7.0 or newer, or Valkey")


def check_types(wire: Wire, keys: Keys) -> None:
    """Raise ForeignKey if one of our keys has a type that we never write."""
    expected = keys.fixed()
    found = wire.pipeline([("TYPE", key) for key in expected])
    for (key, kind), answer in zip(expected.items(), found, strict=True):
        if answer.decode() not in (kind, "none"):
            raise ForeignKey(
                f"key {key} holds a {answer.decode()}, and mrq needs a {kind} there: "
                "another program uses the key; choose another --queue"
            )
