"""`scripts/fleet`: how soon work goes on after a master's death, and what a cluster costs. --quick: within a minute.

takeover    kill -9 of the `mrq master` that leads a job, until another one leads it, and until that one has written
            down that it has counted more, as masters do once a second; twenty times
horse       kill -9 of the horse that leads a map-reduce on two stock rq workers, until it goes on elsewhere
cluster     messages/s of a job whose queue is on one of three shards, in turns with a server that is alone
"""

# ruff: noqa: T201  # a command prints

from __future__ import annotations

import argparse
import os
import signal
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from mapreduce_rq import Client, Limits
from tests.support.clusters import RealCluster
from tests.support.commands import KEY, Running, environment
from tests.support.rq_fleet import RQFleet
from tests.support.servers import RealServer, find_server
from tests.support.stage import until

ENDLESS = 1_000_000
"""Terms of 0.1 s."""
ENV = environment({"MRQ_KEY": KEY})


def takeover(runs: int) -> tuple[list[float], list[float]]:
    """Seconds until another process leads one job, and until more is counted, of each takeover.

    The next process to lead waits beside the one that is killed.
    """
    led, seen = [], []
    with tempfile.TemporaryDirectory() as folder, RealServer("valkey") as server, ExitStack() as stack:
        env = ENV | {"MRQ_TEST_STAGE": folder}
        Path(folder, "seconds").write_text("0.1")
        stack.enter_context(Running("worker", "-q", "-c", "2", "-u", server.url, env=env))
        client = stack.enter_context(Client(server.url, keys=[KEY], local=0))
        job = client.submit_function_detached(
            "tests.support.terms:slow", range(ENDLESS), reduce="int_sum", limits=Limits(chunk=1)
        ).id

        def counted() -> int:
            return next(view.report.counted for view in client.snapshot().jobs if view.job == job)

        def leader() -> str:
            state = client.verbs.load(job)
            return state.master if state is not None else ""

        def master() -> Running:
            return stack.enter_context(Running("master", "-u", server.url, env=env))

        leads = master()
        until(leader, 30, "it is led")
        for _ in range(runs):
            waits = master()
            waits.hear("leading the jobs")
            before, who = counted(), leader()
            until(lambda: counted() > before, 30, "it goes well")  # noqa: B023  # called here
            died = time.monotonic()
            os.kill(leads.pid, signal.SIGKILL)
            before = counted()  # as the dead one has left it
            until(lambda: leader() not in {"", who}, 60, "another leads")  # noqa: B023
            led.append(time.monotonic() - died)
            until(lambda: counted() > before, 60, "it goes on")  # noqa: B023
            seen.append(time.monotonic() - died)
            print(f"  {led[-1]:.2f} s, {seen[-1]:.2f} s", flush=True)
            leads = waits
    return led, seen


def horse(runs: int) -> list[float]:
    """Seconds until another process leads and has counted more."""
    found = []
    for _ in range(runs):
        with ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            server = stack.enter_context(RealServer("valkey", tcp=True))
            fleet = stack.enter_context(RQFleet(server, Path(folder)))
            fleet.stage.write("seconds", "0.1")
            found.append(_killed_horse(fleet))
            print(f"  {found[-1]:.2f} s", flush=True)
    return found


def _killed_horse(fleet: RQFleet) -> float:
    workers = {worker.name: worker for worker in (fleet.worker(), fleet.worker())}
    job = fleet.map_reduce("slow", range(ENDLESS))
    ours = fleet.ours(job)
    until(lambda: len({pid for pid, _ in fleet.stage.runs()}) == 2, 60, "both take part")
    until(lambda: fleet.counted(ours) > 5, 60, "it goes well")
    state = fleet.state(ours)
    assert state is not None
    leads = workers[fleet.connection.hget(job.key, "worker_name").decode()]
    died = time.monotonic()
    os.kill(leads.horse(), signal.SIGKILL)
    before = fleet.counted(ours)

    def goes_on() -> bool:
        now = fleet.state(ours)
        return now is not None and now.master not in {"", state.master} and fleet.counted(ours) > before

    until(goes_on, 60, f"another leads: {fleet.logs()}")
    return time.monotonic() - died


def cluster(runs: int, messages: int) -> dict[str, list[float]]:
    """Messages a second of each server, in turns. Each term is one message, over TCP."""
    flavour = "redis" if find_server("redis") else "valkey"
    found: dict[str, list[float]] = {"alone": [], "cluster": []}
    with ExitStack() as stack:
        server = stack.enter_context(RealServer(flavour, tcp=True))
        shards = stack.enter_context(RealCluster(flavour))
        clients = {}
        for name, url in (("alone", server.tcp_url), ("cluster", shards.url)):
            stack.enter_context(Running("worker", "-q", "-c", "2", "-u", url, env=ENV))
            clients[name] = stack.enter_context(Client(url, keys=[KEY], local=0))
            clients[name].map_reduce(abs, range(100), wait_workers=60.0)
        for _ in range(runs):
            for name, client in clients.items():
                began = time.monotonic()
                client.map_reduce(abs, range(messages), limits=Limits(chunk=1))
                found[name].append(messages / (time.monotonic() - began))
    return found


def told(samples: Sequence[float], unit: str) -> str:
    """Samples in words."""
    digits = 2 if max(samples) < 1000 else 0
    middle, least, most = (f"{one:,.{digits}f}" for one in (statistics.median(samples), min(samples), max(samples)))
    return f"median {middle} {unit}, {least} to {most}, of {len(samples)}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/fleet", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one death each, and few messages")
    parser.add_argument("--only", nargs="+", choices=FIGURES, default=list(FIGURES), help="these figures")
    options = parser.parse_args()
    for name in options.only:
        print(f"{name}:", flush=True)
        FIGURES[name](options.quick)


def _tell_takeover(*, quick: bool) -> None:
    led, seen = takeover(1 if quick else 20)
    print(f"takeover: {told(led, 's')}")
    print(f"more is counted: {told(seen, 's')}")


def _tell_cluster(*, quick: bool) -> None:
    found = cluster(1 if quick else 5, 2_000 if quick else 100_000)
    for name, samples in found.items():
        print(f"{name}: {told(samples, 'messages/s')}")
    ratio = statistics.median(found["cluster"]) / statistics.median(found["alone"])
    print(f"a cluster reaches {100 * ratio:.0f} % of a server that is alone")


FIGURES: dict[str, Callable[[bool], Any]] = {
    "takeover": lambda quick: _tell_takeover(quick=quick),
    "horse": lambda quick: print(f"horse: {told(horse(1 if quick else 5), 's')}"),
    "cluster": lambda quick: _tell_cluster(quick=quick),
}

if __name__ == "__main__":
    main()
