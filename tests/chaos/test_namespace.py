"""Wires of several namespaces, of one test or of tests side by side, are in subnets of their own."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
from contextlib import ExitStack

import pytest

from tests.chaos.namespace import NETS, Namespace

CALL = "import socket, sys; print(socket.create_connection((sys.argv[1], int(sys.argv[2])), 20).recv(9).decode())"


@pytest.mark.parametrize("drawn", [0, NETS - 2, NETS - 1])
def test_each_has_a_subnet_of_its_own_though_the_same_is_drawn(drawn: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root, and the program ip")
    monkeypatch.setattr(secrets, "randbelow", lambda _: drawn)
    with ExitStack() as stack:
        spaces = [stack.enter_context(Namespace()) for _ in range(3)]
        assert len({space.here for space in spaces}) == 3
        for space in spaces:
            with socket.create_server((space.here, 0)) as server:
                words = [*space.prefix, sys.executable, "-c", CALL, *map(str, server.getsockname())]
                with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as caller:
                    server.settimeout(20)
                    with server.accept()[0] as called:
                        called.sendall(b"reached")
                    assert caller.communicate()[0] == "reached\n"
