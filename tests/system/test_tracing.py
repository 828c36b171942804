"""Spans for OpenTelemetry, made by the real SDK in clients, masters and workers, and sent over OTLP."""

from __future__ import annotations

import json
import signal
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mapreduce_rq.client.client import Client
from mapreduce_rq.core.messages import Limits, Spec
from mapreduce_rq.core.shapes import decoder
from tests.support.collector import Collector
from tests.support.commands import KEY, MRQ, Running, User
from tests.support.servers import RealServer
from tests.support.stage import until

INSTRUMENT = (str(Path(sys.executable).with_name("opentelemetry-instrument")), *MRQ)
LATE = {"OTEL_BSP_SCHEDULE_DELAY": "600000"}
"""Spans are sent when their process ends, and not before."""

MODULE = """
import os
import time
from pathlib import Path

from opentelemetry import trace

def f(k):
    if k == 700:
        raise ValueError("not this one")
    return k

def lasting(k):
    if k == 3:
        stage = Path(os.environ["MRQ_TEST_STAGE"])
        (stage / "last").touch()
        while not (stage / "open").exists():
            time.sleep(0.01)
    return k

def spanning(k):
    with trace.get_tracer("mine").start_as_current_span("inside"):
        return k
"""

CLIENT = """
import json, os, sys
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from mapreduce_rq import Client, JobFailed, Limits

memory = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(memory))
trace.set_tracer_provider(provider)
with trace.get_tracer("test").start_as_current_span("caller"):
    with Client(os.environ["MRQ_URL"], local=0) as mrq:
        BODY
spans = [json.loads(span.to_json()) for span in memory.get_finished_spans()]
print(json.dumps({"job": job, "spans": spans}))
"""


@pytest.fixture(scope="module")
def server() -> Iterator[RealServer]:
    with RealServer("valkey") as running:
        yield running


@pytest.fixture
def at(server: RealServer, queue: str, tmp_path: Path) -> Iterator[User]:
    (tmp_path / "traced.py").write_text(MODULE)
    with User(tmp_path, MRQ_URL=server.url, MRQ_QUEUE=queue, MRQ_KEY=KEY, PYTHONPATH="") as made:
        made.env["PYTHONPATH"] = f"{Path(__file__).resolve().parents[2]}:{tmp_path}"
        yield made


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as listening:
        yield listening


def worker(at: User, collector: Collector, *more: str, **env: str) -> Running:
    """Two workers whose spans go to the collector."""
    settings = {**at.env, **collector.settings, "OTEL_SERVICE_NAME": "workers", **env}
    running = at.start("worker", "-c", "2", *more, env=settings, program=INSTRUMENT)
    running.hear("2 workers")
    return running


def client(at: User, body: str) -> Any:
    """What a client with an exporter in its memory prints."""
    script = CLIENT.replace("BODY", textwrap.indent(body, " " * 8).strip())
    with Running(env=at.env, program=(sys.executable, "-c", script)) as running:
        assert running.wait() == 0, running.err
        return json.loads("".join(running.out))


def by_name(found: Any, start: str) -> list[Any]:
    return [one for one in found["spans"] if one["name"].startswith(start)]


