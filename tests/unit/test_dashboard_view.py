"""What each key makes of the dashboard's view, and that every view can be drawn on every terminal."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mapreduce_rq.broker.detail import Detail
from mapreduce_rq.cli.screen.changes import Changes
from mapreduce_rq.cli.screen.charts import ASCII, UNICODE, Hand, sparkline, term_map
from mapreduce_rq.cli.screen.frame import labelled, window
from mapreduce_rq.cli.screen.happenings import MOST, Happenings
from mapreduce_rq.cli.screen.keys import Decoder
from mapreduce_rq.cli.screen.picture import Known, listed
from mapreduce_rq.cli.screen.view import FAR, PANES, SORTS, Act, Pane, View, key_line, pressed
from mapreduce_rq.cli.screen.views import WORKER_ORDER, Seen, worker_state
from mapreduce_rq.cli.watching import merged
from mapreduce_rq.core.job.record import Report, Skipped
from mapreduce_rq.core.job.recorder import Recorder
from mapreduce_rq.core.messages import Event, Failure
from tests.support.records import done, failed
from tests.unit.test_dashboard import NOW, SEEN, SERVER, job, picture, snapshot, worker

IDS: dict[Pane, Any] = {"jobs": ["a-1", "b-2", "c-3"], "workers": ["w1", "w2"], "events": ["2 b-2", "1 "]}
RUNNING = frozenset({"a-1"})


def after(keys: str | list[str], view: View | None = None) -> View:
    """The view after these keys."""
    view = view or View()
    for key in keys:
        view, _ = pressed(view, key, IDS, RUNNING)
    return view


@pytest.mark.parametrize(
    ("typed", "keys"),
    [
        ("q", ["q"]),
        ("jk/", ["j", "k", "/"]),
        ("\x1b[A\x1b[B\x1bOC\x1b[D", ["up", "down", "right", "left"]),
        ("\x1b[5~\x1b[6~\x1b[H\x1b[F\x1b[1~\x1b[4~", ["page-up", "page-down", "home", "end", "home", "end"]),
        ("\x1b[1;5A", ["up"]),
        ("\r\n\t\x1b[Z\x7f", ["enter", "enter", "tab", "back-tab", "backspace"]),
        ("\x1b", ["escape"]),
        ("\x1bq", ["escape", "q"]),
        ("\x1b[99~x", ["x"]),  # a key that has no meaning here
        ("\x00é", ["é"]),
    ],
)
def test_what_a_terminal_sends_has_names(typed: str, keys: list[str]) -> None:
    assert Decoder().keys(typed) == keys


@given(st.lists(st.sampled_from(["\x1b[A", "\x1b[6~", "q", "\x1bOB", "\t"]), max_size=8), st.data())
def test_a_sequence_may_come_in_pieces(typed: list[str], data: st.DataObject) -> None:
    text = "".join(typed)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=4)))
    cuts = [cut for cut in cuts if not text[:cut].endswith("\x1b")]  # a lone Escape is the key
    decoder = Decoder()
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert [key for piece in pieces for key in decoder.keys(piece)] == Decoder().keys(text)


def test_one_moves_within_a_list_and_from_list_to_list() -> None:
    assert after("j").selected == {"jobs": "b-2"}
    assert after("jjjjj").selected == {"jobs": "c-3"}
    assert after("jjk").selected == {"jobs": "b-2"}
    assert after(["end"]).selected == {"jobs": "c-3"}
    assert after(["end", "home"]).selected == {"jobs": "a-1"}
    assert after(["tab", "down"]).selected == {"workers": "w2"}
    assert [after(["tab"] * count).pane for count in range(4)] == ["jobs", "workers", "events", "jobs"]
    assert after(["back-tab"]).pane == "events"
    assert [after(key).pane for key in "123"] == list(PANES)


def test_what_is_selected_stays_so_when_the_list_changes() -> None:
    view = after("j")
    view, _ = pressed(view, "j", {**IDS, "jobs": ["new", "b-2", "a-1", "c-3"]}, RUNNING)
    assert view.selected == {"jobs": "a-1"}
    gone, _ = pressed(view, "enter", {**IDS, "jobs": ["c-3"]}, RUNNING)
    assert (gone.page, gone.selected["jobs"]) == ("job", "c-3")


def test_a_page_is_opened_scrolled_and_left() -> None:
    opened = after(["j", "enter"])
    assert (opened.page, opened.selected) == ("job", {"jobs": "b-2"})
    assert after(["j", "j", "k"], opened).scroll == 1
    assert after(["G"], opened).scroll == FAR
    assert after(["escape"], opened).page == ""
    assert after(["tab", "enter"]).page == "worker"
    from_event = after(["3", "enter"])
    assert (from_event.page, from_event.selected["jobs"]) == ("job", "b-2")
    assert after(["3", "j", "enter"]).page == "", "it is about no job"
    assert after("?").page == "help"
    assert after("??").page == ""


def test_cancelling_asks_first() -> None:
    asked, act = pressed(View(), "C", IDS, RUNNING)
    assert (asked.asked, act) == ("a-1", None)
    assert "cancel a-1?" in key_line(asked, 80)
    assert pressed(asked, "y", IDS, RUNNING) == (View(), Act("cancel", "a-1"))
    for key in ("n", "q", "enter", "escape", "C"):
        assert pressed(asked, key, IDS, RUNNING) == (View(), None)
    assert after("jC").asked == "", "it has ended"
    assert after(["tab", "C"]).asked == "", "workers are not cancelled"
    assert after(["enter", "C"]).asked == "a-1"


def test_a_page_cancels_the_job_that_it_shows() -> None:
    page = after(["j", "enter"])
    for listed_jobs in (["a-1"], []):  # its record has expired, or the filter no longer lets it pass
        assert pressed(page, "C", {**IDS, "jobs": listed_jobs}, RUNNING)[0].asked == ""
        assert pressed(page, "C", {**IDS, "jobs": listed_jobs}, RUNNING | {"b-2"})[0].asked == "b-2"


def test_the_filter_takes_every_character() -> None:
    view = after("/qC j")
    assert (view.filter, view.typing) == ("qC j", True)
    assert after(["backspace"], view).filter == "qC "
    assert after(["enter"], view) == View(filter="qC j")
    assert after(["escape"], view) == View()
    assert after(["enter", "escape"], view) == View()


def test_the_filter_finds_what_a_row_shows() -> None:
    refused = job("exp-a", "failed", record=failed("exp-a", kind="BadFunction", message="no pickles"))
    shown = snapshot((refused, job("exp-b", report=Report(value="7.389"))))
    for sought, found in (("badfunc", ["exp-a"]), ("7.38", ["exp-b"]), ("exp-", ["exp-b", "exp-a"])):
        assert listed(shown, SEEN, View(filter=sought), Known())["jobs"] == found
    happened = Happenings()
    happened.read([Event(job="exp-a", what="failed", text="BadFunction: no pickles", at=NOW)])
    words = "\n".join(picture(shown, view=View(filter="xyz", pane="events"), known=Known(happened.listed()), height=30))
    assert "no event has this in it; Esc lists all" in words
    assert "nothing has happened yet" not in words


def test_keys_that_change_how_it_is_shown() -> None:
    assert after("p").paused
    assert not after("p ").paused
    assert (after("+").interval, after("-").interval) == (0.5, 2.0)
    assert (after("+" * 50).interval, after("-" * 50).interval) == (0.1, 60.0)
    orders = [after("s" * count).order("jobs") for count in range(len(SORTS["jobs"]) + 1)]
    assert orders == [*SORTS["jobs"], SORTS["jobs"][0]]
    assert pressed(View(), "q", IDS, RUNNING)[1] == Act("quit")
    assert pressed(after(["enter"]), "q", IDS, RUNNING)[1] == Act("quit")


@given(st.lists(st.integers(1, 4), max_size=60), st.integers(0, 70), st.integers(4, 40))
def test_what_is_selected_is_always_in_the_window(sizes: list[int], chosen: int, room: int) -> None:
    first, last = window(sizes, chosen, room)
    assert sum(sizes[first:last]) <= room
    if sizes:
        assert first <= min(chosen, len(sizes) - 1) < last
        if first > 0:
            assert sum(sizes[first - 1 : last]) > room, "it moves no more than it must"


def test_every_job_and_worker_can_be_reached() -> None:
    jobs = tuple(job(f"exp-{k:06}xyz", "done", created=NOW - k) for k in range(60))
    workers = tuple(worker(f"host:{k}:ab", pid=k, name="") for k in range(60))
    shown = snapshot(jobs, workers)
    view, known = View(), Known()
    seen_jobs: set[str] = set()
    for _ in range(60):
        lines = drawn(shown, view, known, width=80, height=24)
        seen_jobs |= {one.job for one in jobs if any(one.job[:10] in line for line in lines)}
        view, _ = pressed(view, "j", listed(shown, SEEN, view, known), frozenset())
    assert len(seen_jobs) == 60


def drawn(shown: Any, view: View, known: Known, **frame: Any) -> list[str]:
    """The lines of the picture of a view."""
    return picture(shown, view=view, known=known, keys=key_line(view, frame["width"]), **frame)


FAILURE = Failure(3, "ValueError", "bad 3", "Traceback:\n  File x\nValueError: bad 3", "host:17")


def test_the_page_of_a_job_says_all_that_is_known() -> None:
    report = Report(
        counted=500, total=1000, cut=800, out=3, tasks=10, ignored=2, rate=125.0, elapsed_s=4.0, chunk=50, value="7.38",
        error=1e-9, bound_kind="proven", saved=NOW - 2,
    )  # fmt: skip
    one = job(report=report, by="ann@laptop:7", master="ann@laptop:7:n")
    detail = Detail(one.job, runs=((0, 400), (600, 700)), skipped=((3, FAILURE),))
    view = View(page="job", selected={"jobs": one.job})
    known = Known(detail=detail, errors=(1.0, 1e-3, 1e-6, 1e-9))
    text = "\n".join(drawn(snapshot((one,), (worker(lo=420, hi=500),)), view, known, width=100, height=None))
    for words in (
        "exp-abcdefghijkl", "running", "x=2", "by ann@laptop:7", "ann@laptop:7", "7.38 ± 1e-09", "proven",
        "500 of 1,000 counted, 800 cut", "3 out", "50 terms in the next", "2 answers came twice", "125/s, 1 worker",
        "2.0 s ago", "█▆▃▁", "from 1 to 1e-09, on a logarithmic scale", "a host:17", "1 term left out", "term 3",
        "ValueError: bad 3 (at host:17)", "File x",
    ):  # fmt: skip
        assert words in text
    report = Report(counted=1000, total=1000, cut=1000, tasks=20, elapsed_s=4.0, chunk=1)
    ended = job(
        state="done",
        report=report,
        record=done(value="7.389", bound="1e-50", digest="abcd", skipped=[Skipped(9, "E", "m", "h")]),
    )
    text = "\n".join(
        drawn(snapshot((ended,)), replace(view, selected={"jobs": ended.job}), Known(), width=80, height=None)
    )
    assert "abcd" in text
    assert "term 9" in text
    assert re.search(r"terms +1,000 of 1,000 counted +│", text)  # nothing of it comes any more
    assert re.search(r"tasks +20 counted +│", text)
    assert "250/s, " in text  # in the mean
    bad = job(state="failed", record=failed(message="a bad term", traceback="Traceback:\n  its line"))
    text = "\n".join(drawn(snapshot((bad,)), view, Known(), width=80, height=None))
    assert "its line" in text
    assert "is gone" in "\n".join(drawn(snapshot(), view, Known(), width=80, height=24))


def test_the_page_of_a_worker_says_what_it_does_since_when() -> None:
    one = worker(cpu=0.873, probe="CPython 3.13, x86_64", version="0.0.9")
    other = worker("host:18:ab", pid=18, probe="CPython 3.11, x86_64")
    view = View(page="worker", selected={"workers": one.wid})
    text = "\n".join(
        drawn(snapshot((job(),), (one, other)), view, Known(busy={one.wid: (3, 4)}), width=110, height=None)
    )
    for words in (
        "host:17", "busy", "mrq 0.0.9, and mrq here is", "CPython 3.13, x86_64, and other workers differ", "no key",
        "exp-abcdefghijkl", "the terms 100 to 199, since 0.3 s", "1,234 done, 4.5/s, holds 2", "75 % of 4 looks",
        "87 %", "30 MB", "1.0 s ago",
    ):  # fmt: skip
        assert words in text


def test_a_worker_that_refuses_a_job_says_why_on_its_page_and_in_its_row() -> None:
    why = "BadFunction: mine: the source of mine.py here differs from the submitter's"
    one = worker(state="idle", refuses=f"exp-abcdefghijkl: {why}")
    shown = snapshot((job(),), (one,))
    page = View(page="worker", selected={"workers": one.wid})
    for view in (page, View()):
        assert "differs from the submitter's" in "\n".join(drawn(shown, view, Known(), width=260, height=None))
    over = snapshot((job(state="done", record=done(value="7")),), (one,))
    assert "differs" in "\n".join(drawn(over, page, Known(), width=200, height=None))
    assert "differs" not in "\n".join(drawn(over, View(), Known(), width=200, height=None))


def test_a_running_job_has_its_overhead_on_its_page() -> None:
    recorder = Recorder(0.0)
    for second in range(1, 11):  # nine tenths of each second
        recorder.answered("host:17:ab", 1, 10, 900_000_000, now=float(second), first=(0, 10))
    one = job()
    timeline = recorder.timeline(one.job, version="1", master="m", began=NOW - 60, before=0.0, now=60.0)
    view = View(page="job", selected={"jobs": one.job})
    known = Known(detail=Detail(one.job, timeline=timeline))
    text = "\n".join(drawn(snapshot((one,), (worker(),)), view, known, width=120, height=None))
    share = re.search(r"overhead +(\d+) % of the workers' time .* from their first answers on", text)
    assert share
    assert 7 <= int(share[1]) <= 13


@given(
    st.integers(1, 10**12),
    st.lists(st.tuples(st.integers(0, 1000), st.integers(1, 1000)), max_size=10),
    st.integers(1, 300),
)
def test_the_map_of_terms_has_a_place_for_each(total: int, gaps: list[tuple[int, int]], cells: int) -> None:
    runs, at = [], 0
    for gap, length in gaps:
        if at + gap + length <= total:
            runs.append((at + gap, at + gap + length))
            at += gap + length
    text = term_map(total, total, runs, [], cells=cells, glyphs=UNICODE).plain
    assert len(text) == min(cells, total)
    if total <= cells:
        inside = {term for lo, hi in runs for term in range(lo, hi)}
        assert [mark == UNICODE.counted for mark in text] == [term in inside for term in range(total)]
    assert (UNICODE.counted in text or UNICODE.partly in text) == bool(runs)


def test_the_map_says_who_has_what() -> None:
    hands = [Hand(4, 6, "a"), Hand(7, 8, "b")]
    assert term_map(10, 9, [(0, 3)], hands, cells=10, glyphs=ASCII).plain == "###-aa-b-."
    assert term_map(10, 9, [(0, 3)], hands, cells=5, glyphs=ASCII).plain == "#+ab-"
    assert term_map(10**15, 0, [(0, 10**15)], [], cells=7, glyphs=ASCII).plain == "#" * 7


def test_a_line_of_heights_is_logarithmic() -> None:
    assert sparkline([1e-8, 1e-6, 1e-4, 1e-2, 1.0], 10, UNICODE) == "▁▃▅▆█"
    assert sparkline([1.0, 0.0, float("inf"), float("nan"), 1e-7], 10, ASCII) == "#   _"
    assert sparkline([5.0, 5.0], 10, ASCII) == "__"
    assert sparkline([], 10, ASCII) == sparkline([0.0], 10, ASCII) == ""
    assert len(sparkline([float(k + 1) for k in range(100)], 30, ASCII)) == 30


def test_what_one_look_shows_that_the_one_before_did_not() -> None:
    events = Happenings()
    first, second = worker(), worker("host:18:ab", pid=18, name="host:18")
    events.look(snapshot(workers=(first,)), SEEN)
    assert events.listed() == []
    events.look(snapshot(workers=(first, second)), SEEN)
    dead = replace(first, beat=None, obituary="killed by SIGKILL (host:17)")
    events.look(snapshot(workers=(dead, second)), SEEN)
    events.look(snapshot(workers=(dead, replace(second, beat=second.beat))), Seen(NOW + 60))
    full = replace(SERVER, used_memory=63 << 20, maxmemory=64 << 20)
    events.look(snapshot(workers=(second,), server=full), SEEN)
    events.look(snapshot(server=full), SEEN)
    events.away(NOW)
    events.back(NOW, 3.0)
    events.read([Event(job="exp-abc", what="taken over", by="ann@host:3", at=NOW + 5)])
    told = [(one.what, one.text) for one in reversed(events.listed())]
    assert ("joined", "host:18") in told
    assert ("died", "host:17: killed by SIGKILL (host:17)") in told
    assert ("silent", "host:18: no sign of life") in told
    assert ("back", "host:18") in told
    assert ("left", "host:18") in told
    assert ("full", "Redis holds 63 MB of 64 MB") in told
    assert ("away", "Redis does not answer") in told
    assert ("back", "Redis answers again, after 3.0 s") in told
    assert ("taken over", "by ann@host:3") in told
    assert len(told) == 9, "none is told twice"
    for k in range(2 * MOST):
        events.note(NOW + k, "joined")
    assert len(events.listed()) == MOST


def test_several_queues_are_one_picture() -> None:
    both = worker("host:20:ab", pid=20)
    gpu = replace(snapshot((job("a-1", created=NOW),), (worker(), both)), queue="gpu")
    cpu = replace(snapshot((job("b-2", created=NOW - 1),), (both,)), queue="cpu")
    found = merged([gpu, cpu])
    assert found.queue == "gpu, cpu"
    assert [one.job for one in found.jobs] == ["a-1", "b-2"]
    assert [(one.wid, one.held) for one in found.workers] == [("host:17:ab", 2), ("host:20:ab", 4)]
    assert (found.waiting, found.in_flight) == (14, 6)


keys_strategy = st.lists(
    st.sampled_from(
        ["j", "k", "tab", "enter", "escape", "s", "/", "e", "C", "y", "G", "page-down", "?", "3", "p", "backspace"]
    ),
    max_size=12,
)


@settings(max_examples=150)
@given(keys_strategy, st.integers(40, 240), st.integers(15, 60), st.booleans(), st.integers(0, 30))
def test_every_view_fits_every_terminal_and_keeps_its_key_line(
    keys: list[str], width: int, height: int, unicode: bool, count: int
) -> None:
    jobs = tuple(
        job(f"exp{k}-{k:06}xyz", ["running", "done", "failed"][k % 3], created=NOW - k, by="ann@host:1")
        for k in range(count)
    )
    workers = tuple(
        worker(f"host:{k}:ab", pid=k, name="")
        if k % 4
        else replace(worker(f"host:{k}:ab"), beat=None, obituary="killed")
        for k in range(count)
    )
    shown = snapshot(jobs, workers)
    events = Happenings()
    for one in jobs:
        events.note(NOW, "submitted", "by ann", one.job)
    known, view = Known(events.listed(), Detail(jobs[0].job, ((0, 10),), ((3, FAILURE),)) if jobs else None), View()
    for key in keys:
        view, _ = pressed(view, key, listed(shown, SEEN, view, known), frozenset(one.job for one in jobs))
        lines = drawn(shown, view, known, width=width, height=height, unicode=unicode)
        assert len(lines) == height
        assert max(map(len, lines)) <= width
        assert lines[-1].strip(), "the key line"
    order = [WORKER_ORDER.index("dead" if one.beat is None else "busy") for one in merged([shown]).workers]
    assert len(order) == count


@given(st.text(st.sampled_from("a\u6f22\u00e9 "), max_size=200), st.integers(24, 100), st.sampled_from([0, 15]))
def test_a_long_text_is_shown_to_its_end_however_wide_its_characters(text: str, width: int, indent: int) -> None:
    lines = labelled("parameters", text, "", width, indent=indent)
    assert all(line.cell_len <= width for line in lines)
    assert "".join(line.plain[indent:] for line in lines) == text


@pytest.mark.parametrize("clock", [-200.0, 200.0])
def test_a_dashboard_that_was_just_opened_does_not_call_the_silent_alive(clock: float) -> None:
    changes, events, states = Changes(), Happenings(), []
    for second in range(30):
        count = 1 if clock < 0 else 1 + second // 2  # silent since before the first look; or it lives in another time
        shown = snapshot(workers=(worker(count=count, at=NOW + clock + 2 * (count - 1)),))
        seen = Seen(NOW + second, changes.look(shown, float(second)))
        events.look(shown, seen)
        states.append(worker_state(shown.workers[0], seen))
    if clock < 0:
        assert set(states) == {"silent"}
        assert not events.listed()
    else:  # until its second beat its clock is all that we have
        assert states == ["silent"] * 2 + ["busy"] * 28
