"""``scripts/chaos``: plays chaos scenarios on real processes and real servers, and says how they went."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterable
from statistics import median

from tests.chaos import (
    failover_scenarios,
    mixed_scenarios,
    network_scenarios,
    pipe_scenarios,
    process_scenarios,
    server_scenarios,
)
from tests.chaos.arena import KEY
from tests.chaos.conftest import HISTORY
from tests.chaos.cut_points import all_points as all_cut_points
from tests.chaos.cut_points import play as play_cut_point
from tests.chaos.failpoints import all_points as all_failpoints
from tests.chaos.failpoints import pairs
from tests.chaos.failpoints import play as play_failpoints
from tests.chaos.ground import TooSlow
from tests.chaos.history import History
from tests.chaos.scenarios import SCENARIOS, Scenario
from tests.support.servers import FLAVOURS, RealServer

FILLED = (
    process_scenarios, server_scenarios, failover_scenarios, network_scenarios, mixed_scenarios, pipe_scenarios,
)  # fmt: skip
assert all(FILLED)


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201  this is a program


def place_of(error: Exception) -> str:
    """The lines of the tests that led to it: an assertion here says nothing itself."""
    frames = traceback.extract_tb(error.__traceback__)[1:]
    return " > ".join(f"{os.path.basename(frame.filename)}:{frame.lineno}" for frame in frames)


def play_scenarios(chosen: Iterable[Scenario], times: int) -> int:
    """A line for each scenario: how often it was exact, how long it took, the median and the worst of each figure.

    How often it was not exact, or exact and too late.
    """
    failures = 0
    for scenario in chosen:
        if scenario.root and os.geteuid() != 0:
            say(f"{scenario.name:18} not played: it wants to be root")
            continue
        exact, late, seconds = 0, 0, 0.0
        measured: defaultdict[str, list[float]] = defaultdict(list)
        for _ in range(times):
            began = time.monotonic()
            try:
                figures = scenario.play()
            except TooSlow as error:
                figures = error.figures
                late += 1
                say(f"{scenario.name:18} too late: {error}")
            except Exception as error:
                figures = None
                say(f"{scenario.name:18} FAILED: {type(error).__name__}: {error} ({place_of(error)})")
            if figures is not None:
                exact += 1
                for name, value in figures.items():
                    measured[name].append(value)
            seconds += time.monotonic() - began
        failures += times - exact + late
        told = "; ".join(f"{name} {median(values):.2f} (worst {max(values):.2f})" for name, values in measured.items())
        tardy = f" ({late} too late)" if late else ""
        say(f"{scenario.name:18} {exact}/{times} exact{tardy}, {seconds / times:5.1f} s each; {told}")
    return failures


def play_many(what: str, plays: Iterable[tuple[str, Callable[[RealServer], int]]], flavour: str) -> int:
    """Play one after the other on one server, then check its history. A play gives how many faults happened in it."""
    failures = count = happened = 0
    began = time.monotonic()
    with RealServer(flavour, **HISTORY) as server:
        for name, play in plays:
            count += 1
            try:
                happened += play(server)
            except Exception as error:
                failures += 1
                say(f"FAILED {name}: {type(error).__name__}: {error}")
            if count % 500 == 0:
                say(f"{count} {what} played, {failures} failed, {time.monotonic() - began:.0f} s")
        found = History((KEY,)).check(server.directory / "appendonlydir", say)
    say(f"{count} {what} on {flavour}: {happened} happened, {failures} failed, {time.monotonic() - began:.0f} s")
    say(f"the server's history holds: {found}")
    return failures


def share(text: str) -> slice:
    """What ``I/N`` takes of a list: every N-th, from the I-th on."""
    number, _, count = text.partition("/")
    if not 1 <= int(number) <= int(count):
        raise ValueError(text)
    return slice(int(number) - 1, None, int(count))


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="scenarios to play (all of them if none is named)")
    parser.add_argument("--list", action="store_true", help="say which there are")
    parser.add_argument("--short", action="store_true", help="only those that CI plays")
    parser.add_argument("--times", type=int, default=1, metavar="N", help="play each so often")
    parser.add_argument("--cut-points", metavar="all|K", help="instead: cut at every byte, or at every K-th")
    parser.add_argument("--failpoints", action="store_true", help="instead: every failpoint alone")
    parser.add_argument("--pairs", type=int, metavar="N", help="instead: N pairs of failpoints")
    parser.add_argument("--seed", type=int, default=0, help="of the pairs")
    parser.add_argument("--share", type=share, default="1/1", metavar="I/N", help="play only every N-th, from I on")
    parser.add_argument("--flavour", choices=FLAVOURS, default="valkey", help="server for points and pairs")
    asked = parser.parse_args()
    logging.disable(logging.CRITICAL)
    if asked.list:
        for each in SCENARIOS.values():
            say(f"{each.name:18} {'ci  ' if each.short else '    '} {each.about}")
        return 0
    if asked.cut_points:
        step = 1 if asked.cut_points == "all" else int(asked.cut_points)
        with RealServer(asked.flavour) as server:
            points = list(all_cut_points(server))[::step][asked.share]
        plays = [(str(point), lambda server, point=point: play_cut_point(server, point)) for point in points]
        return bool(play_many("cut points", plays, asked.flavour))
    if asked.failpoints or asked.pairs:
        groups = list(pairs(asked.pairs, asked.seed)) if asked.pairs else [(point,) for point in all_failpoints()]
        what = "pairs of failpoints" if asked.pairs else "failpoints"
        named = [
            (" and ".join(map(str, group)), lambda server, group=group: len(play_failpoints(server, *group)))
            for group in groups[asked.share]
        ]
        return bool(play_many(what, named, asked.flavour))
    unknown = [name for name in asked.names if name not in SCENARIOS]
    if unknown:
        say(f"there is no scenario {unknown[0]}: see scripts/chaos --list")
        return 2
    chosen = [SCENARIOS[name] for name in asked.names] or list(SCENARIOS.values())
    return bool(play_scenarios([each for each in chosen if each.short or not asked.short], asked.times))


if __name__ == "__main__":
    sys.exit(main())