def test_tasks_are_children_of_the_job_and_the_job_of_its_caller(at: User, collector: Collector, queue: str) -> None:
    workers = worker(at, collector, **LATE)
    found = client(
        at, "job = mrq.submit_function('traced:spanning', range(1000), limits=Limits(chunk=100)).result().job"
    )
    (caller,), (job,) = by_name(found, "caller"), by_name(found, "mrq job ")
    assert job["name"] == "mrq job traced:spanning"
    assert job["parent_id"] == caller["context"]["span_id"]
    assert job["attributes"] == {
        "mrq.job": found["job"],
        "mrq.queue": queue,
        "mrq.computation": "function",
        "mrq.terms": 1000,
        "mrq.counted": 1000,
        "mrq.state": "done",
        "mrq.tasks": 10,
        "mrq.workers": job["attributes"]["mrq.workers"],
    }
    assert job["status"]["status_code"] == "UNSET"
    workers.signal(signal.SIGTERM)
    assert workers.wait() == 0
    until(lambda: len(collector.named("mrq task ")) == 10, 20, "a span for each task was sent at the workers' end")
    tasks = collector.named("mrq task ")
    for one in tasks:
        assert one.name == "mrq task traced:spanning"
        assert one.service == "workers"
        assert (f"0x{one.trace}", f"0x{one.parent}") == (job["context"]["trace_id"], job["context"]["span_id"])
        assert one.facts["mrq.queue"] == queue
        assert one.facts["mrq.job"] == found["job"]
        assert one.facts["mrq.attempt"] == 0
        assert one.facts["mrq.op"] == "map"
        assert one.facts["host.name"]
        assert one.status == 0
    assert sorted((one.facts["mrq.lo"], one.facts["mrq.hi"]) for one in tasks) == [
        (k, k + 100) for k in range(0, 1000, 100)
    ]
    # What a function itself traces stands below its task.
    inside = collector.named("inside")
    assert len(inside) == 1000
    assert {one.parent for one in inside} == {one.id for one in tasks}


def test_a_failure_is_one_in_the_span_of_its_task_and_of_its_job(at: User, collector: Collector) -> None:
    worker(at, collector, OTEL_BSP_SCHEDULE_DELAY="50")
    found = client(
        at,
        "try:\n    mrq.map_reduce('traced:f', range(1000), chunksize=100)\nexcept JobFailed:\n    job = ''",
    )
    (job,) = by_name(found, "mrq job ")
    assert job["attributes"]["mrq.state"] == "failed"
    assert job["status"] == {"status_code": "ERROR", "description": "ValueError: not this one"}
    until(lambda: any(one.status == 2 for one in collector.named("mrq task ")), 20, "the task that failed")
    bad = [one for one in collector.named("mrq task ") if one.status == 2]
    for one in bad:
        assert one.message == "ValueError: not this one"
        assert one.facts["mrq.term"] == 700
        assert one.events == ["exception"]


def test_who_is_not_traced_has_no_spans(at: User, collector: Collector) -> None:
    """A client without a provider; one whose span is not sampled; and workers without a provider."""
    workers = worker(at, collector, OTEL_BSP_SCHEDULE_DELAY="50")
    assert at.run("run", "traced:spanning", "--terms", "100", "-o", "value", "-q").out == "4950\n"
    traced = {**at.env, **collector.settings, "OTEL_SERVICE_NAME": "client"}
    arguments = ("run", "traced:spanning", "--terms", "100", "-o", "value", "-q")
    unsampled = {**traced, "OTEL_TRACES_SAMPLER": "always_off"}
    assert at.start(*arguments, env=unsampled, program=INSTRUMENT).wait() == 0
    workers.signal(signal.SIGTERM)
    assert workers.wait() == 0
    assert collector.named("mrq ") == []
    at.start("worker", "-c", "1").hear("1 worker")
    assert at.start(*arguments, env={**traced, **LATE}, program=INSTRUMENT).wait() == 0
    assert [one.name for one in collector.named("mrq ")] == ["mrq job traced:spanning"]


def test_a_master_that_goes_on_with_a_job_has_a_span_below_it(at: User, collector: Collector) -> None:
    settings = {**at.env, **collector.settings, **LATE}
    at.start("worker", "-c", "1").hear("1 worker")
    detached = at.start("run", "traced:spanning", "--terms", "100", "--detach", env=settings, program=INSTRUMENT)
    assert detached.wait() == 0
    (job,) = collector.named("mrq job ")
    assert job.facts["mrq.state"] == "handed over"
    master = at.start("master", env=settings, program=INSTRUMENT)
    assert at.run("result", "--wait", "".join(detached.out).strip(), "-o", "value").out == "4950\n"
    master.signal(signal.SIGTERM)
    master.wait()
    (lead,) = collector.named("mrq lead ")
    assert (lead.trace, lead.parent, lead.facts["mrq.state"]) == (job.trace, job.id, "done")


