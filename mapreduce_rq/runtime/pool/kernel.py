"""The pool's calls to the operating system about processes."""

from __future__ import annotations

import os
import signal
import sys


def die_with_parent(parent: int) -> None:
    """Ask the kernel to kill this process when its parent dies (on Linux; elsewhere the caller must notice itself)."""
    if sys.platform == "linux":
        import ctypes  # takes 10 ms, and only this needs it

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(0)  # the parent died before the call above


def cpu_seconds(pid: int) -> float:
    """Processor seconds that a process has used, in user and kernel mode; below 0 if the system does not tell."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()  # after the name, which may have any character
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return -1.0


def rss(pid: int) -> int:
    """Resident bytes of a process; 0 if the system does not tell."""
    try:
        with open(f"/proc/{pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0
