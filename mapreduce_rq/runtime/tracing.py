"""Spans for OpenTelemetry: one for a job, one for each of its tasks, and none for a term.

    the caller's span
    └── mrq job mywork:slow         from its submission to its end, in the process that leads it
        ├── mrq task mywork:slow    in the worker, for each task
        └── mrq lead mywork:slow    of another process that goes on with it

We export nothing and import nothing: spans are made if the user has configured a provider, by
``opentelemetry-instrument`` or in code; then its package is loaded already. Without a provider, this costs a dictionary
look-up for each job, and nothing for a task. The context travels in the job's spec as the ``traceparent`` of W3C, so
workers make spans only for jobs whose own span is sampled.
"""

from __future__ import annotations

import contextlib
import re
import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import msgspec

from mapreduce_rq.core.foreign_errors import kind_of, message_of, traceback_of
from mapreduce_rq.core.job.record import State
from mapreduce_rq.core.messages import ERROR, MAP, MERGE, Answer, Spec, Task, decode_failure
from mapreduce_rq.errors import BadMessage, Superseded
from mapreduce_rq.version import __version__

if TYPE_CHECKING:  # a worker leads no job
    from mapreduce_rq.core.job.ledger import Ledger
    from mapreduce_rq.runtime.master.ended import Ended

FLUSH_SECONDS = 2.0
"""The most seconds that the end of a process waits until its spans are sent."""
_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_SAMPLED = 1


def tracer() -> Any:
    """The tracer of the provider that was configured in this process; None without one."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None or not hasattr(trace, "ProxyTracerProvider"):  # it is being imported
        return None
    provider = trace.get_tracer_provider()
    if isinstance(provider, (trace.ProxyTracerProvider, trace.NoOpTracerProvider)):
        return None
    return provider.get_tracer("mapreduce_rq", __version__)


def flush() -> None:
    """Send the waiting spans, before a process ends without its exit functions; waits at most FLUSH_SECONDS."""
    if tracer() is None:
        return
    send = getattr(sys.modules["opentelemetry.trace"].get_tracer_provider(), "force_flush", None)
    if send is not None:
        thread = threading.Thread(target=_quietly, args=(send,), daemon=True)
        thread.start()
        thread.join(FLUSH_SECONDS)


def _quietly(send: Callable[[int], object]) -> None:
    with contextlib.suppress(Exception):  # raised by a user's exporter
        send(int(FLUSH_SECONDS * 1000))


def _context(traceparent: str) -> Any:
    """The context of the span that this names, for a child of it; None if there is none, or it is not sampled."""
    found = _TRACEPARENT.fullmatch(traceparent)
    if found is None or not int(found[3], 16) & _SAMPLED:
        return None
    trace: Any = sys.modules["opentelemetry.trace"]
    parent = trace.SpanContext(int(found[1], 16), int(found[2], 16), is_remote=True, trace_flags=trace.TraceFlags(1))
    return trace.set_span_in_context(trace.NonRecordingSpan(parent)) if parent.is_valid else None


def _failed(span: Any, kind: str, message: str, traceback: str) -> None:
    trace: Any = sys.modules["opentelemetry.trace"]
    facts = {"exception.type": kind, "exception.message": message, "exception.stacktrace": traceback}
    span.add_event("exception", facts)
    span.set_status(trace.Status(trace.StatusCode.ERROR, f"{kind}: {message}"))


# -- a job -------------------------------------------------------------------------------------------------------------


class JobSpan:
    """The span of a job, or of one process's part in it. ``span`` None: the job is not traced. The span ends once."""

    def __init__(self, span: Any = None) -> None:
        self._span = span

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if error is not None:
            self.broken(error)

    def ended(self, ended: Ended | None, ledger: Ledger) -> Ended | None:
        """End the span: this process leads the job no more. ``ended`` None: it has let go. Returns ``ended``."""
        span, self._span = self._span, None
        if span is None:
            return ended
        span.set_attribute("mrq.counted", min(ledger.counted, _MOST))
        span.set_attribute("mrq.state", ended.state.word if ended is not None else "let go")
        record: Any = ended.record if ended is not None else None
        if record is not None and record.state is State.FAILED:
            _failed(span, record.kind, record.message, record.traceback)
        elif record is not None and record.state is State.DONE:
            span.set_attribute("mrq.tasks", record.tasks)
            span.set_attribute("mrq.workers", record.workers)
        span.end()
        return ended

    def handed_over(self) -> None:
        """End the span, because the job is queued for another process to lead."""
        span, self._span = self._span, None
        if span is not None:
            span.set_attribute("mrq.state", "handed over")
            span.end()

    def broken(self, error: BaseException) -> None:
        """End the span with the error that leading or submitting the job raised."""
        span, self._span = self._span, None
        if span is None:
            return
        if isinstance(error, (Superseded, GeneratorExit)):
            span.set_attribute("mrq.state", "led elsewhere" if isinstance(error, Superseded) else "let go")
        else:
            _failed(span, kind_of(error), message_of(error), traceback_of(error))
        span.end()


