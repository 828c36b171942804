"""What systemd hears of a worker, and the unit in deploy/."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tests.support.commands import User
from tests.support.servers import ROOT, FreshServer


def test_systemd_hears_that_workers_are_there_and_that_they_go(fresh_server: FreshServer, tmp_path: Path) -> None:
    server = fresh_server("valkey")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(str(tmp_path / "notify"))
        ear.settimeout(20)
        heard: list[str] = []

        def hear(word: str) -> None:
            while not any(word in text for text in heard):
                heard.append(ear.recv(4096).decode())

        with User(tmp_path, MRQ_URL=server.url, NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="500000") as at:
            worker = at.start("worker", "-c", "1")
            hear("READY=1")
            heard.clear()
            hear("WATCHDOG=1\nSTATUS=1 of 1 workers")
            worker.signal(signal.SIGTERM)
            hear("STOPPING=1")
            assert worker.wait() == 0


def test_the_unit_is_one_that_systemd_takes(tmp_path: Path) -> None:
    verify = shutil.which("systemd-analyze")
    if verify is None:
        pytest.skip("systemd-analyze is not installed")
    text = (ROOT / "deploy/mrq-worker.service").read_text().replace("/opt/mrq/bin/mrq", "/bin/true")
    unit = tmp_path / "mrq-worker.service"
    unit.write_text(text.replace("User=mrq\n", ""))
    done = subprocess.run([verify, "verify", str(unit)], capture_output=True, text=True, check=False)
    assert [line for line in done.stderr.splitlines() if "mrq-worker" in line] == []
