"""A scene for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.scene import Scene
from tests.servers import RealServer


@pytest.fixture
def scene(server: RealServer, queue: str, tmp_path: Path) -> Iterator[Scene]:
    with Scene(server, queue, tmp_path) as made:
        yield made
