"""``scripts/pictures``: the pictures in README and docs, made by the software itself. Without a name: all of them.

    scripts/pictures ledger       the states of a term, from scenes played on a real ledger (docs/pictures/ledger.svg)
    scripts/pictures dashboard    `mrq dashboard --once` beside four jobs on eight workers (docs/pictures/dashboard.svg)
    scripts/pictures report       two pictures of `mrq report`, of a job in which a worker was killed and others joined
    scripts/pictures convergence  from the same report: how the error of the running value falls

The one of the ledger is the same at each run, and a test compares it; the others show what was going on.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import signal
import sys
import time
from contextlib import ExitStack
from functools import cache

from rich.console import Console
from rich.text import Text

from mapreduce_rq.cli.connect import connect, find_job
from mapreduce_rq.cli.screen.page import STYLE, Sheet, page_of
from mapreduce_rq.client.environment import DEFAULT_QUEUE
from tests.docs.ledger_states import drawing
from tests.support.commands import Running, environment, mrq
from tests.support.servers import ROOT, RealServer
from tests.support.stage import until

PICTURES = ROOT / "docs" / "pictures"
COLUMNS = 60
"""Of the terminal: on a phone the picture is some 360 points wide, and a letter of it still 10 high."""
NARROW = Sheet(wide=480, left=110, parts=3)
"""Of the report: on a phone a picture's letters are as small as the picture is."""

FONT_FACE = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
"""What would load a font from another host: a picture asks for nothing."""


def screenshot(text: str, title: str) -> str:
    """Terminal output with its colours as SVG, by rich's export, with the fonts that the reader has."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, legacy_windows=False)
    console.print(Text.from_ansi(text.rstrip("\n")))
    drawn = FONT_FACE.sub("", console.export_svg(title=title, unique_id="mrq"))
    wide = re.search(r'viewBox="0 0 ([0-9.]+) ', drawn)
    assert wide
    return drawn.replace(" viewBox=", f' width="{wide[1]}" viewBox=', 1)  # no larger than it is, on a wide screen


def dashboard() -> str:
    """A fleet of two supervisors, two jobs done and two under way; what the dashboard says of it."""
    with RealServer("valkey", tcp=True) as server, ExitStack() as stack:
        env = environment(
            {"MRQ_URL": f"redis://127.0.0.1:{server.port}", "MRQ_PASSWORD": server.password, "COLUMNS": str(COLUMNS)}
        )
        for name in ("alpha", "beta"):
            stack.enter_context(Running("worker", "-c", "4", "--name", name, env=env))
        for job in ("exp --x 2 --terms 50", "montecarlo pi"):
            assert mrq("compute", *job.split(), env=env).code == 0
        for job in ("primes --to 1e10", "sum zeta2 --terms 1e10"):
            stack.enter_context(Running("compute", *job.split(), env=env))

        def both_are_well_under_way() -> bool:
            seen = mrq("dashboard", "--json", env=env).json
            shares = [job["counted"] / job["total"] for job in seen["jobs"] if job["state"] == "running"]
            return len(seen["workers"]) == 8 and len(shares) == 2 and min(shares) > 0.03

        until(both_are_well_under_way, 240, "both jobs under way on eight workers")
        colours = env | {"FORCE_COLOR": "1", "PYTHONIOENCODING": "utf-8"}
        return screenshot(mrq("dashboard", "--once", env=colours).out, "mrq dashboard")


@cache
def report_page() -> str:
    """The page of a job that had eighteen seconds, two workers, one of which was killed, and two more half way."""
    with RealServer("valkey", tcp=True) as server, ExitStack() as stack:
        env = environment({"MRQ_URL": f"redis://127.0.0.1:{server.port}", "MRQ_PASSWORD": server.password})
        stack.enter_context(Running("worker", "-c", "2", "--name", "alpha", env=env)).hear("2 workers")
        job = ("compute", "montecarlo", "pi", "--samples", "1e12", "--deadline", "18")
        master = stack.enter_context(Running(*job, env=env))

        def busy() -> list[int]:
            return [one["pid"] for one in mrq("workers", "--json", env=env).json if one["state"] == "busy"]

        victim = until(busy, 60, "a busy worker")[0]
        time.sleep(3.0)  # so that the picture has a before
        os.kill(victim, signal.SIGKILL)
        time.sleep(3.0)
        stack.enter_context(Running("worker", "-c", "2", "--name", "beta", env=env)).hear("2 workers")
        master.wait(60)
        place = connect(server.tcp_url, DEFAULT_QUEUE, None)
        record, timeline = place.ended(find_job(place.jobs, "montecarlo"))
        place.wire.close()
        return page_of(record.data, timeline, NARROW)


def sections(page: str, *titles: str) -> str:
    """These pictures of a report's page, below each other, as one SVG that shows itself light or dark."""
    parts, top, wide = [], 0, 0
    for title in titles:
        found = re.search(
            rf'<h2>{re.escape(title)}</h2><figure[^>]*><svg viewBox="0 0 (\d+) (\d+)"[^>]*>(.*?)</svg>', page, re.DOTALL
        )
        assert found, f"the page has no picture {title!r}"
        width, height, drawn = int(found[1]), int(found[2]), found[3]
        parts.append(f'<text x="10" y="{top + 20}" style="fill:var(--ink);font-size:15px">{title}</text>')
        parts.append(f'<g transform="translate(10 {top + 32})">{drawn}</g>')
        top, wide = top + height + 50, max(wide, width + 20)
    size = f'width="{1.6 * wide:.0f}" viewBox="0 0 {wide} {top}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{STYLE}</style>'
        f'<rect width="{wide}" height="{top}" style="fill:var(--page)"/>{"".join(parts)}</svg>\n'
    )


def report() -> str:
    """What its workers did."""
    return sections(report_page(), "Workers over time", "Throughput")


def convergence() -> str:
    """How the error of its value fell."""
    return sections(report_page(), "Error of the running value")


MAKERS = {"ledger": drawing, "dashboard": dashboard, "report": report, "convergence": convergence}


def main() -> int:
    """Draw the pictures that were asked for."""
    parser = argparse.ArgumentParser(prog="scripts/pictures", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{' or '.join(MAKERS)} (default: all)")
    names = parser.parse_args().names or list(MAKERS)
    if unknown := [name for name in names if name not in MAKERS]:
        parser.error(f"no picture is called {unknown[0]}: there are {', '.join(MAKERS)}")
    for name in names:
        path = PICTURES / f"{name}.svg"
        path.write_text(MAKERS[name](), encoding="utf-8")
        sys.stdout.write(f"{path.relative_to(ROOT)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
