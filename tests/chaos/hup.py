"""`scripts/hup`: what it costs to replace all workers under load, again and again. --quick takes some ten seconds.

It prints the seconds of the same job without and with HUPs, and how often terms ran: more than once each would be a
task that was lost, or given back in the midst of it.
"""

from __future__ import annotations

import argparse
import signal
import tempfile
import time
from pathlib import Path

from tests.support.scene import Scene
from tests.support.servers import RealServer
from tests.support.stage import until

WORKERS = 4
PAUSE_SECONDS = 0.15


def measure(scene: Scene, terms: int, hups: int) -> str:
    fleet = scene.fleet(WORKERS)
    until(lambda: len(fleet.workers()) == WORKERS, 10, "workers")
    scene.stage.forget()
    scene.stage.write("seconds", "0.002")
    began = time.monotonic()
    leader = scene.leader("slow", terms, chunk=2)
    leader.hear("counted")
    for _ in range(hups):
        fleet.signal(signal.SIGHUP)
        time.sleep(PAUSE_SECONDS)
    scene.check(leader, terms)  # done, exact, and no term ran twice
    took = time.monotonic() - began
    fleet.signal(signal.SIGTERM)
    fleet.wait()
    runs = sum(scene.stage.count().values())
    return f"{hups} HUPs: {took:.2f} s, {terms} terms ran {runs} times, exact"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    terms, hups = (4000, 10) if parser.parse_args().quick else (40_000, 100)
    with RealServer("valkey") as server, tempfile.TemporaryDirectory() as folder:
        scene = Scene(server, "hup", Path(folder))
        with scene:
            for count in (0, hups):
                print(measure(scene, terms, count), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
