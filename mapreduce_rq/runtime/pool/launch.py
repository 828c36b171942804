"""Local workers for this process: a pool in a process of its own, which ends when this process ends or is killed.

It is forked if that is safe, which takes a few milliseconds. If this process already has threads, a new interpreter is
started instead, because a fork would copy the locks of these threads, held or not.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from typing import Any

from msgspec.structs import asdict

from mapreduce_rq import version
from mapreduce_rq.broker.connection import Endpoint
from mapreduce_rq.core.sealing import Keyring
from mapreduce_rq.errors import ServerFailed
from mapreduce_rq.functions.trust import Trust
from mapreduce_rq.pipes.lines import PipeEnd
from mapreduce_rq.runtime.log import start_log
from mapreduce_rq.runtime.pool.kernel import die_with_parent
from mapreduce_rq.runtime.pool.settings import PoolSettings
from mapreduce_rq.runtime.pool.signals import SIGNALS
from mapreduce_rq.runtime.pool.supervisor import Pool
from mapreduce_rq.runtime.pool.way import WayTo
from mapreduce_rq.runtime.server.embedded import EmbeddedServer

DRAIN_SECONDS = 3.0
STOP_SECONDS = 2.0
"""Seconds that closing a client, or leaving the interpreter, waits for workers: a task may take an hour."""
LOG_FORM = "mrq: %(message)s"
BEGIN = """import sys
sys.path.append(sys.argv[1])
from mapreduce_rq.runtime.pool.launch import main
from {} import {} as way
sys.exit(main(way))"""
"""The program of a spawned pool. With ``-m`` Python would look for its own modules in the current folder first."""


class LocalPool:
    """A pool process owned by this one.

    ``server``: a private server that is still starting. A forked pool starts its workers when the server is there: a
    worker that cannot connect pauses for longer than a server takes to start.
    """

    def __init__(self, settings: PoolSettings, way: WayTo, server: EmbeddedServer | None = None) -> None:
        # A signal that comes before the handlers are installed waits. (Shells have background jobs ignore QUIT.)
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            self.pid = _spawn(settings, way) if threading.active_count() > 1 else _fork(settings, way, server)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        self._owner = os.getpid()
        self._code: int | None = None

    def stop(self) -> None:
        """End the pool at once: for workers of a private server, which ends, too. A second call, or one in a fork, does
        nothing.
        """
        self._end((signal.SIGQUIT, STOP_SECONDS))

    def drain(self) -> None:
        """Let its workers finish the task in hand and give the rest back. A worker that takes long gives back all."""
        self._end((signal.SIGTERM, DRAIN_SECONDS), (signal.SIGTERM, STOP_SECONDS), (signal.SIGQUIT, STOP_SECONDS))

    def leave(self) -> None:
        """Tell its workers to finish the task in hand, give the rest back and leave; ``ended`` shows when they have."""
        with contextlib.suppress(ProcessLookupError):
            if self.pid and os.getpid() == self._owner:
                os.kill(self.pid, signal.SIGTERM)

    def ended(self) -> int | None:
        """The exit code of a pool that has ended; below 0 it is the signal that killed the pool. None: it runs."""
        if self.pid and os.getpid() == self._owner:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.pid, self._code = 0, os.waitstatus_to_exitcode(status)
        return self._code

    def _end(self, *words: tuple[signal.Signals, float]) -> None:
        """Send it each signal, and wait the seconds after it. If it still runs then, kill it with its workers."""
        pid, self.pid = self.pid, 0
        if not pid or os.getpid() != self._owner:
            return
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            for number, seconds in words:
                os.kill(pid, number)
                if _ends(pid, seconds):
                    return
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _ends(pid: int, seconds: float) -> bool:
    """Whether a child ends within this time. Raises ChildProcessError if it has ended before."""
    deadline, pause = time.monotonic() + seconds, 0.0005
    if os.waitpid(pid, os.WNOHANG)[0]:
        return True
    _await_end(pid, seconds)
    while os.waitpid(pid, os.WNOHANG)[0] == 0:
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(pause, left))
        pause = min(2 * pause, 0.02)
    return True


def _await_end(pid: int, seconds: float) -> None:
    """Wait at most this time for a child's end, if the system can report it; otherwise return at once."""
    if sys.platform != "linux":
        return
    try:
        child = os.pidfd_open(pid)
    except OSError:  # an old kernel, or no descriptor is left
        return
    try:
        ends = select.poll()
        ends.register(child, select.POLLIN)
        ends.poll(seconds * 1000)
    finally:
        os.close(child)


