"""What shows the jobs of an RQ fleet shows ours as any other: `rq info`, and rq-dashboard in a browser."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.rq_fleet import RQ, RQFleet
from tests.support.servers import FreshServer, die_with_parent, free_port
from tests.support.stage import until
from tests.support.terms import total

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture
def fleet(fresh_server: FreshServer, tmp_path: Path) -> Iterator[RQFleet]:
    with RQFleet(fresh_server("redis", tcp=True), tmp_path) as made:
        made.stage.write("seconds", "0.1")
        yield made


def test_rq_info(fleet: RQFleet) -> None:
    workers = [fleet.worker() for _ in range(2)]
    fleet.stage.write("gated", " ".join(map(str, range(60))))
    job = fleet.map_reduce("gated", range(60))
    until(lambda: len({pid for pid, _ in fleet.stage.runs()}) == 2, 30, f"both work: {fleet.logs()}")
    shown = subprocess.run([str(RQ), "info", "-u", fleet.url], capture_output=True, text=True, check=True).stdout
    assert "2 executing" in shown
    for worker in workers:
        assert re.search(rf"{worker.name} \(.*busy default", shown)
    fleet.stage.open()
    assert fleet.result(job) == total(60)


@pytest.mark.skipif(CHROMIUM is None, reason="no browser here: install chromium")
def test_rq_dashboard_in_a_browser(fleet: RQFleet) -> None:
    for _ in range(2):
        fleet.worker()
    job = fleet.map_reduce("slow", range(400))
    until(lambda: (job.get_meta().get("workers") or 0) == 2, 30, f"both work: {fleet.logs()}")
    port = free_port()
    dashboard = subprocess.Popen(
        [str(Path(sys.executable).with_name("rq-dashboard")), "-u", fleet.url, "-p", str(port), "-b", "127.0.0.1"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=die_with_parent,
    )
    at = f"http://127.0.0.1:{port}"
    try:
        until(lambda: answers(at) or dashboard.poll() is not None, 30, "it answers")
        listed = seen(f"{at}/0/view/jobs/default/started/10/desc/1", fleet.folder)
        assert "mapreduce_rq.rq.map_reduce('tests.support.terms:slow', range(0, 400)" in listed
        assert "mapreduce_rq: a worker loop for queue default" in listed
        one = seen(f"{at}/0/view/job/{job.id}", fleet.folder)
        assert re.search(r'"progress": 0\.\d+', one)
        assert '"workers": 2' in one
        for text in (listed, one):
            assert fleet.server.password not in text
    finally:
        dashboard.terminate()
        dashboard.wait()
    job.cancel()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as page:
            return bool(page.status == 200)
    except OSError:
        return False


def seen(url: str, folder: Path) -> str:
    """The text of a page once its scripts have run."""
    assert CHROMIUM
    options = ("--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'browser'}")
    command = [CHROMIUM, *options, "--virtual-time-budget=6000", "--dump-dom", url]
    return html.unescape(subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout)
