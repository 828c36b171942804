"""What comes over the lines: each request is done on the store and answered, and a line's end is its worker's obituary.

It is the lower of the hub's two layers: it never waits, and it does not know which thread calls it. A caller holds the
hub's lock.
"""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

from mapreduce_rq.broker.keys import Keys
from mapreduce_rq.core.fleet.liveness import OBITUARY
from mapreduce_rq.errors import UsageError
from mapreduce_rq.pipes.idle import Idle, Idler
from mapreduce_rq.pipes.lines import BYE, CALL, JOIN, PIPELINE, READ_BYTES, SCRIPT, TRANSACTION, frame
from mapreduce_rq.pipes.peer import Peer
from mapreduce_rq.pipes.store import Store
from mapreduce_rq.pipes.waiting import COLLECTORS, READ, WRITE

HUNG_UP = "its line ended"
NO_SUPERVISOR = "the supervisor of the workers over pipes died, and the workers with it: run it again"


class Serving:
    """The store of one client, and its workers' lines. ``collect``: the mechanism to wait by."""

    def __init__(self, collect: str, queue: str) -> None:
        self.store = Store()
        self._workers = Keys(queue).workers
        self._lock = threading.Lock()  # a thread holds it for one step
        self._collector = COLLECTORS[collect]()
        self._peers: dict[int, Peer] = {}
        self._idle = Idle()
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._over = ""  # the reason why no request is possible any more

    def _feed(self) -> None:
        """Give waiting tasks to idle workers."""
        lists = self.store.lists
        while lists and (found := self._idle.next_of(lists)) is not None:
            queue, idler = found
            if idler.peer.end.fileno() >= 0:
                task = self.store.call(("BLMOVE", queue, idler.hand, "RIGHT", "LEFT", 0))
                self._send(idler.peer, frame(idler.channel, task))

    def _add(self, peer: Peer) -> None:
        self._collector.register(peer.end.fileno(), READ, peer)
        self._peers[peer.end.fileno()] = peer

    def _attend(self, peer: Peer, events: int) -> None:
        """Read all bytes that have come over a line, and send as many as it has room for."""
        try:
            if events & WRITE and peer.flush():
                self._collector.modify(peer.end.fileno(), READ, peer)
            if events & READ:
                self._read(peer)
        except OSError:
            self._hang_up(peer)
        except BaseException:  # a signal handler has raised, perhaps in the middle of a frame
            self._hang_up(peer)
            raise

    def _read(self, peer: Peer) -> None:
        frames = peer.read(self._buffer)
        if frames is None:
            self._hang_up(peer)
            return
        for channel, what, *rest in frames:
            self._do(peer, channel, what, rest)

    def _do(self, peer: Peer, channel: int, what: int, rest: list[Any]) -> None:
        store = self.store
        if what == SCRIPT:
            answer = store.script(*rest)
        elif what == CALL:
            command = rest[0]
            answer = store.call(command)
            if answer is None and command[0] == "BLMOVE":
                until = time.monotonic() + float(command[5])
                self._idle.add(command[1], Idler(peer, channel, command[2], until))
                return
        elif what in (PIPELINE, TRANSACTION):
            answer = [store.call(command) for command in rest[0]]
        elif what == JOIN:
            self._join(rest[0], peer.descriptors.popleft())
            return
        else:
            assert what == BYE
            self._idle.forget(peer, channel)
            return
        self._send(peer, frame(channel, answer))
        self._feed()

    def _join(self, wid: str, descriptor: int) -> None:
        newcomer = Peer(socket.socket(fileno=descriptor), supervisor=False, wid=wid)
        try:
            self._add(newcomer)
        except (UsageError, OSError) as error:
            newcomer.end.close()
            self._over = str(error)

    def _send(self, peer: Peer, data: bytes) -> None:
        if peer.send(data):
            self._collector.modify(peer.end.fileno(), READ | WRITE, peer)

    def _hang_up(self, peer: Peer) -> None:
        """Handle the end of a line. It is its worker's obituary, unless the supervisor has written a better one."""
        if peer.end.fileno() < 0:
            return
        self._collector.unregister(peer.end.fileno())
        del self._peers[peer.end.fileno()]
        peer.end.close()
        self._idle.forget(peer)
        if peer.supervisor:
            self._over = self._over or NO_SUPERVISOR
        workers = self.store.hashes.get(self._workers, {})
        wid = peer.wid.encode()
        if wid in workers and not workers[wid].startswith(OBITUARY):
            workers[wid] = OBITUARY + HUNG_UP.encode()