def _fork(settings: PoolSettings, way: WayTo, server: EmbeddedServer | None) -> int:
    parent = os.getpid()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # the stream may be closed
            stream.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        start_log(LOG_FORM)
        _leave_standard_output()
        os.setpgid(0, 0)  # the terminal's Ctrl-C is for our parent, which then sends us a signal
        _end_with(parent, settings)
        if server is not None:
            with contextlib.suppress(ServerFailed):  # our parent reports it
                server.wait_ready()
        code = Pool(settings, way).run()
    finally:
        os._exit(code)


def _spawn(settings: PoolSettings, way: WayTo) -> int:
    program = BEGIN.format(way.__module__, way.__name__)
    home = os.path.dirname(os.path.dirname(version.__file__))
    child = subprocess.Popen(
        [sys.executable, "-P", "-c", program, home, str(os.getpid())],
        stdin=subprocess.PIPE,
        process_group=0,
        pass_fds=[settings.endpoint.descriptor] if isinstance(settings.endpoint, PipeEnd) else [],
    )
    assert child.stdin is not None
    with child.stdin:
        child.stdin.write(_dump(settings))  # not in argv: it has passwords and keys
    child.returncode = 0  # we wait for it by its pid
    return child.pid


def _end_with(parent: int, settings: PoolSettings) -> None:
    """Have the pool end when our process does. Over pipes it sees the end itself, and has a shelf to remove first."""
    if not isinstance(settings.endpoint, PipeEnd):
        die_with_parent(parent)


def _leave_standard_output() -> None:
    """Let the output of functions go to standard error: standard output is our parent's, for its result."""
    with contextlib.suppress(OSError):  # one of them may be closed
        os.dup2(2, 1)


def _dump(settings: PoolSettings) -> bytes:
    keys = [base64.b64encode(key).decode() for key in settings.keyring.secrets()]
    plain = asdict(settings) | {
        "endpoint": asdict(settings.endpoint),
        "keyring": keys,
        "trust": asdict(settings.trust),
    }
    processes: Any = sys.modules.get("multiprocessing.process")
    known = base64.b64encode(processes.current_process().authkey).decode() if processes is not None else ""
    return json.dumps([plain, sys.path, known]).encode()


def main(way: WayTo) -> int:
    """The program of a spawned pool: its settings come on standard input."""
    plain, path, known = json.load(sys.stdin)
    sys.path[:] = path
    if known:  # a manager of multiprocessing talks to processes that know its key, as those that it begins do
        from multiprocessing.process import current_process

        current_process().authkey = base64.b64decode(known)
    start_log(LOG_FORM)
    _leave_standard_output()
    plain["trust"] = Trust(**plain["trust"] | {"allow": tuple(plain["trust"]["allow"])})
    keyring = Keyring(base64.b64decode(key) for key in plain["keyring"])
    settings = PoolSettings(**plain | {"endpoint": _endpoint(plain["endpoint"]), "keyring": keyring})
    _end_with(int(sys.argv[2]), settings)
    return Pool(settings, way).run()


def _endpoint(plain: dict[str, Any]) -> Endpoint | PipeEnd:
    if "descriptor" in plain:
        return PipeEnd(**plain)
    for name in ("tls_options", "sentinels", "nodes"):
        plain[name] = tuple(tuple(item) for item in plain[name])
    return Endpoint(**plain)
