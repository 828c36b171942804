"""A scene for each test. Processes do not care which server it is, so each test runs on one of the two, by its name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from zlib import crc32

import pytest

from tests.support.scene import Scene
from tests.support.servers import FLAVOURS, RealServer, find_server, need_server


@pytest.fixture(scope="session")
def running() -> Iterator[Callable[[str], RealServer]]:
    """The server of a flavour, started at the first call."""
    with ExitStack() as stack:
        servers: dict[str, RealServer] = {}

        def get(flavour: str) -> RealServer:
            need_server(flavour)
            if flavour not in servers:
                servers[flavour] = stack.enter_context(RealServer(flavour))
            return servers[flavour]

        yield get


@pytest.fixture
def scene(
    running: Callable[[str], RealServer], queue: str, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Scene]:
    flavours = [flavour for flavour in FLAVOURS if find_server(flavour)] or list(FLAVOURS)
    flavour = flavours[crc32(request.node.nodeid.encode()) % len(flavours)]
    with Scene(running(flavour), queue, tmp_path) as made:
        yield made
