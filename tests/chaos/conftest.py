"""A server that writes down all that happens to it, and a check of that history when a file's tests are through."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.chaos.arena import KEY
from tests.chaos.history import History
from tests.support.servers import FLAVOURS, RealServer, need_server

HISTORY: dict[str, Any] = {"aof": True, "aof_use_rdb_preamble": "no", "auto_aof_rewrite_percentage": "0"}
"""Options of a server that keeps its whole history."""


@pytest.fixture(scope="module", params=FLAVOURS[:1])
def recorded(request: pytest.FixtureRequest) -> Iterator[RealServer]:
    need_server(request.param)
    with RealServer(request.param, **HISTORY) as server:
        yield server
        found = History((KEY,)).check(server.directory / "appendonlydir")
        assert found.jobs > 0
