"""Redis and Valkey Cluster: which node has a queue's keys, and which nodes there are.

All keys of a queue have its name as their hash tag, so they are in one slot, and a wire to a queue is a connection to
the node that has this slot. At every connect we ask for the owner of the slot: any node answers, or names the owner
(MOVED), and we go there. When the slot moves while the wire is open, its node says so, and the wire counts as broken:
after a failover the new node may lack the last writes, so the user of the wire must read its state again, as after any
lost connection.

While a slot is being moved, a command for one key that has gone already is sent to the new node (ASK). Both nodes
refuse a command for several keys until all of them are there (TRYAGAIN); it is tried again, as after any outage.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from mapreduce_rq.broker.connection import Endpoint, how_to_connect
from mapreduce_rq.broker.keys import Keys
from mapreduce_rq.broker.refusals import is_refusal
from mapreduce_rq.errors import BrokerDown

if TYPE_CHECKING:
    from redis.connection import AbstractConnection

Address = tuple[str, int]

SLOTS = 16384
MOST_MOVES = 8
"""The most redirections that one connect follows: after more of them, the nodes do not agree about the slots."""
NOWHERE = {"", "?"}
"""In the place of a host, it means the host of the node that was asked."""

_learned: dict[tuple[Address, ...], tuple[Address, ...]] = {}
"""For the nodes of a URL: all nodes of their cluster, as the node that was asked last knew them."""
_owners: dict[tuple[tuple[Address, ...], str], Address] = {}
"""For the nodes of a URL and a queue: the node that had the queue's keys last."""


@dataclass(frozen=True)
class Shard:
    """The first and the last of some slots, and the nodes that serve them: the primary first, then its replicas."""

    nodes: tuple[Address, ...]
    slots: tuple[tuple[int, int], ...]


def connect_to_owner(endpoint: Endpoint) -> AbstractConnection:
    """A connection to the node that has the keys of the endpoint's queue.

    Raises BrokerDown if nodes name one that does not answer; otherwise the first error of redis-py or the socket.
    """
    import redis  # takes 0.1 s, and few servers need it
    from redis.exceptions import AskError, MovedError  # with it

    key = Keys(endpoint.queue).queue
    known = _owners.get((endpoint.nodes, endpoint.queue))
    waiting = deque(dict.fromkeys([*([known] if known else ()), *endpoint.nodes, *_learned.get(endpoint.nodes, ())]))
    dead: dict[Address, Exception] = {}
    moves = 0
    while waiting:
        address = waiting.popleft()
        if address in dead:
            continue
        connection = connection_to(endpoint, address)
        try:
            connection.connect()
            _ask(endpoint, connection, "EXISTS", key)
        except MovedError as moved:
            connection.disconnect()
            owner = address_of(moved, address)
            moves += 1
            if owner in dead:
                raise BrokerDown(f"{name(owner)}, which has queue {endpoint.queue} of {endpoint}, is down") from None
            if moves <= MOST_MOVES:
                waiting.appendleft(owner)
            continue
        except AskError:  # it has the slot; the key has gone to the next owner already, or never existed
            pass
        except (redis.ConnectionError, redis.TimeoutError, OSError) as error:
            connection.disconnect()
            if isinstance(error, redis.AuthenticationError | redis.exceptions.AuthorizationError):
                raise
            dead[address] = error
            continue
        except redis.ResponseError as error:  # it loads its data, or its cluster is down
            connection.disconnect()
            if isinstance(error, redis.exceptions.NoPermissionError):
                raise
            dead[address] = error
            continue
        except BaseException:
            connection.disconnect()
            raise
        if moves or dead or endpoint.nodes not in _learned:
            _learn(endpoint, connection, address)
        _owners[endpoint.nodes, endpoint.queue] = address
        return connection
    if moves > MOST_MOVES:
        raise BrokerDown(f"the nodes of {endpoint} do not agree which of them has queue {endpoint.queue}")
    raise next(iter(dead.values()))


def connection_to(endpoint: Endpoint, address: Address) -> AbstractConnection:
    """A connection to one node, not connected yet."""
    kind, options = how_to_connect(node(endpoint, address))
    return kind(**options | {"socket_connect_timeout": endpoint.connect_seconds})


def node(endpoint: Endpoint, address: Address) -> Endpoint:
    """One node as a server of its own."""
    return replace(endpoint, host=address[0], port=address[1], nodes=(), queue="")


def name(address: Address) -> str:
    """A node's name in messages."""
    return f"node {address[0]}:{address[1]}"


def address_of(error: Any, asked: Address) -> Address:
    """The address to which the node ``asked`` sends us, from redis-py's AskError, or MovedError, a subclass."""
    return (asked[0] if error.host in NOWHERE else error.host), error.port


def shards(call: Callable[..., Any], asked: Address) -> list[Shard]:
    """The shards with slots in the cluster of the node ``asked``; ``call`` sends a command to that node."""
    found: dict[tuple[Address, ...], list[tuple[int, int]]] = {}
    for first, last, *nodes in call("CLUSTER", "SLOTS"):
        places = tuple(_place(one, asked) for one in nodes)
        found.setdefault(places, []).append((int(first), int(last)))
    return [Shard(nodes, tuple(slots)) for nodes, slots in found.items()]


def _place(told: list[Any], asked: Address) -> Address:
    host = told[0].decode() if told[0] else ""
    return (asked[0] if host in NOWHERE else host), int(told[1])


def _learn(endpoint: Endpoint, connection: AbstractConnection, address: Address) -> None:
    """Remember all nodes, because those in the URL may all be gone one day. A refusal of the node is ignored."""
    try:
        found = shards(lambda *command: _ask(endpoint, connection, *command), address)
    except Exception as error:
        if not is_refusal(error):
            raise
        return
    _learned[endpoint.nodes] = tuple(dict.fromkeys(place for shard in found for place in shard.nodes))


def _ask(endpoint: Endpoint, connection: AbstractConnection, *command: str) -> Any:
    connection.send_command(*command, check_health=False)
    return connection.read_response(timeout=endpoint.connect_seconds)


def slots_served(found: Iterator[Shard] | list[Shard]) -> int:
    """The number of the SLOTS that have a node."""
    return sum(last - first + 1 for shard in found for first, last in shard.slots)
