"""What the shell offers after TAB: job ids of the queue, reducers. Errors are not shown: the user is still typing."""

from __future__ import annotations

import re

import typer

from mapreduce_rq.client.environment import DEFAULT_QUEUE
from mapreduce_rq.errors import MrqError

PLAIN = re.compile(r"[A-Za-z0-9_.-]+")
"""What a shell takes as one word: a text in Redis must not become a command on the user's command line."""
MAX_IDS = 200


def job_ids(context: typer.Context, incomplete: str) -> list[str]:
    """The newest jobs of the queue that the options before, or the environment, name."""
    from mapreduce_rq.broker.connection import parse_url  # redis takes 0.1 s, that only this completion needs
    from mapreduce_rq.broker.keys import Keys  # with it
    from mapreduce_rq.broker.redis_wire import RedisWire  # with it

    try:
        queue = context.params.get("queue") or DEFAULT_QUEUE
        wire = RedisWire(parse_url(context.params.get("url") or "").at(queue))
        wire.connect()
        found = wire.call("ZREVRANGE", Keys(queue).jobs, 0, MAX_IDS - 1)
        wire.close()
    except MrqError:
        return []
    ids = [raw.decode(errors="replace") for raw in found]
    return [job for job in ids if job.startswith(incomplete) and PLAIN.fullmatch(job)]


def reducers(incomplete: str) -> list[tuple[str, str]]:
    """The reducers for values of a user's function, with one line about each."""
    from mapreduce_rq.core.reducers.catalogue import REDUCERS  # 20 ms, that only this completion needs

    return [
        (name, summary) for name, (_, summary) in REDUCERS.items() if name != "series" and name.startswith(incomplete)
    ]
