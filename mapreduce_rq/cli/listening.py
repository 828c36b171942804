"""The address and the socket of a command that serves HTTP."""

from __future__ import annotations

import os
import socket

from mapreduce_rq.errors import BadParameter, CannotWrite


def address_in(option: str, text: str, example: str) -> tuple[str, int]:
    """The host and the port in ``PORT`` or ``HOST:PORT``; the host is '' if none is given. Raises BadParameter."""
    host, _, port = text.rpartition(":")
    if not port.isascii() or not port.isdigit() or len(port) > 5 or int(port) > 65_535:
        raise BadParameter(
            f"{option}: {text!r} is not a port such as {example}, or an address such as 127.0.0.1:{example}"
        )
    return host.removeprefix("[").removesuffix("]"), int(port)


def listen_at(option: str, text: str, host: str, port: int) -> socket.socket:
    """A listening socket; without a host, on all interfaces. ``text``: the user's text. Raises CannotWrite."""
    try:
        if host:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            return socket.create_server((host, port), family=family)
        both = socket.has_dualstack_ipv6()
        return socket.create_server(("", port), family=socket.AF_INET6 if both else socket.AF_INET, dualstack_ipv6=both)
    except OSError as error:
        # Python adds the address to the system's words; where a name cannot be resolved, these are not the system's.
        why = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise CannotWrite(f"{option}: cannot listen at {text}: {why}") from None


def port_of(listening: socket.socket) -> int:
    """The port of a socket; if 0 was asked for, the one that the system has chosen."""
    port: int = listening.getsockname()[1]
    return port
