#!/usr/bin/env python3
"""Measures how fast mrq is, and how fast others are, on this machine, in one run. Linux.

    scripts/bench.py                         everything: some thirty minutes with all peers (pip install .[bench])
    scripts/bench.py --quick                 a glance at every figure, within a minute
    scripts/bench.py --only messages lone    some figures; --list says which there are
    scripts/bench.py --only data             what people map over, beside Pool, joblib, Dask and Ray
    scripts/bench.py --json F --markdown F --picture F.svg

The table goes to standard output, what is going on to standard error. Needs a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

sys.path.insert(1, str(Path(__file__).resolve().parent.parent))  # the package of this checkout, installed or not

try:
    from benchmarks import ancestor, chunks, crowd, data, doors, faults, floor, hosted, machine, peers, starts
    from benchmarks.picture import picture
    from benchmarks.report import document, heading, markdown
    from benchmarks.sampling import Row, Settings, say
except ModuleNotFoundError as error:
    sys.exit(f"bench.py: no module {error.name} in this Python: pip install '.[bench]', and run it with that one")

GROUPS = (
    peers.GROUP,
    *chunks.GROUPS,
    data.GROUP,
    starts.GROUP,
    *crowd.GROUPS,
    *doors.GROUPS,
    *hosted.GROUPS,
    faults.GROUP,
    floor.GROUP,
    ancestor.GROUP,
)
FIGURES = {figure.name: figure for group in GROUPS for figure in group.figures}
TOGETHER = {group.name: group.figures for group in GROUPS if group.name}


def main() -> int:
    """Run the command line."""
    options = _options()
    if options.list:
        for name, figure in FIGURES.items():
            print(f"{name:14} {figure.title}, {figure.unit}")
        for name, together in TOGETHER.items():
            print(f"{name:14} all of {', '.join(figure.name for figure in together)}")
        return 0
    wanted = frozenset(options.only or FIGURES)
    wanted |= {figure.name for name in wanted & TOGETHER.keys() for figure in TOGETHER[name]}
    rounds = options.rounds or (1 if options.quick else 5)
    settings = Settings(quick=options.quick, rounds=rounds, peers=not options.no_peers, wanted=wanted)
    about = machine.describe()
    began = time.perf_counter()
    about["step_ns"] = [machine.step_nanoseconds()]
    rows: list[Row] = []
    for group in GROUPS:
        names = [figure.name for figure in group.figures if settings.wants(figure.name)]
        if names:
            say(f"{', '.join(names)}  ({time.perf_counter() - began:.0f} s)")
            rows += group.measure(settings)
            about["step_ns"].append(machine.step_nanoseconds())
    about["seconds"] = round(time.perf_counter() - began, 1)
    figures = [figure for figure in FIGURES.values() if settings.wants(figure.name)]
    table = markdown(about, figures, rows)
    print(table, end="")
    for path, text in (
        (options.json, json.dumps(document(about, figures, rows), indent=1) + "\n"),
        (options.markdown, table),
        (options.picture, picture(heading(about).partition(";")[0], figures, rows)),
    ):
        if path:
            Path(path).write_text(text, encoding="utf-8")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one short round, and no peers that are slow to start")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=[*FIGURES, *TOGETHER], help="these figures")
    parser.add_argument("--list", action="store_true", help="the names of the figures")
    parser.add_argument("--rounds", type=int, metavar="N", help="how often each figure is sampled (5; quick: 1)")
    parser.add_argument("--no-peers", action="store_true", help="mrq alone")
    parser.add_argument("--json", metavar="FILE", help="every sample, for machines")
    parser.add_argument("--markdown", metavar="FILE", help="the table")
    parser.add_argument("--picture", metavar="FILE", help="bars on a logarithmic scale, as SVG")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
