"""A proxy before a server that cuts its client's connection after a given byte of what goes through it.

For one client that has one connection at a time and waits for each answer: so what is counted from ``arm`` on is one
request and its answer. One thread, one loop. At rest it passes on whatever comes.
"""

from __future__ import annotations

import selectors
import socket
import tempfile
import threading
from pathlib import Path
from typing import Literal, Self

Side = Literal["request", "answer"]


class Cutter:
    """Listens on ``socket`` for a client of the server at another unix socket."""

    def __init__(self, server: Path) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="mrq-test-")
        self.socket = str(Path(self._folder.name) / "s")
        self.cuts = 0
        """Connections cut so far."""
        self._server = str(server)
        self._lock = threading.Lock()
        self._cut: tuple[Side, int] | None = None
        self._passed: dict[Side, int] = {"request": 0, "answer": 0}
        self._peers: dict[socket.socket, socket.socket] = {}
        self._clients: set[socket.socket] = set()
        self._selector = selectors.DefaultSelector()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.socket)
        self._listener.listen()
        self._waker, self._awake = socket.socketpair()
        for each in (self._listener, self._awake):
            self._selector.register(each, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="cutter", daemon=True)
        self._thread.start()

    def arm(self, side: Side, after: int) -> None:
        """Cut the connection once so many more bytes of requests, or of answers, have gone through."""
        self.measure()
        with self._lock:
            self._cut = (side, after)

    def disarm(self) -> None:
        """Cut nothing."""
        with self._lock:
            self._cut = None

    def measure(self) -> None:
        """Count from here."""
        with self._lock:
            self._passed = {"request": 0, "answer": 0}

    def measured(self) -> dict[Side, int]:
        """Bytes that have gone through since."""
        with self._lock:
            return dict(self._passed)

    def close(self) -> None:
        """End it, and every connection through it."""
        self._waker.send(b"x")
        self._thread.join()
        for each in [*self._peers, self._listener, self._waker, self._awake]:
            each.close()
        self._selector.close()
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                source = key.fileobj
                assert isinstance(source, socket.socket)
                if source is self._awake:
                    return
                if source is self._listener:
                    self._accept()
                elif source in self._peers:  # not closed in this very round
                    self._pass_on(source)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        server = socket.socket(socket.AF_UNIX)
        try:
            server.connect(self._server)
        except OSError:
            client.close()
            server.close()
            return
        self._clients.add(client)
        self._peers |= {client: server, server: client}
        for each in (client, server):
            self._selector.register(each, selectors.EVENT_READ)

    def _pass_on(self, source: socket.socket) -> None:
        try:
            data = source.recv(1 << 20)
            if not data:
                self._hang_up(source)
                return
            side: Side = "request" if source in self._clients else "answer"
            with self._lock:
                room = self._cut[1] - self._passed[side] if self._cut is not None and self._cut[0] == side else None
                part = data[:room]
                self._passed[side] += len(part)
                cut = room is not None and len(data) >= room
                if cut:
                    self._cut = None
                    self.cuts += 1
            self._peers[source].sendall(part)
        except OSError:
            cut = True
        if cut:
            self._hang_up(source)

    def _hang_up(self, one: socket.socket) -> None:
        for each in (one, self._peers[one]):
            self._clients.discard(each)
            del self._peers[each]
            self._selector.unregister(each)
            each.close()
