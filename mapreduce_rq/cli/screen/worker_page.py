"""The page of one worker: where it runs, its work and since when, how busy it is, whether its code fits. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from mapreduce_rq.broker.snapshot import Snapshot, WorkerView
from mapreduce_rq.cli.screen.frame import STYLES, labelled
from mapreduce_rq.cli.screen.ink import Text
from mapreduce_rq.cli.screen.views import Seen, age_of, task_words, worker_name, worker_state
from mapreduce_rq.core.sealing import kid_text
from mapreduce_rq.core.text import count, duration, grouped, plural, size
from mapreduce_rq.version import __version__


def worker_page_lines(
    worker: WorkerView, snapshot: Snapshot, seen: Seen, busy: tuple[int, int], width: int
) -> list[Text]:
    """The whole page. ``busy``: at how many of how many looks it was busy."""
    lines: list[Text] = []
    for label, text, style in worker_facts(worker, snapshot, seen, busy):
        lines += labelled(label, text, style, width)
    return lines


def worker_facts(
    worker: WorkerView, snapshot: Snapshot, seen: Seen, busy: tuple[int, int]
) -> Iterator[tuple[str, str, str]]:
    """``(label, text, style)`` for each fact; a label of '' goes on with the one before."""
    state = worker_state(worker, seen)
    yield "worker", worker_name(worker), "bold"
    yield "state", state, STYLES[state]
    yield "id", worker.wid, "dim"
    beat = worker.beat
    if beat is None:
        yield "died", worker.obituary, "red"
        yield "holds", plural(worker.held, "task"), ""
        return
    yield "host", beat.host, ""
    yield "process", str(beat.pid), ""
    other = "" if beat.version == __version__ else f", and mrq here is {__version__}"
    yield "version", f"mrq {beat.version}{other}", "yellow" if other else ""
    if beat.probe:
        different = {one.beat.probe for one in snapshot.workers if one.beat is not None and one.beat.probe} - {
            beat.probe
        }
        word = ", and other workers differ: values that depend on it do, too" if different else ""
        yield "computes with", f"{beat.probe}{word}", "yellow" if different else ""
    yield "key", kid_text(beat.kid), ""
    if beat.state == "busy":
        yield "computes", f"{task_words(worker, snapshot)}", "cyan"
        yield "", f"the terms {grouped(beat.lo)} to {grouped(beat.hi - 1)}, since {duration(beat.seconds)}", ""
    if beat.refuses:
        job, _, why = beat.refuses.partition(": ")
        yield "refuses", f"{job}: {why}", "yellow"
    yield "tasks", f"{grouped(beat.done)} done, {count(beat.rate)}/s, holds {worker.held}", ""
    times, looks = busy
    if looks:
        yield "busy", f"{100 * times / looks:.0f} % of {plural(looks, 'look')} from here", ""
    if beat.cpu >= 0:
        yield "cpu", f"{100 * beat.cpu:.0f} %", ""
    if beat.rss:
        yield "memory", size(beat.rss), ""
    yield "last beat", f"{duration(age_of(worker, seen) or 0.0)} ago", ""
