"""The machine: what it is, and what a process uses of it. Linux, from /proc."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from mapreduce_rq.runtime.server.embedded import EmbeddedServer
from mapreduce_rq.version import __version__

PACKAGES = ("redis", "hiredis", "msgspec", "numpy", "rq", "huey", "celery", "dramatiq", "distributed", "joblib", "ray")
_TICK = os.sysconf("SC_CLK_TCK")


def describe() -> dict[str, Any]:
    """The machine and the versions, for the head of a report."""
    model = next((line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "")
    memory = next((int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    versions = {name: metadata.version(name) for name in PACKAGES if installed(name)}
    return {
        "date": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
        "cpu": model or platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(memory / 2**20, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "mapreduce-rq": __version__,
        "commit": _commit(),
        "server": _server(),
        "versions": versions,
        "load": round(os.getloadavg()[0], 2),
    }


def installed(distribution: str) -> bool:
    """Whether a package is there to be measured."""
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True


def step_nanoseconds() -> float:
    """What a step of a plain loop takes just now: a virtual machine's speed changes with its neighbours."""
    started = time.perf_counter_ns()
    for k in range(300_000):
        _ = k * k
    return (time.perf_counter_ns() - started) / 300_000


def cpu_seconds(pid: int) -> float:
    """Processor time of a process so far, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def status_number(pid: int, name: str) -> int:
    """A number of /proc/PID/status: VmRSS, VmHWM (kilobytes), voluntary_ctxt_switches."""
    for line in _lines(f"/proc/{pid}/status"):
        if line.startswith(name + ":"):
            return int(line.split()[1])
    return 0


def _lines(path: str) -> list[str]:
    return Path(path).read_text(encoding="utf-8", errors="replace").splitlines()


def _commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip()


def _server() -> str:
    import redis  # after the version table, which works without it

    with EmbeddedServer.start() as server:
        server.wait_ready()
        with redis.Redis.from_url(server.url) as client:
            info = client.info("server")
    name = "Valkey" if "valkey_version" in info else "Redis"
    return f"{name} {info.get('valkey_version', info['redis_version'])}"
