"""How long it takes until the first result: whole processes, one after another."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from benchmarks.machine import installed
from benchmarks.sampling import Figure, Group, Row, Settings, Table, say, timed
from mapreduce_rq.client.client import Client
from mapreduce_rq.runtime.server.embedded import EmbeddedServer

VERSION = Figure("version", "`mrq --version`, above bare Python", "s", 0.10, more_is_better=False)
COLD = Figure("cold", "the main job, cold, nothing running, whole process", "s", 0.50, more_is_better=False, drawn=True)
ATTACHED = Figure("attached", "the main job, cold, workers running, whole process", "s", 0.25, more_is_better=False)

BARE = [sys.executable, "-c", "pass"]
MAIN_JOB = ["compute", "exp", "--x", "2", "--terms", "50", "-q", "-o", "value"]
POOL = """
from benchmarks.work import exp_term
from multiprocessing import Pool
with Pool(2) as pool:
    print(sum(pool.map(exp_term, range(50))))
"""
DASK = """
from benchmarks.work import exp_term
from distributed import Client, LocalCluster
if __name__ == "__main__":
    with LocalCluster(2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        print(sum(client.gather(client.map(exp_term, range(50)))))
"""


def mrq() -> list[str]:
    """The command as this interpreter's users have it."""
    script = shutil.which("mrq", path=str(Path(sys.executable).parent))
    return [script] if script else [sys.executable, "-m", "mapreduce_rq"]


def run(command: list[str], **environment: str) -> float:
    """Seconds of a whole process, which must end well."""
    here = str(Path(__file__).resolve().parent.parent)
    paths = os.pathsep.join([here, str(Path(here).parent), os.environ.get("PYTHONPATH", "")])
    env = os.environ | {"PYTHONPATH": paths} | environment
    env.pop("PYTHONDONTWRITEBYTECODE", None)  # nobody's command compiles its modules every time
    return timed(lambda: subprocess.run(command, env=env, check=True, capture_output=True))


def measure(settings: Settings) -> Iterable[Row]:
    """Interleaved, several times a round: starting is short and the machine is never quite still."""
    table = Table()
    turns = settings.rounds if settings.quick else 4 * settings.rounds
    say(f"  {turns} rounds")
    run([*mrq(), *MAIN_JOB])
    for _ in range(turns):
        bare = run(BARE)
        if settings.wants(VERSION.name):
            table.add(VERSION.name, "mrq --version", run([*mrq(), "--version"]) - bare, ours=True)
            table.add(VERSION.name, "python -c pass, itself", bare)
        if settings.wants(COLD.name):
            table.add(COLD.name, "mrq compute exp", run([*mrq(), *MAIN_JOB]), ours=True)
            table.add(COLD.name, "multiprocessing.Pool", run([sys.executable, "-c", POOL]))
    if settings.wants(COLD.name) and settings.peers and not settings.quick and installed("distributed"):
        for _ in range(settings.rounds):
            table.add(COLD.name, "Dask LocalCluster", run([sys.executable, "-c", DASK]))
    if settings.wants(ATTACHED.name):
        with EmbeddedServer.start() as server:
            server.wait_ready()
            with Client(server.url, local=settings.workers) as client:
                client.submit("exp", x="2", terms=50).result()
                for _ in range(turns):
                    found = run([*mrq(), *MAIN_JOB], MRQ_URL=server.url)
                    table.add(ATTACHED.name, "mrq compute exp", found, ours=True)
    return table.rows.values()


GROUP = Group((VERSION, COLD, ATTACHED), measure)
