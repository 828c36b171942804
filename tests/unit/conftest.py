"""What tests of single commands share."""

from __future__ import annotations

import pytest


@pytest.fixture
def no_server_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable says anything to a command, and a server that is started for it fails the test."""
    for name in ("MRQ_URL", "REDIS_URL", "MRQ_OUTPUT", "MRQ_QUEUE", "MRQ_KEY", "MRQ_KEY_FILE"):
        monkeypatch.delenv(name, raising=False)

    def start() -> None:
        pytest.fail("a server was started for a command line that is wrong")

    monkeypatch.setattr("mapreduce_rq.cli.session.EmbeddedServer.start", start)