UNTRACED = JobSpan()


def begin_job(spec: Spec, queue: str) -> tuple[Spec, JobSpan]:
    """The span of a job before its submission, a child of the caller's span, and the spec with its context."""
    found = tracer()
    if found is None:
        return spec, UNTRACED
    trace: Any = sys.modules["opentelemetry.trace"]
    span = _started(found, "job", spec, queue, context=None, kind=trace.SpanKind.PRODUCER)
    at = span.get_span_context()
    if not at.is_valid:
        return spec, JobSpan()
    traceparent = f"00-{at.trace_id:032x}-{at.span_id:016x}-{int(at.trace_flags):02x}"
    return msgspec.structs.replace(spec, traceparent=traceparent), JobSpan(span)


def begin_lead(spec: Spec, queue: str) -> JobSpan:
    """The span for going on with another process's job, if that job is traced."""
    found = tracer() if spec.traceparent else None
    context = _context(spec.traceparent) if found is not None else None
    if context is None:
        return JobSpan()
    trace: Any = sys.modules["opentelemetry.trace"]
    return JobSpan(_started(found, "lead", spec, queue, context=context, kind=trace.SpanKind.INTERNAL))


def _started(found: Any, what: str, spec: Spec, queue: str, *, context: Any, kind: Any) -> Any:
    facts: dict[str, Any] = {"mrq.job": spec.job, "mrq.queue": queue, "mrq.computation": spec.computation}
    if spec.total is not None and spec.total < 1 << 63:  # numbers in OpenTelemetry have 64 bits
        facts["mrq.terms"] = spec.total
    return found.start_span(f"mrq {what} {spec.label}", context=context, kind=kind, attributes=facts)


# -- tasks -------------------------------------------------------------------------------------------------------------

_OPS = {MAP: "map", MERGE: "merge"}


class TaskSpans:
    """The spans of one worker's tasks, one at a time. While a task's span is open, it is the current one."""

    def __init__(self, wid: str, queue: str) -> None:
        host, pid, _ = wid.rsplit(":", 2)
        self._facts = {"mrq.queue": queue, "host.name": host, "process.pid": int(pid)}
        self._job = ""
        self._begin: Callable[[Task], None] | None = None
        self._open: tuple[Any, Any] | None = None  # the span, and the token of its context

    def of(self, spec: Spec) -> Callable[[Task], None] | None:
        """The function to call before each task of this job; None if the job or this process is not traced."""
        if not spec.traceparent:
            return None
        if spec.job != self._job:
            self._job, self._begin = spec.job, self._beginner(spec)
        return self._begin

    def _beginner(self, spec: Spec) -> Callable[[Task], None] | None:
        found = tracer()
        context = _context(spec.traceparent) if found is not None else None
        if context is None:
            return None
        trace: Any = sys.modules["opentelemetry.trace"]
        contexts: Any = sys.modules["opentelemetry.context"]
        name, facts = f"mrq task {spec.label}", {**self._facts, "mrq.job": spec.job}

        def begin(task: Task) -> None:
            span = found.start_span(
                name,
                context=context,
                kind=trace.SpanKind.CONSUMER,
                attributes={
                    **facts,
                    "mrq.lo": min(task.lo, _MOST),
                    "mrq.hi": min(task.hi, _MOST),
                    "mrq.attempt": task.attempt,
                    "mrq.op": _OPS.get(task.op, "request"),
                },
            )
            self._open = span, contexts.attach(trace.set_span_in_context(span, context))

        return begin

    def end(self, answer: Answer | None) -> None:
        """End the span of the task in hand, with its answer. None: it has no answer; it goes to another worker, or its
        job is over.
        """
        if self._open is None:
            return
        (span, token), self._open = self._open, None
        contexts: Any = sys.modules["opentelemetry.context"]
        contexts.detach(token)
        if answer is None:
            span.set_attribute("mrq.state", "given back")
        else:
            span.set_attribute("mrq.hi", min(answer.hi, _MOST))  # a task may be answered in part
            if answer.status == ERROR:
                with contextlib.suppress(BadMessage):
                    why = decode_failure(answer.body)
                    if why.term is not None:
                        span.set_attribute("mrq.term", min(why.term, _MOST))
                    _failed(span, why.kind, why.message, why.traceback)
        span.end()


_MOST = (1 << 63) - 1
"""The largest number of OpenTelemetry."""
