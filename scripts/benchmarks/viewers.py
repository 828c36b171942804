"""Viewers of `mrq web` for a private server: `serve` prints its port and serves, `look PORT N` has N viewers."""

from __future__ import annotations

import http.client
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from mapreduce_rq.cli.connect import connect
from mapreduce_rq.cli.interrupts import Interrupts
from mapreduce_rq.cli.watching import Watching
from mapreduce_rq.cli.web.feed import Feed
from mapreduce_rq.cli.web.guard import Guard
from mapreduce_rq.cli.web.server import serve
from mapreduce_rq.runtime.server.lookout import found_servers


@contextmanager
def web_viewers(number: int) -> Iterator[None]:
    """A web server for our private server, and so many viewers of its page, in two processes beside this one."""
    me = [sys.executable, "-m", "benchmarks.viewers"]
    with subprocess.Popen([*me, "serve"], stdout=subprocess.PIPE, text=True, cwd=sys.path[0]) as server:
        assert server.stdout is not None
        try:
            found = re.fullmatch("at ([0-9]+)", server.stdout.readline().strip())
            assert found is not None, "the web server did not begin"
            words = [*me, "look", found[1], str(number)]
            with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=sys.path[0]) as lookers:
                assert lookers.stdout is not None
                try:
                    assert lookers.stdout.readline() == "all look\n"
                    yield
                finally:
                    lookers.kill()
        finally:
            server.kill()


def _serve() -> None:
    private = next(one for one in found_servers() if one.pid == os.getppid())
    listening = socket.create_server(("127.0.0.1", 0))
    watching = Watching([connect(private.url, private.queue, None, [private.key])])
    watching.look()
    print("at", listening.getsockname()[1], flush=True)
    with Interrupts():
        serve(listening, Feed(watching), Guard(""))


def _look(port: int, number: int) -> None:
    begun = threading.Barrier(number + 1)

    def look() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", "/stream")
        answer = connection.getresponse()
        assert answer.readline().startswith(b"data: ")
        begun.wait()
        while answer.readline():
            pass

    for _ in range(number):
        threading.Thread(target=look, daemon=True).start()
    begun.wait()
    print("all look", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        _serve()
    else:
        _look(int(sys.argv[2]), int(sys.argv[3]))