def test_workers_of_a_private_server_send_theirs_before_they_end(at: User, collector: Collector) -> None:
    settings = {**at.env, **collector.settings, "MRQ_URL": "", **LATE}
    script = """
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from mapreduce_rq import Client
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter()))
trace.set_tracer_provider(provider)
with Client(local=2) as mrq:
    assert mrq.map_reduce("traced:spanning", range(1000), chunksize=250) == 499500
"""
    with Running(env=settings, program=(sys.executable, "-c", script)) as running:
        assert running.wait() == 0, running.err
    (job,) = collector.named("mrq job ")
    tasks = collector.named("mrq task ")
    assert len(tasks) == job.facts["mrq.tasks"] == 4
    assert {one.parent for one in tasks} == {job.id}


RUN = ("run", "traced:lasting", "--terms", "4", "--chunk", "1", "--wait-workers", "60", "-o", "value", "-q")


@pytest.mark.parametrize(
    ("options", "number"),
    [
        pytest.param((), signal.SIGTERM, id="told to stop"),
        pytest.param((), signal.SIGHUP, id="begun anew"),
        pytest.param(("--max-tasks", "4"), None, id="replaced after so many tasks"),
        pytest.param(("--burst",), None, id="nothing left to do"),
    ],
)
def test_a_worker_sends_the_span_of_its_last_task_however_it_ends(
    at: User, collector: Collector, queue: str, options: tuple[str, ...], number: signal.Signals | None
) -> None:
    """It ends in the middle of a task where it is told to, which it finishes first."""
    traced = {**at.env, **collector.settings, **LATE}
    leader = at.start(*RUN, env=traced, program=INSTRUMENT)
    with Client(at.env["MRQ_URL"], queue=queue, keys=[KEY]) as looking:
        until(lambda: looking.snapshot().jobs, 60, "the job is there")
    settings = {**traced, "OTEL_SERVICE_NAME": "workers"}
    workers = at.start("worker", "-c", "1", *options, env=settings, program=INSTRUMENT)
    if number is not None:
        until((at.stage.folder / "last").exists, 60, "the last task is in hand")
        workers.signal(number)
    at.stage.open()
    assert leader.wait(60) == 0, (leader.err, workers.err)
    assert leader.out == ["6\n"]
    until(lambda: len(collector.named("mrq task ")) == 4, 30, "a span for each task")
    assert sorted(one.facts["mrq.lo"] for one in collector.named("mrq task ")) == [0, 1, 2, 3]


class Before(msgspec.Struct, frozen=True, kw_only=True):
    """A spec as versions before the spans know it."""

    job: str
    computation: str
    params: dict[str, Any]
    total: int | None
    limits: Limits
    created: float
    version: str


def test_versions_before_the_spans_read_the_spec_and_are_read() -> None:
    spec = Spec(
        job="j", computation="exp", params={}, total=3, limits=Limits(), created=1.0, version="1", traceparent="00-1"
    )
    older = decoder(Before)(msgspec.msgpack.encode(spec))
    assert (older.job, older.total) == ("j", 3)
    newer: Spec = decoder(Spec)(msgspec.msgpack.encode(older))
    assert newer.traceparent == ""


def test_nothing_of_it_needs_to_be_installed(at: User) -> None:
    without = "import sys; sys.modules['opentelemetry'] = None\nfrom mapreduce_rq.cli.app import script\nscript()"
    ran = at.start(
        "compute", "exp", "--x", "2", "--local", "1", "-q", "-o", "value", program=(sys.executable, "-c", without)
    )
    assert ran.wait() == 0
    assert ran.out == ["7.38905609893065\n"]
