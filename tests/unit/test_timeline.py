"""A job's timeline: bounded whatever happens, and with all that was answered; its page and its trace."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mapreduce_rq.cli.screen.page import page_of
from mapreduce_rq.cli.screen.trace import trace_of
from mapreduce_rq.core.job.timeline import (
    MAX_BINS,
    MAX_TIMELINE_BYTES,
    OTHERS,
    Recorder,
    Timeline,
    cells_of,
    losses,
    timeline_data,
)

HOSTILE = "<script>alert(1)</script>\x1b[31m\"'&"
RECORD: dict[str, Any] = {
    "state": "done",
    "job": "exp-1",
    "computation": "exp",
    "params": {"x": HOSTILE},
    "value": "7.389",
    "bound": "1e-9",
    "bound_kind": "proven",
    "digest": "d",
    "terms_used": 3,
    "tasks": 3,
    "workers": 1,
    "elapsed_s": 1.0,
    "ended": "all",
    "skipped": [{"term": 1, "kind": HOSTILE, "message": HOSTILE, "where": HOSTILE}],
    "notes": [HOSTILE],
}


def kept(recorder: Recorder, now: float) -> Timeline:
    return recorder.timeline("job", version="1", master="host:1:x", began=1.8e9, before=0.0, now=now)


REPLIES = st.lists(
    st.tuples(
        st.sampled_from(["a:1:x", "b:2:y", "c:3:z"]),
        st.integers(1, 50),
        st.integers(1, 1 << 40),
        st.integers(0, 1 << 36),
        st.floats(0, 50),
    ),
    max_size=60,
)


@settings(max_examples=60, deadline=None)
@given(REPLIES)
def test_every_task_and_term_is_in_it_at_any_resolution(replies: list[tuple[str, int, int, int, float]]) -> None:
    recorder, now = Recorder(0.0), 0.0
    for wid, tasks, terms, nanoseconds, later in replies:
        now += later
        recorder.answered(wid, tasks, terms, nanoseconds, now=now, first=(0, 1))
    found = kept(recorder, now)
    cells = [cell for row in found.rows for cell in cells_of(row)]
    assert sum(cell[1] for cell in cells) == sum(one[1] for one in replies) == sum(found.buckets)
    assert sum(cell[2] for cell in cells) == sum(one[2] for one in replies)
    assert all(0 <= cell[0] < MAX_BINS for cell in cells)
    assert len(msgspec.msgpack.encode(found)) <= MAX_TIMELINE_BYTES
    assert json.loads(json.dumps(timeline_data(found)))
    trace_of(found)
    page_of(RECORD, found)


def test_the_largest_stays_within_its_bound() -> None:
    recorder = Recorder(0.0)
    for index in range(60_000):
        now = index * 0.5
        recorder.answered(f"{'h' * 200}:{index % 300}", 300, 1 << 40, 1 << 33, now=now, first=(0, 1))
        recorder.answered(
            f"{'h' * 200}:{index % 300}", 1, 1 << 40, (1 << 33) + index, now=now, first=(1 << 60, 1 << 61)
        )
        if index % 50 == 0:
            recorder.mark("é" * 500, now)
            recorder.point(1 << 60, 9999, 9999, value="9" * 80, error=1e-300, now=now)
    found = kept(recorder, 30_000.0)
    assert len(msgspec.msgpack.encode(found)) < MAX_TIMELINE_BYTES - 100
    assert OTHERS in {row.wid for row in found.rows}
    assert found.more_marks
    assert len(page_of(RECORD, found)) < 1_000_000


def test_work_lies_before_its_answer() -> None:
    recorder = Recorder(10.0)
    recorder.answered("a:1:x", 1, 5, 2_000_000_000, now=13.0, first=(0, 5))
    found = kept(recorder, 13.0)
    (row,) = found.rows
    busy = [index * found.width for index, _, _, spent in cells_of(row) if spent]
    assert min(busy) == pytest.approx(1.0, abs=found.width)
    lost = losses(found)
    assert lost.computing == pytest.approx(2.0, abs=0.001)
    assert lost.before == pytest.approx(1.0, abs=2 * found.width)


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.urls: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.urls += [value or "" for name, value in attrs if name in {"src", "href"} or name.startswith("on")]


def test_foreign_text_is_text_in_the_page() -> None:
    recorder = Recorder(0.0)
    recorder.answered(HOSTILE, 1, 1, 1000, now=0.1, first=(0, 1))
    recorder.mark(HOSTILE, 0.1)
    page = page_of(RECORD, kept(recorder, 0.2))
    tags = Tags()
    tags.feed(page)
    assert "script" not in tags.seen
    assert tags.urls == ["data:,"], "it asks for nothing from elsewhere"
    assert "\x1b" not in page
    assert "&lt;script&gt;" in page


def test_a_job_without_a_timeline_has_a_page_all_the_same() -> None:
    failed = {
        "state": "failed",
        "job": "f",
        "computation": "function",
        "params": {},
        "kind": "ValueError",
        "message": "no",
        "traceback": "a\n<b>",
        "where": "host:1",
        "term": 3,
        "span": [3, 4],
    }
    page = page_of(failed, None)
    assert "No timeline" in page
    assert "a\n&lt;b&gt;" in page
