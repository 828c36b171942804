"""Keys of a queue that no process owns: tasks in the hands of unknown workers, replies to jobs that are over."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mapreduce_rq.broker.keys import Keys
from mapreduce_rq.broker.wire import Wire
from mapreduce_rq.core.job.record import State

SCAN_COUNT = 1000


@dataclass(frozen=True)
class Orphans:
    """The keys that were found."""

    hands: dict[str, int]  # worker id -> tasks in a list of a worker that is not registered
    streams: tuple[str, ...]  # job ids whose replies exist though the job does not run


def find_orphans(wire: Wire, keys: Keys) -> Orphans:
    """Search all keys of the queue. It scans the whole key space in steps, so it is for a check, not for a loop.

    Raises BrokerError.
    """
    hands = sorted(_suffixes(wire, keys.in_flight("")))
    jobs = sorted(_suffixes(wire, keys.replies("")))
    registered = {raw.decode(errors="replace") for raw in wire.call("HKEYS", keys.workers)}
    unknown = [wid for wid in hands if wid not in registered]
    lengths = wire.pipeline([("LLEN", keys.in_flight(wid)) for wid in unknown], refusals=True) if unknown else []
    states = wire.pipeline([("HGET", keys.job(job), "state") for job in jobs], refusals=True) if jobs else []
    return Orphans(
        hands={wid: length for wid, length in zip(unknown, lengths, strict=True) if isinstance(length, int) and length},
        streams=tuple(job for job, state in zip(jobs, states, strict=True) if state != State.RUNNING.encode()),
    )


def _suffixes(wire: Wire, prefix: str) -> Iterator[str]:
    """The rest of the name of each key that begins with the prefix."""
    cursor = b"0"
    seen: set[str] = set()
    while True:
        cursor, names = wire.call("SCAN", cursor, "MATCH", f"{_literal(prefix)}*", "COUNT", SCAN_COUNT)
        for name in names:
            suffix = name.decode(errors="replace").removeprefix(prefix)
            if suffix not in seen:
                seen.add(suffix)
                yield suffix
        if cursor == b"0":
            return


def _literal(text: str) -> str:
    """A glob pattern that matches only this text."""
    return "".join(f"\\{character}" if character in "*?[]^\\" else character for character in text)
