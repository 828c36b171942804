"""The signals of a supervisor and its workers. supervisor.py says what each of them does."""

from __future__ import annotations

import signal

SIGNALS = {
    signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGCHLD, signal.SIGTTIN, signal.SIGTTOU, signal.SIGHUP,
    signal.SIGUSR1, signal.SIGUSR2,
}  # fmt: skip
HURRY = signal.SIGUSR1
"""The signal that tells a worker to give back all tasks at once. A second TERM is not enough: when two TERMs arrive
together, a process may see only one."""
STACKS = signal.SIGUSR2
"""The signal that has a worker write the Python stacks of its threads."""
