"""A job's timeline: bounded whatever happens, and with all that was answered; its page and its trace."""

from __future__ import annotations

import itertools
import json
import math
import re
from html.parser import HTMLParser
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mapreduce_rq.cli.screen.page import page_of
from mapreduce_rq.cli.screen.trace import trace_of
from mapreduce_rq.core.job.recorder import Recorder, brought_up
from mapreduce_rq.core.job.timeline import (
    MAX_BINS,
    MAX_MARKS,
    MAX_TIMELINE_BYTES,
    OTHERS,
    Long,
    Mark,
    Row,
    Since,
    Timeline,
    cells_of,
    ended,
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
    found = recorder.timeline("job", version="1", master="host:1:x", began=1.8e9, before=0.0, now=now)
    recorder.kept(found, now)
    return found


def since_then(recorder: Recorder, now: float, upto: str = "5-0") -> Since:
    found = recorder.since("job", began=1.8e9, now=now, upto=upto)
    return msgspec.msgpack.decode(msgspec.msgpack.encode(found), type=Since)


def sums(timeline: Timeline) -> dict[str, tuple[int, int]]:
    """Tasks and terms of each worker."""
    rows = ((row.wid, cells_of(row)) for row in timeline.rows)
    return {wid: (sum(cell[1] for cell in cells), sum(cell[2] for cell in cells)) for wid, cells in rows}


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


@settings(max_examples=60, deadline=None)
@given(REPLIES, REPLIES, st.floats(0, 100))
def test_another_master_goes_on_with_it(one: list[Any], other: list[Any], silence: float) -> None:
    recorder, now = Recorder(5.0), 5.0
    for wid, tasks, terms, nanoseconds, later in one:
        now += later
        recorder.answered(wid, tasks, terms, nanoseconds, now=now, first=(0, 1))
    recorder.mark("before", now)
    left = msgspec.msgpack.decode(msgspec.msgpack.encode(kept(recorder, now)), type=Timeline)
    second, at = Recorder(1000.0), 1001.0
    second.mark("early", 1000.5)
    gap = second.go_on(left, now=at, wall=left.began + left.seconds + silence)
    assert gap == pytest.approx(silence, abs=1e-3)
    second.mark("taken over", at)
    for wid, tasks, terms, nanoseconds, later in other:
        at += later
        second.answered(wid, tasks, terms, nanoseconds, now=at, first=(0, 1))
    found = kept(second, at)
    cells = [cell for row in found.rows for cell in cells_of(row)]
    assert sum(cell[1] for cell in cells) == sum(row[1] for row in [*one, *other]) == sum(found.buckets)
    assert sum(cell[2] for cell in cells) == sum(row[2] for row in [*one, *other])
    assert found.seconds == pytest.approx(left.seconds + silence + at - 1001.0, abs=1e-3)
    assert [mark.text for mark in found.marks] == ["before", "early", "taken over"]
    assert found.marks[2].at == pytest.approx(left.seconds + silence, abs=1e-3)
    assert len(msgspec.msgpack.encode(found)) <= MAX_TIMELINE_BYTES
    page_of(RECORD, found)


@settings(max_examples=80, deadline=None)
@given(st.lists(REPLIES, min_size=1, max_size=4), REPLIES)
def test_what_was_kept_and_what_happened_since_are_all_of_it(before: list[list[Any]], after: list[Any]) -> None:
    recorder, now = Recorder(0.0), 0.0
    left: Timeline | None = None
    for number, replies in enumerate([*before, after]):
        for wid, tasks, terms, nanoseconds, later in replies:
            now += later
            worked = min(nanoseconds, int(later * 1e9))  # no worker works longer than time passes
            recorder.answered(wid, tasks, terms, worked, now=now, first=(number, number + 1))
            recorder.mark(f"{number} {wid}", now)
        if number < len(before) - 1:
            left = msgspec.msgpack.decode(msgspec.msgpack.encode(kept(recorder, now)), type=Timeline)
    known = brought_up(left, since_then(recorder, now))
    exact = kept(recorder, now)
    assert known is not None
    assert sums(known) == sums(exact)
    assert known.buckets == exact.buckets
    assert known.longest == exact.longest
    assert [mark.text for mark in known.marks] == [mark.text for mark in exact.marks]
    assert (known.seconds, known.upto, known.began) == (exact.seconds, "5-0", exact.began)
    spent = [sum(cell[3] for row in one.rows for cell in cells_of(row)) for one in (known, exact)]
    cells = sum(len(cells_of(row)) for one in (known, exact) for row in one.rows)
    assert spent[0] == pytest.approx(spent[1], abs=40 * (cells + 1))
    assert len(msgspec.msgpack.encode(known)) <= MAX_TIMELINE_BYTES


def test_answers_since_lie_in_the_time_since() -> None:
    recorder = Recorder(0.0)
    recorder.answered("a:1:x", 1, 10, 1_000_000, now=0.5, first=(0, 10))
    left = kept(recorder, 10.0)
    for second in range(11, 21):
        recorder.answered("a:1:x", 1, 10, 1_000_000_000, now=float(second), first=(0, 10))
    known = brought_up(left, since_then(recorder, 20.0))
    assert known is not None
    (row,) = known.rows
    late = [(index * known.width, terms, spent) for index, _, terms, spent in cells_of(row) if index * known.width > 1]
    assert 10 - known.width <= min(at for at, _, _ in late) < max(at for at, _, _ in late) <= 20
    assert max(terms for _, terms, _ in late) <= 20, "they are spread evenly"
    assert losses(known).computing == pytest.approx(10.001, abs=0.01)


def test_what_goes_on_from_another_timeline_is_left_out() -> None:
    recorder = Recorder(0.0)
    first = kept(recorder, 1.0)
    recorder.answered("a:1:x", 1, 10, 1_000_000, now=1.5, first=(0, 10))
    between = since_then(recorder, 1.6)
    second = kept(recorder, 2.0)
    assert sums(brought_up(first, between) or second) == {"a:1:x": (1, 10)}
    for one in (second, msgspec.structs.replace(first, width=-1.0), msgspec.structs.replace(first, job="other")):
        assert brought_up(one, between) == one
    assert brought_up(None, between) is None
    assert brought_up(first, None) == first


@pytest.mark.parametrize(
    "wrong",
    [
        {"seconds": math.nan},
        {"seconds": math.inf},
        {"seconds": 0.5},
        {"began": math.inf},
        {"upto": "no entry"},
        {"upto": "9" * 30 + "-0"},
    ],
)
def test_what_happened_since_is_left_out_if_it_cannot_be_right(wrong: dict[str, Any]) -> None:
    recorder = Recorder(0.0)
    left = kept(recorder, 1.0)
    found = msgspec.structs.replace(since_then(recorder, 2.0), **wrong)
    assert brought_up(left, found) == left


def test_numbers_that_cannot_be_right_do_no_harm() -> None:
    left = kept(Recorder(0.0), 1.0)
    huge = [("a", 1 << 63, 1, 1), ("b", 1, -1, 1), ("c", 1, 1, 1 << 61)]
    long = [Long(value, 1.0, "a", 0, 1) for value in (math.nan, math.inf, -1.0)] * 20
    marks = [Mark(math.nan, "x" * 5000)] * 500
    found = Since("job", 1.8e9, 1.0, 9e11, "", huge * 100, [-1, 1 << 70] * 90, long, marks)
    known = brought_up(left, found)
    assert known is not None
    assert set(sums(known)) == {"c"}
    recorder = Recorder(0.0)
    assert recorder.go_on(known, now=1.0, wall=2e9) is not None
    for number in range(100):
        recorder.answered("a", 1, 1, 10**number if number < 17 else 5, now=2.0, first=(0, 1))


@pytest.mark.parametrize("field", ["seconds", "began", "before", "width"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0, 1e300])
def test_what_cannot_be_right_is_not_gone_on_with(field: str, value: float) -> None:
    left = msgspec.structs.replace(kept(Recorder(0.0), 1.0), **{field: value})
    recorder = Recorder(0.0)
    assert recorder.go_on(left, now=1.0, wall=2e9) is None
    recorder.answered("a:1:x", 1, 1, 1000, now=2.0, first=(0, 1))
    assert kept(recorder, 3.0).seconds == 3.0
    assert ended(left, "job", began=1e9, wall=1e9 + 5, text="cancelled", version="1").seconds == 5.0


def test_cells_that_cannot_be_right_are_left_out() -> None:
    good, bad = [3, 1, 1, 10], [MAX_BINS, 1, 1, 1, -1, 1, 1, 1, 5, -1, 1, 1, 6, 1, 1 << 63, 1, 7]
    left = msgspec.structs.replace(kept(Recorder(0.0), 1.0), rows=[Row("a", good + bad), Row("b", [])], buckets=[-5])
    recorder = Recorder(0.0)
    assert recorder.go_on(left, now=1.0, wall=0.0) == 0.0
    found = kept(recorder, 2.0)
    assert found.rows == [Row("a", good)]
    assert sum(found.buckets) == 0
    losses(left)


def test_who_cancels_ends_the_timeline() -> None:
    recorder = Recorder(0.0)
    recorder.answered("a:1:x", 1, 5, 1000, now=1.0, first=(0, 5))
    found = ended(kept(recorder, 1.0), "job", began=1.0, wall=1.8e9 + 9.0, text="cancelled", version="1")
    assert found.seconds == 9.0
    assert found.rows == kept(recorder, 1.0).rows
    assert [mark.text for mark in found.marks] == ["cancelled; what was answered in the 8 s before is not known here"]
    nothing = ended(None, "job", began=1.8e9, wall=1.8e9 + 4.0, text="cancelled", version="1")
    assert (nothing.seconds, nothing.rows, len(nothing.marks)) == (4.0, [], 1)
    for one in (found, nothing):
        page_of({"state": "cancelled", "job": "job", "computation": "exp", "message": "cancelled"}, one)
        trace_of(one)


def test_the_first_marks_and_the_newest_are_kept() -> None:
    recorder = Recorder(0.0)
    for number in range(10 * MAX_MARKS):
        recorder.mark(str(number), float(number))
    found = kept(recorder, 1e4)
    assert len(found.marks) + found.more_marks == 10 * MAX_MARKS
    assert [mark.text for mark in found.marks][:: MAX_MARKS - 1] == ["0", str(10 * MAX_MARKS - 1)]
    assert [mark.at for mark in found.marks] == sorted(mark.at for mark in found.marks)


def test_a_running_job_keeps_it_the_more_rarely_the_longer_it_lasts() -> None:
    recorder, times = Recorder(0.0), []
    for second in range(7200):
        if recorder.due(float(second)):
            times.append(second)
            kept(recorder, float(second))
    assert times[:3] == [2, 4, 6]
    assert len(times) < 50 + 120 + 7200 / 20
    assert max(after - before for before, after in itertools.pairwise(times)) <= 20


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


@pytest.mark.parametrize("seconds", [0.004, 0.125, 0.9, 3.3, 59.0, 130.0, 7200.0])
def test_the_labels_of_an_axis_differ_and_have_one_unit(seconds: float) -> None:
    recorder = Recorder(0.0)
    recorder.answered("a:1:x", 1, 5, 1000, now=seconds, first=(0, 5))
    page = page_of(RECORD, kept(recorder, seconds))
    labels = re.findall(r'text-anchor="(?:start|middle|end)">([^<]*)</text>', page)[:5]
    assert len(set(labels)) == 5, labels
    if seconds < 100:
        assert len({label.split()[1] for label in labels}) == 1, labels


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


def test_what_no_process_can_read_is_not_counted() -> None:
    recorder = Recorder(0.0, read=False)
    recorder.answered("w", 2, 7, 1000, now=1.0, first=(0, 3))
    recorder.mark("a mark", 1.0)
    found = kept(recorder, 2.0)
    assert (found.rows, found.longest, sum(found.buckets)) == ([], [], 0)
    assert recorder.has_mark("a mark")
