"""A collector of OpenTelemetry: it takes spans over HTTP, as an exporter of OTLP sends them."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Self

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Sent(NamedTuple):
    """A span that was sent; ids in hexadecimal, '' for no parent. ``status`` 2: an error."""

    name: str
    trace: str
    id: str
    parent: str
    status: int
    message: str
    facts: Mapping[str, Any]
    events: list[str]
    service: str


class Collector:
    """Listens on a free port while it is entered."""

    def __init__(self) -> None:
        self.spans: list[Sent] = []
        spans = self.spans

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                spans.extend(_spans(ExportTraceServiceRequest.FromString(body)))
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class's name
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)

    @property
    def settings(self) -> dict[str, str]:
        """What has a process send its spans here, and nothing else."""
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self._server.server_port}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_TRACES_EXPORTER": "otlp",
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_LOGS_EXPORTER": "none",
        }

    def named(self, start: str) -> list[Sent]:
        """The spans whose names begin so."""
        return [one for one in self.spans if one.name.startswith(start)]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _spans(request: Any) -> list[Sent]:
    found = []
    for resource in request.resource_spans:
        service = _facts(resource.resource.attributes).get("service.name", "")
        for scope in resource.scope_spans:
            for one in scope.spans:
                ids = one.trace_id.hex(), one.span_id.hex(), one.parent_span_id.hex()
                events = [event.name for event in one.events]
                facts = _facts(one.attributes)
                found.append(Sent(one.name, *ids, one.status.code, one.status.message, facts, events, service))
    return found


def _facts(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}
