"""The names of workers: ``host:pid:secret``."""

from __future__ import annotations

import socket


def hostname() -> str:
    """This host's name, as it stands in worker ids."""
    return socket.gethostname().replace(":", "_")[:64] or "localhost"


def address_of(wid: str) -> str:
    """A worker's host and process, for people: ``host:pid``."""
    return wid.rpartition(":")[0]
