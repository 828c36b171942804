"""The hub: the client's end of every worker's line, and the wire that its masters use.

The thread that has the *lead* waits for all lines and serves them. The docstring of the package ``pipes`` explains it.
It is the upper of two layers, and decides who serves and when; the lower one (serving.py) serves.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from mapreduce_rq.broker.wire import Argument, Command
from mapreduce_rq.errors import BrokerDown, ServerFailed, UsageError
from mapreduce_rq.pipes.idle import Idle
from mapreduce_rq.pipes.lead import Lead, Waiting, readable
from mapreduce_rq.pipes.lines import PipeEnd, a_line, frame
from mapreduce_rq.pipes.peer import Peer
from mapreduce_rq.pipes.serving import Serving
from mapreduce_rq.pipes.waiting import READ

DEPUTY_SECONDS = 0.005
"""Seconds after which a deputy looks again whether a thread serves."""
BEFORE_DEPUTY_SECONDS = 0.005
"""Seconds before a deputy is started: a job that ends sooner needs none, and starting a thread takes time."""
CLOSING_SECONDS = 0.0005
"""Seconds between two attempts of ``close`` to take the lead. Each attempt wakes the thread that has it."""
CLOSED = "this client is closed: make a new one"
AWAKE = object()
"""The data with which the descriptor is registered that wakes the lead. Those of bells are registered with their own
numbers.
"""


class Hub(Serving):
    """The store of one client, and its workers' lines. ``collect``: the mechanism to wait by.

    ``shelf``: the directory for large bodies, which do not go over the lines.
    """

    def __init__(self, collect: str, queue: str, shelf: str) -> None:
        super().__init__(collect, queue)
        self.shelf = shelf
        self.supervisor_end: socket.socket | None = None  # for the supervisor to inherit
        self._lead = Lead()  # wakes the thread that waits for the lines
        self._behind: dict[Waiting, None] = {}  # threads that wait while another has the lead
        self._bells: set[int] = set()  # registered
        self._served = 0  # the number of turns of serving
        self._busy_since = 0.0  # the time when a job began while no other was there
        self._deputy: threading.Thread | None = None
        self._deputy_leads = False
        self._closed = False
        self._owner = os.getpid()
        self._awake, self._waker = socket.socketpair()
        self._waker.setblocking(False)
        self._awake.setblocking(False)
        self._collector.register(self._awake.fileno(), READ, AWAKE)
        self.supervisor_end, ours = a_line()
        self._add(Peer(ours, supervisor=True))
        _hubs.add(self)

    # -- steps -----------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Raise ServerFailed if the workers are gone for good, UsageError in a fork of the client's process."""
        if self._over:
            kind = UsageError if not self.owned else BrokerDown if self._over is CLOSED else ServerFailed
            raise kind(self._over)

    def call(self, command: Command) -> Any:
        """One command, as a step."""
        if self._over:
            self.check()
        with self._lock:
            answer = self.store.call(command)
            self._feed()
        return answer

    def all(self, commands: Sequence[Command]) -> list[Any]:
        """Several commands in one step."""
        if self._over:
            self.check()
        with self._lock:
            answers = [self.store.call(command) for command in commands]
            self._feed()
        return answers

    def script(self, name: str, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        """A script, as a step."""
        if self._over:
            self.check()
        with self._lock:
            if not self.store.running:
                self._busy_since = time.monotonic()
            answer = self.store.script(name, keys, arguments)
            self._feed()
        if not self.store.running and self.store.lists:
            self._start_deputy()
        return answer

    # -- waiting ---------------------------------------------------------------------------------------------------

    def wait(self, ready: Callable[[], bool], seconds: float, bell: int = -1) -> bool:
        """Serve the lines until ``ready()``, or until the descriptor ``bell`` can be read, or for ``seconds``. Returns
        whether it is ready.

        With 0 seconds, only requests that have come by now are served.
        """
        if ready():
            return True
        token = object()
        try:
            try:
                return self._wait(token, ready, seconds, bell)
            finally:
                # While no worker has a task, there is nothing to serve, and the lead is left to the next that waits. If
                # that is long in coming, the deputy sees it.
                if self._lead.give_back(token) and (self.store.lists or self._deputy is None):
                    self._pass_on()
        finally:  # again: a signal handler may have raised between the two, or during the first
            self._lead.give_back(token)

    def _wait(self, token: object, ready: Callable[[], bool], seconds: float, bell: int) -> bool:
        deadline = time.monotonic() + seconds
        left = seconds
        once = seconds <= 0
        aside = False
        while True:
            if self._over:
                self.check()
            if not aside and self._lead.take(token):
                if self._over:  # perhaps since then
                    self.check()
                rung = self._serve(left, bell)
                aside = self._wake_ready() and not self.store.lists
            elif once:
                return False
            else:
                rung = self._wait_behind(ready, left, bell, aside=aside)
                aside = False
            if ready():
                return True
            now = time.monotonic()
            left = deadline - now
            if rung or once or left <= 0:
                return False
            if self._deputy is None and (aside or now - self._busy_since > BEFORE_DEPUTY_SECONDS):
                self._start_deputy()
            if aside:  # the thread that we have woken leads at its next wait: then none has to wake it
                self._lead.give_back(token)

    def forget_bell(self, bell: int) -> None:
        """Do not wait for this bell any more; it must not be closed before."""
        with self._lock:
            if not self._over:  # else no thread waits any more
                self._bells.discard(bell)
                self._collector.unregister(bell)

    def _wait_behind(self, ready: Callable[[], bool], seconds: float, bell: int, *, aside: bool) -> bool:
        """Wait while another thread has the lead or, ``aside``, while no worker has a task. Returns whether the bell
        rang.
        """
        me = Waiting(ready, bell)
        try:
            self._behind[me] = None
            if self._deputy_leads:
                self._wake_lead()
            if (aside or not self._lead.free()) and not ready():  # otherwise the lead was given back before it saw us
                me.wait(seconds)
        finally:
            self._behind.pop(me, None)
            me.close()
        return bell >= 0 and readable(bell)

    def _pass_on(self) -> None:
        """Wake a thread that waits, because the lead is free."""
        for other in list(self._behind)[:1]:
            other.wake()

    def _wake_ready(self) -> bool:
        """Wake the threads behind that are ready. Returns whether there was one."""
        found = [other for other in self._behind.copy() if other.ready()]
        for other in found:
            other.wake()
        return bool(found)

    def _serve(self, seconds: float, bell: int = -1) -> bool:
        """Wait for the lines and serve them, once; only the thread with the lead does this. Returns whether the bell
        rang.
        """
        if bell >= 0 and bell not in self._bells:  # it stays there: most masters wait many times
            self._collector.register(bell, READ, bell)
            self._bells.add(bell)
        seconds = min(seconds, self._until_next_expiry())
        ready = self._collector.wait(max(0.0, seconds))
        rung = False
        self._served += 1
        found: Any
        for found, events in ready:
            if found == bell:
                rung = True
            elif type(found) is int:  # another thread's, which waits for it elsewhere, or not at all
                self.forget_bell(found)
            elif found is AWAKE:
                with contextlib.suppress(BlockingIOError):
                    self._awake.recv(64)
            else:
                with self._lock:
                    self._attend(found, events)
        return rung

    def _until_next_expiry(self) -> float:
        """Tell idle workers whose time is over that no task came. Returns the seconds until the next time is over."""
        now = time.monotonic()
        if now >= self._idle.expiry:
            with self._lock:
                while (idler := self._idle.next_expired(now)) is not None:
                    self._send(idler.peer, frame(idler.channel, None))
        return self._idle.expiry - now

    def _wake_lead(self) -> None:
        with contextlib.suppress(OSError):
            self._waker.send(b"!")

    # -- the deputy ------------------------------------------------------------------------------------------------

    def _start_deputy(self) -> None:
        with self._lock:
            if self._deputy is None:
                self._deputy = threading.Thread(target=self._stand_in, name="mrq hub", daemon=True)
                self._deputy.start()

    def _stand_in(self) -> None:
        """Serve while there is work and no master does."""
        seen = -1
        token = object()  # the deputy's thread gets no signals
        while True:
            with self._lock:
                if not self._has_work():
                    self._deputy = None
                    return
            idle = self._behind and not self.store.lists
            if seen != self._served or idle or not self._lead.take(token):
                seen = self._served
                time.sleep(DEPUTY_SECONDS)
                continue
            try:
                self._deputy_leads = True
                while not self._behind and self._has_work():
                    self._serve(0.2)
                    self._wake_ready()
            finally:
                self._deputy_leads = False
                self._lead.give_back(token)
                self._pass_on()

    def _has_work(self) -> bool:
        """Whether a job runs, or workers have tasks of an ended job, which they may be told to drop."""
        return not self._over and bool(self.store.running or self.store.lists)

    # -- from the start to the end ---------------------------------------------------------------------------------

    @property
    def owned(self) -> bool:
        """Whether this process has made the hub; False in a fork."""
        return os.getpid() == self._owner

    @property
    def pipe_end(self) -> PipeEnd:
        """The line's end for the supervisor."""
        assert self.supervisor_end is not None
        return PipeEnd(self.supervisor_end.fileno())

    def started(self) -> None:
        """Close our copy of the supervisor's end, because the supervisor has it now."""
        if self.supervisor_end is not None:
            self.supervisor_end.close()
            self.supervisor_end = None

    def close(self) -> None:
        """Close all lines to workers, from any thread. A second call, or a call in a fork, does nothing."""
        if not self.owned or self._closed:
            return
        self._closed = True
        self._over = self._over or CLOSED
        self._wake_lead()
        for other in list(self._behind):
            other.wake()
        token = object()
        try:
            while not self._lead.take(token):  # the thread that has it sees that the hub is closed
                self._wake_lead()
                time.sleep(CLOSING_SECONDS)
            with self._lock:
                for peer in list(self._peers.values()):
                    self._hang_up(peer)
                self._collector.close()
                self._awake.close()
                self._waker.close()
        finally:
            self._lead.give_back(token)
        self.started()

    def disown(self) -> None:
        """In a forked child: close our copies of the lines, which belong to the parent."""
        self._over = "this process is a fork of the client's, and workers over pipes answer there: make a client here"
        if self.supervisor_end is not None:
            self.supervisor_end.detach()  # the supervisor's own, if this is it
            self.supervisor_end = None
        self._lock, self._lead = threading.Lock(), Lead()
        for peer in self._peers.values():
            peer.end.close()
        self._awake.close()
        self._waker.close()
        self._collector.close()
        self._peers, self._idle, self._behind = {}, Idle(), {}


_hubs: weakref.WeakSet[Hub] = weakref.WeakSet()


def _disown() -> None:
    for hub in list(_hubs):
        hub.disown()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disown)
