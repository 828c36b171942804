"""Numbers of a server that now and then does not answer: a connection for each worker process, and terms that are tried
again.

    python3 examples/flaky_server.py

``setup=`` is called once in each process, and its value comes first in each call. What ``load`` raises is waited out by
the worker that has the term: 0.05 s, then twice as long, four times at most. The sum has the same bits as if the server
had always answered, and ``retried`` says how often it had not.
"""

from __future__ import annotations

import threading
from functools import partial
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from mapreduce_rq import Client, Limits


class Flaky(BaseHTTPRequestHandler):
    """Is too busy for each number that ends in 7, once."""

    protocol_version = "HTTP/1.1"
    asked: set[str] = set()  # noqa: RUF012  one for all requests

    def do_GET(self) -> None:
        busy = self.path.endswith("7") and self.path not in self.asked
        self.asked.add(self.path)
        body = b"busy" if busy else self.path.removeprefix("/").encode()
        self.send_response(503 if busy else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def connect(port: int) -> HTTPConnection:
    return HTTPConnection("127.0.0.1", port, timeout=10)


def load(server: HTTPConnection, number: int) -> int:
    server.request("GET", f"/{number}")
    answer = server.getresponse()
    body = answer.read()
    if answer.status != 200:
        raise ConnectionError(f"{answer.status} for {number}")
    return int(body)


def main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Flaky)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with Client(local=2) as mrq:
        limits = Limits(retries=4, backoff=0.05)
        setup = partial(connect, server.server_port)
        result = mrq.submit_function(load, range(100), setup=setup, limits=limits).result()
    print(result.value)
    print(f"{len(result.retried)} were asked for more than once, such as {result.retried[0]['term']}")
    server.shutdown()


if __name__ == "__main__":
    main()
