"""A TCP relay before a server: delays what goes through it, freezes connections without a word, refuses new ones."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import Self


class Relay:
    """Listens on a loopback ``port`` for clients of the server at ``target``. ``delay``: seconds, each way."""

    def __init__(self, target: int, *, delay: float = 0.0) -> None:
        self._target = target
        self._delay = delay
        self._lock = threading.Lock()
        self._pairs: list[tuple[socket.socket, socket.socket, threading.Event]] = []
        self._refuses = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def freeze(self) -> None:
        """Nothing goes through the connections that there are any more, in either direction, and nobody is told."""
        with self._lock:
            for _, _, frozen in self._pairs:
                frozen.set()

    def part(self) -> None:
        """As :meth:`freeze`, and new connections come to nothing either."""
        self._refuses = True
        self.freeze()

    def heal(self) -> None:
        """New connections go through. The frozen ones are dead."""
        self._refuses = False
        self._drop(frozen_only=True)

    def close(self) -> None:
        """End it and every connection through it."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._drop(frozen_only=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _drop(self, *, frozen_only: bool) -> None:
        with self._lock:
            dropped = [pair for pair in self._pairs if pair[2].is_set() or not frozen_only]
            self._pairs = [pair for pair in self._pairs if pair not in dropped]
        for client, server, frozen in dropped:
            frozen.set()
            for each in (client, server):
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
                each.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._refuses:
                client.close()
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                client.close()
                continue
            frozen = threading.Event()
            for each in (client, server):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._pairs.append((client, server, frozen))
            for source, aim in ((client, server), (server, client)):
                threading.Thread(target=self._pump, args=(source, aim, frozen), daemon=True).start()

    def _pump(self, source: socket.socket, aim: socket.socket, frozen: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if frozen.is_set():
                    return  # it is never heard of again
                if self._delay:
                    time.sleep(self._delay)
                aim.sendall(data)
        if not frozen.is_set():
            for each in (source, aim):
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
